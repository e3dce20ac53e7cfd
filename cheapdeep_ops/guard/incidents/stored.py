"""Converts alerts and incidents between the store and an evaluation."""

import logging
from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.incidents.changes import OpenIncident
from cheapdeep_ops.guard.rules.model import AlertState, Finding, ScopedAlert
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import StoredAlert

_log: Final = logging.getLogger(__name__)
TICKET: Final = "ticket"
"""The severity of alerts that may wait for the next digest."""

STORED_EVERY_S: Final = 60.0
"""How often an unchanged alert is stored, so that `updated_at` is never much older."""


def alert_of(row: StoredAlert) -> ScopedAlert:
    """The alert in a row of the store."""
    return ScopedAlert(
        rule=row["rule"],
        scope=row["scope"],
        state=_state(row),
        since=row["since"],
        below_since=row["below_since"],
        incident_id=row["incident_id"],
    )


def _state(row: StoredAlert) -> AlertState:
    try:
        return AlertState(row["state"])
    except ValueError:
        # A state of a newer version must not stop the other rules.
        _log.warning("the alert %s of %s has the unknown state %r", row["rule"], row["scope"], row["state"])
        return AlertState.INACTIVE


def row_of(alert: ScopedAlert, finding: Finding, now: float) -> StoredAlert:
    """An alert and its finding as a row of the store."""
    return {
        "rule": alert.rule,
        "scope": alert.scope,
        "state": alert.state.value,
        "level": finding.level.value,
        "since": alert.since,
        "below_since": alert.below_since,
        "incident_id": alert.incident_id,
        "signal": dict(finding.signal),
        "updated_at": now,
    }


def is_outdated(stored: StoredAlert | None, row: StoredAlert) -> bool:
    """Whether the stored row is missing, old, or different in more than its time."""
    # Most evaluations change little, and routers wait for each write.
    if stored is None or abs(row["updated_at"] - stored["updated_at"]) >= STORED_EVERY_S:
        return True
    return {**row, "updated_at": 0.0} != {**stored, "updated_at": 0.0}


def open_incidents(connection: Connection, alerts: Iterable[StoredAlert]) -> dict[int, OpenIncident]:
    """The incidents of these alerts, and those with a message that is still deferred or suppressed; oldest first."""
    ids: list[int] = [row["incident_id"] for row in alerts if row["incident_id"] is not None]
    rows = incidents.unfinished(connection, ids)
    acknowledged = silences.acknowledgements(connection, [row["id"] for row in rows])
    kept = ("id", "rule", "scope", "started_at", "announced", "announced_at", "called_for_at", "collected_at", "held")
    return {
        row["id"]: OpenIncident(**{name: row[name] for name in kept}, acknowledged=acknowledged.get(row["id"]))
        for row in rows
    }


def last_ticket_at(connection: Connection, settings: Settings, now: float) -> float | None:
    """When the last ticket or digest of tickets was sent within `digest_every_s`; None if none was."""
    if not settings.digest_every_s:
        return None
    sent = incidents.start_messages_since(connection, now - settings.digest_every_s)
    # A digest of nothing but old pins delays no ticket.
    tickets = (at for at, payload in sent if payload.get("items") or payload.get("severity") == TICKET)
    return max(tickets, default=None)
