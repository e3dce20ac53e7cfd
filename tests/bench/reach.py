"""How soon a climb is found, as `detection_delay.py` says and as simulated with the package's detector and suspicions.

Run `python tests/bench/reach.py`; five minutes. Unlike `detection.py`, which grades in hindsight no further back than
to the last suspicion, this takes the newest answers that were kept and not chosen, as the guard does.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from statistics import mean

from cheapdeep_ops.guard.grading.adaptive import CALM, Suspicion, most_per_day
from cheapdeep_ops.guard.reports.detection_delay import SamplingShares, answers_needed
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector
from cheapdeep_ops.sampling import kept_share

BUDGET = 0.01
PER_DAY = 12_000.0
ALPHA = float(QualityRule.model_fields["alpha"].default)
SAMPLINGS = {
    "uniform": SamplingShares(calm=BUDGET),
    "adaptive": SamplingShares(calm=BUDGET * CALM, hot=kept_share(BUDGET), most_per_day=most_per_day(BUDGET, PER_DAY)),
    "adaptive, a small route": SamplingShares(
        calm=10 * BUDGET * CALM, hot=kept_share(BUDGET), most_per_day=most_per_day(BUDGET, PER_DAY)
    ),
}


@dataclass
class Traffic:
    """Answers wrong at `before`, and from the answer number `change` on at `after`."""

    before: float
    after: float
    change: int
    random: Random

    def is_wrong(self, answer: int) -> bool:
        return self.random.random() < (self.after if answer >= self.change else self.before)

    def gap(self, share: float) -> int:
        return int(math.log(1 - self.random.random()) / math.log(1 - share)) + 1


class Kept:
    """Stretches of answers given in calm, of which those that were kept and not chosen may be graded in hindsight."""

    def __init__(self, share: float, traffic: Traffic) -> None:
        self._share = share
        self._traffic = traffic
        self._stretches: list[tuple[int, int]] = []

    def add(self, begin: int, end: int) -> None:
        self._stretches.append((begin, end))

    def newest(self, oldest: float) -> int | None:
        while self._stretches:
            begin, end = self._stretches.pop()
            answer = end - self._traffic.gap(self._share)
            if answer >= max(begin, oldest):
                self._stretches.append((begin, answer))
                return answer
        return None


def uniform(traffic: Traffic, share: float) -> Iterator[tuple[int, bool]]:
    answer = 0
    while True:
        answer += traffic.gap(share)
        yield answer, traffic.is_wrong(answer)


def steered(traffic: Traffic, sampling: SamplingShares, target: float, per_day: float) -> Iterator[tuple[int, bool]]:
    """(answers given, whether the one that was graded now is wrong), as the guard chooses them; grades are instant."""
    answer, suspicion = 0, Suspicion()
    kept, graded = Kept(sampling.hot - sampling.calm, traffic), deque[int]()
    while True:
        while graded and graded[0] <= answer - per_day:
            graded.popleft()
        is_hot = suspicion.raises_sampling_rate(0) and len(graded) < sampling.most_per_day
        before, answer = answer, answer + traffic.gap(sampling.hot if is_hot else sampling.calm)
        if not is_hot:
            kept.add(before, answer)
        wrong = traffic.is_wrong(answer)
        suspicion = suspicion.after(incorrect=wrong, target=target, steered=False)
        graded.append(answer)
        yield answer, wrong
        while wanted := suspicion.retrospective_quota(0, target):
            past = [each for each in (kept.newest(answer - per_day) for _ in range(wanted)) if each is not None]
            for each in past:
                wrong = traffic.is_wrong(each)
                suspicion = suspicion.after(incorrect=wrong, target=target, steered=True)
                graded.append(answer)
                yield answer, wrong
            if not past:
                break


def grades_of(traffic: Traffic, sampling: SamplingShares, target: float, per_day: float) -> Iterator[tuple[int, bool]]:
    if not sampling.is_adaptive:
        return uniform(traffic, sampling.calm)
    return steered(traffic, sampling, target, per_day)


def found_after(traffic: Traffic, sampling: SamplingShares, target: float, *, alpha: float, per_day: float) -> int:
    """Answers from the change until the detector fires; an alarm before it begins everything anew."""
    while True:
        alarm = first_alarm(grades_of(traffic, sampling, target, per_day), target, alpha)
        if alarm >= traffic.change:
            return alarm - traffic.change


def first_alarm(grades: Iterator[tuple[int, bool]], target: float, alpha: float) -> int:
    bets, detector = Bets.on_climb(target), Detector()
    for answer, wrong in grades:
        detector = detector.after(bets, int(wrong), 1)
        if detector.alarms(alpha):
            return answer
    raise AssertionError("the grades have no end")


def simulated(
    sampling: SamplingShares,
    normal: float,
    target: float,
    rate: float,
    *,
    runs: int,
    alpha: float = ALPHA,
    per_day: float = PER_DAY,
) -> list[int]:
    """The waits of so many climbs."""
    waits = []
    for run in range(runs):
        random = Random(f"{sampling} {target} {rate} {run}")
        traffic = Traffic(normal, rate, random.randrange(10_000, 20_000), random)
        waits.append(found_after(traffic, sampling, target, alpha=alpha, per_day=per_day))
    return waits


@dataclass(frozen=True)
class Row:
    sampling: str
    target: float
    rate: float
    said: float
    mean: float
    error: float

    @property
    def ratio(self) -> float:
        return self.said / self.mean


def measure(name: str, target: float, factor: float, *, runs: int, normal: float | None = None) -> Row:
    """What is said and what is simulated of a climb to `factor` targets, from `normal`, else from the target."""
    rate, sampling = target * factor, SAMPLINGS[name]
    said = answers_needed(target, rate, ALPHA, sampling, per_day=PER_DAY)
    assert said is not None
    waits = simulated(sampling, normal or target, target, rate, runs=runs)
    error = 1.96 * math.sqrt(sum((each - mean(waits)) ** 2 for each in waits)) / runs
    return Row(name, target, rate, said, mean(waits), error)


def table(*, runs: int) -> Iterator[Row]:
    for name in SAMPLINGS:
        for target in (0.01, 0.03, 0.05, 0.1, 0.2):
            for factor in (1.5, 2.0, 10 / 3, 5.0):
                if target * factor < 0.95:
                    yield measure(name, target, factor, runs=runs)


def main() -> None:
    print(f"{'sampling':<24}{'target':>8}{'climb to':>10}{'said':>10}{'simulated':>20}{'ratio':>8}")
    for row in table(runs=200):
        found = f"{row.mean:>12,.0f} ± {row.error:<6,.0f}"
        shown = f"{row.sampling:<24}{row.target:>8.1%}{row.rate:>10.1%}{row.said:>10,.0f}"
        print(f"{shown}{found:>20}{row.ratio:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
