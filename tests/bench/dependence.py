"""False alarms where answers depend on each other, and what the bounds on their evidence cost; one table.

Run `python tests/bench/dependence.py`; it needs numpy, and some minutes. Each row has two billion confident answers of
independent routes, of which 1% are graded, 33,000 answers a day. `Limits` is `statistics.dependence` for thousands of
routes at once, and a test compares the two. Normal is learned from 10,000 grades; the first 600 set its ceiling.

- *rhythm*: the rate varies by a point in the course of each day.
- *one question*: once in 60,000 answers, 600 (or 3,000) answers in a row are to one question, and all are wrong. So 1%
  (5%) of all answers are to it. It is new: normal was learned without it.
- *other questions*: each time it is another one, and normal was learned from such traffic.
- *in a mix*: in that time, the question has 1% (5%) of the answers, and all others are as usual.
- *templates*: a route repeats a few questions from the beginning. How much later is a climb found than with questions
  that never repeat?
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from statistics import mean, stdev

import numpy as np

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.detection import NeededEvidence, SequentialTest, Stakes, at_rate
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics import dependence
from cheapdeep_ops.guard.statistics.sequential import CLIMBS

(RULE,) = [each for each in read_rulebook().rules if isinstance(each, QualityRule) and each.limit == "normal"]
NEEDED = NeededEvidence.of(RULE)
GRADED = 0.01
PER_DAY = 33_000
EVERY = 60_000
"""Answers from the beginning of one repeated question to that of the next."""

RATES = (0.01, 0.02, 0.03, 0.05, 0.10)
RUNS = 2_000


class Limits:
    """The bounds for many routes at once, each of which may repeat one question; each grade has its own second."""

    def __init__(self, runs: int, needed: float = NEEDED.climb) -> None:
        bets, most = len(CLIMBS), dependence._MOST_BLOCKS
        self.needed = needed
        self.asked = np.zeros((runs, bets))
        self.latest = np.zeros((dependence.RUN - 1, runs, bets))
        self.share = np.zeros(runs)
        """The usual share of the repeated question."""
        self.dispersion = np.ones(runs)
        self.blocks = np.zeros((runs, 2 * most), dtype=int)
        self.settled, self.waiting = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)
        self.n, self.hits = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)

    def limited(self, growth, run, repeats):
        """How much one more grade of each route may add; `repeats` is whether it is of the repeated question."""
        ended = run <= 0
        self.asked[ended] = 0
        self.latest[:, ended] = 0
        usual = np.full(len(growth), dependence.QUESTION_SHARE)
        if self.share.any():
            both = zip(self.share, self.dispersion, strict=True)
            usual = np.array([dependence.evidence_share(*each) for each in both])
        limit = (self.needed * usual)[:, None] - self.asked
        room = np.where(repeats[:, None], limit, self.needed * dependence.QUESTION_SHARE)
        sums = most = np.zeros_like(growth)
        for grown in self.latest[::-1]:
            sums = sums + grown
            most = np.maximum(most, sums)
        room = np.minimum(room, self.needed * dependence.RUN_SHARE - most)
        growth = np.where(growth > 0, np.maximum(np.minimum(growth, room), 0), growth)
        asked = np.round(np.maximum(self.asked + growth, 0), dependence._DECIMALS)
        self.asked = np.where(repeats[:, None], asked, self.asked)
        self.latest = np.concatenate([self.latest[1:], growth[None]])
        return growth / self.dispersion[:, None]

    def learn(self, wrong, run):
        """Take in the grades, after `limited`; the usual share is not learned."""
        calm = (run <= dependence.USUAL_EVIDENCE) & (self.waiting > 0)
        if calm.any():
            self._settle(np.nonzero(calm)[0])
        self.n += 1
        self.hits += wrong
        done = np.nonzero(self.n == dependence.BLOCK)[0]
        if len(done):
            full = done[self.waiting[done] == dependence._MOST_BLOCKS]
            for row in full:
                first = self.settled[row]
                self.blocks[row, first:-1] = self.blocks[row, first + 1 :]
            self.waiting[full] -= 1
            self.blocks[done, self.settled[done] + self.waiting[done]] = self.hits[done]
            self.waiting[done] += 1
            self.n[done] = self.hits[done] = 0

    def _settle(self, rows):
        self.settled[rows] += self.waiting[rows]
        self.waiting[rows] = 0
        for count in np.unique(self.settled[rows]):
            some = rows[self.settled[rows] == count]
            over = max(count - dependence._MOST_BLOCKS, 0)
            if over:
                self.blocks[some, : count - over] = self.blocks[some, over:count]
                self.settled[some] = count - over
            self.dispersion[some] = dispersions(self.blocks[some, : count - over])

    def forget(self, rows):
        """After an alarm: the test begins anew."""
        self.asked[rows] = 0
        self.latest[:, rows] = 0
        self.waiting[rows] = self.n[rows] = self.hits[rows] = 0


def dispersions(blocks):
    """`dependence.dispersion` of each row."""
    found = np.ones(len(blocks))
    for joined in dependence._JOINED:
        count = blocks.shape[1] // joined
        if count < dependence._FEWEST_BLOCKS:
            break
        hits = blocks[:, blocks.shape[1] - count * joined :].reshape(len(blocks), count, joined).sum(axis=2)
        average, free = hits.mean(axis=1), count - 1
        chance = average * (1 - average / (dependence.BLOCK * joined))
        squares, spread = ((hits - average[:, None]) ** 2).sum(axis=1), 2 / (9 * free)
        ratio = np.divide(squares, chance * free, out=np.ones(len(blocks)), where=chance > 0)
        is_so = (np.cbrt(ratio) - (1 - spread)) / math.sqrt(spread) > dependence._SIGNIFICANT
        found = np.where(is_so & (chance > 0), np.maximum(found, ratio), found)
    return found


def upper(hits, n, z):
    """Wilson's upper bound."""
    rate, square = hits / n, z * z
    half = z * np.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return (rate + square / (2 * n) + half) / (1 + square / n)


@dataclass(frozen=True)
class Question:
    """A wrong question in stretches of so many answers, of which it has `share`."""

    answers: int
    share: float
    is_new: bool = False
    """Whether it is another one in each stretch, as it was while normal was learned."""


@dataclass(frozen=True)
class Case:
    name: str
    rate: float
    rhythm: float = 0.0
    question: Question | None = None
    days: float = 0.0
    """The standard deviation of the logarithm of each day's rate."""


def targets(case: Case, runs: int, rng, phase):
    """The target of each route: the first 600 grades are of 20,000 answers in a row, and set its ceiling."""
    at = phase[:, None] - np.arange(600)[None] * (20_000 / 600)
    rate, mean_rate = rate_of(case, at), case.rate
    if case.question is not None and case.question.is_new:
        rate = np.where(at % EVERY < case.question.answers, 1, rate)
        mean_rate += (1 - mean_rate) * case.question.answers / EVERY
    first = (rng.random((runs, 600)) < rate).sum(axis=1)
    return np.minimum(upper(first, 600, 1.96), upper(first + rng.binomial(9_400, mean_rate, runs), 10_000, 1.645))


def rate_of(case: Case, answers):
    return case.rate + case.rhythm * np.sin(2 * np.pi * answers / PER_DAY)


def false_alarms(case: Case, *, runs: int, grades: int, seed: int, limits: bool = True) -> tuple[int, float]:
    """Alarms in so many grades of each of `runs` routes, and the answers that these were."""
    rng = np.random.default_rng(seed)
    phase = rng.random(runs) * EVERY * PER_DAY
    target = targets(case, runs, rng, phase)[:, None]
    rates = np.minimum(target * np.array(CLIMBS), 0.95)
    up, down = np.log(rates / target), np.log((1 - rates) / (1 - target))
    values, cusum, bound = np.zeros_like(up), np.zeros_like(up), Limits(runs)
    day, factor = np.full(runs, -1.0), np.ones(runs)
    answers, alarms = phase.copy(), 0
    before = np.full(runs, np.inf)
    for _ in range(grades):
        answers += rng.geometric(GRADED, runs)
        rate = rate_of(case, answers)
        if case.days:
            new = answers // PER_DAY != day
            day = answers // PER_DAY
            factor[new] = np.exp(rng.normal(-(case.days**2) / 2, case.days, new.sum()))
            rate = rate * factor
        repeats = np.zeros(runs, dtype=bool)
        if case.question is not None:
            within = answers % EVERY
            repeats = (within < case.question.answers) & (rng.random(runs) < case.question.share)
            if case.question.is_new:
                bound.asked[within < before] = 0
            before = within
        wrong = (rng.random(runs) < rate) | repeats
        run = np.maximum(cusum.max(axis=1), 0)
        growth = np.where(wrong[:, None], up, down)
        if limits:
            growth = bound.limited(growth, run, repeats)
            bound.learn(wrong, run)
        values = (values + 1) * np.exp(growth)
        cusum = np.maximum(cusum, 0) + growth
        over = values.mean(axis=1) >= 1 / RULE.alpha
        if over.any():
            alarms += int(over.sum())
            values[over] = cusum[over] = 0
            bound.forget(over)
    return alarms, float((answers - phase).sum())


def cases() -> Iterator[Case]:
    for rate in RATES:
        yield Case(f"steady {rate:.0%}", rate)
    for rate in RATES[1:]:
        yield Case(f"rhythm {rate:.0%} +- 1 point", rate, rhythm=0.01)
    yield Case("days lognormal 0.3, 3%", 0.03, days=0.3)
    for rate in RATES:
        for share, answers in ((0.01, 600), (0.05, 3_000)):
            yield Case(f"one question for {answers:,}, {rate:.0%}", rate, question=Question(answers, 1.0))
            others = Question(answers, 1.0, is_new=True)
            yield Case(f"other questions for {answers:,}, {rate:.0%}", rate, question=others)
            yield Case(f"{share:.0%} in a mix for {answers:,}, {rate:.0%}", rate, question=Question(answers, share))


@dataclass(frozen=True, slots=True)
class Graded:
    incorrect: bool
    called_at: float
    fingerprint: str
    inclusion: float = GRADED
    shipped: bool = True
    steered: bool = False


def grades_until_alarm(
    ask: Callable[[Random, int], str], *, target: float, before: float, after: float, seed: str, calm: int = 600
) -> int:
    """Grades from a climb to the alarm, by the package itself; `ask` gives the fingerprint of each grade."""
    random, test, stakes = Random(seed), SequentialTest(), Stakes.at(at_rate(target))
    for number in range(calm + 20_000):
        wrong = random.random() < (after if number >= calm else before)
        grade = Graded(wrong, 100.0 * number, ask(random, number))
        test = test.after_all([(grade, stakes)], NEEDED, fires=False)
        if test.climb.alarms(RULE.alpha):
            if number >= calm:
                return number - calm + 1
            test = test.in_phase((number,))
    raise AssertionError("not found")


def distinct(_random: Random, number: int) -> str:
    return f"{number:08x}"


def templates(count: int, share: float = 1.0) -> Callable[[Random, int], str]:
    """That share of the grades are of `count` questions, and all others of questions that never repeat."""
    return lambda random, number: f"t{random.randrange(count):03}" if random.random() < share else f"{number:08x}"


def main() -> None:
    print(f"{'false alarms in ten million answers':<44}{'with bounds':>18}{'without':>18}", flush=True)
    for case in cases():
        counts = []
        for limits in (True, False):
            found, answers = false_alarms(case, runs=RUNS, grades=10_000 if limits else 1_000, seed=1, limits=limits)
            error = 1.96 * math.sqrt(max(found, 1)) * 1e7 / answers
            counts.append(f"{found * 1e7 / answers:>10.2f} ± {error:<5.2f}")
        print(f"{case.name:<44}{''.join(counts)}", flush=True)
    for before, after, target in ((0.03, 0.10, 0.035), (0.02, 0.05, 0.024), (0.03, 1.0, 0.035)):
        print(f"\n{before:.0%} -> {after:.0%}, target {target:.1%}: grades until it is found")
        for name, ask in {
            "no question repeats": distinct,
            **{f"{count} question{'s' if count > 1 else ''} only": templates(count) for count in (1, 2, 3, 5, 10, 30)},
            "half of the answers to one question": templates(1, 0.5),
        }.items():
            runs = 300 if after > 0.05 else 100
            waits = [
                grades_until_alarm(ask, target=target, before=before, after=after, seed=f"{run}") for run in range(runs)
            ]
            print(f"  {name:<42}{mean(waits):>8.0f} ± {1.96 * stdev(waits) / math.sqrt(runs):.0f}", flush=True)


if __name__ == "__main__":
    main()
