"""The calibration of confidence, from graded answers. Pure.

Only answers that ship at base are graded, so lower confidence is not covered. Over a part of the range, confidence
always separates less well than over the whole range. A recording with known outcomes covers the whole range.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final

from cheapdeep_ops.guard.report_types.figures import Bin, Confidence
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted

EDGES: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
"""The lower bounds of the reliability table's bins, narrower where answers ship; the last bin ends with 1."""

_DRAWS: Final = 1_000
_CERTAINTY: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceBin:
    """The answers with a confidence in `[low, high)`, or in `[low, 1]` for the last bin."""

    low: float
    high: float
    share: float
    """Their share of all answers."""
    confidence: float
    """Their mean confidence."""
    right: Estimate
    """The share of them that is right."""

    @property
    def gap(self) -> float:
        """Overconfidence: mean stated confidence minus accuracy."""
        return self.confidence - self.right.rate


def reliability(grades: Iterable[tuple[float, bool, float]]) -> list[ConfidenceBin]:
    """The reliability table, without empty bins.

    A grade is (confidence in [0, 1], whether it is wrong, inclusion probability). Source: Murphy, Winkler (1977),
    Applied Statistics 26, 41.
    """
    by_bin: dict[int, list[tuple[float, bool, float]]] = defaultdict(list)
    for grade in grades:
        by_bin[bisect_right(EDGES, grade[0]) - 1].append(grade)
    total = sum(1 / inclusion for in_bin in by_bin.values() for _, _, inclusion in in_bin)
    return [_bin(number, in_bin, total) for number, in_bin in sorted(by_bin.items())]


def _bin(number: int, grades: Sequence[tuple[float, bool, float]], total: float) -> ConfidenceBin:
    right = weighted((not is_wrong, inclusion, 1) for _, is_wrong, inclusion in grades)
    assert right is not None, "a bin has a grade"  # noqa: S101 - only bins with grades are made
    weight = sum(1 / inclusion for _, _, inclusion in grades)
    stated = sum(confidence / inclusion for confidence, _, inclusion in grades)
    high = EDGES[number + 1] if number + 1 < len(EDGES) else 1.0
    return ConfidenceBin(low=EDGES[number], high=high, share=weight / total, confidence=stated / weight, right=right)


def expected_error(bins: Sequence[ConfidenceBin], random: Random) -> tuple[float, float, float] | None:
    """The expected calibration error with its 95% interval (error, low, high); None without grades.

    It is the mean absolute gap of the bins, weighted by their share. The interval is simulated from each bin's
    posterior under Jeffreys priors. Source: Naeini, Cooper, Hauskrecht (2015), AAAI 29, 2901.
    """
    if not bins:
        return None
    # Biased upwards, the more so the fewer grades there are: chance makes gaps of its own.
    error = math.fsum(each.share * abs(each.gap) for each in bins)
    drawn = sorted(
        math.fsum(each.share * abs(each.confidence - _drawn(each.right, random)) for each in bins)
        for _ in range(_DRAWS)
    )
    out = round(_DRAWS * (1 - _CERTAINTY) / 2)
    return error, min(drawn[out], error), max(drawn[-1 - out], error)


def _drawn(right: Estimate, random: Random) -> float:
    hits = right.rate * right.n
    return random.betavariate(hits + 0.5, right.n - hits + 0.5)


def separation(grades: Sequence[tuple[float, bool]]) -> tuple[float, float, float] | None:
    """The unweighted AUROC of confidence with its 95% interval (area, low, high); None without right or wrong answers.

    A grade is (confidence, whether it is wrong); ties count half. At an area of 0 or 1 the interval has no width, so
    callers require enough answers of both kinds. Source: Hanley, McNeil (1982), Radiology 143, 29.
    """
    right = [confidence for confidence, is_wrong in grades if not is_wrong]
    wrong = [confidence for confidence, is_wrong in grades if is_wrong]
    if not right or not wrong:
        return None
    ordered = sorted(wrong)
    area = sum(bisect_left(ordered, each) + bisect_right(ordered, each) for each in right) / (
        2 * len(right) * len(wrong)
    )
    both, other = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area) + (len(right) - 1) * both + (len(wrong) - 1) * other
    half = NormalDist().inv_cdf(0.975) * math.sqrt(max(spread, 0.0) / (len(right) * len(wrong)))
    return area, max(area - half, 0.0), min(area + half, 1.0)


def as_facts(grades: Sequence[tuple[float, bool, float]], random: Random) -> Confidence:
    """What confidence is worth, by all of these measures; unknown ones are None."""
    bins = reliability(grades)
    error = expected_error(bins, random)
    area = separation([(confidence, is_wrong) for confidence, is_wrong, _ in grades])
    return {
        "graded": len(grades),
        "wrong": sum(is_wrong for _, is_wrong, _ in grades),
        "auroc": area[0] if area else None,
        "auroc_interval": area[1:] if area else None,
        "expected_calibration_error": error[0] if error else None,
        "expected_calibration_error_interval": error[1:] if error else None,
        "claims": math.fsum(each.share * each.confidence for each in bins) if bins else None,
        "is_right": math.fsum(each.share * each.right.rate for each in bins) if bins else None,
        "bins": [_row(each) for each in bins],
    }


def _row(measured: ConfidenceBin) -> Bin:
    return {
        "low": measured.low,
        "high": measured.high,
        "share": measured.share,
        "claims": measured.confidence,
        "is_right": measured.right.rate,
        "is_right_interval": measured.right.interval(),
        "graded": measured.right.count,
    }
