"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.grader_drift.reader import GraderDriftReader
from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.guard.rules.grader_drift.text import TEXT
from cheapdeep_ops.guard.rules.interface import RuleKind

GRADER_DRIFT: Final = RuleKind(rule=GraderDriftRule, reader=GraderDriftReader, text=TEXT)
