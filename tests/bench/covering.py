"""Whether the interval of a week's false confidence covers the truth, although grades were steered; one table.

Run `python tests/bench/covering.py`; half a minute. A week is 60,000 shipped answers; in half of the weeks the rate
climbs on the way. Each grade weighs 1 / (the share in force when its call began); those in hindsight are left out, as
in the receipt. The last column shows what the interval would be worth if they were not.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from cheapdeep_ops.guard.stats import weighted
from cheapdeep_ops.guard.steering import CALM, Suspicion
from cheapdeep_ops.sampling import kept_share

BUDGET = 0.01
KEPT = kept_share(BUDGET)
ANSWERS = 60_000


@dataclass(frozen=True)
class Grade:
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


def graded(week: Week, target: float, random: Random) -> Iterator[Grade]:
    answer, past, suspicion = 0, 0, Suspicion()

    def gap(share: float) -> int:
        return int(math.log(1 - random.random()) / math.log(1 - share)) + 1

    while True:
        share = KEPT if suspicion.wants_future else BUDGET * CALM
        answer += gap(share)
        if answer >= ANSWERS:
            return
        wrong = random.random() < week.at(answer)
        suspicion = suspicion.after(incorrect=wrong, target=target, steered=False)
        yield Grade(wrong, share, steered=False)
        newest = answer
        while wanted := suspicion.wants_past:
            for _ in range(wanted):
                newest -= gap(KEPT - BUDGET * CALM)
                if newest <= past:
                    break
                wrong = random.random() < week.at(newest)
                suspicion = suspicion.after(incorrect=wrong, target=target, steered=True)
                yield Grade(wrong, KEPT, steered=True)
            if newest <= past:
                break
        past = answer if newest < answer else past


def covers(grades: Sequence[Grade], truth: float) -> bool:
    found = weighted((each.incorrect, each.inclusion, 1) for each in grades)
    if found is None:
        return True
    low, high = found.interval()
    return low <= truth <= high


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


def table(*, weeks: int) -> Iterator[Row]:
    for before, after in ((0.02, 0.02), (0.02, 0.05), (0.05, 0.05), (0.05, 0.15), (0.2, 0.2)):
        yield measure(before, after, weeks=weeks)


def main() -> None:
    print(f"{'rate':>12}{'covered':>10}{'with hindsight':>16}")
    for row in table(weeks=1_000):
        print(
            f"{row.name:>12}{row.covered / row.weeks:>10.1%}{row.covered_with_hindsight / row.weeks:>16.1%}", flush=True
        )


if __name__ == "__main__":
    main()
