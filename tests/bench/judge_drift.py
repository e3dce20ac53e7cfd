"""How soon a changed grader is noticed on labelled answers, and how often one that has not changed is; a table.

Run `python tests/bench/judge_drift.py [FIRST]`; some minutes. FIRST is the number of the first run. All counts are of
repeated gradings, which take the two labels in turn. A grader is written as the shares of its verdicts that differ from
the labels correct and incorrect. Each run learns its normal from the first gradings, as the package does; then come 200
without a change, and then the grader changes. `early` is the share of runs with an alarm before that, `missed` of those
without one in 600. Errors are one standard error of the simulation.

`persistent` graders err on fixed answers: each of 60 answers of a label has a verdict of its own. All others err anew
in each grading, which is the harder case. Times are those of the default of 24 repeated gradings a day.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import mean, quantiles, stdev

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.grader_drift.detection import _CLIMBS, LabelTest
from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.guard.statistics.sequential import Bets

(RULE,) = [each for each in read_rulebook().rules if isinstance(each, GraderDriftRule)]
ENOUGH = RULE.normal_regradings
CALM = 200
PATIENCE = 600
POOL = 60
RUNS = 2_000
CALM_RUNS = 300
CALM_LENGTH = 10_000
Rates = tuple[float, float]
CHANGES: tuple[tuple[str, Rates, Rates], ...] = (
    ("says correct to all", (0.02, 0.20), (0.0, 1.0)),
    ("says incorrect to all", (0.02, 0.20), (1.0, 0.0)),
    ("a coin", (0.05, 0.10), (0.5, 0.5)),
    ("overlooks half instead of none", (0.0, 0.0), (0.0, 0.5)),
    ("overlooks half instead of a fifth", (0.02, 0.20), (0.02, 0.50)),
    ("blames 20% instead of 2%", (0.02, 0.20), (0.20, 0.20)),
    ("blames 10% instead of none", (0.0, 0.0), (0.1, 0.0)),
    ("blames 10% instead of 2%", (0.02, 0.20), (0.10, 0.20)),
)
STEADY: tuple[Rates, ...] = ((0.0, 0.0), (0.01, 0.05), (0.02, 0.20), (0.05, 0.10), (0.10, 0.30))


class Grader:
    """Verdicts on labelled answers: whether each differs from its label."""

    def __init__(self, rates: Rates, random: Random, *, persistent: bool = False) -> None:
        self._random = random
        self._rates = rates
        self._own = [[random.random() < rate for _ in range(POOL)] for rate in rates] if persistent else None

    def differs(self, label: int, number: int) -> bool:
        if self._own is not None:
            return self._own[label][number % POOL]
        return self._random.random() < self._rates[label]


@cache
def factors(usual: int) -> tuple[list[float], list[float]]:
    """What each bet is multiplied by: with a verdict that agrees, and with one that differs."""
    target = LabelTest(normal=(usual, ENOUGH)).target(ENOUGH)
    assert target is not None
    bets = Bets.on_climb(target, _CLIMBS)
    agree, differ = ([math.exp(each) for each in bets.growth(differs, 1)] for differs in (0, 1))
    return agree, differ


def first_alarm(before: Grader, after: Grader, *, change: int, most: int) -> int | None:
    """The repeated grading that fires, counted after those that normal is learned from; None if none of `most` does.

    The package's test in plain floats, held against the real one by a test.
    """
    of_label = [factors(sum(before.differs(label, number) for number in range(ENOUGH))) for label in (0, 1)]
    limit = 2 * len(_CLIMBS) / RULE.alpha
    turn, rest = [0.0] * len(_CLIMBS), [0.0] * len(_CLIMBS)
    for number in range(most):
        label = number % 2
        grader = after if number >= change else before
        factor = of_label[label][grader.differs(label, ENOUGH + number // 2)]
        # The bets on this label move; those on the other have the next turn.
        turn, rest = (
            [value + 1 for value in rest],
            [(value + 1) * each for value, each in zip(turn, factor, strict=True)],
        )
        if sum(turn) + sum(rest) >= limit:
            return number + 1
    return None


@dataclass(frozen=True)
class Delay:
    name: str
    mean: float
    error: float
    median: float
    ninth: float
    missed: float
    early: float


def delay(name: str, before: Rates, after: Rates, *, runs: int = RUNS, first: int = 0) -> Delay:
    """The repeated gradings from the change to the alarm; runs without one count as `PATIENCE`."""
    waits, missed, early = [], 0, 0
    for run in range(first, first + runs):
        random = Random(f"{name} {run}")
        found = first_alarm(Grader(before, random), Grader(after, random), change=CALM, most=CALM + PATIENCE)
        if found is not None and found <= CALM:
            early += 1
            continue
        missed += found is None
        waits.append(PATIENCE if found is None else found - CALM)
    tenths = quantiles(waits, n=10)
    error = stdev(waits) / math.sqrt(len(waits))
    return Delay(name, mean(waits), error, tenths[4], tenths[8], missed / runs, early / runs)


@dataclass(frozen=True)
class FalseAlarms:
    count: int
    watched: int

    @property
    def rate(self) -> float:
        """In ten thousand repeated gradings."""
        return self.count * 1e4 / self.watched

    @property
    def error(self) -> float:
        return math.sqrt(max(self.count, 1)) * 1e4 / self.watched


def false_alarms(rates: Rates, *, persistent: bool = False, runs: int = CALM_RUNS, first: int = 0) -> FalseAlarms:
    """How often a grader that has not changed is accused; each run ends with its first alarm."""
    count = watched = 0
    for run in range(first, first + runs):
        grader = Grader(rates, Random(f"{rates} {persistent} {run}"), persistent=persistent)
        found = first_alarm(grader, grader, change=0, most=CALM_LENGTH)
        count += found is not None
        watched += CALM_LENGTH if found is None else found
    return FalseAlarms(count, watched)


def table(first: int = 0) -> Iterator[str]:
    yield f"{'change of the grader':<40}{'mean':>12}{'median':>8}{'90%':>6}{'days':>6}{'missed':>8}{'early':>7}"
    for name, before, after in CHANGES:
        row = delay(name, before, after, first=first)
        found = f"{row.mean:>6.0f} ± {row.error:<3.1f}{row.median:>8.0f}{row.ninth:>6.0f}{row.median / 24:>6.1f}"
        yield f"{name:<40}{found}{row.missed:>8.1%}{row.early:>7.2%}"
    yield ""
    yield f"{'no change: differs from correct, incorrect':<46}false alarms in 10,000"
    for rates in STEADY:
        for persistent in (False, True):
            found = false_alarms(rates, persistent=persistent, first=first)
            kind = f"{rates[0]:.0%}, {rates[1]:.0%}{', persistent' if persistent else ''}"
            yield f"{kind:<46}{found.rate:.2f} ± {found.error:.2f}"


if __name__ == "__main__":
    for line in table(*map(int, sys.argv[1:])):
        print(line, flush=True)
