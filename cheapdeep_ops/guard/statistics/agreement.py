"""Agreement of a grader with people, and the correction of a rate for the grader's errors. Pure.

People label samples of two kinds of answers separately: those graded as correct and those graded as incorrect. One
sample of all grades would hold few incorrect ones, because they are rare. Labels give the rate of "wrong" within each
kind. With the share of each kind among all grades, the grader's true and false positive rates follow.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final, Self

from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.values import Grade

ENOUGH_CORRECT: Final = 30
"""A rate is corrected only with so many labels of answers that were graded as correct."""

ENOUGH_INCORRECT: Final = 20
"""A rate is corrected only with so many labels of answers that were graded as incorrect."""

_DRAWS: Final = 4_000
_CERTAINTY: Final = 0.95


def majority(labels: Iterable[str]) -> Grade | None:
    """The label of most people; None for a tie, without labels, or if most are unsure."""
    # A tie is no label: the order of the votes must not decide it.
    (most, count), *others = Counter(labels).most_common() or [("", 0)]
    is_decided = most in (Grade.CORRECT, Grade.INCORRECT) and all(other < count for _, other in others)
    return Grade(most) if is_decided else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGrades:
    """A grade with the people's label, and the inclusion probability of its call."""

    judged_wrong: bool
    """Whether the grader graded the answer as incorrect."""
    is_wrong: bool
    """Whether people label the answer as wrong."""
    inclusion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedRate:
    """A rate with its 95% interval; if `rate` is None, only the interval is known."""

    rate: float | None
    low: float
    high: float


_UNKNOWN: Final = BoundedRate(rate=None, low=0.0, high=1.0)


@dataclass(frozen=True, slots=True)
class _Draw:
    """One draw from the posterior: P(people say wrong) for each kind of answer, and P(graded wrong)."""

    wrong_if_judged_wrong: float
    wrong_if_judged_right: float
    judged_wrong: float

    @property
    def wrong(self) -> float:
        """P(people say wrong)."""
        return self.judged_wrong * self.wrong_if_judged_wrong + (1 - self.judged_wrong) * self.wrong_if_judged_right

    @property
    def tpr(self) -> float:
        """P(graded wrong | wrong)."""
        return _share(self.judged_wrong * self.wrong_if_judged_wrong, self.wrong)

    @property
    def fpr(self) -> float:
        """P(graded wrong | right)."""
        return _share(self.judged_wrong * (1 - self.wrong_if_judged_wrong), 1 - self.wrong)

    @property
    def kappa(self) -> float:
        """Agreement beyond chance. Source: Cohen (1960), Educational and Psychological Measurement 20, 37."""
        agree = self.judged_wrong * self.wrong_if_judged_wrong + (1 - self.judged_wrong) * (
            1 - self.wrong_if_judged_right
        )
        by_chance = self.judged_wrong * self.wrong + (1 - self.judged_wrong) * (1 - self.wrong)
        return _share(agree - by_chance, 1 - by_chance)

    def corrected(self, rate: float, *, otherwise: float) -> float:
        """The true rate if such a grader measures `rate`; `otherwise` if its TPR is not above its FPR.

        Source: Rogan, Gladen (1978), American Journal of Epidemiology 107, 71.
        """
        # Youden's J: at 0 the grader's grades do not depend on the truth.
        informedness = self.tpr - self.fpr
        return min(max((rate - self.fpr) / informedness, 0.0), 1.0) if informedness > 0 else otherwise


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


class GraderAgreement:
    """The agreement of one grader with people's labels.

    `wrong` and `right` are the shares that people label as wrong, of the answers graded as wrong and as right.
    `judged_wrong` is the share graded as wrong, of all grades from which these were sampled. Intervals are simulated
    from the posterior under Jeffreys priors, which has the right coverage also for counts of zero. Source: Flor et al.
    (2020), BMC Public Health 20, 1135.
    """

    def __init__(
        self, wrong: Estimate | None, right: Estimate | None, judged_wrong: Estimate | None, random: Random
    ) -> None:
        self._wrong = wrong
        self._right = right
        self._judged_wrong = judged_wrong
        self._random = random

    @classmethod
    def of(cls, labels: Iterable[LabelledGrades], judged_wrong: Estimate | None, random: Random) -> Self:
        """The agreement from single labels."""
        labels = list(labels)
        wrong, right = ([each for each in labels if each.judged_wrong is kind] for kind in (True, False))
        return cls(_wrong_of(wrong), _wrong_of(right), judged_wrong, random)

    @property
    def labels(self) -> int:
        """The number of labelled grades."""
        return self.judged_correct + self.judged_incorrect

    @property
    def judged_correct(self) -> int:
        """The number of labels of answers that were graded as correct."""
        return self._right.count if self._right else 0

    @property
    def judged_incorrect(self) -> int:
        """The number of labels of answers that were graded as incorrect."""
        return self._wrong.count if self._wrong else 0

    @property
    def suffices(self) -> bool:
        """Whether a rate can be corrected: there are enough labels, and the grader's TPR is above its FPR."""
        enough = self.judged_correct >= ENOUGH_CORRECT and self.judged_incorrect >= ENOUGH_INCORRECT
        return enough and self._point is not None and self._point.tpr > self._point.fpr

    @property
    def kappa(self) -> BoundedRate:
        """Cohen's kappa, in [-1, 1]; 1 is perfect agreement, 0 is agreement by chance."""
        return self._of("kappa", lowest=-1.0)

    @property
    def tpr(self) -> BoundedRate:
        """The share of wrong answers that are graded as incorrect."""
        return self._of("tpr")

    @property
    def fpr(self) -> BoundedRate:
        """The share of right answers that are graded as incorrect."""
        return self._of("fpr")

    def corrected(self, measured: Estimate) -> BoundedRate:
        """The `measured` rate corrected for the grader's errors, with the uncertainty of both; may be unknown."""
        if self._point is None:
            return _UNKNOWN
        random = self._random
        rates = [draw.corrected(_drawn(measured, random), otherwise=random.random()) for draw in self._draws]
        rate = _bounded(self._point.corrected(measured.rate, otherwise=math.nan), rates)
        # All draws at one bound: the grader errs otherwise now than when people labelled its grades.
        return rate if rate.low < rate.high else _UNKNOWN

    def _of(self, name: str, *, lowest: float = 0.0) -> BoundedRate:
        if self._point is None:
            return BoundedRate(rate=None, low=lowest, high=1.0)
        return _bounded(getattr(self._point, name), [getattr(draw, name) for draw in self._draws])

    @cached_property
    def _point(self) -> _Draw | None:
        if self._wrong is None or self._right is None or self._judged_wrong is None:
            return None
        return _Draw(self._wrong.rate, self._right.rate, self._judged_wrong.rate)

    @cached_property
    def _draws(self) -> list[_Draw]:
        return list(self._posterior(self._wrong, self._right, self._judged_wrong))

    def _posterior(self, *parts: Estimate | None) -> Iterator[_Draw]:
        known = [part for part in parts if part is not None]
        for _ in range(_DRAWS):
            yield _Draw(*(_drawn(part, self._random) for part in known))


def kappa_of(pairs: Mapping[tuple[str, str], int], random: Random) -> BoundedRate:
    """Cohen's kappa of two graders with grades of common answers, with its 95% interval.

    `pairs` counts answers by (first grade, second grade), each `correct` or `incorrect`.
    """

    def wrong_of(first: Grade) -> Estimate | None:
        return weighted((other == Grade.INCORRECT, 1.0, count) for (one, other), count in pairs.items() if one == first)

    judged_wrong = weighted((one == Grade.INCORRECT, 1.0, count) for (one, _), count in pairs.items())
    return GraderAgreement(wrong_of(Grade.INCORRECT), wrong_of(Grade.CORRECT), judged_wrong, random).kappa


def _wrong_of(labels: Sequence[LabelledGrades]) -> Estimate | None:
    return weighted((each.is_wrong, each.inclusion, 1) for each in labels)


def _drawn(estimate: Estimate, random: Random) -> float:
    # The posterior under the Jeffreys prior Beta(0.5, 0.5).
    hits = estimate.rate * estimate.n
    return random.betavariate(hits + 0.5, estimate.n - hits + 0.5)


def _bounded(rate: float, drawn: Iterable[float]) -> BoundedRate:
    """`rate` (NaN: unknown) with the equal-tailed interval of the draws, widened to include `rate`."""
    ordered = sorted(drawn)
    out = round(len(ordered) * (1 - _CERTAINTY) / 2)
    low, high = ordered[out], ordered[-1 - out]
    if math.isnan(rate):
        return BoundedRate(rate=None, low=low, high=high)
    return BoundedRate(rate=rate, low=min(low, rate), high=max(high, rate))
