"""A sequential test for a rate that has climbed (or fallen) past a target: an e-detector. Pure.

Whoever looks at a growing sample again and again finds something at last. An e-detector may be looked at after every
single observation: its value is a sum over all moments at which the change may have begun, each with a bet that wins on
average nothing while the rate is at the target or on the good side of it. So value minus number of observations has no
upward drift, and the mean number of observations until a false alarm (the value has reached 1 / alpha) is at
least 1 / alpha.

Sources: Shin, Ramdas, Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection, New
England J. Statistics in Data Science 2, 229 (definition 2.2, theorem 2.4: the bound holds whatever the dependence, as
long as each bet is fair given what was known before); Shiryaev (1963) and Roberts (1966) for the recursion;
Waudby-Smith, Ramdas (2024), J. Royal Stat. Soc. B 86, 1, for betting on bounded means.

Why steering is allowed: whether an answer is graded may depend on all grades before, since the bet is fair given those.
Why lateness is allowed: observations are taken in the order in which they become known, and only once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

CLIMBS: Final = (1.5, 2.0, 3.0, 4.5, 7.0)
"""How many times the target a rate may have become: one bet for each. The first is the smallest climb looked for."""

FALLS: Final = (0.25, 0.4, 0.6, 0.75)
"""The factors of the target to which a rate may have fallen: one bet for each."""

_HIGHEST: Final = 0.95
"""No bet is on a rate above, so that one correct answer never ends it."""


@dataclass(frozen=True, slots=True)
class Bets:
    """The rates to bet on, against `target`; all on one side of it, strictly inside (0, 1)."""

    target: float
    rates: tuple[float, ...]

    @classmethod
    def on_climb(cls, target: float, factors: Sequence[float] = CLIMBS) -> Self:
        """Bets that a rate lies above `target`: at multiples of it, and never closer to 1 than half the way there."""
        highest = max(_HIGHEST, (1 + target) / 2)
        return cls(target, tuple(min(target * factor, highest) for factor in factors))

    @classmethod
    def on_fall(cls, target: float, factors: Sequence[float] = FALLS) -> Self:
        """Bets that a rate lies below `target`."""
        return cls(target, tuple(target * factor for factor in factors))

    def growth(self, hits: int, n: int) -> tuple[float, ...]:
        """The natural logarithm of the factor by which `hits` of `n` observations multiply each bet."""
        miss = n - hits
        return tuple(
            hits * math.log(rate / self.target) + miss * math.log((1 - rate) / (1 - self.target)) for rate in self.rates
        )


@dataclass(frozen=True, slots=True)
class Detector:
    """An e-detector's value, one share for each bet, with what the strongest one has seen since it began to grow.

    `logs` are natural logarithms of the shares; `n` and `hits` count the observations since the evidence last was nil,
    `since` is when the first of them was made; `total` counts all observations.
    """

    logs: tuple[float, ...] = ()
    total: int = 0
    n: int = 0
    hits: int = 0
    since: float | None = None
    run: float = 0.0
    """The largest logarithm of a bet since then: zero or below ends the run."""
    runs: tuple[float, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The detector that `row` gave."""
        return cls(**{**row, "logs": tuple(row["logs"]), "runs": tuple(row["runs"])})

    def row(self) -> dict[str, Any]:
        """The detector as JSON."""
        return {**asdict(self), "logs": list(self.logs), "runs": list(self.runs)}

    def after(self, bets: Bets, hits: int, n: int, *, at: float = 0.0) -> "Detector":
        """The detector after `hits` of `n` more observations, that became known together; the first was made `at`.

        Taking several at once loses nothing of the bound: they are one observation of a sum.
        """
        if not n:
            return self
        growth = bets.growth(hits, n)
        before = self.logs or (-math.inf,) * len(growth)
        # Every observation begins a new bet at 1; n of them that come together begin at most n.
        logs = tuple(_log_add(log, math.log(n)) + grown for log, grown in zip(before, growth, strict=True))
        return self._counted(replace(self, logs=logs, total=self.total + n), growth, hits, n, at)

    def _counted(self, after: "Detector", growth: tuple[float, ...], hits: int, n: int, at: float) -> "Detector":
        """`after` with its run: a plain CUSUM beside each bet says since when there is evidence at all."""
        before = self.runs or (0.0,) * len(growth)
        runs = tuple(max(run, 0.0) + grown for run, grown in zip(before, growth, strict=True))
        run = max(runs)
        if run <= 0:
            return replace(after, runs=runs, run=0.0, n=0, hits=0, since=None)
        since = at if self.since is None else self.since
        return replace(after, runs=runs, run=run, n=self.n + n, hits=self.hits + hits, since=since)

    @property
    def evidence(self) -> float:
        """The natural logarithm of the value; minus infinity before anything was seen."""
        if not self.logs:
            return -math.inf
        top = max(self.logs)
        if top == -math.inf:
            return top
        return top + math.log(sum(math.exp(log - top) for log in self.logs) / len(self.logs))

    def alarms(self, alpha: float) -> bool:
        """Whether the value has reached 1 / alpha: by mistake so after 1 / alpha observations or more, on average."""
        return self.evidence >= -math.log(alpha)


def _log_add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
