"""How far a judge agrees with people, and a rate corrected for its errors: pure, randomness is an argument.

People label some of the answers that the judge called right and some that it called wrong, each kind for itself: wrong
answers are rare, and a plain sample would hold next to none. What is counted is therefore how often people say "wrong"
within each kind; the judge's true and false positive rates follow with the share of each kind among all grades.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final, Self

from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.values import Grade

ENOUGH_CORRECT: Final = 30
"""Labels of answers that the judge called correct, below which nothing is corrected."""

ENOUGH_INCORRECT: Final = 20
"""Labels of answers that the judge called incorrect, below which nothing is corrected."""

_DRAWS: Final = 4_000
_CERTAINTY: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGrades:
    """A grade that people have looked at: what the judge and they say, and how likely its call was to be graded."""

    judged_wrong: bool
    is_wrong: bool
    inclusion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedRate:
    """A figure with its 95% interval; `rate` is None where nothing tells, and the interval is then all there is."""

    rate: float | None
    low: float
    high: float


_UNKNOWN: Final = BoundedRate(rate=None, low=0.0, high=1.0)


@dataclass(frozen=True, slots=True)
class _Draw:
    """Values that the labels leave possible: P(people say wrong) of each kind of answer, and P(judged wrong)."""

    wrong_if_judged_wrong: float
    wrong_if_judged_right: float
    judged_wrong: float

    @property
    def wrong(self) -> float:
        """P(wrong) by people's word."""
        return self.judged_wrong * self.wrong_if_judged_wrong + (1 - self.judged_wrong) * self.wrong_if_judged_right

    @property
    def tpr(self) -> float:
        """P(judged wrong | wrong)."""
        return _share(self.judged_wrong * self.wrong_if_judged_wrong, self.wrong)

    @property
    def fpr(self) -> float:
        """P(judged wrong | right)."""
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
        """The true rate where a judge like this finds `rate`; `otherwise` where it would tell nothing.

        Source: Rogan, Gladen (1978), American Journal of Epidemiology 107, 71.
        """
        told = self.tpr - self.fpr
        return min(max((rate - self.fpr) / told, 0.0), 1.0) if told > 0 else otherwise


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


class GraderAgreement:
    """What labels say of one judge.

    `wrong` and `right` are the shares that people call wrong, of the labelled answers that it calls wrong and right;
    `judged_wrong` is the share that it calls wrong, of the grades that these were drawn from. Intervals are
    those of the posterior under Jeffreys priors, by simulation, which keeps its coverage where counts are zero (Flor et
    al. 2020, BMC Public Health 20, 1135).
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
        """What single labels say together."""
        labels = list(labels)
        wrong, right = ([each for each in labels if each.judged_wrong is kind] for kind in (True, False))
        return cls(_wrong_of(wrong), _wrong_of(right), judged_wrong, random)

    @property
    def labels(self) -> int:
        """How many grades people have decided on."""
        return self.judged_correct + self.judged_incorrect

    @property
    def judged_correct(self) -> int:
        """Of how many of them the judge had said correct."""
        return self._right.count if self._right else 0

    @property
    def judged_incorrect(self) -> int:
        """Of how many it had said incorrect."""
        return self._wrong.count if self._wrong else 0

    @property
    def suffices(self) -> bool:
        """Whether there are labels enough to correct a rate, and the judge tells wrong from right at all."""
        enough = self.judged_correct >= ENOUGH_CORRECT and self.judged_incorrect >= ENOUGH_INCORRECT
        return enough and self._point is not None and self._point.tpr > self._point.fpr

    @property
    def kappa(self) -> BoundedRate:
        """Cohen's kappa, in [-1, 1]; 1 is perfect agreement, 0 is what chance alone would give."""
        return self._of("kappa", lowest=-1.0)

    @property
    def tpr(self) -> BoundedRate:
        """How often the judge sees a wrong answer."""
        return self._of("tpr")

    @property
    def fpr(self) -> BoundedRate:
        """How often it calls a right answer wrong."""
        return self._of("fpr")

    def corrected(self, found: Estimate) -> BoundedRate:
        """The rate that `found` stands for, the judge's errors taken out, with the uncertainty of both.

        Unknown where no judge that the labels leave possible would find such a rate: it errs otherwise now than then.
        """
        if self._point is None:
            return _UNKNOWN
        random = self._random
        rates = [draw.corrected(_drawn(found, random), otherwise=random.random()) for draw in self._draws]
        rate = _bounded(self._point.corrected(found.rate, otherwise=math.nan), rates)
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
        return list(self._drawn_all(self._wrong, self._right, self._judged_wrong))

    def _drawn_all(self, *parts: Estimate | None) -> Iterator[_Draw]:
        known = [part for part in parts if part is not None]
        for _ in range(_DRAWS):
            yield _Draw(*(_drawn(part, self._random) for part in known))


def kappa_of(said: Mapping[tuple[str, str], int], random: Random) -> BoundedRate:
    """Cohen's kappa of two judges who have graded the same answers, with its 95% interval.

    `said` counts answers by (what the one says, what the other says), each `correct` or `incorrect`.
    """

    def wrong_of(first: Grade) -> Estimate | None:
        return weighted((other == Grade.INCORRECT, 1.0, count) for (one, other), count in said.items() if one == first)

    judged_wrong = weighted((one == Grade.INCORRECT, 1.0, count) for (one, _), count in said.items())
    return GraderAgreement(wrong_of(Grade.INCORRECT), wrong_of(Grade.CORRECT), judged_wrong, random).kappa


def _wrong_of(labels: Sequence[LabelledGrades]) -> Estimate | None:
    return weighted((each.is_wrong, each.inclusion, 1) for each in labels)


def _drawn(found: Estimate, random: Random) -> float:
    hits = found.rate * found.n
    return random.betavariate(hits + 0.5, found.n - hits + 0.5)


def _bounded(rate: float, drawn: Iterable[float]) -> BoundedRate:
    """`rate` (NaN: unknown) with the interval that leaves as many draws out below as above, and that holds it."""
    ordered = sorted(drawn)
    out = round(len(ordered) * (1 - _CERTAINTY) / 2)
    low, high = ordered[out], ordered[-1 - out]
    if math.isnan(rate):
        return BoundedRate(rate=None, low=low, high=high)
    return BoundedRate(rate=rate, low=min(low, rate), high=max(high, rate))
