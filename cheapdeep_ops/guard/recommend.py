"""Which threshold holds a limit on wrong answers among those that ship, with a guarantee: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cheapdeep_ops.guard.stats import Proportion


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
