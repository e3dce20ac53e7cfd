"""Durations in bins that grow by a tenth: counts add up over time and processes, and quantiles come out of them."""

import math
from collections.abc import Mapping
from typing import Final

_GROWTH: Final = 1.1
_SHORTEST_S: Final = 1e-4
_ROUNDING: Final = 1e-9
"""Of a count: 0.55 of 100 is a hair more than 55 in binary."""

PRECISION: Final = _GROWTH**0.5 - 1
"""How far a quantile can be off for the width of its bin: 4.9%."""


def duration_bin(seconds: float) -> str:
    """The bin of a duration; durations below 0.1 ms share the first one."""
    return str(round(math.log(max(seconds, _SHORTEST_S)) / math.log(_GROWTH)))


def quantile(counts: Mapping[str, int], share: float) -> float | None:
    """The duration, in seconds, that a `share` of those counted does not exceed; None where nothing is counted."""
    total = sum(counts.values())
    if not total:
        return None
    left = share * total - _ROUNDING
    ordered = sorted((int(name), count) for name, count in counts.items())
    for number, count in ordered:
        left -= count
        if left <= 0:
            return float(_GROWTH**number)
    return None
