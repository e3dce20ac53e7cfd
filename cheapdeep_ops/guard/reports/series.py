"""Figures in steps, for charts; and the figures of the latest period, for a page."""

from typing import Final

from cheapdeep_ops.guard.report_types.figures import Latest
from cheapdeep_ops.guard.report_types.steps import Point, Series
from cheapdeep_ops.guard.reports.costs import call_figures, cost_figures
from cheapdeep_ops.guard.reports.quality import false_confidence, quality_of
from cheapdeep_ops.guard.statistics.intervals import weighted
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades
from cheapdeep_ops.store.counts import SUMS, Sums
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.values import ALL_ROUTES

MOST_STEPS: Final = 1_000
"""How many steps one series may have."""


def series(
    store: Store, settings: Settings, *, scope: str = ALL_ROUTES, now: float, last_s: float, step_s: int
) -> Series:
    """The last `last_s` seconds in steps of `step_s`, oldest first, at most a thousand of them.

    Steps begin at multiples of `step_s` (Unix time), so the last one is not complete. Rates without data are
    None; intervals are 95%. Raises ValueError if there are too many steps, and StoreError.
    """
    first = int((now - last_s) // step_s) * step_s
    starts = range(first, int(now) + 1, step_s)
    # The period may begin and end within a step, which adds one step.
    if len(starts) > MOST_STEPS + 1:
        raise ValueError(f"{len(starts) - 1} steps; at most {MOST_STEPS} are allowed")
    with store.reading() as connection:
        points = points_of(connection, starts, scope=scope, since=first, until=now)
    return {
        "route": scope,
        "since": first,
        "until": now,
        "step_s": step_s,
        "limit": settings.max_escalation_rate,
        "points": points,
    }


def points_of(
    connection: Connection, starts: range, *, scope: str = ALL_ROUTES, since: float, until: float
) -> list[Point]:
    """The figures of `[since, until)` in the steps that begin at `starts`, which are multiples of their step."""
    counted = counters.by_step(connection, since=since, until=until, step_s=starts.step, scope=scope)
    graded = grades.by_step(connection, since=since, until=until, step_s=starts.step, scope=scope)
    return [_point(at, counted.get(at, Sums()), graded.get(at, [])) for at in starts]


def latest(connection: Connection, *, scope: str = ALL_ROUTES, since: float, until: float) -> Latest:
    """The figures of the receipt that change by the minute, for the calls of `[since, until)`."""
    sums = Sums(**counters.sums_of(connection, SUMS, since=since, until=until, scope=scope))  # type: ignore[arg-type]
    quality = quality_of(connection, since=since, until=until, scope=scope)
    return {**call_figures(sums), **cost_figures(sums), **quality}


def _point(at: int, sums: Sums, graded: list[tuple[bool, float, int]]) -> Point:
    return {"at": at, **call_figures(sums), **cost_figures(sums), **false_confidence(weighted(graded))}
