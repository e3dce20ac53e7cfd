"""How large a share of each route's confident answers is graded: pure.

One share for all time spends most grades where nothing happens. So in calm half of the budget is spent,
and the rest where there is suspicion: after a wrong answer, answers that were kept meanwhile are graded in hindsight,
newest first, until the suspicion is gone or the detector has fired; and more of the calls to come. That is
data-efficient change detection (Banerjee, Veeravalli 2012, Sequential Analysis 31, 40), with the statistic of Shiryaev
and Roberts as suspicion.

Simulated at a rate that is all the time as high as the target, this spends 1.0% to 1.3% of answers where 1% is the
budget, for targets from 1% to 20%. Where grades come late it is 0.5% to 1.1%, as no more is chosen than may wait.
`tests/bench/detection.py` shows what it finds, and how soon.

What was known when a call began decides with which probability it is chosen: that is its inclusion, and estimates weigh
with it. Answers chosen in hindsight have no such probability, since a wrong neighbour is why they were chosen: they are
`steered`, evidence for the detector, and left out of every estimate over a period.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final, Self

CALM: Final = 0.5
"""The share of the budget that is spent in calm."""

_TRIGGER: Final = 3.0
"""How many times the target a rate has become, where it has climbed: what a suspicion bets on."""

SUSPICIOUS: Final = 2.5
"""How many times its resting value a suspicion must have reached."""

MOST_IN_HINDSIGHT: Final = 200
"""Answers that are graded in hindsight for one suspicion."""

_AT_ONCE: Final = 10
_WRONG_AT_ONCE: Final = 0.3
"""Of them, those that are graded before the suspicion is looked at again: few, as most suspicions are none, and the
fewer the more of them are wrong anyway; as many as hold so many wrong ones at the target."""

MOST_A_DAY: Final = 3_000
"""Gradings of a route in 24 hours, those still waited for among them, beyond which nothing asks for more: by then it is
decided."""

_CONVINCING: Final = 10
"""Answers in hindsight that a suspicion must outlast before more of the calls to come are graded: they cost a lot more,
and where grades are late, many are chosen before anything is known of the first."""

MOST_WAITING: Final = 200
"""Samples of a route without a grade at which no suspicion asks for more: what they say is to be known first.

By simulation of grades that come 6,000 answers late (ten minutes at ten calls/s), at a rate as high as the target:

    bound   graded in calm   3% -> 10% found after   2% -> 5%
      100   0.8%             20,400 answers          41,000
      150   1.0%             18,800                  34,300
      200   1.1%             17,700                  30,500
      300   1.4%             17,200                  26,500
     none   3.5%             15,700                  20,400
"""

_FINE: Final = 0.2
"""A share that has moved by less stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """How likely it is that a route's rate has climbed, in multiples of what it is after nothing but correct answers.

    `hindsight` is how many answers were graded in hindsight since it last arose.
    """

    value: float = 1.0
    hindsight: int = 0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The suspicion that `row` gave."""
        return cls(**row)

    def row(self) -> dict[str, Any]:
        """The suspicion as JSON."""
        return asdict(self)

    @property
    def is_raised(self) -> bool:
        """Whether more is to be graded."""
        return self.value > SUSPICIOUS

    def wants_past(self, waiting: int, target: float) -> int:
        """How many more answers of the past are to be graded now, while `waiting` samples have no grade yet.

        `target` is the share of wrong answers that is not suspicious, in (0, 1).
        """
        left = max(MOST_IN_HINDSIGHT - self.hindsight, 0)
        at_once = min(max(round(_WRONG_AT_ONCE / target), 1), _AT_ONCE)
        return min(at_once, left, room(waiting)) if self.is_raised else 0

    def wants_future(self, waiting: int) -> bool:
        """Whether more of the calls to come are to be graded, while `waiting` samples have no grade yet."""
        return self.is_raised and self.hindsight >= _CONVINCING and room(waiting) > 0

    def after(self, *, incorrect: bool, target: float, steered: bool) -> "Suspicion":
        """The suspicion after one more grade of a route that may be wrong at `target`."""
        bet = min(_TRIGGER * target, (1 + target) / 2)
        miss = (1 - bet) / (1 - target)
        resting = miss / (1 - miss)
        value = (self.value * resting + 1) * (bet / target if incorrect else miss) / resting
        # So far up it is certain, and a number that cannot overflow.
        after = Suspicion(value=min(value, 1e9), hindsight=self.hindsight + steered)
        return after if after.is_raised else Suspicion(value=after.value)


def room(waiting: int) -> int:
    """How many more of a route's answers may be chosen beyond the calm share, where `waiting` have no grade yet."""
    return max(MOST_WAITING - waiting, 0)


def is_steered(budget: float, kept: float) -> bool:
    """Whether there is anything to steer: where nearly all that is kept is graded anyway, there is not."""
    return kept >= 4 * budget


def shares(
    answers: Mapping[str, int], *, budget: float, kept: float, learning: frozenset[str], hot: frozenset[str]
) -> dict[str, float]:
    """The share of each route's answers to grade, from how many of each there were lately.

    `hot` routes are suspected, or their threshold is raised: as many as are kept. Routes that are still `learning` what
    is normal have the whole budget. The others share out the calm one so that a route of a hundredth of the traffic has
    a tenth of the grades and not a hundredth: in proportion to the square root of its answers (Bankier 1988, Power
    allocations, The American Statistician 42, 174).
    """
    roots = {route: sqrt(max(count, 1)) for route, count in answers.items()}
    each = sum(max(count, 1) for count in answers.values()) / sum(roots.values()) if roots else 1.0

    def share(route: str) -> float:
        if route in hot:
            return kept
        return min(budget * (1.0 if route in learning else CALM) * each / roots[route], kept)

    return {route: share(route) for route in answers}


def has_moved(before: float, after: float) -> bool:
    """Whether a share is another one, and not only a little."""
    return before != after and not (1 - _FINE) * before <= after <= (1 + _FINE) * before
