"""How often a threshold is recommended, and how often it breaks its limit, over resamples of recorded answers.

Run `python tests/bench/advising.py FOLDER [FIRST [RUNS]]`, where FOLDER holds the recorded outcomes (`lifeeval_*.csv`),
and FIRST is the number of the first run; ten minutes. What a file holds is taken for the whole truth; from it as many
rows as are named are drawn with replacement, a threshold is recommended with 95% certainty, and its limit held against
the truth. "ships" is the share of answers that ship at the recommended threshold, on average; a run without one ships
nothing. Each of the three tests is fixed before.
"""

import csv
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from cheapdeep_ops.guard.backtest.recommend import ErrorSharing, recommended, why_none

GRID = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
CERTAINTY = 0.95
RUNS = 500
Grades = Sequence[tuple[float, bool]]


def recorded(folder: Path) -> dict[str, Grades]:
    """(confidence, wrong) by cheap model, and by model and domain."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for path in sorted(folder.glob("lifeeval_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["cheap_confidence"] and "sonnet-3-7" not in row["deep_model"].replace(".", "-").lower():
                    grade = (float(row["cheap_confidence"]), row["cheap_correct"] == "0")
                    found.setdefault(row["cheap_model"], []).append(grade)
                    found.setdefault(f"{row['cheap_model']} {row['domain']}", []).append(grade)
    return dict(found)


def rate_at(grades: Grades, threshold: float) -> float:
    wrong = [is_wrong for confidence, is_wrong in grades if confidence >= threshold]
    return sum(wrong) / len(wrong)


@dataclass(frozen=True)
class Row:
    name: str
    test: ErrorSharing
    limit: float
    drawn: int
    runs: int
    recommended: int
    broken: int
    silent: int
    ships: float


def measure(
    name: str,
    grades: Grades,
    limit: float,
    *,
    drawn: int,
    runs: int,
    test: ErrorSharing = ErrorSharing.SHARED,
    first: int = 0,
) -> Row:
    given = broken = silent = 0
    ships = 0.0
    truth = {threshold: rate_at(grades, threshold) for threshold in GRID}
    share = {threshold: sum(each >= threshold for each, _ in grades) / len(grades) for threshold in GRID}
    for run in range(first, first + runs):
        sample = Random(f"{name} {limit} {run}").choices(grades, k=drawn)
        found = recommended(sample, thresholds=GRID, limit=limit, certainty=CERTAINTY, test=test)
        if found.threshold is None:
            why = why_none(sample, thresholds=GRID, limit=limit, certainty=CERTAINTY, test=test)
            silent += why == "confidence does not separate here"
        else:
            given, broken = given + 1, broken + (truth[found.threshold] > limit)
            ships += share[found.threshold]
    return Row(name, test, limit, drawn, runs, given, broken, silent, ships / runs)


def limits(grades: Grades) -> tuple[float, ...]:
    """Limits near the truth, where a mistake is likeliest: just below the rate of the lowest threshold, and above."""
    rates = sorted(rate_at(grades, threshold) for threshold in GRID if threshold <= 0.95)
    middle = rates[bisect_left(rates, sum(rates) / len(rates)) - 1]
    return tuple(dict.fromkeys(round(rate, 4) for rate in (rates[-1] - 0.002, middle, rates[-1] + 0.03)))


def table(
    folder: Path,
    *,
    runs: int,
    drawn: int = 1_000,
    tests: Sequence[ErrorSharing] = (ErrorSharing.SHARED,),
    first: int = 0,
) -> Iterator[Row]:
    for name, grades in recorded(folder).items():
        if len(grades) > 900 and " " not in name:
            for limit, test in product(limits(grades), tests):
                yield measure(name, grades, limit, drawn=drawn, runs=runs, test=test, first=first)
    for name, grades in recorded(folder).items():
        if name.endswith("lsat-ar"):
            for test in tests:
                yield measure(name, grades, 0.2, drawn=200, runs=runs, test=test, first=first)


def main(folder: str, first: int = 0, runs: int = RUNS) -> None:
    rows: dict[ErrorSharing, list[Row]] = {test: [] for test in ErrorSharing}
    print(f"{'test':>10}{'limit':>8}{'grades':>8}{'recommended':>13}{'broken':>8}{'ships':>7}{'does not separate':>19}")
    for row in table(Path(folder), runs=runs, tests=tuple(ErrorSharing), first=first):
        rows[row.test].append(row)
        shares = [row.recommended / row.runs, row.broken / row.runs, row.ships, row.silent / row.runs]
        said = "".join(f"{share:>{width}.1%}" for share, width in zip(shares, (13, 8, 7, 19), strict=True))
        print(f"{row.test:>10}{row.limit:>8.2%}{row.drawn:>8}{said}  {row.name}", flush=True)
    for test, of in rows.items():
        broken = max(row.broken / row.runs for row in of)
        shares = [
            sum(each) / len(of) for each in zip(*((row.recommended / row.runs, row.ships) for row in of), strict=True)
        ]
        print(f"{test:>10}: recommends in {shares[0]:.1%}, ships {shares[1]:.1%}; broken in at most {broken:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
