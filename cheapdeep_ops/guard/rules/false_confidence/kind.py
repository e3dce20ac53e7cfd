"""The row of this kind in the table of kinds."""

from typing import Final

from cheapdeep_ops.guard.rules.false_confidence.history import replay
from cheapdeep_ops.guard.rules.false_confidence.progress import quality_progress
from cheapdeep_ops.guard.rules.false_confidence.reader import FalseConfidenceReader
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.false_confidence.text import TEXT
from cheapdeep_ops.guard.rules.interface import RuleKind

FALSE_CONFIDENCE: Final = RuleKind(
    rule=QualityRule, reader=FalseConfidenceReader, text=TEXT, replay=replay, progress=quality_progress
)
