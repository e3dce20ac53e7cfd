"""Streams of recorded answers in which the domain or the cheap model changes: raised when it should be, and let go.

Run `python tests/bench/drift.py FOLDER`, where FOLDER holds the recorded outcomes (`lifeeval_*.csv`). Every shipped
answer (confidence of 0.8 or more) is graded by the recorded truth, so that delays are counted in grades. A stream is
600 answers of one kind, then 800 of a worse one, then 1,200 of the first again, each drawn with replacement; the
decisions are those of the package (the first 200 grades are its normal), beside the rule most people would write: more
than twice the normal rate in the newest hundred.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.detection import SequentialTest, estimate, finding_of, learned
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.model import Level

(RULE,) = [each for each in read_rulebook().rules if isinstance(each, QualityRule) and each.limit == "normal"]
CALM, WORSE, AGAIN = 600, 800, 1_200
_ENOUGH = 90


@dataclass(frozen=True)
class Grade:
    called_at: float
    incorrect: bool
    inclusion: float = 1.0
    fingerprint: str = ""
    shipped: bool = True


@dataclass(frozen=True)
class Kind:
    """Answers of one model in one domain."""

    model: str
    domain: str


@dataclass(frozen=True)
class Shift:
    name: str
    first: Kind
    then: Kind


@dataclass(frozen=True)
class Result:
    """When it was raised and let go, in grades since the stream began; None where it was not."""

    raised: int | None
    released: int | None
    plain: int | None


def recorded(folder: Path) -> dict[Kind, list[bool]]:
    """Whether each shipped answer is wrong, by model and domain."""
    found: dict[Kind, list[bool]] = {}
    for path in sorted(folder.glob("lifeeval_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["cheap_confidence"] and float(row["cheap_confidence"]) >= 0.8:
                    kind = Kind(row["cheap_model"], row["domain"])
                    found.setdefault(kind, []).append(row["cheap_correct"] == "0")
    return found


def shifts(known: dict[Kind, list[bool]]) -> list[Shift]:
    """Every change of domain and every change of model that at least doubles the rate, and adds ten points to it."""

    def rate(kind: Kind) -> float:
        return sum(known[kind]) / len(known[kind])

    def named(kind: Kind) -> str:
        return f"{kind.model} {kind.domain}"

    pairs = [
        (first, then)
        for first in known
        for then in known
        if (first.model == then.model) != (first.domain == then.domain)
        and min(len(known[first]), len(known[then])) >= _ENOUGH
    ]
    return [
        Shift(f"{named(first)} ({rate(first):.0%}) -> {named(then)} ({rate(then):.0%})", first, then)
        for first, then in pairs
        if rate(then) >= 2 * rate(first) and rate(then) >= rate(first) + 0.1
    ]


def stream(known: dict[Kind, list[bool]], shift: Shift, random: Random) -> list[bool]:
    first, then = known[shift.first], known[shift.then]
    return [*random.choices(first, k=CALM), *random.choices(then, k=WORSE), *random.choices(first, k=AGAIN)]


def run(wrongs: Sequence[bool]) -> Result:
    grades = [Grade(float(number), wrong) for number, wrong in enumerate(wrongs)]
    first = estimate(grades[: RULE.normal_grades])
    assert first is not None
    alarm = learned(first)
    raised = released = None
    watch = SequentialTest()
    since = RULE.normal_grades
    for number in range(RULE.normal_grades, len(grades)):
        fires = raised is not None
        watch = watch.after(grades[number], alarm)
        newest = grades[max(since, number + 1 - RULE.max_grades) : number + 1][::-1]
        level = finding_of(RULE, watch, newest, alarm, fires=fires).level
        if not fires and level is Level.ABOVE:
            raised, watch, since = number, SequentialTest(), number + 1
        elif fires and level is Level.BELOW:
            released = number
            break
    return Result(raised, released, plain(wrongs, first.rate))


def plain(wrongs: Sequence[bool], normal: float) -> int | None:
    """The rule most people would write; a normal of nothing counts as 1%."""
    for number in range(RULE.normal_grades + 100, len(wrongs)):
        if sum(wrongs[number - 99 : number + 1]) > 200 * max(normal, 0.01):
            return number
    return None


@dataclass(frozen=True)
class Row:
    shift: str
    runs: int
    early: int
    missed: int
    delay: float
    let_go_early: int
    never_let_go: int
    release: float
    plain_early: int
    plain_delay: float


def measure(known: dict[Kind, list[bool]], shift: Shift, *, runs: int) -> Row:
    found = [run(stream(known, shift, Random(f"{shift.name} {seed}"))) for seed in range(runs)]
    raised = [each.raised - CALM for each in found if each.raised is not None]
    good = [each for each in found if each.raised is not None and CALM <= each.raised < CALM + WORSE]
    released = [each.released - CALM - WORSE for each in good if each.released is not None]
    simple = [each.plain - CALM for each in found if each.plain is not None]
    return Row(
        shift=shift.name,
        runs=runs,
        early=sum(each < 0 for each in raised),
        missed=sum(each.raised is None or each.raised >= CALM + WORSE for each in found),
        delay=median([each for each in raised if each >= 0] or [float("nan")]),
        let_go_early=sum(each < 0 for each in released),
        never_let_go=len(good) - len(released),
        release=median([each for each in released if each >= 0] or [float("nan")]),
        plain_early=sum(each < 0 for each in simple),
        plain_delay=median([each for each in simple if each >= 0] or [float("nan")]),
    )


def table(folder: Path, *, runs: int) -> Iterator[Row]:
    known = recorded(folder)
    for shift in shifts(known):
        yield measure(known, shift, runs=runs)


def main(folder: str) -> None:
    print(f"{'early':>6}{'missed':>7}{'delay':>7}{'let go early':>13}{'never':>6}{'release':>8}  (a): early, delay")
    for row in table(Path(folder), runs=20):
        ours = f"{row.early:>6}{row.missed:>7}{row.delay:>7.0f}"
        ours += f"{row.let_go_early:>13}{row.never_let_go:>6}{row.release:>8.0f}"
        print(f"{ours}{row.plain_early:>13}{row.plain_delay:>7.0f}  {row.shift}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
