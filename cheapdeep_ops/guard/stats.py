"""Proportions with their uncertainty."""

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """`hits` of `n`."""

    hits: int
    n: int

    @property
    def rate(self) -> float | None:
        """The share, or None where there is nothing to share."""
        return self.hits / self.n if self.n else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The Wilson score interval; (0, 1) where n is 0.

        Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209; recommended for small n by Brown, Cai, DasGupta (2001),
        Statistical Science 16, 101.
        """
        return wilson(self.hits, self.n, confidence)


def wilson(hits: int, n: int, confidence: float) -> tuple[float, float]:
    """The two-sided Wilson score interval for `hits` of `n`, within [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    z = -NormalDist().inv_cdf((1 - confidence) / 2)  # the lower tail keeps its digits where 0.5 + confidence / 2 is 1
    rate, shrink = hits / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0) if hits else 0.0, min(centre + half, 1.0) if hits < n else 1.0
