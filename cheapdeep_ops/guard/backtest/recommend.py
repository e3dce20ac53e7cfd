"""The threshold that keeps wrong answers among the shipped ones below a limit, with a guarantee: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from statistics import NormalDist
from typing import Final

from cheapdeep_ops.guard.statistics.calibration import separation
from cheapdeep_ops.guard.statistics.intervals import Proportion

_SEPARATES: Final = 0.6
"""Confidence with an AUROC interval below this is of no use; 0.5 is chance."""

_TOP: Final = 2
_TOP_SHARE: Final = 0.7
"""The share of the error that `ErrorSharing.SHARED` spends on the highest thresholds, and their number.

Over resamples of recorded answers of five models, `SHARED` recommended a threshold in 58% of cases, and 43% of all
answers shipped. With `SEQUENCE` and `GRID` it was 47% and 50%, and 36% and 37% shipped (`tests/bench/advising.py`).
"""


class ErrorSharing(StrEnum):
    """How the permitted error is shared among the thresholds; to be chosen without looking at the grades."""

    SHARED = "shared"
    """Most of it goes to the two highest thresholds, the rest to all: for any data."""
    SEQUENCE = "sequence"
    """All of it goes to the highest: best where confidence orders answers, and the highest has many grades."""
    GRID = "grid"
    """Each gets an equal part: best where the highest thresholds are no better than the others."""

    def shares(self, thresholds: int) -> list[float]:
        """The share of each threshold, from the highest down; they add up to 1."""
        first = min(_TOP if self is ErrorSharing.SHARED else 1, thresholds)
        on_first = {ErrorSharing.SHARED: _TOP_SHARE, ErrorSharing.SEQUENCE: 1.0, ErrorSharing.GRID: 0.0}[self]
        return [(1 - on_first) / thresholds + (on_first / first if each < first else 0.0) for each in range(thresholds)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The cheapest threshold with a guarantee for the limit, or None; `shipped` has the wrong answers among n."""

    threshold: float | None
    shipped: Proportion | None


def recommended(
    grades: Sequence[tuple[float, bool]],
    *,
    thresholds: Sequence[float],
    limit: float,
    certainty: float,
    test: ErrorSharing = ErrorSharing.SHARED,
) -> Recommendation:
    """The lowest of `thresholds` at which P(wrong given confidence >= threshold) <= `limit`, with `certainty`.

    A grade is (confidence, whether it is wrong), drawn uniformly and independently; `limit` and `certainty` are in (0,
    1). Thresholds and `test` must be fixed without looking at the grades. Source: Learn then Test (Angelopoulos et al.
    2021, arXiv:2110.01052), exact binomial p-values; the fallback procedure (Wiens, Dmitrienko 2005, J. Biopharm. Stat.
    15, 929) from the highest threshold down. A threshold that holds passes its part of the error on to the next.
    """
    recommendation = Recommendation(threshold=None, shipped=None)
    passed_on = 0.0
    for threshold, share in zip(sorted(thresholds, reverse=True), test.shares(len(thresholds)), strict=True):
        wrong = [is_wrong for confidence, is_wrong in grades if confidence >= threshold]
        shipped = Proportion(hits=sum(wrong), n=len(wrong))
        permitted = (1 - certainty) * share + passed_on
        holds = permitted > 0 and p_value(shipped, limit) <= permitted
        passed_on = permitted if holds else 0.0
        if holds:
            recommendation = Recommendation(threshold=threshold, shipped=shipped)
    return recommendation


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
    grades: Sequence[tuple[float, bool]],
    *,
    thresholds: Sequence[float],
    limit: float,
    certainty: float,
    test: ErrorSharing = ErrorSharing.SHARED,
) -> str:
    """Why no threshold is recommended, in words; with the number of further grades that would help."""
    if not grades:
        return "no grades"
    if separates(grades) is False:
        return "confidence does not separate here"
    needed = [
        more
        for threshold, share in zip(sorted(thresholds, reverse=True), test.shares(len(thresholds)), strict=True)
        if share and (more := _more(grades, threshold, limit, (1 - certainty) * share)) is not None
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
