"""A grader with known error rates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from cheapdeep_ops.testing.traffic.kinds import draw, is_probability

Verdict = Literal["correct", "incorrect", "unsure"]

_REASONS: Final[Mapping[Verdict, str]] = {
    "correct": "Each statement of the answer holds for the question that was asked.",
    "incorrect": "The answer states something that does not hold for the question that was asked.",
    "unsure": "Nothing is known about this answer.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedGrader:
    """How well the simulated API grades its own recent answers; it grades all other texts as unsure."""

    tpr: float = 1.0
    """The share of wrong answers that it grades as incorrect."""
    tnr: float = 1.0
    """The share of correct answers that it grades as correct."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a share is outside 0 to 1."""
        for name, value in (("tpr", self.tpr), ("tnr", self.tnr)):
            if not is_probability(value):
                raise ValueError(f"{name} must be from 0 to 1, not {value!r}")

    def verdict(self, answer: str, *, correct: bool | None, seed: int) -> Verdict:
        """Return the grade of an answer that is `correct` or wrong (None: unknown); seed and text determine it."""
        if correct is None:
            return "unsure"
        # A hash with its own prefix, so that the grader's errors do not depend on how the answer was drawn.
        position = draw(blake2b(f"{seed}\0judge\0{answer}".encode(), digest_size=8).digest())
        sees_the_truth = position < (self.tnr if correct else self.tpr)
        return "correct" if correct is sees_the_truth else "incorrect"


PERFECT: Final = SimulatedGrader()
"""A grader without errors."""


def grade_text(verdict: Verdict) -> str:
    """Return the text of a grader's reply with `verdict`."""
    return json.dumps({"reason": _REASONS[verdict], "verdict": verdict})
