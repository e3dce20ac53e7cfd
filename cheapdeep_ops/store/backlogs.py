"""Messages that have waited for one receiver: which are superseded, and what takes their place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, insert, literal_column, select, update

from cheapdeep_ops.store import silences
from cheapdeep_ops.store.tables.alert_tables import AlertRow, DeliveryRow, IncidentRow, MessageRefRow, OutboxRow
from cheapdeep_ops.store.tables.row import table_of

_ALERT: Final = table_of(AlertRow)
_DELIVERY: Final = table_of(DeliveryRow)
_INCIDENT: Final = table_of(IncidentRow)
_OUTBOX: Final = table_of(OutboxRow)
_REF: Final = table_of(MessageRefRow)
KIND: Final = "backlog"
"""The kind of a digest of what began and ended while a receiver was out of reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMessage:
    """A message that waits for a receiver; `is_told` is whether that has accepted a message of the incident before."""

    message_id: int
    incident_id: int | None
    kind: str
    in_thread: bool
    since: float
    attempts: int
    error: str
    is_told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage:
    """A message that takes the place of older ones, with their time, their attempts and their last error."""

    message_id: int
    since: float
    attempts: int
    error: str


def has_waited(connection: Connection, receiver: str, *, before: float) -> bool:
    """Whether people should have heard of a waiting message at `before` or earlier."""
    some = select(_DELIVERY.c.message_id).where(_waits_for(receiver), _DELIVERY.c.since <= before)
    return connection.execute(some.limit(1)).first() is not None


def waiting(connection: Connection, receiver: str) -> list[WaitingMessage]:
    """All messages that wait for a receiver, oldest first."""
    columns = (
        _DELIVERY.c.message_id, _OUTBOX.c.incident_id, _OUTBOX.c.kind, _OUTBOX.c.in_thread, _DELIVERY.c.since,
        _DELIVERY.c.attempts, _DELIVERY.c.error,
    )  # fmt: skip
    joined = select(*columns).join_from(_DELIVERY, _OUTBOX, _OUTBOX.c.id == _DELIVERY.c.message_id)
    rows = connection.execute(joined.where(_waits_for(receiver)).order_by(_DELIVERY.c.message_id)).mappings().all()
    told = _told(connection, receiver, {row["incident_id"] for row in rows})
    return [WaitingMessage(**row, is_told=row["incident_id"] in told) for row in rows]


def _told(connection: Connection, receiver: str, incident_ids: Collection[int | None]) -> set[int | None]:
    """The incidents of which a receiver has accepted a message."""
    delivered = and_(_DELIVERY.c.receiver == receiver, _DELIVERY.c.state == "delivered")
    joined = select(_OUTBOX.c.incident_id).join_from(_OUTBOX, _DELIVERY, _OUTBOX.c.id == _DELIVERY.c.message_id)
    of_them = _OUTBOX.c.incident_id.in_([each for each in incident_ids if each is not None])
    return set(connection.execute(joined.where(of_them, delivered).distinct()).scalars())


def payloads(connection: Connection, message_ids: Sequence[int]) -> list[Mapping[str, Any]]:
    """The payloads of messages, in the order of `message_ids`."""
    rows = connection.execute(select(_OUTBOX.c.id, _OUTBOX.c.payload).where(_OUTBOX.c.id.in_(message_ids)))
    by_id = {row.id: row.payload for row in rows}
    return [by_id[each] for each in message_ids if each in by_id]


def supersede(connection: Connection, receiver: str, message_ids: Collection[int]) -> None:
    """Mark waiting messages as superseded: they are not sent."""
    those = and_(_waits_for(receiver), _DELIVERY.c.message_id.in_(message_ids))
    connection.execute(update(_DELIVERY).where(those).values(state="superseded"))


def keep(connection: Connection, receiver: str, message: KeptMessage, *, at: float) -> None:
    """Have a waiting message take the place of older ones; it is due at once."""
    one = and_(_waits_for(receiver), _DELIVERY.c.message_id == message.message_id)
    values = {"since": message.since, "attempts": message.attempts, "error": message.error, "due_at": at}
    connection.execute(update(_DELIVERY).where(one).values(**values))


def enqueue_for(
    connection: Connection,
    receiver: str,
    *,
    delivery_id: str,
    incident_id: int | None,
    kind: str,
    payload: Mapping[str, Any],
    at: float,
) -> int:
    """Put a message for one receiver into the outbox, due at once; returns its id."""
    message = insert(_OUTBOX).values(
        incident_id=incident_id, kind=kind, payload=dict(payload), created_at=at, routed=True, in_thread=False
    )
    key = connection.execute(message).inserted_primary_key
    message_id = int(key[0]) if key else 0
    delivery = {"message_id": message_id, "receiver": receiver, "delivery_id": delivery_id, "since": at, "due_at": at}
    connection.execute(insert(_DELIVERY).values(**delivery, state="waiting", attempts=0, error=""))
    return message_id


def untold(connection: Connection, receiver: str, *, at: float) -> list[tuple[int, Mapping[str, Any]]]:
    """The id and the last announcement of each open incident that a new receiver must be sent, oldest first.

    Left out: what a silence covers, what waits for a digest, and what has a message that waits for the receiver.
    """
    firing = select(_ALERT.c.incident_id).where(_ALERT.c.incident_id.is_not(None))
    open_ones = and_(_INCIDENT.c.id.in_(firing), _INCIDENT.c.collected_at.is_(None), _INCIDENT.c.resolved_at.is_(None))
    rows = connection.execute(select(_INCIDENT).where(open_ones).order_by(_INCIDENT.c.id)).all()
    coming = {each.incident_id for each in waiting(connection, receiver) if not each.in_thread}
    active = silences.active(connection, at=at)
    return [
        (row.id, row.announced)
        for row in rows
        if row.announced and row.id not in coming and not silences.is_silenced(active, row.rule, row.scope)
    ]


def make_due(connection: Connection, receiver: str, *, at: float) -> None:
    """Have all waiting messages sent to a receiver at once, whatever an earlier address refused."""
    connection.execute(update(_DELIVERY).where(_waits_for(receiver)).values(due_at=at))


def _waits_for(receiver: str) -> ColumnElement[bool]:
    # A literal, because an engine uses a partial index only if the statement itself names the state.
    return and_(_DELIVERY.c.receiver == receiver, _DELIVERY.c.state == literal_column("'waiting'"))
