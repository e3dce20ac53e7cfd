"""Whether the interval of a week's false confidence covers the truth, although grades were steered; three tables.

Run `python tests/bench/covering.py`, with `--only weeks`, `routes` or `judge` for one table, `--seed N` for other
random numbers, and `--weeks N` for other sizes; half an hour. A week is 60,000 shipped answers; in half of the weeks
the rate climbs on the way. Each grade weighs 1 / (the share in force when its call began); those in hindsight are left
out, as in the receipt. The last column of the first table shows what the interval would be worth if they were not.

The second table has several routes and shares in one week: raised ones, of which 30% are graded, bad ones that are
graded little, and answers that a full queue kept with a smaller share. It counts how often the truth lies below the
interval and above it, and what an interval at the n of Kish (sum w)^2 / sum w^2 would cover.

In the third table a judge errs, and people label some of the week's answers: at most 100 that the judge called right
and 40 that it called wrong, by chance. Beside the corrected interval stands the judge's own, uncorrected.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from cheapdeep_ops.guard.grading.adaptive import CALM, Suspicion
from cheapdeep_ops.guard.statistics.agreement import GraderAgreement, LabelledGrades
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted, wilson
from cheapdeep_ops.sampling import kept_share

BUDGET = 0.01
KEPT = kept_share(BUDGET)
ANSWERS = 60_000
RATES = ((0.02, 0.02), (0.02, 0.05), (0.05, 0.05), (0.05, 0.15), (0.2, 0.2))
LABELS_RIGHT, LABELS_WRONG = 100, 40


@dataclass(frozen=True)
class Judge:
    tpr: float = 1.0
    fpr: float = 0.0

    def says_wrong(self, random: Random, *, wrong: bool) -> bool:
        return random.random() < (self.tpr if wrong else self.fpr)


PERFECT = Judge()
ERRING = Judge(tpr=0.85, fpr=0.03)


@dataclass(frozen=True)
class Grade:
    wrong: bool
    incorrect: bool
    inclusion: float
    steered: bool


@dataclass(frozen=True)
class Week:
    """The rate until an answer, and from it on."""

    before: float
    after: float
    change: int

    @property
    def truth(self) -> float:
        return (self.before * self.change + self.after * (ANSWERS - self.change)) / ANSWERS

    def at(self, answer: int) -> float:
        return self.after if answer >= self.change else self.before


def graded(week: Week, target: float, random: Random, judge: Judge = PERFECT) -> Iterator[Grade]:
    answer, past, suspicion = 0, 0, Suspicion()

    def grade(at: int, share: float, *, steered: bool) -> Grade:
        wrong = random.random() < week.at(at)
        return Grade(wrong, judge.says_wrong(random, wrong=wrong), share, steered)

    def gap(share: float) -> int:
        return int(math.log(1 - random.random()) / math.log(1 - share)) + 1

    while True:
        share = KEPT if suspicion.raises_sampling_rate(0) else BUDGET * CALM
        answer += gap(share)
        if answer >= ANSWERS:
            return
        found = grade(answer, share, steered=False)
        suspicion = suspicion.after(incorrect=found.incorrect, target=target, steered=False)
        yield found
        newest = answer
        while wanted := suspicion.retrospective_quota(0, target):
            for _ in range(wanted):
                newest -= gap(KEPT - BUDGET * CALM)
                if newest <= past:
                    break
                found = grade(newest, KEPT, steered=True)
                suspicion = suspicion.after(incorrect=found.incorrect, target=target, steered=True)
                yield found
            if newest <= past:
                break
        past = answer if newest < answer else past


def estimated(grades: Sequence[Grade]) -> Estimate | None:
    return weighted((each.incorrect, each.inclusion, 1) for each in grades)


def covers(grades: Sequence[Grade], truth: float) -> bool:
    found = estimated(grades)
    if found is None:
        return True
    low, high = found.interval()
    return low <= truth <= high


def labelled(grades: Sequence[Grade], random: Random) -> Iterator[LabelledGrades]:
    """What people say of some of the answers: the truth."""
    for judged_wrong, most in ((False, LABELS_RIGHT), (True, LABELS_WRONG)):
        of_kind = [each for each in grades if each.incorrect is judged_wrong]
        for each in random.sample(of_kind, min(most, len(of_kind))):
            yield LabelledGrades(judged_wrong=judged_wrong, is_wrong=each.wrong, inclusion=each.inclusion)


@dataclass(frozen=True)
class Row:
    name: str
    weeks: int
    covered: int
    covered_with_hindsight: int


def measure(before: float, after: float, *, weeks: int, seed: int = 0) -> Row:
    covered = with_hindsight = 0
    for number in numbered(weeks, seed):
        random = Random(f"{before} {after} {number}")
        week = Week(before, after, random.randrange(ANSWERS))
        grades = list(graded(week, before, random))
        covered += covers([each for each in grades if not each.steered], week.truth)
        with_hindsight += covers(grades, week.truth)
    return Row(f"{before:.0%} -> {after:.0%}", weeks, covered, with_hindsight)


@dataclass(frozen=True)
class Corrected:
    name: str
    weeks: int
    covered: int
    uncorrected: int
    wide: float


def measure_corrected(before: float, after: float, judge: Judge, *, weeks: int, seed: int = 0) -> Corrected:
    covered = uncorrected = 0
    wide = 0.0
    target = before * judge.tpr + (1 - before) * judge.fpr
    for number in numbered(weeks, seed):
        random = Random(f"{before} {after} {judge} {number}")
        week = Week(before, after, random.randrange(ANSWERS))
        evenly = [each for each in graded(week, target, random, judge) if not each.steered]
        uncorrected += covers(evenly, week.truth)
        found = estimated(evenly)
        if found is not None:
            rate = GraderAgreement.of(labelled(evenly, random), found, random).corrected(found)
            covered += rate.low <= week.truth <= rate.high
            wide += rate.high - rate.low
    return Corrected(f"{before:.0%} -> {after:.0%}", weeks, covered, uncorrected, wide / weeks)


@dataclass(frozen=True)
class Stratum:
    """Answers of one route and share: their number, the rate of wrong ones, and the share that is graded."""

    answers: int
    rate: float
    share: float

    def graded(self, random: Random) -> tuple[int, int]:
        """The numbers of wrong and of right answers among those graded."""
        wrong = binomial(self.answers, self.share * self.rate, random)
        left = self.share * (1 - self.rate) / (1 - self.share * self.rate)
        return wrong, binomial(self.answers - wrong, left, random)


def binomial(n: int, rate: float, random: Random) -> int:
    """The number of hits among `n`, exactly, in a time that grows with log(n).

    Source: Devroye (1986), Non-uniform random variate generation, X.4.4: the median of uniform numbers is a beta one.
    """
    hits = 0
    while n > 16:
        middle = n // 2 + 1
        place = random.betavariate(middle, n + 1 - middle)
        if place <= rate:
            hits, n, rate = hits + middle, n - middle, (rate - place) / (1 - place)
        else:
            n, rate = middle - 1, rate / place
    return hits + sum(random.random() < rate for _ in range(n))


SMALL = BUDGET * CALM * 2.5
"""The share of a small route beside a large one: grades follow the square root of traffic."""
HELD = 2.0**-3
"""What is kept of the whole share while some 325 answers wait in a recorder."""

WEEKS_OF_ROUTES: dict[str, Sequence[Stratum]] = {
    "one share": (Stratum(60_000, 0.02, BUDGET * CALM),),
    "a route raised on the way": (Stratum(30_000, 0.02, BUDGET * CALM), Stratum(30_000, 0.05, KEPT)),
    "a small bad route": (Stratum(54_000, 0.02, BUDGET * CALM), Stratum(6_000, 0.2, SMALL)),
    "one raised, a small one bad": (
        Stratum(20_000, 0.02, BUDGET * CALM), Stratum(30_000, 0.05, KEPT), Stratum(6_000, 0.2, SMALL),
    ),
    "one raised, a large one bad": (Stratum(40_000, 0.02, KEPT), Stratum(20_000, 0.15, BUDGET * CALM)),
    "one raised, a tiny one all bad": (
        Stratum(20_000, 0.02, BUDGET * CALM), Stratum(30_000, 0.05, KEPT), Stratum(1_500, 0.5, 2 * SMALL),
    ),
    "raised and bad, a calm one good": (Stratum(30_000, 0.2, KEPT), Stratum(30_000, 0.01, BUDGET * CALM)),
    "raised and good, a calm one bad": (Stratum(30_000, 0.01, KEPT), Stratum(30_000, 0.2, BUDGET * CALM)),
    "a day, raised half of it": (Stratum(4_000, 0.02, BUDGET * CALM), Stratum(4_000, 0.08, KEPT)),
    "twenty routes, two raised": (
        *(Stratum(2_000, 0.01 + 0.002 * number, BUDGET) for number in range(18)),
        Stratum(10_000, 0.08, KEPT), Stratum(5_000, 0.12, KEPT),
    ),
    "bursts that a full queue thins": (Stratum(50_000, 0.02, BUDGET), Stratum(10_000, 0.1, KEPT * HELD / 16)),
    "raised, and thinned in bursts": (Stratum(30_000, 0.03, KEPT), Stratum(30_000, 0.1, KEPT * HELD)),
}  # fmt: skip


@dataclass(frozen=True)
class Routes:
    name: str
    weeks: int
    truth: float
    below: int
    above: int
    at_kish_n: int

    @property
    def covered(self) -> int:
        return self.weeks - self.below - self.above


def measure_routes(name: str, *, weeks: int, seed: int = 0) -> Routes:
    strata = WEEKS_OF_ROUTES[name]
    truth = sum(each.answers * each.rate for each in strata) / sum(each.answers for each in strata)
    below = above = at_kish_n = 0
    random = Random(f"{name} {seed}" if seed else name)
    for _ in range(weeks):
        counts = [(each.share, *each.graded(random)) for each in strata]
        found = weighted(
            group for share, wrong, right in counts for group in ((True, share, wrong), (False, share, right))
        )
        if found is not None:
            low, high = found.interval()
            below, above = below + (truth < low), above + (truth > high)
            n = kish_n([(share, wrong + right) for share, wrong, right in counts])
            low, high = wilson(found.rate * n, n, 0.95)
            at_kish_n += low <= truth <= high
    return Routes(name, weeks, truth, below, above, at_kish_n)


def kish_n(graded: Sequence[tuple[float, int]]) -> float:
    return sum(n / share for share, n in graded) ** 2 / sum(n / share**2 for share, n in graded)


def numbered(runs: int, seed: int) -> range:
    """The numbers of so many runs, which no other seed has."""
    return range(seed * 1_000_000, seed * 1_000_000 + runs)


def corrected_table(*, weeks: int, seed: int = 0) -> Iterator[Corrected]:
    for before, after in RATES:
        yield measure_corrected(before, after, ERRING, weeks=weeks, seed=seed)


def table(*, weeks: int, seed: int = 0) -> Iterator[Row]:
    for before, after in RATES:
        yield measure(before, after, weeks=weeks, seed=seed)


def main(only: str | None, seed: int, weeks: int) -> None:
    if only in {None, "weeks"}:
        print(f"{'rate':>12}{'covered':>10}{'with hindsight':>16}")
        for row in table(weeks=weeks, seed=seed):
            shares = f"{row.covered / row.weeks:>10.1%}{row.covered_with_hindsight / row.weeks:>16.1%}"
            print(f"{row.name:>12}{shares}", flush=True)
    if only in {None, "routes"}:
        print(f"\n{'':>32}{'rate':>8}{'covered':>10}{'below':>8}{'above':>8}{'at the n of Kish':>18}")
        for name in WEEKS_OF_ROUTES:
            of = measure_routes(name, weeks=weeks, seed=seed)
            missed = f"{of.below / of.weeks:>8.1%}{of.above / of.weeks:>8.1%}{of.at_kish_n / of.weeks:>18.1%}"
            print(f"{name:>32}{of.truth:>8.1%}{of.covered / of.weeks:>10.1%}{missed}", flush=True)
    if only in {None, "judge"}:
        print(
            f"\na judge that sees {ERRING.tpr:.0%} of the wrong answers, and blames {ERRING.fpr:.0%} of the right ones"
        )
        print(f"{'rate':>12}{'covered':>10}{'uncorrected':>13}{'mean width':>12}")
        for judged in corrected_table(weeks=weeks // 4, seed=seed):
            shares = f"{judged.covered / judged.weeks:>10.1%}{judged.uncorrected / judged.weeks:>13.1%}"
            print(f"{judged.name:>12}{shares}{judged.wide:>12.1%}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", choices=("weeks", "routes", "judge"))
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--weeks", type=int, default=4_000)
    given = arguments.parse_args()
    main(given.only, given.seed, given.weeks)
