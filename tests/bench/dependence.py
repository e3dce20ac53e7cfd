"""False alarms where questions repeat, and what the bounds on dependent answers cost; three tables.

Run `python tests/bench/dependence.py [questions|second|templates]`; it needs numpy, and takes half an hour. `--seed N`
takes other random numbers, and `--answers` sets the size of the first table. Its routes are those of `many_routes.py`:
they learn normal, and go on learning. They have 33,000 confident answers a day. Errors are Monte-Carlo errors (95%).

- *one question*: once in 60,000 answers, 600 (or 3,000) answers in a row are to one question, and all are wrong. So 1%
  (5%) of all answers are to it. It is new: it comes after at least 60,000 answers.
- *other questions*: each time it is another one, and normal is learned from such traffic.
- *in a mix*: in that time, the question has 1% (5%) of the answers, and all others are as usual.
- *second*: 30 or 60 wrong answers of one second, all different and all graded. How often do they raise an alarm?
- *templates*: a route repeats a few questions from the beginning. How much later is a climb found than with questions
  that never repeat?
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from statistics import mean, stdev

import numpy as np
from many_routes import RULE, Calm, Floats, Ints, Routes, Way
from many_routes import false_alarms as alarms_of

from cheapdeep_ops.guard.rules.false_confidence.detection import NeededEvidence, SequentialTest, Stakes, at_rate

NEEDED = NeededEvidence.of(RULE)
GRADED = 0.01
EVERY = 60_000
"""Answers from the beginning of one repeated question to that of the next."""

RATES = (0.01, 0.02, 0.03, 0.05, 0.10)
UNTIL = 1_000_000.0
TOGETHER = 4_000


@dataclass(frozen=True)
class Question:
    """A wrong question in stretches of so many answers, of which it has `share`."""

    answers: int
    share: float = 1.0
    is_new: bool = False
    """Whether it is another one in each stretch, as it was while normal was learned."""

    def asked(self, at: Floats, rng: np.random.Generator) -> Ints:
        """The number of the question that each answer is to, else 0."""
        stretch = (at // EVERY).astype(int)
        is_asked = (at % EVERY < self.answers) & (self.is_new | (stretch > 1))
        if self.share < 1:
            is_asked &= rng.random(at.shape) < self.share
        return np.where(is_asked, stretch + 1 if self.is_new else 1, 0)


@dataclass(frozen=True)
class Case:
    name: str
    rate: float
    question: Question


def false_alarms(case: Case, *, answers: float, seed: int, limits: bool = True, until: float = UNTIL) -> Calm:
    """Alarms in so many answers of routes with `until` answers each."""
    rng, total = np.random.default_rng(seed), Calm(0, 0, 0, 0.0, 0.0)
    while total.answers < answers:
        few = max(min(TOGETHER, round((answers - total.answers) / until)), 1)
        routes = Routes(
            few, lambda at: np.full(at.shape, case.rate), Way(is_bounded=limits), rng, asks=case.question.asked,
            span=EVERY,
        )  # fmt: skip
        total += alarms_of(routes, until)
    return total


def cases() -> Iterator[Case]:
    for rate in RATES:
        for share, answers in ((0.01, 600), (0.05, 3_000)):
            yield Case(f"one question for {answers:,}, {rate:.0%}", rate, Question(answers))
            yield Case(f"other questions for {answers:,}, {rate:.0%}", rate, Question(answers, is_new=True))
            yield Case(f"{share:.0%} in a mix for {answers:,}, {rate:.0%}", rate, Question(answers, share))


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


def alarms_of_a_second(wrong: int, *, rate: float, runs: int, seed: int, calm: int = 400, later: int = 100) -> int:
    """In how many runs so many wrong answers of one second raise an alarm, then or within `later` more grades."""
    stakes, alarms = Stakes.at(at_rate(1.2 * rate)), 0
    for run in range(seed * 1_000_000, seed * 1_000_000 + runs):
        random, test = Random(f"{wrong} {rate} {run}"), SequentialTest()
        for number in range(calm + wrong + later):
            is_burst = calm <= number < calm + wrong
            at = 100.0 * (calm if is_burst else number)
            grade = Graded(is_burst or random.random() < rate, at, f"{number:08x}")
            test = test.after_all([(grade, stakes)], NEEDED, fires=False)
            if test.climb.alarms(RULE.alpha):
                alarms += number >= calm
                break
    return alarms


def distinct(_random: Random, number: int) -> str:
    return f"{number:08x}"


def templates(count: int, share: float = 1.0) -> Callable[[Random, int], str]:
    """That share of the grades are of `count` questions, and all others of questions that never repeat."""
    return lambda random, number: f"t{random.randrange(count):03}" if random.random() < share else f"{number:08x}"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", nargs="*", choices=(*TABLES, []))
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--answers", type=float, default=2e9)
    arguments.add_argument("--runs", type=int, default=300)
    arguments.add_argument("--only", default="")
    given = arguments.parse_args()
    what = given.what or TABLES
    if "questions" in what:
        print(f"{'false alarms in ten million answers':<44}{'with bounds':>18}{'without':>18}", flush=True)
        for case in cases():
            if given.only in case.name:
                bounded = false_alarms(case, answers=given.answers, seed=given.seed)
                without = false_alarms(case, answers=given.answers / 20, seed=given.seed, limits=False)
                shown = "".join(f"{each.per_ten_million:>10.2f} ± {each.error:<5.2f}" for each in (bounded, without))
                print(f"{case.name:<44}{shown}", flush=True)
    if "second" in what:
        for wrong in (30, 60):
            for rate in (0.01, 0.03, 0.10):
                alarms = alarms_of_a_second(wrong, rate=rate, runs=given.runs, seed=given.seed)
                print(
                    f"{wrong} wrong answers in a second at {rate:.0%}: {alarms} alarms in {given.runs} runs", flush=True
                )
    if "templates" in what:
        for row in template_rows(runs=given.runs, seed=given.seed):
            print(row, flush=True)


def template_rows(*, runs: int, seed: int) -> Iterator[str]:
    for before, after, target in ((0.03, 0.10, 0.035), (0.02, 0.05, 0.024), (0.03, 1.0, 0.035)):
        yield f"{before:.0%} -> {after:.0%}, target {target:.1%}: grades until it is found"
        few = runs if after > 0.05 else runs // 3
        for name, ask in {
            "no question repeats": distinct,
            **{f"{count} question{'s' if count > 1 else ''} only": templates(count) for count in (1, 2, 3, 5, 10, 30)},
            "half of the answers to one question": templates(1, 0.5),
        }.items():
            waits = [
                grades_until_alarm(ask, target=target, before=before, after=after, seed=f"{seed * 1_000_000 + run}")
                for run in range(few)
            ]
            yield f"  {name:<42}{mean(waits):>8.0f} ± {1.96 * stdev(waits) / math.sqrt(few):.0f}"


TABLES = ("questions", "second", "templates")

if __name__ == "__main__":
    main()
