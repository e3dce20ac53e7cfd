"""How often a recommended threshold breaks its limit, over resamples of recorded answers; one table.

Run `python tests/bench/advising.py FOLDER`, where FOLDER holds the recorded outcomes (`lifeeval_*.csv`); three minutes.
What a file holds is taken for the whole truth; from it as many rows as are named are drawn with replacement, a
threshold is recommended with 95% certainty, and its limit held against the truth.
"""

import csv
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cheapdeep_ops.guard.backtest.recommend import recommended, why_none

GRID = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
CERTAINTY = 0.95
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
    limit: float
    drawn: int
    runs: int
    recommended: int
    broken: int
    silent: int


def measure(name: str, grades: Grades, limit: float, *, drawn: int, runs: int) -> Row:
    given = broken = silent = 0
    truth = {threshold: rate_at(grades, threshold) for threshold in GRID}
    for run in range(runs):
        sample = Random(f"{name} {limit} {run}").choices(grades, k=drawn)
        found = recommended(sample, thresholds=GRID, limit=limit, certainty=CERTAINTY)
        if found.threshold is None:
            why = why_none(sample, thresholds=GRID, limit=limit, certainty=CERTAINTY)
            silent += why == "confidence does not separate here"
        else:
            given, broken = given + 1, broken + (truth[found.threshold] > limit)
    return Row(name, limit, drawn, runs, given, broken, silent)


def limits(grades: Grades) -> tuple[float, ...]:
    """Limits near the truth, where a mistake is likeliest: just below the rate of the lowest threshold, and above."""
    rates = sorted(rate_at(grades, threshold) for threshold in GRID if threshold <= 0.95)
    middle = rates[bisect_left(rates, sum(rates) / len(rates)) - 1]
    return tuple(dict.fromkeys(round(rate, 4) for rate in (rates[-1] - 0.002, middle, rates[-1] + 0.03)))


def table(folder: Path, *, runs: int, drawn: int = 1_000) -> Iterator[Row]:
    for name, grades in recorded(folder).items():
        if len(grades) > 900 and " " not in name:
            for limit in limits(grades):
                yield measure(name, grades, limit, drawn=drawn, runs=runs)
    for name, grades in recorded(folder).items():
        if name.endswith("lsat-ar"):
            yield measure(name, grades, 0.2, drawn=200, runs=runs)


def main(folder: str) -> None:
    print(f"{'limit':>7}{'grades':>8}{'runs':>6}{'recommended':>13}{'broken':>8}{'does not separate':>19}")
    for row in table(Path(folder), runs=1_000):
        counts = f"{row.recommended:>13}{row.broken:>8}{row.silent:>19}"
        print(f"{row.limit:>7.2%}{row.drawn:>8}{row.runs:>6}{counts}  {row.name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
