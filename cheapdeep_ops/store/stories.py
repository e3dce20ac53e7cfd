"""One incident from start to end, with its messages and policy changes."""

from typing import Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.records import Incident, IncidentMessage, IncidentStory, PolicyChange, record_of
from cheapdeep_ops.store.tables import OutboxRow, PolicyChangeRow, table_of

_OUTBOX: Final = table_of(OutboxRow)
_CHANGE: Final = table_of(PolicyChangeRow)
_MOST: Final = 200
MOST_INCIDENTS: Final = 2**31 - 1
"""The largest id that an incident can have."""


def story(connection: Connection, incident_id: int) -> IncidentStory:
    """An incident with its `messages` and the `policy_changes` that it caused, oldest first.

    Has the newest two hundred of each. Raises MissingError if there is no such incident.
    """
    incident = incidents.shown(connection, incident_id)
    return {
        **incident,
        "messages": _messages(connection, incident_id),
        "policy_changes": _changes(connection, incident),
    }


def _messages(connection: Connection, incident_id: int) -> list[IncidentMessage]:
    of_it = select(_OUTBOX).where(_OUTBOX.c.incident_id == incident_id)
    rows = connection.execute(of_it.order_by(_OUTBOX.c.id.desc()).limit(_MOST))
    return [record_of(IncidentMessage, row._mapping) for row in rows][::-1]  # noqa: SLF001 - rows by name


def _changes(connection: Connection, incident: Incident) -> list[PolicyChange]:
    """The changes by the incident's rule in its scope, from its start to its end."""
    # A change has no incident id. Rules act in the evaluation that they fire in, so the times are equal.
    columns = _CHANGE.c
    of_it = (columns.scope == incident["scope"], columns.cause == incident["rule"])
    statement = select(_CHANGE).where(*of_it, columns.at >= incident["started_at"])
    if incident["resolved_at"] is not None:
        statement = statement.where(columns.at <= incident["resolved_at"])
    rows = connection.execute(statement.order_by(columns.version.desc()).limit(_MOST))
    return [record_of(PolicyChange, row._mapping) for row in rows][::-1]  # noqa: SLF001 - rows by name
