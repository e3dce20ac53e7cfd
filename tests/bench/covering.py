"""Whether the interval of a week's false confidence covers the truth, although grades were steered; two tables.

Run `python tests/bench/covering.py`; four minutes. A week is 60,000 shipped answers; in half of the weeks the rate
climbs on the way. Each grade weighs 1 / (the share in force when its call began); those in hindsight are left out, as
in the receipt. The last column of the first table shows what the interval would be worth if they were not.

In the second table a judge errs, and people label some of the week's answers: at most 100 that the judge called right
and 40 that it called wrong, by chance. Beside the corrected interval stands the judge's own, uncorrected.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from cheapdeep_ops.guard.grading.adaptive import CALM, Suspicion
from cheapdeep_ops.guard.statistics.agreement import GraderAgreement, LabelledGrades
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
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


def measure(before: float, after: float, *, weeks: int) -> Row:
    covered = with_hindsight = 0
    for number in range(weeks):
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


def measure_corrected(before: float, after: float, judge: Judge, *, weeks: int) -> Corrected:
    covered = uncorrected = 0
    wide = 0.0
    target = before * judge.tpr + (1 - before) * judge.fpr
    for number in range(weeks):
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


def corrected_table(*, weeks: int) -> Iterator[Corrected]:
    for before, after in RATES:
        yield measure_corrected(before, after, ERRING, weeks=weeks)


def table(*, weeks: int) -> Iterator[Row]:
    for before, after in RATES:
        yield measure(before, after, weeks=weeks)


def main() -> None:
    print(f"{'rate':>12}{'covered':>10}{'with hindsight':>16}")
    for row in table(weeks=1_000):
        print(
            f"{row.name:>12}{row.covered / row.weeks:>10.1%}{row.covered_with_hindsight / row.weeks:>16.1%}", flush=True
        )
    print(f"\na judge that sees {ERRING.tpr:.0%} of the wrong answers, and blames {ERRING.fpr:.0%} of the right ones")
    print(f"{'rate':>12}{'covered':>10}{'uncorrected':>13}{'mean width':>12}")
    for row in corrected_table(weeks=1_000):
        covered, uncorrected = row.covered / row.weeks, row.uncorrected / row.weeks
        print(f"{row.name:>12}{covered:>10.1%}{uncorrected:>13.1%}{row.wide:>12.1%}", flush=True)


if __name__ == "__main__":
    main()
