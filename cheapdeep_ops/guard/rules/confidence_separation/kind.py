"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.confidence_separation.progress import gate_progress
from cheapdeep_ops.guard.rules.confidence_separation.reader import SeparationReader
from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.confidence_separation.text import TEXT
from cheapdeep_ops.guard.rules.interface import RuleKind

CONFIDENCE_SEPARATION: Final = RuleKind(rule=GateRule, reader=SeparationReader, text=TEXT, progress=gate_progress)
