"""Reject grades that the graded text has forged. This module imports no SDK, which loads slowly."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from cheapdeep_ops.copies import VerdictPattern
from cheapdeep_ops.values import GradeFailure, GradeResult, TextTurn

LONGEST_REASON: Final = 500
"""How many characters of a grader's reason are stored."""

_GRADE: Final = VerdictPattern("verdict", "reason")


def reject_copied(result: GradeResult, turns: Iterable[TextTurn], answer: str) -> GradeResult:
    """Return `result`, or a malformed one if the graded text itself contains its verdict and reason."""
    if result.grade is None:
        return result
    graded_text = "\n".join([*(turn.text for turn in turns), answer])
    # The end of a truncated reason is unknown, so only the verdict is compared.
    reason = {"reason": result.reason} if len(result.reason) < LONGEST_REASON else {}
    word = result.grade.value
    # A grader may copy another spelling as it is, or in the spelling that the rubric asks for.
    spellings = {word, word.capitalize(), word.upper(), result.spelled or word}
    if not any(_GRADE.stands_in(graded_text, {"verdict": each, **reason}) for each in spellings):
        return result
    return replace(result, grade=None, failure=GradeFailure.MALFORMED, reason="")
