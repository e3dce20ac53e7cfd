"""Proportions and weighted estimates, with their confidence intervals."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """`hits` of `n`."""

    hits: int
    n: int

    @property
    def rate(self) -> float | None:
        """Hits by n; None if n is 0."""
        return self.hits / self.n if self.n else None

    @property
    def count(self) -> int:
        """The number of observations."""
        return self.n

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The Wilson score interval; (0, 1) where n is 0.

        Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209; recommended for small n by Brown, Cai, DasGupta (2001),
        Statistical Science 16, 101.
        """
        return wilson(self.hits, self.n, confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A weighted share: `n` is the effective number of observations, `count` the actual one."""

    rate: float
    n: float
    count: int

    @property
    def hits(self) -> float:
        """The effective number of hits."""
        return self.rate * self.n

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The Wilson score interval at the effective n."""
        return wilson(self.rate * self.n, self.n, confidence)


def weighted(groups: Iterable[tuple[bool, float, int]]) -> Estimate | None:
    """The share of hits in a sample with unequal inclusion probabilities; None for an empty sample.

    A group is (whether its members are hits, their inclusion probability, their number). The rate is the ratio
    estimator of Hajek (1971) with weights 1 / inclusion. The effective n is that of a simple random sample with an
    equal variance. With equal probabilities it is the actual n; it is never more. The variance is the linearized one
    (Sarndal, Swensson, Wretman 1992, Model Assisted Survey Sampling, 5.7), summed over strata of similar inclusion.
    """
    by_inclusion: dict[float, tuple[int, int]] = {}
    for is_hit, inclusion, members in groups:
        n, hits = by_inclusion.get(inclusion, (0, 0))
        by_inclusion[inclusion] = n + members, hits + is_hit * members
    count = sum(n for n, _ in by_inclusion.values())
    if not count:
        return None
    total = math.fsum(n / inclusion for inclusion, (n, _) in by_inclusion.items())
    rate = math.fsum(hits / inclusion for inclusion, (_, hits) in by_inclusion.items()) / total
    return Estimate(rate=min(rate, 1.0), n=_effective_n(_strata_of(by_inclusion), count), count=count)


@dataclass(slots=True)
class _Stratum:
    """Members of similar weight; `weight` and `squares` are the sums of the weights and of their squares."""

    n: int = 0
    hits: int = 0
    weight: float = 0.0
    squares: float = 0.0


def _strata_of(by_inclusion: Mapping[float, tuple[int, int]]) -> Collection[_Stratum]:
    """The members by powers of two of their inclusion. Finer strata would be too small to have a rate."""
    strata: dict[int, _Stratum] = defaultdict(_Stratum)
    largest = max(by_inclusion)
    for inclusion, (n, hits) in by_inclusion.items():
        stratum = strata[round(math.log2(inclusion / largest))]
        stratum.n, stratum.hits = stratum.n + n, stratum.hits + hits
        stratum.weight += n / inclusion
        stratum.squares += n / inclusion**2
    return strata.values()


def _effective_n(strata: Collection[_Stratum], count: int) -> float:
    """The n of a simple random sample with the variance of these strata; at least 1, at most `count`."""
    # (hits + 1) / (n + 2), because a stratum without hits would otherwise have no variance.
    rates = [(stratum, (stratum.hits + 1) / (stratum.n + 2)) for stratum in strata if stratum.n]
    total = math.fsum(stratum.weight for stratum, _ in rates)
    whole = math.fsum(stratum.weight * rate for stratum, rate in rates) / total
    # Chance decides how many members a stratum has, so the difference of its rate from the whole adds to the variance.
    spread = math.fsum(stratum.squares * (rate * (1 - rate) + (rate - whole) ** 2) for stratum, rate in rates)
    return min(max(whole * (1 - whole) * total**2 / spread, 1.0), float(count))


def pooled(parts: Iterable[tuple[Estimate, float]]) -> Estimate | None:
    """Independent estimates combined, each with its share in the whole; None if there are none.

    The effective n is that of a simple random sample with an equal variance.
    """
    known = [(part, share) for part, share in parts if share > 0]
    total = sum(share for _, share in known)
    if not known:
        return None
    rate = sum(part.rate * share for part, share in known) / total
    # (hits + 1) / (n + 2), because a part without hits would otherwise have no variance.
    spread = sum((share / total) ** 2 * _shrunk(part) * (1 - _shrunk(part)) / part.n for part, share in known)
    centre = sum(_shrunk(part) * share for part, share in known) / total
    return Estimate(rate=rate, n=centre * (1 - centre) / spread, count=sum(part.count for part, _ in known))


def _shrunk(part: Estimate) -> float:
    return (part.rate * part.n + 1) / (part.n + 2)


def difference(later: Estimate, earlier: Estimate, confidence: float) -> tuple[float, float]:
    """The interval for `later` minus `earlier`, from the Wilson intervals of both.

    Source: Newcombe (1998), Statistics in Medicine 17, 873, method 10.
    """
    return difference_of(later.rate, later.interval(confidence), earlier.rate, earlier.interval(confidence))


def difference_of(
    later: float, later_interval: tuple[float, float], earlier: float, earlier_interval: tuple[float, float]
) -> tuple[float, float]:
    """The interval for one rate minus another, from the Wilson intervals of both; see `difference`."""
    (low, high), (before_low, before_high) = later_interval, earlier_interval
    change = later - earlier
    return (
        change - math.hypot(later - low, before_high - earlier),
        change + math.hypot(high - later, earlier - before_low),
    )


@lru_cache
def _normal_quantile(confidence: float) -> float:
    """How many standard deviations a two-sided interval of this confidence reaches from its centre."""
    # The lower tail keeps its precision near a confidence of 1, where 0.5 + confidence / 2 rounds to 1.
    return -NormalDist().inv_cdf((1 - confidence) / 2)


def wilson(hits: float, n: float, confidence: float) -> tuple[float, float]:
    """The two-sided Wilson score interval for `hits` of `n`, within [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    z = _normal_quantile(confidence)
    rate, shrink = hits / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0) if hits else 0.0, min(centre + half, 1.0) if hits < n else 1.0
