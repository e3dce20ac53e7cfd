"""Histograms of durations, whose bins grow by a tenth: counts add up over processes, and give quantiles."""

import math
from collections.abc import Mapping
from typing import Final

_GROWTH: Final = 1.1
_SHORTEST_S: Final = 1e-4
_ROUNDING: Final = 1e-9
"""Tolerance of a count: 0.55 * 100 is slightly more than 55 in binary."""

PRECISION: Final = _GROWTH**0.5 - 1
"""The largest relative error of a quantile, from the width of its bin: 4.9%."""


def duration_bin(seconds: float) -> str:
    """The name of a duration's bin; all durations below 0.1 ms are in the first one."""
    # Counters are stored as JSON, whose keys are strings.
    return str(round(math.log(max(seconds, _SHORTEST_S)) / math.log(_GROWTH)))


def quantile(counts: Mapping[str, int], share: float) -> float | None:
    """The quantile at `share` (0 to 1) in seconds; None if `counts` is empty."""
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
