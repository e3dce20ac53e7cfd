"""A judge of answers whose errors are known: how often it sees a wrong answer, and how often it trusts a right one."""

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
    """How well the simulated API grades its own answers; it is unsure of text that it never gave (lately)."""

    tpr: float = 1.0
    """Share of wrong answers that it calls incorrect."""
    tnr: float = 1.0
    """Share of right answers that it calls correct."""

    def __post_init__(self) -> None:
        """Refuse shares outside 0 to 1 with a ValueError."""
        for name, value in (("tpr", self.tpr), ("tnr", self.tnr)):
            if not is_probability(value):
                raise ValueError(f"{name} must be from 0 to 1, not {value!r}")

    def verdict(self, answer: str, *, correct: bool | None, seed: int) -> Verdict:
        """Return what it says of an answer, given the truth (None: unknown); the same for the same seed and text."""
        if correct is None:
            return "unsure"
        position = draw(blake2b(f"{seed}\0judge\0{answer}".encode(), digest_size=8).digest())
        sees_the_truth = position < (self.tnr if correct else self.tpr)
        return "correct" if correct is sees_the_truth else "incorrect"


PERFECT: Final = SimulatedGrader()
"""A judge that is never wrong."""


def grade_text(verdict: Verdict) -> str:
    """Return the text of a reply that says `verdict`."""
    return json.dumps({"reason": _REASONS[verdict], "verdict": verdict})
