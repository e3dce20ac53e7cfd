"""How often a raise without effect is said to help or to harm, and how soon one that helps is said to; one table.

Run `python tests/bench/effect.py [SEED [RUNS]]`; some minutes. Each run has the first 3,000 grades since a raise, and a
look after every one of them. "helps" and "worse" are the shares of runs in which any look said so; "looks" is the share
of all looks that said either. The last columns are grades until "helps" is said, among the runs that say so.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from statistics import quantiles

from cheapdeep_ops.guard.rules.false_confidence.effect import ALPHA
from cheapdeep_ops.guard.statistics.comparison import TwoGroups

GRADES = 3_000
LIMIT = -math.log(ALPHA)


@dataclass(frozen=True)
class Case:
    """`shipped` and `withheld` give the rate of wrong answers at a grade; `share` is that of withheld answers."""

    name: str
    shipped: Callable[[int], float]
    withheld: Callable[[int], float]
    share: float = 0.3


def always(rate: float) -> Callable[[int], float]:
    return lambda _: rate


def falling(number: int) -> float:
    """A climb that ends after 300 grades."""
    return max(0.24 - 0.2 * number / 300, 0.04)


def swinging(number: int) -> float:
    """A day and a night of 500 grades, with different questions."""
    return 0.05 if number // 500 % 2 else 0.2


CASES = (
    *(Case(f"both {rate:.0%}", always(rate), always(rate)) for rate in (0.02, 0.05, 0.15, 0.4)),
    *(Case(f"both 15%, {share:.0%} withheld", always(0.15), always(0.15), share) for share in (0.05, 0.5, 0.9)),
    Case("both 24% to 4% in 300 grades", falling, falling),
    Case("both 20% and 5% in turn", swinging, swinging),
    Case("10% and 20% wrong", always(0.1), always(0.2)),
    Case("5% and 15% wrong", always(0.05), always(0.15)),
    Case("5% and 30% wrong", always(0.05), always(0.3)),
    Case("2% and 50% wrong", always(0.02), always(0.5)),
)


@dataclass(frozen=True)
class Row:
    name: str
    runs: int
    helps: int
    worse: int
    looks: float
    until_helps: tuple[int, ...]

    @property
    def wrong(self) -> int:
        """The runs that said so at any look."""
        return self.helps + self.worse


def measure(case: Case, *, runs: int, grades: int = GRADES, seed: int = 0) -> Row:
    helps = worse = said = 0
    until_helps: list[int] = []
    for run in range(seed * 1_000_000, seed * 1_000_000 + runs):
        random, test = Random(f"{case.name} {run}"), TwoGroups()
        evidence, first, kinds = 0.0, 0, set()
        for number in range(grades):
            is_withheld = random.random() < case.share
            rate = (case.withheld if is_withheld else case.shipped)(number)
            if test.add("", is_first=is_withheld, is_hit=random.random() < rate):
                evidence = test.evidence
            if evidence >= LIMIT:
                said += 1
                kinds.add(test.is_higher)
                first = first or number + 1
        helps, worse = helps + (True in kinds), worse + (False in kinds)
        if True in kinds:
            until_helps.append(first)
    return Row(case.name, runs, helps, worse, said / runs / grades, tuple(until_helps))


def table(*, runs: int, cases: tuple[Case, ...] = CASES, seed: int = 0) -> Iterator[Row]:
    for case in cases:
        yield measure(case, runs=runs, seed=seed)


def main(seed: int = 0, runs: int = 4_000) -> None:
    print(f"{'shipped and withheld':>32}{'helps':>8}{'worse':>8}{'looks':>8}{'median':>8}{'90%':>8}")
    for row in table(runs=runs, seed=seed):
        when = f"{'':>16}"
        if len(row.until_helps) > row.runs / 2:
            tenths = quantiles(row.until_helps, n=10)
            when = f"{tenths[4]:>8.0f}{tenths[8]:>8.0f}"
        shares = "".join(f"{each:>8.1%}" for each in (row.helps / row.runs, row.worse / row.runs, row.looks))
        print(f"{row.name:>32}{shares}{when}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
