"""The ratio of two sums over a stream whose parts differ, with its interval. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

FEWEST: Final = 5
"""With fewer parts, the variance between them is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio with its 95% interval."""

    value: float
    low: float
    high: float


def ratio_of(parts: Sequence[tuple[float, float]]) -> Ratio | None:
    """The sum of the second numbers divided by that of the first. Each part is (first, second), both at least 0.

    The parts are periods of time, so that calls which resemble their neighbours do not count as independent. None with
    fewer than `FEWEST` parts whose first number is above 0. Source: Cochran (1977), Sampling Techniques, 9A.
    """
    known = [(below, above) for below, above in parts if below > 0]
    if len(known) < FEWEST:
        return None
    total = math.fsum(below for below, _ in known)
    value = math.fsum(above for _, above in known) / total
    spread = math.fsum((above - value * below) ** 2 for below, above in known) * len(known) / (len(known) - 1)
    half = _student(len(known) - 1) * math.sqrt(spread) / total
    return Ratio(value=value, low=max(value - half, 0.0), high=value + half)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t, right within 0.02 from 4 degrees of freedom on.

    Source: Abramowitz, Stegun (1964), Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
