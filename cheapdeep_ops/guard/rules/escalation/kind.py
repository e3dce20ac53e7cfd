"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.escalation.history import replay
from cheapdeep_ops.guard.rules.escalation.progress import storm_progress
from cheapdeep_ops.guard.rules.escalation.reader import EscalationReader
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.text import TEXT
from cheapdeep_ops.guard.rules.interface import RuleKind

ESCALATION: Final = RuleKind(rule=StormRule, reader=EscalationReader, text=TEXT, replay=replay, progress=storm_progress)
