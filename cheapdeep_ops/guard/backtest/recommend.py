"""Which threshold holds a limit on wrong answers among those that ship, with a guarantee: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final

from cheapdeep_ops.guard.statistics.calibration import separation
from cheapdeep_ops.guard.statistics.intervals import Proportion

_SEPARATES: Final = 0.6
"""An AUROC whose interval ends below is of no use: at 0.5 confidence is noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The cheapest threshold that holds the limit, None where none is shown to; `shipped` is wrong answers of n."""

    threshold: float | None
    shipped: Proportion | None


def recommended(
    grades: Sequence[tuple[float, bool]], *, thresholds: Sequence[float], limit: float, certainty: float
) -> Recommendation:
    """The lowest of `thresholds` at which P(wrong given confidence >= threshold) <= `limit`, with `certainty`.

    A grade is (confidence, whether it is wrong), drawn uniformly and independently; `limit` and `certainty` are in
    (0, 1). The thresholds must be fixed without looking at the grades. Source: Learn then Test (Angelopoulos et al.
    2021, arXiv:2110.01052), exact binomial p-values, Bonferroni over the thresholds, so their order is free.
    """
    for threshold in sorted(thresholds):
        wrong = [is_wrong for confidence, is_wrong in grades if confidence >= threshold]
        found = Proportion(hits=sum(wrong), n=len(wrong))
        if p_value(found, limit) <= (1 - certainty) / len(thresholds):
            return Recommendation(threshold=threshold, shipped=found)
    return Recommendation(threshold=None, shipped=None)


def p_value(found: Proportion, limit: float) -> float:
    """P(at most so many wrong) were the rate just `limit`, in (0, 1); 1 where n is 0."""
    terms = (_probability(hits, found.n, limit) for hits in range(found.hits + 1))
    return min(math.fsum(terms), 1.0)


def _probability(hits: int, n: int, rate: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return math.exp(ways + hits * math.log(rate) + (n - hits) * math.log1p(-rate))


def evened(grades: Sequence[tuple[float, bool, float]], random: Random) -> list[tuple[float, bool]]:
    """A part of `grades` in which all had the same chance, from (confidence, wrong, inclusion in (0, 1]).

    Each is kept with the smallest inclusion there is, over its own: what the binomial test needs, for fewer grades.
    """
    least = min((inclusion for _, _, inclusion in grades), default=1.0)
    return [(confidence, wrong) for confidence, wrong, inclusion in grades if random.random() < least / inclusion]


def separates(grades: Sequence[tuple[float, bool]]) -> bool | None:
    """Whether confidence tells right from wrong; None while its interval leaves that open, or nothing is known."""
    found = separation(grades)
    if found is None:
        return None
    _, low, high = found
    return True if low > 0.5 else False if high < _SEPARATES else None  # noqa: PLR2004 - of a coin


def why_none(
    grades: Sequence[tuple[float, bool]], *, thresholds: Sequence[float], limit: float, certainty: float
) -> str:
    """Why no threshold is recommended, and what would help."""
    if not grades:
        return "no grades"
    if separates(grades) is False:
        return "confidence does not separate here"
    needed = [
        more
        for threshold in thresholds
        if (more := _more(grades, threshold, limit, (1 - certainty) / len(thresholds))) is not None
    ]
    if not needed:
        return "at every threshold more answers are wrong than the limit allows"
    return f"not enough grades: about {min(needed)} more"


def _more(grades: Sequence[tuple[float, bool]], threshold: float, limit: float, alpha: float) -> int | None:
    """How many more grades it would take at the rate seen so far; None where that is no better than the limit."""
    wrong = [is_wrong for confidence, is_wrong in grades if confidence >= threshold]
    if not wrong or sum(wrong) >= limit * len(wrong):
        return None
    rate = sum(wrong) / len(wrong)
    # Of the normal approximation to the binomial test; where nothing is wrong, of the test itself.
    z = NormalDist().inv_cdf(1 - alpha)
    needed = z * z * limit * (1 - limit) / (limit - rate) ** 2 if rate else math.log(alpha) / math.log1p(-limit)
    return max(math.ceil((needed - len(wrong)) * len(grades) / len(wrong)), 1)
