"""The receipt's period in steps: the figures of its plots, and the changes of policy in it."""

from math import ceil
from typing import Final

from cheapdeep_ops.guard.report_types.steps import QualityPoint, RouteQuality, TrendPoint, Trends, TrendSteps
from cheapdeep_ops.guard.reports.quality import baselines_of, false_confidence
from cheapdeep_ops.guard.reports.series import points_of
from cheapdeep_ops.guard.statistics.intervals import weighted
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades, policies, route_labels
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.records import TrendChange, record_of
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

MOST_CHANGES: Final = 30
"""How many changes of policy are listed and marked: the newest ones."""

MOST_ROUTES: Final = 6
"""Routes whose false confidence has a plot of its own: those with most calls."""

_STEPS: Final = 80
"""At most so many steps: a plot is some 400 pixels wide."""

_GRADED_STEPS: Final = 14
"""Steps of false confidence are longer, because grades are few."""

_NICE_S: Final = (1, 5, 10, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, DAY_S)


def trends(store: Store, settings: Settings, *, since: float, until: float) -> Trends:
    """The figures of `[since, until)` in steps, from the first call on; `points` are empty without calls.

    `step_s` is the length of a step in seconds, `middle` the middle of its part of the period (Unix time).
    `quality` has the points in coarser steps and the baseline, by route and for all routes. Raises StoreError.
    """
    with store.reading() as connection:
        first = counters.first_second(connection, since=since, until=until)
        changes = policies.applied(connection, since=since, until=until, limit=MOST_CHANGES)
        steps: TrendSteps = {"step_s": None, "points": [], "quality": {}}
        if first is not None:
            # Steps before the first call would be empty.
            since = max(since, float(first))
            steps = _steps(connection, settings, since=since, until=until)
    return {
        "since": since,
        "until": until,
        **steps,
        "limit": settings.max_escalation_rate,
        "objective": settings.max_false_confident_rate,
        "changes": [record_of(TrendChange, change) for change in changes],
    }


def step_of(period_s: float, most: int) -> int:
    """The shortest handy step, in seconds, of which `most` cover `period_s`; whole days beyond one."""
    least = period_s / most
    return next((step for step in _NICE_S if step >= least), ceil(least / DAY_S) * DAY_S)


def _starts(since: float, until: float, most: int) -> range:
    step_s = step_of(until - since, most)
    return range(int(since // step_s) * step_s, ceil(until), step_s)


def _middle(at: int, step_s: int, since: float, until: float) -> float:
    """The middle of the part of a step that lies in the period."""
    return (max(at, since) + min(at + step_s, until)) / 2


def _steps(connection: Connection, settings: Settings, *, since: float, until: float) -> TrendSteps:
    starts = _starts(since, until, _STEPS)
    points: list[TrendPoint] = [
        {**each, "middle": _middle(each["at"], starts.step, since, until)}
        for each in points_of(connection, starts, since=since, until=until)
    ]
    quality = _quality(connection, settings, since=since, until=until)
    return {"step_s": starts.step, "points": points, "quality": quality}


def _quality(connection: Connection, settings: Settings, *, since: float, until: float) -> dict[str, RouteQuality]:
    """False confidence by route, busiest first; with several routes also of all of them."""
    called = counters.by_route(connection, since=since, until=until)
    counted = route_labels.by_shown_route(connection, called, most=settings.max_routes)
    busiest = sorted(counted, key=lambda route: (-counted[route].calls, route))[:MOST_ROUTES]
    baselines = baselines_of(connection, settings)
    scopes = [ALL_ROUTES, *busiest] if len(counted) > 1 else busiest
    return {
        scope: {"points": _graded(connection, scope, since=since, until=until), "normal": baselines.get(scope)}
        for scope in scopes
    }


def _graded(connection: Connection, scope: str, *, since: float, until: float) -> list[QualityPoint]:
    starts = _starts(since, until, _GRADED_STEPS)
    graded = grades.by_step(connection, since=since, until=until, step_s=starts.step, scope=scope)
    return [
        {"at": at, "middle": _middle(at, starts.step, since, until), **false_confidence(weighted(graded.get(at, [])))}
        for at in starts
    ]
