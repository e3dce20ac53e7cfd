"""What was counted and graded, step by step: for charts; and the figures of the latest stretch, for a glance."""

from typing import Any, Final

from cheapdeep_ops.guard.reports.quality import quality_of
from cheapdeep_ops.guard.reports.receipt import counts_of, money_of
from cheapdeep_ops.guard.statistics.intervals import weighted
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades
from cheapdeep_ops.store.counters import SUMS, Sums
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.values import ALL_ROUTES

MOST_STEPS: Final = 1_000
"""How many steps one series may have."""

_COUNTED: Final = (
    "calls", "triaged", "shipped", "escalated", "escalation_rate", "escalation_interval", "base_escalation_rate",
    "base_escalation_interval", "withheld", "bypassed", "errors",
)  # fmt: skip
_PAID: Final = (
    "cost_usd",
    "baseline_cost_usd",
    "cost_per_call_usd",
    "baseline_per_call_usd",
    "saving",
    "unpriced_calls",
)


def series(
    store: Store, settings: Settings, *, scope: str = ALL_ROUTES, now: float, last_s: float, step_s: int
) -> dict[str, Any]:
    """The last `last_s` seconds in steps of `step_s`, oldest first, at most a thousand of them.

    Steps begin at multiples of `step_s` (Unix time), so the last one is still being counted. Rates without data are
    None; intervals are 95%. Raises ValueError where there are too many steps, StoreError.
    """
    first = int((now - last_s) // step_s) * step_s
    starts = range(first, int(now) + 1, step_s)
    if len(starts) > MOST_STEPS + 1:
        raise ValueError(f"{len(starts) - 1} steps; at most {MOST_STEPS} are given at a time")
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
) -> list[dict[str, Any]]:
    """The figures of `[since, until)` in the steps that begin at `starts`, which are multiples of their step."""
    period: dict[str, Any] = {"since": since, "until": until, "step_s": starts.step, "scope": scope}
    counted = counters.by_step(connection, **period)
    graded = grades.by_step(connection, **period)
    return [_point(at, counted.get(at, Sums()), graded.get(at, [])) for at in starts]


def latest(connection: Connection, *, scope: str = ALL_ROUTES, since: float, until: float) -> dict[str, Any]:
    """The figures of the receipt that change by the minute, of the calls of `[since, until)`."""
    sums = Sums(**counters.sums_of(connection, SUMS, since=since, until=until, scope=scope))  # type: ignore[arg-type]
    return {**_figures(sums), **quality_of(connection, since=since, until=until, scope=scope)}


def _point(at: int, sums: Sums, graded: list[tuple[bool, float, int]]) -> dict[str, Any]:
    return {"at": at, **_figures(sums), **false_confidence(graded)}


def false_confidence(graded: list[tuple[bool, float, int]]) -> dict[str, Any]:
    """The rate that groups of `grades.by_step` say, with its interval and n; None and 0 to 1 where there are none."""
    rate = weighted(graded)
    return {
        "false_confident_rate": rate.rate if rate else None,
        "false_confident_interval": list(rate.interval()) if rate else [0.0, 1.0],
        "graded": rate.count if rate else 0,
    }


def _figures(sums: Sums) -> dict[str, Any]:
    counted, paid = counts_of(sums), money_of(sums)
    return {**{name: counted[name] for name in _COUNTED}, **{name: paid[name] for name in _PAID}}
