"""How soon a climb of false confidence is found, and how often nothing is found that is there; one table.

Run `python tests/bench/detection.py [FIRST]`; some minutes. FIRST is the number of the first run. Dependent answers are
not bounded here, and a learned normal does not go on learning: see `normals.py`. Answers are counted, not calls: 3% ->
10% is the share of wrong ones among those that ship. One draw stands for many answers between two grades (they are
geometric), so that ten million shipped answers take a second; the tests and the shares are those of the package. Rules
of the game, for each row but (a) and (b): 1% of answers graded on average while the rate is at the target, at most one
false alarm in ten million answers. `early` is how many of the thousand runs had an alarm before the climb, which comes
after 20,000 to 40,000 answers; what is said of the climb then is counted from a new beginning. `late` is how many had
not found it a million answers after: their normal happened to look as bad.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from statistics import mean, median

from cheapdeep_ops.guard.grading.adaptive import CALM, Suspicion
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.detection import learned
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics.intervals import Estimate
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector
from cheapdeep_ops.sampling import kept_share

BUDGET = 0.01
KEPT = kept_share(BUDGET)
(RULE,) = [each for each in read_rulebook().rules if isinstance(each, QualityRule) and each.limit == "normal"]
CLIMBS = ((0.03, 0.10), (0.02, 0.05))
NORMAL_GRADES = 200
RUNS = 1_000
PATIENCE = 1_000_000


@dataclass(frozen=True)
class Judge:
    """Calls a wrong answer wrong with `tpr`, and a right one wrong with `fpr`."""

    tpr: float = 1.0
    fpr: float = 0.0

    def seen(self, rate: float) -> float:
        return rate * self.tpr + (1 - rate) * self.fpr


@dataclass
class Stream:
    """Shipped answers: wrong at `before`, and from the answer `change` on at `after`."""

    before: float
    after: float
    change: float
    random: Random
    judge: Judge = field(default_factory=Judge)

    def is_wrong(self, answer: int) -> bool:
        return self.random.random() < self.judge.seen(self.after if answer >= self.change else self.before)

    def gap(self, share: float) -> int:
        """Answers until the next one that is chosen."""
        return int(math.log(1 - self.random.random()) / math.log(1 - share)) + 1


def uniform(stream: Stream, *, most: float) -> Iterator[tuple[int, bool]]:
    answer = 0
    while (answer := answer + stream.gap(BUDGET)) < most:
        yield answer, stream.is_wrong(answer)


class Past:
    """The answers that were kept and are not chosen: what there is to grade in hindsight."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._used: list[tuple[int, int]] = []
        """Stretches of answers of which none is left, the newest last."""

    def use(self, low: int, high: int) -> None:
        """Leave nothing between these two."""
        while self._used and self._used[-1][1] >= low:
            before = self._used.pop()
            low, high = min(low, before[0]), max(high, before[1])
        self._used.append((low, high))

    def take(self, now: int, most: int) -> list[int]:
        """The newest so many before `now`; they are chosen now."""
        taken: list[int] = []
        at = now
        while len(taken) < most and (at := self._before(at)) > 0:
            taken.append(at)
        if taken:
            self.use(taken[-1], now)
        return taken

    def _before(self, answer: int) -> int:
        """The newest that is left before `answer`."""
        found = answer - self._stream.gap(KEPT - BUDGET * CALM)
        for low, high in reversed(self._used):
            if high < found:
                break
            if low < answer:
                found = low - self._stream.gap(KEPT - BUDGET * CALM)
        return found


def steered(stream: Stream, target: float, *, most: float, late: int = 0) -> Iterator[tuple[int, bool]]:
    """What the package grades, in the order in which it becomes known; each grade is known `late` answers after it was
    asked for, those in hindsight as well."""
    answer, past, suspicion = 0, Past(stream), Suspicion()
    waiting: deque[tuple[int, bool, bool]] = deque()
    in_hindsight = 0
    while answer < most:
        before, is_hot = answer, suspicion.raises_sampling_rate(len(waiting))
        answer += stream.gap(KEPT if is_hot else BUDGET * CALM)
        if is_hot:  # all that is kept is chosen
            past.use(before, answer)
        waiting.append((answer + late, stream.is_wrong(answer), False))
        while waiting and waiting[0][0] <= answer:
            known, wrong, hindsight = waiting.popleft()
            in_hindsight -= hindsight
            suspicion = suspicion.after(incorrect=wrong, target=target, steered=hindsight)
            yield answer, wrong
            if not in_hindsight:
                taken = past.take(known, suspicion.retrospective_quota(len(waiting), target))
                waiting.extend((known + late, stream.is_wrong(each), True) for each in taken)
                in_hindsight = len(taken)


@dataclass(frozen=True)
class Alarm:
    answer: int
    graded: int
    wrong: int


Graded = Iterator[tuple[int, bool]]
Method = Callable[[Stream, float], Alarm | None]


def of_window(grades: Graded, target: float) -> Alarm | None:
    """(a) the newest hundred, more than twice the target of them wrong."""
    newest: list[bool] = []
    graded = wrong = 0
    for answer, is_wrong in grades:
        graded, wrong = graded + 1, wrong + is_wrong
        newest = [*newest[-99:], is_wrong]
        if len(newest) == 100 and sum(newest) > 2 * target * 100:
            return Alarm(answer, graded, wrong)
    return None


def of_cusum(grades: Graded, before: float, after: float, limit: float) -> Alarm | None:
    """(b) the optimal test of one who knows both rates (Page 1954, Moustakides 1986)."""
    hit, miss = math.log(after / before), math.log((1 - after) / (1 - before))
    value, graded, wrong = 0.0, 0, 0
    for answer, is_wrong in grades:
        graded, wrong = graded + 1, wrong + is_wrong
        value = max(value, 0.0) + (hit if is_wrong else miss)
        if value >= limit:
            return Alarm(answer, graded, wrong)
    return None


def of_detector(grades: Graded, target: float) -> Alarm | None:
    """(c) to (f): what the package does; its detector in plain floats, held against the real one by a test."""
    bets = Bets.on_climb(target)
    hit = [math.exp(each) for each in bets.growth(1, 1)]
    miss = [math.exp(each) for each in bets.growth(0, 1)]
    limit = len(hit) / RULE.alpha
    values = [0.0] * len(hit)
    graded = wrong = 0
    for answer, is_wrong in grades:
        graded, wrong = graded + 1, wrong + is_wrong
        factors = hit if is_wrong else miss
        values = [(value + 1) * factor for value, factor in zip(values, factors, strict=True)]
        if sum(values) >= limit:
            return Alarm(answer, graded, wrong)
    return None


def real_detector(grades: Graded, target: float) -> Alarm | None:
    """The same with the package's own detector."""
    bets, detector = Bets.on_climb(target), Detector()
    graded = wrong = 0
    for answer, is_wrong in grades:
        graded, wrong = graded + 1, wrong + is_wrong
        detector = detector.after(bets, int(is_wrong), 1)
        if detector.alarms(RULE.alpha):
            return Alarm(answer, graded, wrong)
    return None


def learned_target(rate: float, random: Random) -> float:
    """The target that 200 grades at `rate` lead to."""
    wrong = sum(random.random() < rate for _ in range(NORMAL_GRADES))
    return learned(Estimate(rate=wrong / NORMAL_GRADES, n=NORMAL_GRADES, count=NORMAL_GRADES)).target


@dataclass(frozen=True)
class Variant:
    name: str
    find: Callable[[Stream, float], Alarm | None]
    judge: Judge = Judge()


def cusum_limit(before: float, after: float, *, arl: float = 100_000.0) -> float:
    """The limit at which the mean number of grades until a false alarm is `arl` (Siegmund 1985, 2.52, by bisection).

    Solved on the renewal equation by simulation of excursions: arl = grades in an excursion / chance to pass the limit.
    """
    hit, miss = math.log(after / before), math.log((1 - after) / (1 - before))
    # Tilted to `after`, passing the limit is common, and each passage weighs exp(-value): importance sampling.
    random = Random("limit")
    low, high = 1.0, 12.0
    while high - low > 0.05:
        limit = (low + high) / 2
        passed = lengths = 0.0
        runs = 4_000
        for _ in range(runs):
            value = 0.0
            while 0 <= value < limit:
                value += hit if random.random() < after else miss
            passed += math.exp(-value) if value >= limit else 0.0
            value, length = 0.0, 0
            while 0 <= value < limit:
                value += hit if random.random() < before else miss
                length += 1
            lengths += length
        low, high = (limit, high) if lengths / passed < arl else (low, limit)
    return high


def variants(before: float, after: float) -> list[Variant]:
    limit = cusum_limit(before, after)
    erring = Judge(tpr=0.8, fpr=0.02)

    def find(stream: Stream, most: float, target: float, late: int = 0) -> Alarm | None:
        return of_detector(steered(stream, target, most=most, late=late), target)

    return [
        Variant("(a) uniform, 100 grades, twice the target", lambda s, m: of_window(uniform(s, most=m), before)),
        Variant(
            "(b) uniform, CUSUM that knows both rates", lambda s, m: of_cusum(uniform(s, most=m), before, after, limit)
        ),
        Variant("(c) ours, knows the target", lambda s, m: find(s, m, before)),
        Variant("(d) ours, learned normal (200 grades)", lambda s, m: find(s, m, learned_target(before, s.random))),
        Variant("(e) ours, grades 10 min late at 10 calls/s", lambda s, m: find(s, m, before, late=6_000)),
        Variant("(f) ours, judge finds 80%, errs on 2%", lambda s, m: find(s, m, erring.seen(before)), erring),
    ]


@dataclass(frozen=True)
class Row:
    climb: str
    name: str
    answers: float
    error: float
    median: float
    wrong: float
    graded_share: float
    false_alarms: int
    calm_answers: float
    early: int
    """Runs with an alarm before the climb."""
    late: int
    """Runs that had not found it `PATIENCE` answers after; they count as if they had then."""

    @property
    def false_interval(self) -> tuple[float, float]:
        """Of false alarms in ten million answers: the exact Poisson interval, by bisection (Garwood 1936)."""
        return tuple(bound * 1e7 / self.calm_answers for bound in poisson_interval(self.false_alarms))  # type: ignore[return-value]


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    tail = (1 - confidence) / 2

    def below(rate: float, most: int) -> float:
        return sum(math.exp(-rate + n * math.log(rate) - math.lgamma(n + 1)) for n in range(most + 1))

    def solve(is_low: Callable[[float], bool]) -> float:
        low, high = 1e-9, 10.0 + 3 * count
        for _ in range(80):
            low, high = ((low + high) / 2, high) if is_low((low + high) / 2) else (low, (low + high) / 2)
        return low

    lower = solve(lambda rate: 1 - below(rate, count - 1) < tail) if count else 0.0
    return lower, solve(lambda rate: below(rate, count) > tail)


def measure(
    variant: Variant, before: float, after: float, *, runs: int, calm: float, calm_runs: int, first: int = 0
) -> Row:
    waits, wrongs, early, late = [], [], 0, 0
    for run in range(first, first + runs):
        random = Random(f"{variant.name} {before} {run}")
        change = random.randrange(20_000, 40_000)
        stream = Stream(before, after, change, random, variant.judge)
        found = variant.find(stream, change + PATIENCE)
        early += found is not None and found.answer < change
        while found is not None and found.answer < change:  # a false alarm: what follows it is counted anew
            found = variant.find(replace(stream), change + PATIENCE)
        late += found is None
        waits.append(found.answer - change if found else PATIENCE)
        wrongs.append(waits[-1] * after)
    graded = answers = 0.0
    alarms = 0
    for run in range(first, first + calm_runs):
        random = Random(f"calm {variant.name} {before} {run}")
        left = calm / calm_runs
        while left > 0:
            counted = Counted(Stream(before, before, math.inf, random, variant.judge))
            found = variant.find(counted.stream, left)
            passed = min(found.answer, left) if found else left
            alarms, answers, left = alarms + (found is not None), answers + passed, left - passed
            graded += counted.drawn
    error = 1.96 * math.sqrt(sum((wait - mean(waits)) ** 2 for wait in waits) / runs / runs)
    return Row(
        f"{before:.0%} -> {after:.0%}",
        variant.name,
        mean(waits),
        error,
        median(waits),
        mean(wrongs),
        graded / answers,
        alarms,
        answers,
        early,
        late,
    )


class Counted:
    """A stream that counts how many of its answers were looked at."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.drawn = 0
        look = stream.is_wrong

        def counted(answer: int) -> bool:
            self.drawn += 1
            return look(answer)

        stream.is_wrong = counted  # type: ignore[method-assign]


def table(*, runs: int, calm: float, calm_runs: int = 20, first: int = 0) -> Iterator[Row]:
    for before, after in CLIMBS:
        for variant in variants(before, after):
            yield measure(variant, before, after, runs=runs, calm=calm, calm_runs=calm_runs, first=first)


def main(first: int = 0) -> None:
    counts = f"{'median':>8}{'wrong':>8}{'graded':>8}{'early':>7}{'late':>6}"
    print(f"{'climb':>10}  {'method':<46}{'answers until':>18}{counts}", end="")
    print("  false alarms in 10 million (95%)")
    for row in table(runs=RUNS, calm=30_000_000, first=first):
        low, high = row.false_interval
        found = f"{row.answers:>10,.0f} ± {row.error:<5,.0f}{row.median:>8,.0f}{row.wrong:>8,.0f}"
        false = f"{row.false_alarms * 1e7 / row.calm_answers:.2f} ({low:.2f} to {high:.2f})"
        print(
            f"{row.climb:>10}  {row.name:<46}{found}{row.graded_share:>8.2%}{row.early:>7}{row.late:>6}  {false}",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
