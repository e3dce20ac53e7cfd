"""The state of the guard and of its routers: for the command line, the API and the metrics page."""

from typing import Final

from cheapdeep_ops.budgets import Spend, day_of, end_of
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.report_types.state import BudgetState, Policy, Present, ScopePolicy, Status, Watchers
from cheapdeep_ops.guard.reports.liveness import is_stale
from cheapdeep_ops.guard.reports.outcomes import outcomes_of
from cheapdeep_ops.guard.reports.quality import baselines_of, grader_of
from cheapdeep_ops.guard.reports.sampling_budget import reach_by_route
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import budgets, counters, deliveries, incidents, policies, processes
from cheapdeep_ops.store.clock import SKEW_S
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.records import Alert, record_of
from cheapdeep_ops.units import DAY_S, HOUR_S, USD_PER_NUSD
from cheapdeep_ops.values import ALL_ROUTES

SEEN_S: Final = 60.0
"""How long after its last heartbeat a process still counts as running."""


def status(store: Store, settings: Settings, now: float) -> Status:
    """Policy, alerts, baselines, reach, grader, queue, watchers, failed and malformed triage. Raises StoreError."""
    with store.reading() as connection:
        return {
            **_present(connection, store, settings, now),
            "triage_errors": counters.triage_errors(connection, since=now - HOUR_S, until=now),
            "malformed_causes": counters.malformed_causes(connection, since=now - HOUR_S, until=now),
            "reach": reach_by_route(connection, settings, now),
        }


def present(store: Store, settings: Settings, now: float) -> Present:
    """The status without what takes some milliseconds a route: for readers that ask every few seconds."""
    with store.reading() as connection:
        return _present(connection, store, settings, now)


def _present(connection: Connection, store: Store, settings: Settings, now: float) -> Present:
    return {
        "at": now,
        "mode": settings.mode,
        "store": store.shown_url,
        "policy": policy_state(connection, settings),
        "alerts": [record_of(Alert, alert) for alert in incidents.alerts(connection)],
        "grader": grader_of(connection, settings, now),
        "normal": baselines_of(connection, settings),
        "outcomes": outcomes_of(connection, since=now - DAY_S, until=now),
        "silences": active_silences(connection, now),
        "queue": deliveries.queue_state(connection),
        "budgets": [_budget(each) for each in budgets.spends(connection, day=day_of(now), now=now)],
        "watchers": _watchers(connection, settings, now),
    }


def _budget(spend: Spend) -> BudgetState:
    name = spend.name
    return {
        "budget": str(name),
        "kind": name.kind,
        "route": name.name if name.of == "route" else None,
        "key": name.name if name.of == "key" else None,
        "limit_usd": spend.limit * USD_PER_NUSD,
        "spent_usd": spend.spent * USD_PER_NUSD,
        "share": spend.share,
        "held_usd": spend.held * USD_PER_NUSD,
        "unpriced_calls": spend.unpriced,
        "processes": spend.processes,
        "as_of": spend.as_of,
        "resets_at": end_of(spend.day),
    }


def policy_state(connection: Connection, settings: Settings) -> Policy:
    """The base and the raised threshold, and the threshold in force in every scope that has a policy."""
    book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
    pins = {pin.scope: pin for pin in policies.pins(connection)}
    scopes: dict[str, ScopePolicy] = {
        name: {
            "threshold": book.for_route(name).threshold,
            "version": scope.version,
            "pin": scope.pin,
            "pinned_by": pins[name].author if name in pins else "",
            "pinned_until": pins[name].until if name in pins else None,
            "causes": sorted(scope.causes),
        }
        for name, scope in sorted(book.scopes.items())
    }
    return {
        "base": book.base,
        "raised": book.raised,
        "threshold": book.for_route(ALL_ROUTES).threshold,
        "scopes": scopes,
    }


def _watchers(connection: Connection, settings: Settings, now: float) -> Watchers:
    seen = processes.processes(connection, since=now - SEEN_S)
    routers = [row for row in seen if row["kind"] == "router"]
    evaluated_at = processes.evaluated_at(connection)
    return {
        "guards": sum(row["kind"] == "guard" for row in seen),
        "routers": len(routers),
        "router_base_thresholds": sorted({row["base_threshold"] for row in routers}),
        "dropped": sum(row["dropped"] for row in routers),
        "late": processes.late(connection),
        "guard_last_seen": processes.last_seen(connection, "guard"),
        "evaluated_at": evaluated_at,
        "evaluates": not is_stale(evaluated_at, now, evaluate_every_s=settings.evaluate_every_s),
        "skewed_hosts": {row["host"]: row["clock_ahead_s"] for row in seen if abs(row["clock_ahead_s"]) > SKEW_S},
    }
