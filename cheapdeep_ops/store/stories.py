"""One incident from start to end, with its messages and policy changes."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store import deliveries, incidents
from cheapdeep_ops.store.records import (
    Arrival,
    Incident,
    IncidentMessage,
    IncidentStory,
    MessageDelivery,
    PolicyChange,
    record_of,
)
from cheapdeep_ops.store.tables import OutboxRow, PolicyChangeRow, table_of

_OUTBOX: Final = table_of(OutboxRow)
_CHANGE: Final = table_of(PolicyChangeRow)
_MOST: Final = 200
MOST_INCIDENTS: Final = 2**31 - 1
"""The largest id that an incident can have."""


def story(connection: Connection, incident_id: int) -> IncidentStory:
    """An incident with its `messages` and the `policy_changes` that it caused, oldest first.

    It has the newest two hundred of each. Raises MissingError if there is no such incident.
    """
    incident = incidents.shown(connection, incident_id)
    return {
        **incident,
        "messages": _messages(connection, incident_id),
        "policy_changes": _changes(connection, incident),
    }


def _messages(connection: Connection, incident_id: int) -> list[IncidentMessage]:
    columns = (_OUTBOX.c[name] for name in ("id", "kind", "payload", "created_at"))
    statement = select(*columns).where(_OUTBOX.c.incident_id == incident_id)
    rows = connection.execute(statement.order_by(_OUTBOX.c.id.desc()).limit(_MOST)).all()[::-1]
    known = deliveries.of_messages(connection, [row.id for row in rows])
    return [
        {"kind": row.kind, "payload": row.payload, "created_at": row.created_at, **_arrival(known.get(row.id, []))}
        for row in rows
    ]


def _arrival(each: Sequence[MessageDelivery]) -> Arrival:
    """The delivery of a message to all receivers; `delivered_at` is None while one of them waits."""
    used = [delivery for delivery in each if delivery["state"] != "cancelled"]
    is_settled = bool(used) and all(delivery["state"] != "waiting" for delivery in used)
    arrivals = [delivery["delivered_at"] for delivery in used if delivery["delivered_at"] is not None]
    return {
        "delivered_at": max(arrivals, default=None) if is_settled else None,
        "attempts": sum(delivery["attempts"] for delivery in each),
        "error": next((delivery["error"] for delivery in used if delivery["error"]), ""),
        "deliveries": list(each),
    }


def _changes(connection: Connection, incident: Incident) -> list[PolicyChange]:
    """The changes by the incident's rule in its scope, from its start to its end."""
    # A change has no incident id. A rule acts in the evaluation in which it fires, so the times are equal.
    columns = _CHANGE.c
    conditions = (columns.scope == incident["scope"], columns.cause == incident["rule"])
    statement = select(_CHANGE).where(*conditions, columns.at >= incident["started_at"])
    if incident["resolved_at"] is not None:
        statement = statement.where(columns.at <= incident["resolved_at"])
    rows = connection.execute(statement.order_by(columns.version.desc()).limit(_MOST))
    return [record_of(PolicyChange, row._mapping) for row in rows][::-1]  # noqa: SLF001 - rows by name
