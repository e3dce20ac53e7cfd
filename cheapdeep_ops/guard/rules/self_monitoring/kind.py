"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.interface import RuleKind
from cheapdeep_ops.guard.rules.self_monitoring.reader import reader_of
from cheapdeep_ops.guard.rules.self_monitoring.rule import WatchRule
from cheapdeep_ops.guard.rules.self_monitoring.text import TEXT

SELF_MONITORING: Final = RuleKind(rule=WatchRule, reader=reader_of, text=TEXT)
