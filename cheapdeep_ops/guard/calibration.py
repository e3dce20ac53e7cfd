"""Whether confidence is worth anything, from grades of answers that ship at base: pure; it covers no other region."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist


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
