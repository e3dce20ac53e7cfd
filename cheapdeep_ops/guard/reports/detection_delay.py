"""How soon a climb of false confidence is detected at today's traffic, and the smallest detectable one: pure.

An alarm needs a number of grades that does not depend on the sampling: after the climb, each grade is wrong with equal
probability. Sampling decides how many answers there are for each grade. Both numbers are expectations of the real
detector and of the real adaptive sampling, in closed form:

*Grades.* The detector's value grows by the factor exp(g) a grade until it has reached bets / alpha. g is the growth
rate of a bet at the new rate (Kelly 1956, Bell System Technical J. 35, 917). The detector sums over all moments at
which the climb may have begun. This sum is worth about 1 / g single bets (Pollak 1987, Annals of Statistics 15, 749).
So an alarm takes (log(bets / alpha) + log(g) - 2) / g grades, with the bet that gives the smallest number.

*Answers.* A uniform sample of a share s takes grades / s. Adaptive sampling waits in calm for a wrong grade: 1 / rate
of them at the calm share. Then it grades up to 200 older answers, which need no new ones. While the suspicion lasts, it
grades further answers at the share that is kept. After its first batch, a suspicion lasts as long as a Brownian motion
with the drift and the variance of its steps. If it ends before the alarm, another calm follows.

If few answers were kept since the climb, older ones from before it end the suspicion. Then the alarm waits for a
suspicion that does not reach back so far.

The formula was compared with simulations of the package's own detector and suspicions (`tests/bench/reach.py`). The
targets were 1% to 20%, the climbs 1.5 to 5 times that. For a uniform sample, the result is 0.93 to 1.05 times the
simulated mean. For an adaptive one, it is 0.73 to 1.12 times the mean; for climbs to 1.5 times, 0.57 to 0.77. For a
small route, which grades a ten times larger share in calm, it is 0.8 to 1.5 times. Half of all climbs are detected
within 0.75 times the mean, 90% within 2.5 times.

Left out: the minutes until a grade arrives, and the effect of a raised threshold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cheapdeep_ops.guard.grading.adaptive import MAX_RETROSPECTIVE, SUSPICIOUS, Suspicion
from cheapdeep_ops.guard.report_types.state import Climb, Reach, SmallestClimbs
from cheapdeep_ops.guard.rules.false_confidence.detection import AlarmLevel
from cheapdeep_ops.guard.statistics.sequential import Bets
from cheapdeep_ops.units import DAY_S

FACTORS: Final = (1.5, 2.0, 3.0, 5.0)
"""The climbs that are shown, as multiples of the normal rate."""

SMALLEST: Final = 1.3
"""A multiple of the target. No bet grows much on a smaller climb, so its delay is unknown."""

_HIGHEST: Final = 0.99
_HEAD_START: Final = 2.0
"""The advantage of a sum of bets over one bet: a natural logarithm, simulated for targets of 0.5% to 40%."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingShares:
    """The shares of a route's answers that are graded, in [0, 1]: `calm`, and under suspicion `hot` if it is larger."""

    calm: float
    hot: float = 0.0
    most_per_day: float = math.inf
    """The number of grades in a day from which on a suspicion adds none."""

    @property
    def is_adaptive(self) -> bool:
        """Whether a suspicion raises the share."""
        return self.hot > self.calm


def reach_of(alarm: AlarmLevel | None, alpha: float, sampling: SamplingShares, *, per_day: float) -> Reach:
    """How soon climbs of a route with so many confident answers a day would be detected; unknown is None, with `why`.

    `climbs` are to FACTORS times what is normal, with the expected number of answers and of seconds; `smallest_in_day`
    and `smallest_in_week` are rates.
    """
    if alarm is None or alarm.normal is None or not per_day or not sampling.calm:
        return unknown(alarm, per_day, _why_unknown(alarm, per_day))
    normal = alarm.normal

    def answers(rate: float) -> float | None:
        return answers_needed(alarm.target, rate, alpha, sampling, per_day=per_day)

    rates = [(factor, factor * normal.rate) for factor in FACTORS if normal.rate and factor * normal.rate <= _HIGHEST]
    smallest: SmallestClimbs = {
        "smallest_in_day": _smallest(answers, alarm.target, per_day),
        "smallest_in_week": _smallest(answers, alarm.target, 7 * per_day),
    }
    why = "" if any(smallest.values()) else "no climb is detected within a week"
    climbs = [_climb(factor, rate, answers(rate), per_day) for factor, rate in rates]
    return {**unknown(alarm, per_day, why), "climbs": climbs, **smallest}


def unknown(alarm: AlarmLevel | None, per_day: float, why: str) -> Reach:
    """The reach of a route for which nothing can be computed, for the reason `why`."""
    normal = alarm.normal if alarm else None
    return {
        "answers_per_day": per_day,
        "normal": normal.rate if normal else None,
        "n": normal.count if normal else 0,
        "climbs": [],
        "smallest_in_day": None,
        "smallest_in_week": None,
        "why": why,
    }


def _why_unknown(alarm: AlarmLevel | None, per_day: float) -> str:
    if alarm is None:
        return "the baseline is not learned yet"
    return "nothing is graded" if per_day else "no confident answer was given in the last 24 hours"


def _climb(factor: float, rate: float, answers: float | None, per_day: float) -> Climb:
    seconds = None if answers is None else answers / per_day * DAY_S
    return {"factor": factor, "rate": rate, "answers": answers, "seconds": seconds}


def _smallest(answers: Callable[[float], float | None], target: float, most: float) -> float | None:
    """The lowest rate that is detected within `most` answers, to a part in a thousand; None if no rate is."""
    low, high = min(SMALLEST * target, _HIGHEST), _HIGHEST
    if not _is_detected(answers(high), most):
        return None
    while high > low * _CLOSE:
        # The geometric mean, because the search ends at a relative distance.
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _is_detected(answers(middle), most) else (middle, high)
    return high


_CLOSE: Final = 1.001


def _is_detected(answers: float | None, most: float) -> bool:
    return answers is not None and answers <= most


def grades_needed(target: float, rate: float, alpha: float) -> float | None:
    """The mean number of grades at `rate` until the detector fires; None below SMALLEST times the target.

    Also None if no bet grows: bets are capped, so a target of much more than half leaves little to win.
    """
    if rate < SMALLEST * target:
        return None
    bets = Bets.on_climb(target)
    growths = [rate * hit + (1 - rate) * miss for hit, miss in zip(bets.growth(1, 1), bets.growth(0, 1), strict=True)]
    limit = math.log(len(growths) / alpha) - _HEAD_START
    needed = [max(limit + min(math.log(each), 0.0), 1.0) / each for each in growths if each > 0]
    return max(min(needed), 1.0) if needed else None


def answers_needed(
    target: float, rate: float, alpha: float, sampling: SamplingShares, *, per_day: float
) -> float | None:
    """The mean number of confident answers at `rate` until the detector fires, at `per_day` answers a day."""
    grades = grades_needed(target, rate, alpha)
    if grades is None or not sampling.is_adaptive:
        return grades and grades / sampling.calm
    outcomes, calm = _suspicion_outcomes(target, rate), sampling.calm
    reachable = (sampling.hot - calm) * per_day
    fresh = (sampling.hot - calm) / (calm * rate)
    suspicions = 1 + outcomes.ended(grades) * grades / (1 / rate + outcomes.lasts(grades))
    in_calm = min(suspicions / rate, grades)
    retrospective = suspicions * outcomes.lasts(min(fresh, reachable, MAX_RETROSPECTIVE, grades))
    of_failed_suspicions = _failed_suspicions(fresh, min(reachable, MAX_RETROSPECTIVE, grades)) / rate
    return (in_calm + of_failed_suspicions) / calm + _hot(max(grades - in_calm - retrospective, 0.0), sampling, per_day)


def _failed_suspicions(fresh: float, wanted: float) -> float:
    """The mean number of suspicions that end because they include answers from before the climb.

    `fresh` is the mean number of answers kept since the climb at the first suspicion; it is taken as exponential.
    """
    share = fresh / wanted * -math.expm1(-wanted / fresh)
    return 1 / share - 1


def _hot(grades: float, sampling: SamplingShares, per_day: float) -> float:
    """Answers for so many grades under suspicion; the calm grades of a day count too, and are made already."""
    most = sampling.most_per_day
    later = min(max(most / per_day, sampling.calm), sampling.hot)
    at_once = max(most - sampling.calm * per_day, 0.0)
    return min(grades, at_once) / sampling.hot + max(grades - at_once, 0.0) / later


@dataclass(frozen=True, slots=True, kw_only=True)
class _SuspicionOutcomes:
    """The outcomes of a suspicion after its first batch of older answers: the (chance, height, mirrored) of each.

    The height above the suspicion's end is a Brownian motion: it falls by `fall` a grade on average, with the variance
    `spread`; both in logarithms. `mirrored` is the weight of the mirror image in Bachelier's formula.
    """

    batch: int
    heights: tuple[tuple[float, float, float], ...]
    fall: float
    spread: float

    def lasts(self, most: float) -> float:
        """How many grades a suspicion lasts on average, if it is cut off after `most`."""
        if most <= self.batch:
            return most
        # Most suspicions end early, so the points are closer there.
        times = [(most - self.batch) * (number / _POINTS) ** 3 for number in range(_POINTS + 1)]
        alive = [self._alive(time) for time in times]
        parts = zip(times, times[1:], alive, alive[1:], strict=False)
        return self.batch + sum((end - begin) * (first + last) / 2 for begin, end, first, last in parts)

    def ended(self, most: float) -> float:
        """The probability that it has ended after so many grades."""
        return 1 - self._alive(max(most - self.batch, 0.0))

    def _alive(self, time: float) -> float:
        """The probability that the motions from these heights have not reached zero after `time` (Bachelier 1901)."""
        # At time 0 the formula would divide by zero; then all heights are above zero.
        if not time:
            return sum(chance for chance, _, _ in self.heights)
        # The normal distribution is written with `erfc`: a report for many routes spends most of its time here.
        erfc, fallen, scale = math.erfc, self.fall * time, math.sqrt(2 * self.spread * time)
        alive = 0.0
        for chance, height, mirrored in self.heights:
            is_up = (erfc((fallen - height) / scale) - mirrored * erfc((fallen + height) / scale)) / 2
            if is_up > 0:
                alive += chance * is_up
        return alive


_POINTS: Final = 12
_NEGLIGIBLE: Final = 1e-20
"""The chance of an outcome that is left out; all such outcomes together are less than the rounding of a float."""

_MOST_EXPONENT: Final = 700.0
"""A larger exponent overflows a float."""


@lru_cache(maxsize=4096)
def _suspicion_outcomes(target: float, rate: float) -> _SuspicionOutcomes:
    first = _raised(target, rate)
    batch = first.retrospective_quota(0, target) or MAX_RETROSPECTIVE
    up, down = _steps(target)
    fall, spread = (1 - rate) * down - rate * up, rate * (1 - rate) * (up + down) ** 2
    heights = []
    for wrong in range(batch + 1):
        chance = math.comb(batch, wrong) * rate**wrong * (1 - rate) ** (batch - wrong)
        if chance < _NEGLIGIBLE:
            continue
        height = math.log(_after(first, wrong, batch, target) / SUSPICIOUS)
        if height > 0:
            heights.append((chance, height, math.exp(min(2 * fall * height / spread, _MOST_EXPONENT))))
    return _SuspicionOutcomes(batch=batch, heights=tuple(heights), fall=fall, spread=spread)


def _raised(target: float, rate: float) -> Suspicion:
    """The suspicion after two wrong answers at the mean distance."""
    suspicion = Suspicion().after(incorrect=True, target=target, steered=False)
    for _ in range(min(round(1 / rate), 2000)):
        suspicion = suspicion.after(incorrect=False, target=target, steered=False)
    return suspicion.after(incorrect=True, target=target, steered=False)


def _steps(target: float) -> tuple[float, float]:
    """The steps of a suspicion: up with a wrong answer, down with a correct one, in logarithms."""
    high = Suspicion(value=_COMMON)
    wrong, correct = (high.after(incorrect=each, target=target, steered=False).value for each in (True, False))
    return math.log(wrong / _COMMON), -math.log(correct / _COMMON)


_COMMON: Final = 3 * SUSPICIOUS
"""The usual value of a suspicion that lasts; near its end it falls more slowly."""


def _after(first: Suspicion, wrong: int, batch: int, target: float) -> float:
    """The value of a suspicion after a batch with so many wrong answers, evenly spread."""
    suspicion = first
    for number in range(batch):
        incorrect = (number + 1) * wrong // batch > number * wrong // batch
        suspicion = suspicion.after(incorrect=incorrect, target=target, steered=True)
    return suspicion.value
