"""The scope of an incident, a silence, a message or a graded call; None if there is no such row, or it has no scope."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from cheapdeep_ops.store.tables.alert_tables import IncidentRow, OutboxRow, SilenceRow
from cheapdeep_ops.store.tables.grade_tables import GradeRow
from cheapdeep_ops.store.tables.row import table_of

_INCIDENT: Final = table_of(IncidentRow)
_SILENCE: Final = table_of(SilenceRow)
_OUTBOX: Final = table_of(OutboxRow)
_GRADE: Final = table_of(GradeRow)


def of_incident(connection: Connection, incident_id: int) -> str | None:
    """The scope of an incident."""
    return _one(connection, select(_INCIDENT.c.scope).where(_INCIDENT.c.id == incident_id))


def of_silence(connection: Connection, silence_id: int) -> str | None:
    """The scope of a silence; None also for a silence of all scopes."""
    return _one(connection, select(_SILENCE.c.scope).where(_SILENCE.c.id == silence_id))


def of_message(connection: Connection, message_id: int) -> str | None:
    """The scope of the incident that a message is about; None also for a message about no incident."""
    joined = select(_INCIDENT.c.scope).join_from(_OUTBOX, _INCIDENT, _INCIDENT.c.id == _OUTBOX.c.incident_id)
    return _one(connection, joined.where(_OUTBOX.c.id == message_id))


def of_calls(connection: Connection, call_ids: Iterable[str]) -> dict[str, str]:
    """The route of each of these calls that has a grade."""
    routes = select(_GRADE.c.call_id, _GRADE.c.route).where(_GRADE.c.call_id.in_(list(call_ids)))
    return {row.call_id: row.route for row in connection.execute(routes)}


def _one(connection: Connection, statement: Select[Any]) -> str | None:
    scope: str | None = connection.execute(statement).scalar()
    return scope
