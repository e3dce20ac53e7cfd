"""Adaptive sampling: the share of each route's confident answers that is graded. Pure.

A constant share spends most grades while nothing happens. Here calm times spend half of the budget, and suspicion
spends the rest. After a wrong answer, stored candidates are graded retrospectively, newest first. This ends when the
suspicion has gone or the detector has fired. Calls to come are sampled at a higher share too. The method is
data-efficient change detection (Banerjee, Veeravalli 2012, Sequential Analysis 31, 40). Suspicion is the statistic of
Shiryaev and Roberts.

In simulations at a rate equal to the target, from 1% to 20%, a budget of 1% grades 1.0% to 1.3% of answers. With late
grades it is 0.5% to 1.1%, because the number of waiting samples is limited.
`tests/bench/detection.py` shows which climbs are detected, and after how many answers.

A call's inclusion is the probability of its choice. It depends only on what was known when the call began, and
estimates weight by it. Retrospective samples (`steered`) have no such probability, because a wrong grade led to their
choice. They are evidence for the detector, and every estimate over a period leaves them out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final, Self

CALM: Final = 0.5
"""The share of the budget that calm times spend."""

LEARNING: Final = 3.0
"""How many times the budget a route spends until its first grades are complete.

A normal from few grades is wide, and hides climbs. At 1%, 600 grades take 20,000 answers.
"""

LEARNED: Final = 1_200
"""A route spends the whole budget, also in calm, until so many grades are learned from."""

CLIMB_FACTOR: Final = 3.0
"""The climb that a suspicion bets on, as a multiple of the target rate."""

SUSPICIOUS: Final = 2.5
"""A suspicion is raised above this multiple of its resting value."""

_ALERTED: Final = 18.0
"""The least suspicion after a change of traffic. About 1 / target correct answers end it: 20 at 5%, 100 at 1%."""

MAX_RETROSPECTIVE: Final = 200
"""The most answers that one suspicion grades retrospectively."""

LARGEST_ROUND: Final = 10
WRONG_PER_ROUND: Final = 0.3
"""The size of a round of retrospective grades: it has this many wrong answers at the target, but 10 at most.

Rounds are small because most suspicions are false; the suspicion is updated after each.
"""

_SUFFICIENT: Final = 3_000
"""So many grades of a route in 24 hours suffice to decide."""

_OVER_BUDGET: Final = 3.0
"""Where the budget alone is more than that, a day may have so many times the budget."""

CONVINCING: Final = 10
"""A suspicion must outlast so many retrospective grades before the share of calls to come rises.

A higher share costs much more, and with late grades many samples are chosen before the first grade is known.
"""

MAX_WAITING: Final = 200
"""A route with so many samples without a grade gets no more by suspicion until these grades are known.

Simulated with grades that arrive 6,000 answers late (ten minutes at ten calls/s), at a rate equal to the target:

    bound   graded in calm   3% -> 10% found after   2% -> 5%
      100   0.8%             20,400 answers          41,000
      150   1.0%             18,800                  34,300
      200   1.1%             17,700                  30,500
      300   1.4%             17,200                  26,500
     none   3.5%             15,700                  20,400
"""

_TOLERANCE: Final = 0.2
"""A share is not changed by a smaller fraction than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """The evidence that a route's rate has climbed, relative to its resting value after only correct answers."""

    value: float = 1.0
    hindsight: int = 0
    """The number of retrospective grades since it was last raised."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The suspicion from its JSON, see `row`."""
        return cls(**row)

    def row(self) -> dict[str, object]:
        """The suspicion as JSON."""
        return asdict(self)

    @property
    def is_raised(self) -> bool:
        """Whether it asks for more grades."""
        return self.value > SUSPICIOUS

    def retrospective_quota(self, waiting: int, target: float) -> int:
        """How many past answers to grade now; `waiting` samples have no grade yet.

        `target` is the normal share of wrong answers, in (0, 1).
        """
        left = max(MAX_RETROSPECTIVE - self.hindsight, 0)
        round_size = min(max(round(WRONG_PER_ROUND / target), 1), LARGEST_ROUND)
        return min(round_size, left, waiting_capacity(waiting)) if self.is_raised else 0

    def raises_sampling_rate(self, waiting: int) -> bool:
        """Whether the share of calls to come rises; `waiting` samples have no grade yet."""
        return self.is_raised and self.hindsight >= CONVINCING and waiting_capacity(waiting) > 0

    def alerted(self) -> "Suspicion":
        """The suspicion after the traffic of its route has changed: it asks for grades until they are calm."""
        return Suspicion(value=max(self.value, _ALERTED), hindsight=self.hindsight)

    def after(self, *, incorrect: bool, target: float, steered: bool) -> "Suspicion":
        """The suspicion after one more grade; `target` is the normal share of wrong answers, in (0, 1)."""
        # Like CLIMBS in the detector, the bet stays below 1, so that one correct answer does not end it.
        bet = min(CLIMB_FACTOR * target, (1 + target) / 2)
        miss = (1 - bet) / (1 - target)
        resting = miss / (1 - miss)
        value = (self.value * resting + 1) * (bet / target if incorrect else miss) / resting
        # The limit is far above any decision, and keeps the number from overflowing.
        after = Suspicion(value=min(value, 1e9), hindsight=self.hindsight + steered)
        return after if after.is_raised else Suspicion(value=after.value)


def waiting_capacity(waiting: int) -> int:
    """How many more of a route's answers may be chosen by suspicion; `waiting` samples have no grade yet."""
    return max(MAX_WAITING - waiting, 0)


def most_per_day(budget: float, answers: float) -> float:
    """The number of grades and waiting samples in 24 hours at which a route gets no more by suspicion.

    `answers` is the number of its confident answers in that time. Calm grades count too, so the number grows with the
    budget. On a large route, calm times alone would spend a fixed number, and leave nothing for a suspicion.
    """
    return max(_SUFFICIENT, _OVER_BUDGET * budget * answers)


def is_adaptive(budget: float, kept: float) -> bool:
    """Whether shares can differ: `kept`, the share of stored candidates, must be at least four times the budget."""
    return kept >= 4 * budget


def shares(
    answers: Mapping[str, int],
    *,
    budget: float,
    kept: float,
    learning: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
    hot: frozenset[str] = frozenset(),
    paced: frozenset[str] = frozenset(),
) -> dict[str, float]:
    """The share of each route's answers to grade, by the routes' recent numbers of answers.

    `hot` routes are under suspicion or raised: all of their candidates are graded. Routes that are `learning` their
    first grades spend LEARNING times the budget. Those in `whole` spend the budget, because their threshold has changed
    or they have learned little. All others spend the calm share of it. A raised route that has reached the number of
    `most_per_day` is `paced`. It spends that number evenly over a day, so that the end of the incident is seen at any
    hour.
    """
    # In proportion to the square root of its answers: 1% of the traffic gets 10% as many grades, and not 1%.
    # Source: Bankier (1988), Power allocations, The American Statistician 42, 174.
    roots = {route: sqrt(max(count, 1)) for route, count in answers.items()}
    scale = sum(max(count, 1) for count in answers.values()) / sum(roots.values()) if roots else 1.0

    def share(route: str) -> float:
        if route in hot:
            return kept
        spent = LEARNING if route in learning else 1.0 if route in whole else CALM
        share = min(budget * spent * scale / roots[route], kept)
        even = most_per_day(budget, answers[route]) / max(answers[route], 1)
        return max(share, min(even, kept)) if route in paced else share

    return {route: share(route) for route in answers}


def has_moved(before: float, after: float) -> bool:
    """Whether a share has changed by more than 20%."""
    return before != after and not (1 - _TOLERANCE) * before <= after <= (1 + _TOLERANCE) * before
