"""Alert states, incidents, and the outbox of messages about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, insert, or_, select, update

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.store import silences
from cheapdeep_ops.store.records import Incident, IncidentBase, Queue, StoredAlert, record_of
from cheapdeep_ops.store.tables import AlertRow, IncidentRow, OutboxRow, table_of
from cheapdeep_ops.store.upsert import upsert

_ALERT: Final = table_of(AlertRow)
_INCIDENT: Final = table_of(IncidentRow)
_OUTBOX: Final = table_of(OutboxRow)
_SHOWN: Final = tuple(column for column in _INCIDENT.c if column.name != "held")
"""The columns that people see; `held` is a message that has not been sent yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message that waits for delivery; `channel` and `ts` identify the incident's first message on Slack."""

    id: int
    incident_id: int | None
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    channel: str = ""
    ts: str = ""


def alerts(connection: Connection) -> list[StoredAlert]:
    """Every alert's state."""
    return [record_of(StoredAlert, row._mapping) for row in connection.execute(select(_ALERT))]  # noqa: SLF001 - rows by name


def save_alerts(connection: Connection, rows: Sequence[StoredAlert]) -> None:
    """Store the states of alerts, all with one statement."""
    upsert(connection, AlertRow, rows)


def open_incident(connection: Connection, *, rule: str, scope: str, at: float) -> int:
    """Begin an incident; returns its id."""
    statement = insert(_INCIDENT).values(
        rule=rule, scope=scope, started_at=at, announced={}, announced_at=at, slack_channel="", slack_ts=""
    )
    key = connection.execute(statement).inserted_primary_key
    return int(key[0]) if key else 0


def announce(connection: Connection, incident_id: int, *, kind: str, payload: Mapping[str, Any], at: float) -> None:
    """Put a message about an incident into the outbox, and store its payload as the incident's last announcement."""
    enqueue(connection, incident_id=incident_id, kind=kind, payload=payload, at=at)
    said = update(_INCIDENT).where(_INCIDENT.c.id == incident_id)
    connection.execute(said.values(announced=dict(payload), announced_at=at))


def collect(connection: Connection, incident_id: int, *, payload: Mapping[str, Any], at: float) -> None:
    """Defer an incident to the next digest, with this payload; a later one replaces it."""
    said = {"announced": dict(payload), "announced_at": at, "collected_at": at}
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(**said))


def unfinished(connection: Connection, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The incidents with these ids, and those whose message waits for a digest or for a silence's end; oldest first."""
    columns = _INCIDENT.c
    wanted = or_(columns.id.in_(numbers), columns.collected_at.is_not(None), columns.held.is_not(None))
    statement = select(_INCIDENT).where(wanted).order_by(columns.id)
    return [dict(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def digest(connection: Connection, incident_ids: Sequence[int], *, payload: Mapping[str, Any], at: float) -> None:
    """Put one digest of several incidents into the outbox; the incidents no longer wait for a digest."""
    enqueue(connection, incident_id=None, kind="digest", payload=payload, at=at)
    gone = update(_INCIDENT).where(_INCIDENT.c.id.in_(incident_ids))
    connection.execute(gone.values(collected_at=None, called_for_at=at))


def begun_since(connection: Connection, since: float) -> list[tuple[float, dict[str, Any]]]:
    """(time, payload) of the messages about starts of incidents made after `since`, single ones and digests."""
    kept = (_OUTBOX.c.created_at > since, _OUTBOX.c.kind.in_(("started", "digest")))
    rows = connection.execute(select(_OUTBOX.c.created_at, _OUTBOX.c.payload).where(*kept).order_by(_OUTBOX.c.id))
    return [(row.created_at, row.payload) for row in rows]


def was_told(connection: Connection, *, kind: str, since: float) -> bool:
    """Whether a message of this kind was put into the outbox since `since`."""
    kept = (_OUTBOX.c.created_at >= since, _OUTBOX.c.kind == kind)
    return connection.execute(select(_OUTBOX.c.id).where(*kept).limit(1)).first() is not None


def called(connection: Connection, incident_id: int, *, at: float) -> None:
    """Store when people were last notified of an open incident: by its first message or by a reminder."""
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(called_for_at=at))


def resolve_incident(connection: Connection, incident_id: int, *, at: float) -> None:
    """Mark an incident as resolved."""
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(resolved_at=at))


def hold(connection: Connection, incident_id: int, payload: Mapping[str, Any] | None) -> None:
    """Store a resolved message that a silence suppresses; None clears it."""
    held = None if payload is None else dict(payload)
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(held=held))


def incidents(connection: Connection, *, limit: int = 50) -> list[Incident]:
    """The newest incidents, newest first, each with its acknowledgement (`acknowledged`) or None."""
    statement = select(*_SHOWN).order_by(_INCIDENT.c.id.desc()).limit(limit)
    rows = [record_of(IncidentBase, row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - by name
    known = silences.acknowledgements(connection, [row["id"] for row in rows])
    return [{**row, "acknowledged": known.get(row["id"])} for row in rows]


def within(connection: Connection, *, since: float, until: float) -> list[IncidentBase]:
    """The incidents that began in `[since, until)`, oldest first."""
    kept = (_INCIDENT.c.started_at >= since, _INCIDENT.c.started_at < until)
    rows = connection.execute(select(*_SHOWN).where(*kept).order_by(_INCIDENT.c.id))
    return [record_of(IncidentBase, row._mapping) for row in rows]  # noqa: SLF001 - rows by name


def shown(connection: Connection, incident_id: int) -> Incident:
    """One incident with its acknowledgement. Raises MissingError if there is no such incident."""
    row = connection.execute(select(*_SHOWN).where(_INCIDENT.c.id == incident_id)).one_or_none()
    if row is None:
        raise MissingError(f"there is no incident {incident_id}")
    known = silences.acknowledgements(connection, [incident_id])
    incident = record_of(IncidentBase, row._mapping)  # noqa: SLF001 - rows by name
    return {**incident, "acknowledged": known.get(incident_id)}


def is_open(connection: Connection, incident_id: int) -> bool:
    """Whether this incident exists and is not resolved."""
    statement = select(_INCIDENT.c.id).where(_INCIDENT.c.id == incident_id, _INCIDENT.c.resolved_at.is_(None))
    return connection.execute(statement).first() is not None


def incident(connection: Connection, incident_id: int) -> dict[str, Any]:
    """All columns of one incident, which must exist."""
    row = connection.execute(select(_INCIDENT).where(_INCIDENT.c.id == incident_id)).one()
    return dict(row._mapping)  # noqa: SLF001 - rows by name


def told(connection: Connection, *, rule: str, scope: str, started_at: float) -> dict[str, Any]:
    """The last announced payload of a rule's incident that began at `started_at`; empty if there was none."""
    columns = _INCIDENT.c
    of_it = (columns.rule == rule, columns.scope == scope, columns.started_at == started_at)
    found = connection.execute(select(columns.announced).where(*of_it).order_by(columns.id.desc()).limit(1)).scalar()
    return dict(found or {})


def last_resolved(connection: Connection, *, rule: str) -> dict[str, float]:
    """When an incident of this rule was last resolved, by scope."""
    over = (_INCIDENT.c.rule == rule, _INCIDENT.c.resolved_at.is_not(None))
    statement = (
        select(_INCIDENT.c.scope, func.max(_INCIDENT.c.resolved_at).label("at"))
        .where(*over)
        .group_by(_INCIDENT.c.scope)
    )
    return {row.scope: row.at for row in connection.execute(statement)}


def enqueue(
    connection: Connection, *, incident_id: int | None, kind: str, payload: Mapping[str, Any], at: float
) -> int:
    """Put a message into the outbox, which is due at once; returns its id."""
    statement = insert(_OUTBOX).values(
        incident_id=incident_id, kind=kind, payload=dict(payload), created_at=at, due_at=at, attempts=0, error=""
    )
    key = connection.execute(statement).inserted_primary_key
    return int(key[0]) if key else 0


def next_due(connection: Connection, *, now: float) -> OutboxMessage | None:
    """The oldest due message whose incident has no earlier undelivered message; None if there is none."""
    earlier = _OUTBOX.alias("earlier")
    blocked = (
        select(earlier.c.id)
        .where(
            earlier.c.incident_id == _OUTBOX.c.incident_id,
            earlier.c.id < _OUTBOX.c.id,
            earlier.c.delivered_at.is_(None),
        )
        .exists()
    )
    statement = (
        select(_OUTBOX, _INCIDENT.c.slack_channel, _INCIDENT.c.slack_ts)
        .outerjoin(_INCIDENT, _INCIDENT.c.id == _OUTBOX.c.incident_id)
        .where(_OUTBOX.c.delivered_at.is_(None), _OUTBOX.c.due_at <= now, ~blocked)
        .order_by(_OUTBOX.c.id)
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return OutboxMessage(
        id=row.id,
        incident_id=row.incident_id,
        kind=row.kind,
        payload=row.payload,
        attempts=row.attempts,
        channel=row.slack_channel or "",
        ts=row.slack_ts or "",
    )


def delivered(connection: Connection, message: OutboxMessage, *, at: float, channel: str, ts: str) -> None:
    """Mark a message as delivered, and store where the incident's message is now."""
    done = update(_OUTBOX).where(_OUTBOX.c.id == message.id)
    connection.execute(done.values(delivered_at=at, attempts=message.attempts + 1, error=""))
    if message.incident_id is not None and ts:
        place = update(_INCIDENT).where(_INCIDENT.c.id == message.incident_id)
        connection.execute(place.values(slack_channel=channel, slack_ts=ts))


def postponed(connection: Connection, message: OutboxMessage, *, until: float, error: str) -> None:
    """Store a failed attempt; the message is due again at `until`."""
    again = update(_OUTBOX).where(_OUTBOX.c.id == message.id)
    connection.execute(again.values(due_at=until, attempts=message.attempts + 1, error=error))


def outbox_state(connection: Connection) -> Queue:
    """Counts of `waiting` and `delivered` messages and of `attempts`, and the `last_error` of a waiting one."""
    waiting = _OUTBOX.c.delivered_at.is_(None)
    statement = select(
        func.count().filter(waiting).label("waiting"),
        func.count().filter(~waiting).label("delivered"),
        func.coalesce(func.sum(_OUTBOX.c.attempts), 0).label("attempts"),
    )
    counts = connection.execute(statement).one()
    stuck = select(_OUTBOX.c.error).where(waiting, _OUTBOX.c.error != "").order_by(_OUTBOX.c.id).limit(1)
    return {
        "waiting": counts.waiting,
        "delivered": counts.delivered,
        "attempts": counts.attempts,
        "last_error": connection.execute(stuck).scalar() or "",
    }


def oldest_waiting(connection: Connection) -> dict[str, Any]:
    """The number of `waiting` messages, when the `oldest` was made, the most `attempts`, and the oldest's `error`.

    `is_used` is whether the outbox has ever had a message.
    """
    waiting = _OUTBOX.c.delivered_at.is_(None)
    statement = select(
        func.count().label("waiting"),
        func.min(_OUTBOX.c.created_at).label("oldest"),
        func.coalesce(func.max(_OUTBOX.c.attempts), 0).label("attempts"),
    ).where(waiting)
    found = dict(connection.execute(statement).one()._mapping)  # noqa: SLF001 - rows by name
    stuck = select(_OUTBOX.c.error).where(waiting, _OUTBOX.c.error != "").order_by(_OUTBOX.c.id).limit(1)
    is_used = connection.execute(select(_OUTBOX.c.id).limit(1)).first() is not None
    return {**found, "error": connection.execute(stuck).scalar() or "", "is_used": is_used}
