"""People's reactions to alerts: acknowledgements of incidents, and silences of rules."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select, update

from cheapdeep_ops.store.records import Acknowledged
from cheapdeep_ops.store.tables.alert_tables import Acknowledgement, SilenceRow
from cheapdeep_ops.store.tables.row import table_of

_ACKNOWLEDGEMENT: Final = table_of(Acknowledgement)
_SILENCE: Final = table_of(SilenceRow)


def acknowledge(connection: Connection, incident_id: int, *, author: str, why: str, at: float) -> None:
    """Append an acknowledgement of an incident."""
    row = {"incident_id": incident_id, "author": author, "why": why, "at": at}
    connection.execute(insert(_ACKNOWLEDGEMENT).values(**row))


def acknowledgements(connection: Connection, incident_ids: Collection[int]) -> dict[int, Acknowledged]:
    """The newest acknowledgement of each incident that has one: `author`, `why` and `at`."""
    columns = _ACKNOWLEDGEMENT.c
    statement = select(columns.incident_id, columns.author, columns.why, columns.at)
    rows = connection.execute(statement.where(columns.incident_id.in_(incident_ids)).order_by(columns.id))
    # In the order of ids, so the newest one of an incident remains.
    return {row.incident_id: {"author": row.author, "why": row.why, "at": row.at} for row in rows}


def add_silence(
    connection: Connection,
    *,
    rule: str,
    scope: str | None,
    since: float,
    until: float,
    author: str,
    why: str,
    incident_id: int | None = None,
) -> int:
    """Add a silence of a rule in one scope, or in all scopes if `scope` is None; returns its id.

    With `incident_id` it ends at the latest when that incident is resolved.
    """
    row = {"rule": rule, "scope": scope, "since": since, "until": until, "author": author, "why": why}
    values = {**row, "incident_id": incident_id, "ended_by": "", "ended_why": ""}
    key = connection.execute(insert(_SILENCE).values(**values)).inserted_primary_key
    return int(key[0]) if key else 0


def active(connection: Connection, *, at: float) -> list[dict[str, Any]]:
    """The silences that are active at `at` (Unix time), oldest first."""
    columns = _SILENCE.c
    is_active = (columns.since <= at, columns.until > at, or_(columns.ended_at.is_(None), columns.ended_at > at))
    shown = ("id", "rule", "scope", "since", "until", "incident_id", "author", "why")
    statement = select(*(columns[name] for name in shown)).where(*is_active).order_by(columns.id)
    return [dict(row) for row in connection.execute(statement).mappings()]


def is_silenced(active: Iterable[Mapping[str, object]], rule: str, scope: str) -> bool:
    """Whether one of these silences covers the rule in that scope."""
    return any(each["rule"] == rule and each["scope"] in (None, scope) for each in active)


def end_with_incident(connection: Connection, incident_id: int, *, at: float) -> None:
    """End the silences that last until this incident is over."""
    columns = _SILENCE.c
    of_it = (columns.incident_id == incident_id, columns.until > at, columns.ended_at.is_(None))
    values = {"ended_at": at, "ended_by": columns.author, "ended_why": "the incident is over"}
    connection.execute(update(_SILENCE).where(*of_it).values(values))


def end_silence(connection: Connection, silence_id: int, *, author: str, why: str, at: float) -> bool:
    """End a silence early; returns whether it was active."""
    columns = _SILENCE.c
    active_one = update(_SILENCE).where(columns.id == silence_id, columns.until > at, columns.ended_at.is_(None))
    ended = active_one.values(ended_at=at, ended_by=author, ended_why=why).returning(columns.id)
    return connection.execute(ended).first() is not None
