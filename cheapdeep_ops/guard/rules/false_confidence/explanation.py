"""The cause of a climb of false confidence: its grades compared with those before it, from the store."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from statistics import median
from typing import Final

from cheapdeep_ops.guard.rules.hold import HeldTimes
from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS, Cause, Kind, as_facts, cause_of
from cheapdeep_ops.guard.statistics.contributions import BeforeAfter, Counts, Dimension, is_named
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.store import candidates, grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import AttributedGrade, Baseline, GraderVersion

Name = Callable[[AttributedGrade], str]

MIN_GRADES: Final = 15
"""With fewer grades since a climb began, its cause is unknown; a steep climb is detected with few grades."""

_HEAVIEST: Final = 4.0
"""A grade weighs at most so many times the median: a few from times of little sampling must not decide."""

_NOTHING: Final = Estimate(rate=0.0, n=0.0, count=0)
_NO_MIX: Final = "too few answers were chosen by chance, and in one period in all routes, to show a changed mix"
_EXAMPLES: Final = 3
_SEARCHED: Final = 50
"""Wrong answers among which examples are searched, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbEvidence:
    """Grades of calls since a climb began, and of those before it, newest first.

    `compared_with` names the grades before. `is_of_one_time` says that they are of one period in all routes, so that
    their shares can be compared.
    """

    began: float
    before: Sequence[AttributedGrade]
    now: Sequence[AttributedGrade]
    compared_with: str
    is_of_one_time: bool


def read_climb(
    connection: Connection,
    grader: GraderVersion,
    baselines: Mapping[str, Baseline],
    *,
    over: Mapping[str, float],
    began: float,
    until: float,
    limit: int,
    held: HeldTimes,
) -> ClimbEvidence:
    """The grades of these routes' calls in `[began, until)`, and of those before; at most `limit` of each.

    Grades that were made in the times of `held` do not count.

    Before begins with the end of the last incident (`over`) or with the learning of the baseline, whichever is later.
    If those are too few, before is what the baseline was learned from.
    """

    def read(route: str, since: float, until: float) -> list[AttributedGrade]:
        newest = grades.attributed(connection, route, grader, since=since, until=until, limit=limit)
        return [each for each in newest if not held.covers(each.at)]

    # Grades of an earlier incident would make the present climb look smaller.
    calm = {route: max(baseline.since, over.get(route, 0.0)) for route, baseline in baselines.items()}
    before = _newest([each for route, since in calm.items() for each in read(route, since, began)], limit)
    is_of_one_time, source = not before or max(calm.values()) <= before[-1].called_at, "the grades before the climb"
    if len(before) < MIN_CALLS:
        learned = [(each.scope, each.since, nextafter(each.until or 0.0, inf)) for each in baselines.values()]
        before = _newest([each for route, since, end in learned for each in read(route, since, end)], limit)
        is_of_one_time, source = len(baselines) == 1, "the grades that normal was learned from"
    now = _newest([each for route in baselines for each in read(route, began, until)], limit)
    return ClimbEvidence(began=began, before=before, now=now, compared_with=source, is_of_one_time=is_of_one_time)


def _newest(grades_read: list[AttributedGrade], limit: int) -> list[AttributedGrade]:
    return sorted(grades_read, key=lambda each: (-each.called_at, -each.id))[:limit]


def names_of(*, base: float, raised: float, with_policy: bool) -> dict[Dimension, Name]:
    """The dimensions of answers; confidence has three bands, which the two thresholds separate."""
    names: dict[Dimension, Name] = {
        Dimension.INPUT_CLASS: lambda each: each.input_class,
        Dimension.ROUTE: lambda each: each.route,
        Dimension.MODEL: lambda each: each.model,
        Dimension.PROMPT_VERSION: lambda each: each.prompt_version,
        Dimension.CONFIDENCE: lambda each: band_of(each.confidence, base=base, raised=raised),
    }
    # A raise gives all later calls a new policy version, so afterwards the version explains nothing.
    return {**names, Dimension.POLICY_VERSION: lambda each: str(each.policy_version)} if with_policy else names


def band_of(confidence: float, *, base: float, raised: float) -> str:
    """The band of a confidence in words: below base, between base and raised, or above."""
    if confidence < base:
        return f"below {base:g}"
    return f"{base:g} to below {raised:g}" if confidence < raised else f"{raised:g} or more"


def climb_cause(
    before: Sequence[AttributedGrade],
    now: Sequence[AttributedGrade],
    names: Mapping[Dimension, Name],
    *,
    is_of_one_time: bool = True,
) -> Cause:
    """The cause of the climb from the grades `before` to those `now`.

    Grades weigh by 1 / inclusion. Those that a suspicion chose count only for rates, because they are no random sample.
    A changed mix is no cause without enough random samples, or if those before are of another period in each route.
    """
    sides = {
        dimension: BeforeAfter(before=_counts(before, name), now=_counts(now, name))
        for dimension, name in names.items()
    }
    named = {of: side for of, side in sides.items() if of is Dimension.INPUT_CLASS or is_named(side.before)}
    cause = cause_of(_whole(before), _whole(now), named, counted="grades", fewest=MIN_GRADES)
    # Samples that a suspicion chose do not represent the traffic, so their mix is no evidence.
    is_by_chance = min(len(_by_chance(before)), len(_by_chance(now))) >= MIN_CALLS
    if cause.kind is not Kind.MIX or (is_by_chance and is_of_one_time):
        return cause
    return replace(cause, kind=Kind.UNCLEAR, why=_NO_MIX, contributors=(), equivalent=(), also=())


def _by_chance(graded: Sequence[AttributedGrade]) -> Sequence[AttributedGrade]:
    return [each for each in graded if not each.steered]


def _counts(graded: Sequence[AttributedGrade], name: Name) -> Counts:
    """The rate of each element, with an n in proportion to its share of the grades that chance chose."""
    heaviest, whole = _heaviest(graded), _whole(graded)
    by_chance = _by_chance(graded)
    shared = by_chance if len(by_chance) >= MIN_CALLS else graded
    weights: dict[str, float] = defaultdict(float)
    for each in shared:
        weights[name(each)] += min(1 / each.inclusion, heaviest)
    of_each: dict[str, list[AttributedGrade]] = defaultdict(list)
    for each in graded:
        of_each[name(each)].append(each)
    total = sum(weights.values())
    return {
        element: replace(_estimate(of, heaviest), n=whole.n * weights[element] / total)
        for element, of in of_each.items()
    }


def _whole(graded: Sequence[AttributedGrade]) -> Estimate:
    return _estimate(graded, _heaviest(graded))


def _heaviest(graded: Sequence[AttributedGrade]) -> float:
    return _HEAVIEST * median(1 / each.inclusion for each in graded) if graded else inf


def _estimate(graded: Sequence[AttributedGrade], heaviest: float) -> Estimate:
    return weighted((each.incorrect, max(each.inclusion, 1 / heaviest), 1) for each in graded) or _NOTHING


def climb_facts(climb: ClimbEvidence, cause: Cause) -> dict[str, object]:
    """A climb's cause as an incident stores it, with the time when the climb began."""
    return {**as_facts(cause), "compared_with": climb.compared_with, "since": climb.began}


def examples_of(
    connection: Connection, climb: ClimbEvidence, cause: Cause, names: Mapping[Dimension, Name]
) -> list[dict[str, object]]:
    """The calls of the newest wrong answers of the contributors whose content is stored; without that content.

    Without a contributor they are of all answers.
    """
    contributors = {(part.dimension, part.element) for part in cause.contributors}
    wrong = [each for each in climb.now if each.incorrect and (not contributors or _is_of(each, contributors, names))]
    # Content may be purged, so more calls are searched than shown.
    stored = candidates.examples(connection, [each.call_id for each in wrong[:_SEARCHED]])
    return [{"call_id": each.call_id, "confidence": each.confidence} for each in stored[:_EXAMPLES]]


def _is_of(grade: AttributedGrade, parts: set[tuple[Dimension, str]], names: Mapping[Dimension, Name]) -> bool:
    return any(names[dimension](grade) == element for dimension, element in parts)
