"""Whether confidence is worth anything, from graded answers: pure, randomness is an argument.

Grades are of answers that ship at base, so nothing is said of confidence below that; within a part of the range, any
confidence tells less than over the whole of it. What is known of every answer (a recording) covers the whole.
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
"""Where the bins of the reliability table begin; the last one ends with 1. Narrow where answers ship."""

_DRAWS: Final = 1_000
_CERTAINTY: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceBin:
    """Answers whose confidence lies in `[low, high)`, or up to 1: what they claim on average, and how many are right.

    `share` is their part of all answers.
    """

    low: float
    high: float
    share: float
    confidence: float
    right: Estimate

    @property
    def gap(self) -> float:
        """How much more is claimed than is so; negative where it is less."""
        return self.confidence - self.right.rate


def reliability(grades: Iterable[tuple[float, bool, float]]) -> list[ConfidenceBin]:
    """The reliability table; bins without a grade are left out.

    A grade is (confidence in [0, 1], whether it is wrong, inclusion probability). Source: Murphy, Winkler (1977),
    Applied Statistics 26, 41.
    """
    by_bin: dict[int, list[tuple[float, bool, float]]] = defaultdict(list)
    for grade in grades:
        by_bin[bisect_right(EDGES, grade[0]) - 1].append(grade)
    total = sum(1 / inclusion for found in by_bin.values() for _, _, inclusion in found)
    return [_bin(number, found, total) for number, found in sorted(by_bin.items())]


def _bin(number: int, found: Sequence[tuple[float, bool, float]], total: float) -> ConfidenceBin:
    right = weighted((not is_wrong, inclusion, 1) for _, is_wrong, inclusion in found)
    assert right is not None, "a bin has a grade"  # noqa: S101 - it is made of its grades
    weight = sum(1 / inclusion for _, _, inclusion in found)
    claimed = sum(confidence / inclusion for confidence, _, inclusion in found)
    high = EDGES[number + 1] if number + 1 < len(EDGES) else 1.0
    return ConfidenceBin(low=EDGES[number], high=high, share=weight / total, confidence=claimed / weight, right=right)


def expected_error(bins: Sequence[ConfidenceBin], random: Random) -> tuple[float, float, float] | None:
    """The expected calibration error and its 95% interval; None without a grade.

    The mean distance between what is claimed and what is so, over bins weighed by their share (Naeini, Cooper,
    Hauskrecht 2015, AAAI 29, 2901). Chance makes it larger than it is, the more so the fewer grades there are; the
    interval is of the posterior of each bin's share of right answers under Jeffreys priors, by simulation.
    """
    if not bins:
        return None
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


def separation(grades: Sequence[tuple[float, bool]], certainty: float = 0.95) -> tuple[float, float, float] | None:
    """The AUROC of confidence, unweighted, and its interval (low, high); None where a class is empty.

    A grade is (confidence, whether it is wrong); ties count half. The interval is that of Hanley and McNeil (1982),
    Radiology 143, 29; it has no width where the area is 0 or 1, so ask for enough of both classes first.
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
    half = NormalDist().inv_cdf((1 + certainty) / 2) * math.sqrt(max(spread, 0.0) / (len(right) * len(wrong)))
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
