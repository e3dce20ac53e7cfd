"""From stored grades to what a climb of false confidence is made of, against what was before it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nextafter
from statistics import median
from typing import Any, Final

from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS, Cause, Kind, as_facts, cause_of
from cheapdeep_ops.guard.statistics.contributions import BeforeAfter, Counts, Dimension, is_named
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.store import candidates, grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import AttributedGrade, Baseline, GraderVersion

Name = Callable[[AttributedGrade], str]

MIN_GRADES: Final = 15
"""Grades since a climb began below which nothing is said: a steep one is found with few."""

_HEAVIEST: Final = 4.0
"""No grade weighs more than so many times the median one: a few from times of little sampling must not say it all."""

_NOTHING: Final = Estimate(rate=0.0, n=0.0, count=0)
_NO_MIX: Final = "too few answers were chosen by chance, and at the same time in all routes, to tell a changed mix"
_EXAMPLES: Final = 3
_LOOKED_AT: Final = 50
"""Wrong answers among which examples are looked for, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbEvidence:
    """Grades of calls since a climb began, and of those before, newest first; `said` is where the latter are from.

    `is_of_one_time` tells whether those before are of the same time in all routes, so that their shares mean something.
    """

    began: float
    before: Sequence[AttributedGrade]
    now: Sequence[AttributedGrade]
    said: str
    is_of_one_time: bool


def read_climb(
    connection: Connection,
    judge: GraderVersion,
    normals: Mapping[str, Baseline],
    *,
    over: Mapping[str, float],
    began: float,
    until: float,
    limit: int,
) -> ClimbEvidence:
    """The grades of these routes' calls in `[began, until)`, and of those before; at most `limit` of either.

    Before is after the last incident was `over` and since what is normal was to be learned; where that is too little,
    it is what normal was learned from.
    """

    def read(route: str, since: float, until: float) -> list[AttributedGrade]:
        return grades.described(connection, route, judge, since=since, until=until, limit=limit)

    calm = {route: max(normal.since, over.get(route, 0.0)) for route, normal in normals.items()}
    before = _newest([each for route, since in calm.items() for each in read(route, since, began)], limit)
    is_of_one_time, said = not before or max(calm.values()) <= before[-1].called_at, "the grades before the climb"
    if len(before) < MIN_CALLS:
        learned = [(normal.scope, normal.since, nextafter(normal.until or 0.0, inf)) for normal in normals.values()]
        before = _newest([each for route, since, end in learned for each in read(route, since, end)], limit)
        is_of_one_time, said = len(normals) == 1, "the grades that normal was learned from"
    now = _newest([each for route in normals for each in read(route, began, until)], limit)
    return ClimbEvidence(began=began, before=before, now=now, said=said, is_of_one_time=is_of_one_time)


def _newest(found: list[AttributedGrade], limit: int) -> list[AttributedGrade]:
    return sorted(found, key=lambda each: (-each.called_at, -each.id))[:limit]


def names_of(*, base: float, raised: float, with_policy: bool) -> dict[Dimension, Name]:
    """What answers are told apart by; the confidence only as below, between and above the two thresholds."""
    names: dict[Dimension, Name] = {
        Dimension.INPUT_CLASS: lambda each: each.input_class,
        Dimension.ROUTE: lambda each: each.route,
        Dimension.MODEL: lambda each: each.model,
        Dimension.PROMPT_VERSION: lambda each: each.prompt_version,
        Dimension.CONFIDENCE: lambda each: band_of(each.confidence, base=base, raised=raised),
    }
    # A raise gives all later calls a new policy version, so once it has been made, the version proves nothing.
    return {**names, Dimension.POLICY_VERSION: lambda each: str(each.policy_version)} if with_policy else names


def band_of(confidence: float, *, base: float, raised: float) -> str:
    """Just above the base threshold, or as high as the raised one, in words."""
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
    """What the climb from the grades `before` to those `now` is made of.

    Grades weigh by 1 / inclusion, those of steered ones for rates only: they were not chosen by chance. Where too few
    were, or where those before are of another time in each route, a changed mix is no cause.
    """
    sides = {
        dimension: BeforeAfter(before=_counts(before, name), now=_counts(now, name))
        for dimension, name in names.items()
    }
    told = {of: side for of, side in sides.items() if of is Dimension.INPUT_CLASS or is_named(side.before)}
    cause = cause_of(_whole(before), _whole(now), told, counted="grades", fewest=MIN_GRADES)
    is_by_chance = min(len(_by_chance(before)), len(_by_chance(now))) >= MIN_CALLS
    if cause.kind is not Kind.MIX or (is_by_chance and is_of_one_time):
        return cause
    return replace(cause, kind=Kind.UNCLEAR, why=_NO_MIX, contributors=(), equivalent=(), also=())


def _by_chance(found: Sequence[AttributedGrade]) -> Sequence[AttributedGrade]:
    return [each for each in found if not each.steered]


def _counts(found: Sequence[AttributedGrade], name: Name) -> Counts:
    """The rate of each element from all its grades, worth as many calls as its share of those chosen by chance."""
    heaviest, whole = _heaviest(found), _whole(found)
    by_chance = _by_chance(found)
    shared = by_chance if len(by_chance) >= MIN_CALLS else found
    weights: dict[str, float] = defaultdict(float)
    for each in shared:
        weights[name(each)] += min(1 / each.inclusion, heaviest)
    of_each: dict[str, list[AttributedGrade]] = defaultdict(list)
    for each in found:
        of_each[name(each)].append(each)
    total = sum(weights.values())
    return {
        element: replace(_estimate(of, heaviest), n=whole.n * weights[element] / total)
        for element, of in of_each.items()
    }


def _whole(found: Sequence[AttributedGrade]) -> Estimate:
    return _estimate(found, _heaviest(found))


def _heaviest(found: Sequence[AttributedGrade]) -> float:
    return _HEAVIEST * median(1 / each.inclusion for each in found) if found else inf


def _estimate(found: Sequence[AttributedGrade], heaviest: float) -> Estimate:
    return weighted((each.incorrect, max(each.inclusion, 1 / heaviest), 1) for each in found) or _NOTHING


def climb_facts(climb: ClimbEvidence, cause: Cause) -> dict[str, Any]:
    """A climb's cause as it is stored with an incident, with when the climb began."""
    return {**as_facts(cause), "compared_with": climb.said, "since": climb.began}


def examples_of(
    connection: Connection, climb: ClimbEvidence, cause: Cause, names: Mapping[Dimension, Name]
) -> list[dict[str, Any]]:
    """The newest wrong answers of what is to blame whose content is stored: which they are, and no content.

    Where no part is to blame, they are of all.
    """
    blamed = {(part.dimension, part.element) for part in cause.contributors}
    wrong = [each for each in climb.now if each.incorrect and (not blamed or _is_of(each, blamed, names))]
    held = candidates.examples(connection, [each.call_id for each in wrong[:_LOOKED_AT]])
    return [{"call_id": each.call_id, "confidence": each.confidence} for each in held[:_EXAMPLES]]


def _is_of(grade: AttributedGrade, blamed: set[tuple[Dimension, str]], names: Mapping[Dimension, Name]) -> bool:
    return any(names[dimension](grade) == element for dimension, element in blamed)
