"""The grades of calm times, from which a baseline goes on learning; pure.

A grade is tested first, and learned from later. While a bet has evidence of a climb, grades wait. Once there is little
of it again, all of them are learned from, the wrong ones too. If an alarm comes instead, they are forgotten. So a climb
does not become normal while it is being detected.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

CALM_EVIDENCE: Final = 3.0
"""The most evidence in calm times, a natural logarithm; an alarm needs about four times as much.

By chance, the first grades of some routes are too good. With a limit of 0, such a route learns nothing more, since its
evidence hardly ever returns to 0. So it has one false alarm after another. A simulation had 2,000 routes of 500,000
answers at a rate of 1%. A limit of 0 led to 193 false alarms on 48 routes, and a limit of 3 to 24 on 21 routes. Climbs
are found as soon (`tests/bench/normals.py`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalmGrades:
    """The grades since a baseline's last step: weighted numbers of all and of wrong ones, and their count.

    Those that are `waiting` were graded since evidence began to grow. All belong to the baseline that began at `since`.
    """

    since: float = 0.0
    n: float = 0.0
    wrong: float = 0.0
    count: int = 0
    waiting_n: float = 0.0
    waiting_wrong: float = 0.0
    waiting_count: int = 0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The grades from their JSON, see `row`."""
        return cls(**row)

    def row(self) -> dict[str, object]:
        """The grades as JSON."""
        return asdict(self)

    def after(self, weight: float, *, incorrect: bool) -> Self:
        """The grades and one more, which waits."""
        return replace(
            self,
            waiting_n=self.waiting_n + weight,
            waiting_wrong=self.waiting_wrong + weight * incorrect,
            waiting_count=self.waiting_count + (weight > 0),
        )

    def settled(self) -> Self:
        """The grades, of which none waits any more."""
        if not self.waiting_n:
            return self
        return replace(
            self.without_evidence(),
            n=self.n + self.waiting_n,
            wrong=self.wrong + self.waiting_wrong,
            count=self.count + self.waiting_count,
        )

    def without_evidence(self) -> Self:
        """The grades without those that wait."""
        return replace(self, waiting_n=0.0, waiting_wrong=0.0, waiting_count=0)


class CalmLearner:
    """Takes in grades one by one; `calm` are those before."""

    def __init__(self, calm: CalmGrades) -> None:
        self.calm = calm

    def learn(self, weight: float, *, incorrect: bool, evidence: float) -> None:
        """Take in one more grade; `evidence` is that of a climb before it."""
        self.settle(evidence)
        if weight:
            self.calm = self.calm.after(weight, incorrect=incorrect)

    def settle(self, evidence: float) -> None:
        """Learn from the grades that wait, if there is little evidence of a climb."""
        if evidence <= CALM_EVIDENCE:
            self.calm = self.calm.settled()
