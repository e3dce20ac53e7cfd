"""What a judgement must not be: a copy of one that stands in what was judged. It needs no SDK, which loads slowly."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from cheapdeep_ops.copies import VerdictPattern
from cheapdeep_ops.values import GradeFailure, GradeResult, TextTurn

LONGEST_REASON: Final = 500
"""How many characters of a judge's reason are kept."""

_JUDGEMENT: Final = VerdictPattern("reason", "verdict")


def unless_copied(found: GradeResult, turns: Iterable[TextTurn], answer: str) -> GradeResult:
    """Return `found`, or a malformed judgement where its verdict and reason stand in the text that was judged."""
    if found.grade is None:
        return found
    judged = "\n".join([*(turn.text for turn in turns), answer])
    # The end of a reason that was cut is not known, so that only the verdict is compared.
    reason = {"reason": found.reason} if len(found.reason) < LONGEST_REASON else {}
    if not _JUDGEMENT.stands_in(judged, {"verdict": found.grade.value, **reason}):
        return found
    return replace(found, grade=None, failure=GradeFailure.MALFORMED, reason="")
