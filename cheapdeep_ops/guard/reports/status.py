"""What is so right now, as one plain object: for the command line, the API and the metrics page."""

from typing import Any, Final

from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.reports.quality import grader_of, normals_of
from cheapdeep_ops.guard.reports.sampling_budget import reach_by_route
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import deliveries, incidents, policies, processes
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.values import ALL_ROUTES

SEEN_S: Final = 60.0
"""How long after its last sign of life a process still counts as there."""


def status(store: Store, settings: Settings, now: float) -> dict[str, Any]:
    """Policy, alerts, silences, what is normal, reach, grader, queue and watchers. Raises StoreError."""
    with store.reading() as connection:
        return {**_present(connection, store, settings, now), "reach": reach_by_route(connection, settings, now)}


def present(store: Store, settings: Settings, now: float) -> dict[str, Any]:
    """The status without `reach`, for callers that ask every few seconds: `reach` takes milliseconds for each route."""
    with store.reading() as connection:
        return _present(connection, store, settings, now)


def _present(connection: Connection, store: Store, settings: Settings, now: float) -> dict[str, Any]:
    return {
        "at": now,
        "mode": settings.mode,
        "store": store.shown_url,
        "policy": policy_state(connection, settings),
        "alerts": [_alert(row) for row in incidents.alerts(connection)],
        "grader": grader_of(connection, settings, now),
        "normal": normals_of(connection, settings),
        "silences": active_silences(connection, now),
        "queue": deliveries.queue_state(connection),
        "watchers": _watchers(connection, now),
    }


def policy_state(connection: Connection, settings: Settings) -> dict[str, Any]:
    """The base, the raised threshold, and what is in force in every scope that was ever touched."""
    book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
    scopes = {
        name: {
            "threshold": book.for_route(name).threshold,
            "version": scope.version,
            "pin": scope.pin,
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


def _alert(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("rule", "scope", "state", "level", "since", "incident_id", "signal", "updated_at")
    return {name: row[name] for name in kept}


def _watchers(connection: Connection, now: float) -> dict[str, Any]:
    seen = processes.processes(connection, since=now - SEEN_S)
    routers = [row for row in seen if row["kind"] == "router"]
    return {
        "guards": sum(row["kind"] == "guard" for row in seen),
        "routers": len(routers),
        "router_base_thresholds": sorted({row["base_threshold"] for row in routers}),
        "dropped": sum(row["dropped"] for row in routers),
        "guard_last_seen": processes.last_seen(connection, "guard"),
    }
