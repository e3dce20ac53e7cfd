"""The threshold that keeps wrong answers among the shipped ones below a limit, with a guarantee: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final

from cheapdeep_ops.guard.statistics.calibration import separation
from cheapdeep_ops.guard.statistics.intervals import Proportion

_SEPARATES: Final = 0.6
"""Confidence with an AUROC interval below this is of no use; 0.5 is chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The cheapest threshold with a guarantee for the limit, or None; `shipped` has the wrong answers among n."""

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
        shipped = Proportion(hits=sum(wrong), n=len(wrong))
        # The Bonferroni correction makes the order of the thresholds irrelevant.
        if p_value(shipped, limit) <= (1 - certainty) / len(thresholds):
            return Recommendation(threshold=threshold, shipped=shipped)
    return Recommendation(threshold=None, shipped=None)


def p_value(wrong: Proportion, limit: float) -> float:
    """P(at most so many wrong answers) at a rate of `limit`, which is in (0, 1); 1 if n is 0."""
    terms = (_probability(hits, wrong.n, limit) for hits in range(wrong.hits + 1))
    return min(math.fsum(terms), 1.0)


def _probability(hits: int, n: int, rate: float) -> float:
    # Logarithms, because binomial coefficients of a large n overflow a float.
    ways = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return math.exp(ways + hits * math.log(rate) + (n - hits) * math.log1p(-rate))


def evenly_sampled(grades: Sequence[tuple[float, bool, float]], random: Random) -> list[tuple[float, bool]]:
    """A sample of `grades` with equal inclusion, from (confidence, wrong, inclusion in (0, 1]).

    Each is kept with the probability of the smallest inclusion divided by its own. The binomial test needs equal
    inclusion, so some grades are lost.
    """
    least = min((inclusion for _, _, inclusion in grades), default=1.0)
    return [(confidence, wrong) for confidence, wrong, inclusion in grades if random.random() < least / inclusion]


def separates(grades: Sequence[tuple[float, bool]]) -> bool | None:
    """Whether confidence separates right from wrong; None if its interval does not decide it, or without grades."""
    auroc = separation(grades)
    if auroc is None:
        return None
    _, low, high = auroc
    return True if low > 0.5 else False if high < _SEPARATES else None  # noqa: PLR2004 - of a coin


def why_none(
    grades: Sequence[tuple[float, bool]], *, thresholds: Sequence[float], limit: float, certainty: float
) -> str:
    """Why no threshold is recommended, in words; with the number of further grades that would help."""
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
    """How many more grades would be needed at the present rate; None if that rate is above the limit."""
    wrong = [is_wrong for confidence, is_wrong in grades if confidence >= threshold]
    if not wrong or sum(wrong) >= limit * len(wrong):
        return None
    rate = sum(wrong) / len(wrong)
    # From the normal approximation to the binomial test or, if no answer is wrong, from the test itself.
    z = NormalDist().inv_cdf(1 - alpha)
    needed = z * z * limit * (1 - limit) / (limit - rate) ** 2 if rate else math.log(alpha) / math.log1p(-limit)
    return max(math.ceil((needed - len(wrong)) * len(grades) / len(wrong)), 1)
