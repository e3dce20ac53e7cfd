"""Scripted climbs of false confidence with a known culprit, through the real detector and attribution.

As a script it prints one table: `python tests/bench/climb.py`.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cheapdeep_ops.guard.rules.false_confidence.detection import SequentialTest, estimate, learned
from cheapdeep_ops.guard.rules.false_confidence.explanation import Name, climb_cause, names_of
from cheapdeep_ops.guard.statistics.attribution import Cause
from cheapdeep_ops.guard.statistics.contributions import Dimension
from cheapdeep_ops.store.grades import AttributedGrade

ALPHA = 0.000008
CALM, LONGEST = 400, 1_500
"""Grades before the climb, the first half of which is learned to be normal; and those it may take to find it."""

MORE = 50
"""Grades that come in after that: with so many the message is brought up to date."""

NAMES = names_of(base=0.8, raised=0.9, with_policy=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Shares of input classes and of confidence bands, and the rate of each class at which answers are wrong."""

    shares: dict[str, float]
    rates: dict[str, float]
    surely: float
    """The share of answers with a confidence of 0.9 or more."""
    trial: float
    """The share of answers under the second of two prompts that are tried side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is so of a grade once the climb has begun, and what should be named; nothing, where all get worse alike."""

    dimension: str = ""
    element: str = ""
    kind: str = "got worse"
    shares: Callable[[World], dict[str, float]] = lambda world: world.shares
    grade: Callable[[AttributedGrade, random.Random], AttributedGrade] = lambda grade, _rng: grade
    is_hit: Callable[[AttributedGrade], bool] = lambda _grade: True
    rate: float = 0.0


def ordinary(rng: random.Random) -> World:
    """Five classes, of which one is harder than the others and rare."""
    shares = {f"class-{number}": rng.uniform(0.6, 1.4) for number in range(4)}
    rates = {name: rng.uniform(0.01, 0.07) for name in shares}
    return World(
        shares={**shares, "hard": 0.15}, rates={**rates, "hard": rng.uniform(0.35, 0.6)},
        surely=rng.uniform(0.4, 0.7), trial=rng.uniform(0.2, 0.5),
    )  # fmt: skip


def changes(world: World, rng: random.Random) -> dict[str, Change]:
    """One climb of each sort."""
    name, through = rng.choice(list(world.rates)[:-1]), rng.choice((0.5, 0.75, 1.0))
    rate, is_sure = rng.uniform(0.2, 0.4), rng.random() < 0.5
    return {
        "class": Change(
            dimension="input class", element=name, rate=rng.uniform(0.4, 0.8),
            is_hit=lambda grade: grade.input_class == name,
        ),
        "model": _version("model", "model", "claude-haiku-4-6", rate, through),
        "prompt": _version("prompt_version", "prompt version", "bbbb2222", rate, through),
        "band": Change(
            dimension="confidence band", element="0.9 or more" if is_sure else "0.8 to below 0.9",
            rate=rate if is_sure else 0.5, is_hit=lambda grade: (grade.confidence >= 0.9) == is_sure,
        ),
        "mix": Change(
            dimension="input class", element="hard", kind="mix changed",
            shares=lambda found: {**found.shares, "hard": rng.uniform(0.8, 2) * sum(found.shares.values())},
        ),
    }  # fmt: skip


def alike() -> Change:
    """Nobody is to blame."""
    return Change(rate=0.25)


def _version(field: str, dimension: str, new: str, rate: float, through: float) -> Change:
    """A new version that takes over so many of all calls, of every class."""
    return Change(
        dimension=dimension,
        element=new,
        rate=rate,
        grade=lambda grade, rng: replace(grade, **{field: new}) if rng.random() < through else grade,
        is_hit=lambda grade: getattr(grade, field) == new,
    )


def graded(world: World, change: Change | None, rng: random.Random, at: int) -> AttributedGrade:
    """One grade; the share that is graded differs from time to time."""
    shares = change.shares(world) if change else world.shares
    input_class = rng.choices(list(shares), weights=list(shares.values()))[0]
    prompt = "cccc3333" if rng.random() < world.trial else "aaaa1111"
    found = AttributedGrade(
        id=at, call_id=str(at), route="support", called_at=float(at), incorrect=False, shipped=True,
        inclusion=0.005 if at // 60 % 2 else 0.02, input_class=input_class,
        model="claude-haiku-4-5", prompt_version=prompt, policy_version=7,
        confidence=rng.uniform(0.9, 1.0) if rng.random() < world.surely else rng.uniform(0.8, 0.9),
    )  # fmt: skip
    found = change.grade(found, rng) if change else found
    rate = max(world.rates[found.input_class], change.rate if change and change.is_hit(found) else 0.0)
    return replace(found, incorrect=rng.random() < rate)


Sample = Sequence[AttributedGrade]


def played(world: World, change: Change, rng: random.Random) -> tuple[Sample, Sample, Sample]:
    """The grades before the climb, since it began, and those after it was found; newest first.

    When it began is what the detector has that finds it. A climb that is never found is played again.
    """
    grades = [graded(world, None, rng, at) for at in range(CALM)]
    normal = estimate(grades[: CALM // 2])
    assert normal is not None
    alarm, watch = learned(normal), SequentialTest()
    for each in grades[CALM // 2 :]:
        watch = watch.after(each, alarm)
    for at in range(CALM, CALM + LONGEST):
        grades.append(graded(world, change, rng, at))
        watch = watch.after(grades[-1], alarm)
        if watch.climb.alarms(ALPHA):
            break
    else:
        return played(world, change, rng)
    since = watch.climb.since or 0.0
    later = [graded(world, change, rng, at) for at in range(len(grades), len(grades) + MORE)]
    before, now = ([each for each in grades if (each.called_at >= since) is is_now] for is_now in (False, True))
    return before[::-1], now[::-1], later[::-1]


def naive(
    before: Sequence[AttributedGrade], now: Sequence[AttributedGrade], names: Mapping[Dimension, Name]
) -> tuple[str, str]:
    """What makes the largest share of the wrong answers, as long as it is not what all answers are of, as ever."""
    found: Counter[tuple[str, str]] = Counter()
    for dimension, name in names.items():
        if len({name(each) for each in (*before, *now)}) > 1:
            found.update((dimension.value, name(each)) for each in now if each.incorrect)
    return found.most_common(1)[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was named of a climb when it was found and once more grades were in, and what should have been."""

    sort: str
    change: Change
    at_once: Cause
    later: Cause
    naively: tuple[str, str]

    @property
    def culprit(self) -> tuple[str, str]:
        """What should be named; nothing where nobody is to blame."""
        return self.change.dimension, self.change.element

    @property
    def is_right_at_once(self) -> bool:
        """Whether the culprit is named first, or nobody where nobody is to blame."""
        return named(self.at_once) == self.culprit

    @property
    def is_right(self) -> bool:
        """The same once more grades were in."""
        return named(self.later) == self.culprit

    @property
    def is_wrong(self) -> bool:
        """Whether another one was named, then or before."""
        return not {named(self.at_once), named(self.later)} <= {self.culprit, ("", "")}

    @property
    def is_naively_right(self) -> bool:
        """Whether the largest share of the wrong answers, of all those grades, is the culprit's."""
        return self.naively == self.culprit


def named(cause: Cause) -> tuple[str, str]:
    """What is named first; nothing where nobody is."""
    first = cause.contributors[0] if cause.contributors else None
    return (first.dimension.value, first.element) if first else ("", "")


def answers(*, many: int = 50, seed: int = 1) -> Iterator[Answer]:
    """So many climbs with a culprit, the sorts in turn, and half as many where all answers get worse alike."""
    for number in range(many + many // 2):
        rng = random.Random(f"{seed}:{number}")
        world = ordinary(rng)
        sorts = changes(world, rng) if number < many else {"nobody": alike()}
        sort = list(sorts)[number % len(sorts)]
        before, now, later = played(world, sorts[sort], rng)
        yield Answer(
            sort=sort, change=sorts[sort], at_once=climb_cause(before, now, NAMES),
            later=climb_cause(before, [*later, *now], NAMES), naively=naive(before, [*later, *now], NAMES),
        )  # fmt: skip


COLUMNS = ("is_right_at_once", "is_right", "is_wrong", "is_naively_right")


def table(found: Sequence[Answer]) -> str:
    """One line per sort; of those without a culprit, right is whoever names nobody."""
    lines = [
        f"| culprit | climbs | named when found | {MORE} grades later | another named | largest share | grades |",
        "|---|---|---|---|---|---|---|",
    ]
    sorts = dict.fromkeys(each.sort for each in found)
    lines += [_line(sort, [each for each in found if each.sort == sort]) for sort in sorts]
    return "\n".join([*lines, _line("all with a culprit", [each for each in found if each.change.element])])


def _line(name: str, of: Sequence[Answer]) -> str:
    grades = sorted(each.at_once.now.count for each in of)
    counts = " | ".join(str(sum(getattr(each, column) for each in of)) for column in COLUMNS)
    return f"| {name} | {len(of)} | {counts} | {grades[0]} to {grades[-1]} |"


def main() -> None:
    """Print the table, and what was said where it was wrong in the end."""
    found = list(answers(many=300))
    print(table(found))
    for each in found:
        if not each.is_right:
            print(each.sort, each.change.element, "->", each.later.kind.value, *named(each.later), each.later.why)


if __name__ == "__main__":
    main()
