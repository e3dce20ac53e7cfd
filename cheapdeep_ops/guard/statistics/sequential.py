"""A sequential test for a rate that has climbed above (or fallen below) a target: an e-detector. Pure.

An ordinary test that is repeated on a growing sample raises a false alarm sooner or later. An e-detector may be
evaluated after every observation. Its value is a sum over all times at which the change may have begun. Each summand is
a bet. While the rate is at the target or on its good side, a bet's mean gain is zero or less. So the value minus the
number of observations has no upward drift. False alarms (a value of 1 / alpha) therefore come after at least 1 / alpha
observations on average.

Sources: Shin, Ramdas, Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection, New
England J. Statistics in Data Science 2, 229 (definition 2.2, theorem 2.4: the bound holds for any dependence, if each
bet is fair given the past); Shiryaev (1963) and Roberts (1966) for the recursion; Waudby-Smith, Ramdas (2024), J. Royal
Stat. Soc. B 86, 1, for betting on bounded means.

Adaptive sampling is allowed: whether an answer is graded may depend on all earlier grades, because the bet is fair
given those. Late grades are allowed: each observation is used once, in the order in which grades become known.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, Self

CLIMBS: Final = (1.5, 2.0, 3.0, 4.5, 7.0)
"""Each bet is on a climb to this multiple of the target; the first is the smallest climb to detect."""

FALLS: Final = (0.25, 0.4, 0.6, 0.75)
"""Each bet is on a fall to this multiple of the target."""

HIGHEST: Final = 0.95
"""The highest rate to bet on: a bet on 1 would lose everything with one correct answer."""

_ABOVE_ZERO: Final = math.nextafter(0.0, 1.0)
_BELOW_ONE: Final = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Bets:
    """The rates to bet on, all above or all below `target`, strictly inside (0, 1)."""

    target: float
    rates: tuple[float, ...]

    @classmethod
    def on_climb(cls, target: float, factors: Sequence[float] = CLIMBS) -> Self:
        """Bets that a rate is above `target`, at multiples of it."""
        # Targets above 0.9 need bets above HIGHEST; halfway to 1 is above any target. It may round to 1, though.
        highest = min(max(HIGHEST, (1 + target) / 2), _BELOW_ONE)
        return cls(target, tuple(min(target * factor, highest) for factor in factors))

    @classmethod
    def on_fall(cls, target: float) -> Self:
        """Bets that a rate is below `target`, at multiples of it."""
        return cls(target, tuple(max(target * factor, _ABOVE_ZERO) for factor in FALLS))

    def growth(self, hits: int, n: int) -> tuple[float, ...]:
        """The log-likelihood ratio of each bet for `hits` of `n` observations."""
        miss = n - hits
        return tuple(
            hits * math.log(rate / self.target) + miss * math.log((1 - rate) / (1 - self.target)) for rate in self.rates
        )


class Observed(NamedTuple):
    """`hits` of `n` observations that became known together at `at` (Unix time), and the growth of each bet by them.

    `question` identifies what was asked; empty if that is not known. `weight` is how much they count for what is
    learned from calm times; the test itself does not use it.
    """

    growth: tuple[float, ...]
    hits: int
    n: int
    at: float
    question: str = ""
    weight: float = 0.0


Limit = Callable[[Observed, float], tuple[float, ...]]
"""Takes an observation and the evidence of the run before it (0 if none); returns how much it may add to each bet."""


@dataclass(frozen=True, slots=True)
class Detector:
    """The state of an e-detector, and its current run: the observations since there was last no evidence."""

    logs: tuple[float, ...] = ()
    """The natural logarithm of each bet's value."""
    total: int = 0
    """The number of all observations."""
    n: int = 0
    """The number of observations in the current run."""
    hits: int = 0
    """The hits among them."""
    since: float | None = None
    """The time of the run's first observation; None between runs."""
    run: float = 0.0
    """The largest of `runs`; a run ends when it is 0 or less."""
    runs: tuple[float, ...] = ()
    """A CUSUM for each bet."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The detector from its JSON, see `row`."""
        return cls(**{**row, "logs": tuple(row["logs"]), "runs": tuple(row["runs"])})

    def row(self) -> dict[str, object]:
        """The detector as JSON."""
        return {**asdict(self), "logs": list(self.logs), "runs": list(self.runs)}

    def after(self, bets: Bets, hits: int, n: int, *, at: float = 0.0) -> "Detector":
        """The detector after `hits` of `n` more observations that became known together; the first is of time `at`."""
        return self.after_all([Observed(bets.growth(hits, n), hits, n, at)]) if n else self

    def after_all(self, observed: Iterable[Observed], *, limit: Limit | None = None) -> "Detector":
        """The detector after more observations, in the order in which they became known; `limit` bounds their growth.

        A bound must be known before the observation, and may only make the growth smaller.
        """
        logs, runs, run = list(self.logs), list(self.runs), self.run
        total, n, hits, since = self.total, self.n, self.hits, self.since
        exp, log1p = math.exp, math.log1p
        for each_observed in observed:
            growth, more_hits, more, at, *_ = each_observed
            if limit is not None:
                growth = limit(each_observed, run)
            if not logs:
                logs, runs = [-math.inf] * len(growth), [0.0] * len(growth)
            # Each observation begins a new bet at 1, so n together begin n. The bound holds: they are one observed sum.
            new = math.log(more)
            # log(exp(log) + exp(new)), written out: a guard that starts spends much of its time here.
            logs = [
                (log + log1p(exp(new - log)) if log > new else new + log1p(exp(log - new))) + grown
                for log, grown in zip(logs, growth, strict=True)
            ]
            # The e-detector's value never returns to zero; a CUSUM for each bet shows when evidence began.
            runs = [each + grown if each > 0 else grown for each, grown in zip(runs, growth, strict=True)]
            total, run = total + more, max(0.0, *runs)
            if run:
                n, hits, since = n + more, hits + more_hits, at if since is None else since
            else:
                n, hits, since = 0, 0, None
        return Detector(tuple(logs), total, n, hits, since, run, tuple(runs))

    @property
    def evidence(self) -> float:
        """The natural logarithm of the value; minus infinity without observations."""
        if not self.logs:
            return -math.inf
        # Factoring out the largest term keeps the exponentials from overflowing.
        top = max(self.logs)
        if top == -math.inf:
            return top
        return top + math.log(sum(math.exp(log - top) for log in self.logs) / len(self.logs))

    def alarms(self, alpha: float) -> bool:
        """Whether the value is 1 / alpha or more; the mean time to a false alarm is at least 1 / alpha observations."""
        return self.evidence >= -math.log(alpha)
