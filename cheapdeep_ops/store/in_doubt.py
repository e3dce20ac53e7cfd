"""Deliveries in doubt: an attempt began, and nothing says whether the receiver has accepted its message.

So it is after an answer that was lost, and after a guard that was killed between the answer and its record. The doubt
is stored before each attempt, and removed with the attempt's result. After a success it stays until the receiver has
been read for long enough, because a late request may still arrive.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from cheapdeep_ops.store.tables.alert_tables import DeliveryRow, MessageRefRow, OutboxRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_DELIVERY: Final = table_of(DeliveryRow)
_OUTBOX: Final = table_of(OutboxRow)
_REF: Final = table_of(MessageRefRow)
_WITH_MESSAGE: Final = _DELIVERY.join(_OUTBOX, _OUTBOX.c.id == _DELIVERY.c.message_id)
_IS_IN_DOUBT: Final[ColumnElement[bool]] = _DELIVERY.c.in_doubt_at.is_not(None)
_SAID: Final = ("waiting", "delivered", "superseded")
"""The states of messages that people have seen, will see, or need not see, because a newer one says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """A delivery that is over but in doubt since `in_doubt_at`; `channel` and `ts` are the incident's message."""

    message_id: int
    delivery_id: str
    incident_id: int | None
    state: str
    in_thread: bool
    created_at: float
    in_doubt_at: float
    channel: str
    ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What an incident's message must show; `is_waiting` is whether it is still to be sent."""

    message_id: int
    delivery_id: str
    payload: Mapping[str, Any]
    is_waiting: bool


def over(connection: Connection, receiver: str) -> list[InDoubt]:
    """The deliveries to `receiver` that are in doubt and no longer wait, oldest first."""
    ref = and_(_REF.c.incident_id == _OUTBOX.c.incident_id, _REF.c.receiver == receiver)
    columns = (
        _DELIVERY.c.message_id, _DELIVERY.c.delivery_id, _OUTBOX.c.incident_id, _DELIVERY.c.state,
        _OUTBOX.c.in_thread, _OUTBOX.c.created_at, _DELIVERY.c.in_doubt_at,
        func.coalesce(_REF.c.channel, "").label("channel"),
        func.coalesce(_REF.c.ts, "").label("ts"),
    )  # fmt: skip
    those = (_DELIVERY.c.receiver == receiver, _IS_IN_DOUBT, _DELIVERY.c.state != "waiting")
    statement = select(*columns).select_from(_WITH_MESSAGE.outerjoin(_REF, ref)).where(*those)
    rows = connection.execute(statement.order_by(_DELIVERY.c.message_id)).mappings()
    return [InDoubt(**row) for row in rows]


def since(connection: Connection, receiver: str, *, message_id: int, incident_id: int | None) -> float | None:
    """When the oldest message in doubt was created, of this one and those of its incident; None without a doubt."""
    of_it = or_(_DELIVERY.c.message_id == message_id, and_(_OUTBOX.c.incident_id == incident_id, ~_OUTBOX.c.in_thread))
    oldest = select(func.min(_OUTBOX.c.created_at)).select_from(_WITH_MESSAGE)
    return connection.execute(oldest.where(_DELIVERY.c.receiver == receiver, _IS_IN_DOUBT, of_it)).scalar()


def delivery_ids(connection: Connection, receiver: str, incident_id: int) -> frozenset[str]:
    """The ids of all deliveries of an incident to `receiver`."""
    ids = select(_DELIVERY.c.delivery_id).select_from(_WITH_MESSAGE)
    those = (_DELIVERY.c.receiver == receiver, _OUTBOX.c.incident_id == incident_id)
    return frozenset(connection.execute(ids.where(*those)).scalars())


def last_channel(connection: Connection, receiver: str) -> str:
    """Where the message of the newest incident is that `receiver` was sent; empty if there is none."""
    newest_first = select(_REF.c.channel).where(_REF.c.receiver == receiver).order_by(_REF.c.incident_id.desc())
    return connection.execute(newest_first.limit(1)).scalar() or ""


def newest(connection: Connection, receiver: str, incident_id: int) -> Newest | None:
    """The last of what an incident's message must show; None if nothing was to be shown."""
    columns = (_DELIVERY.c.message_id, _DELIVERY.c.delivery_id, _OUTBOX.c.payload, _DELIVERY.c.state)
    those = (_DELIVERY.c.receiver == receiver, _OUTBOX.c.incident_id == incident_id, ~_OUTBOX.c.in_thread)
    statement = select(*columns).select_from(_WITH_MESSAGE).where(*those, _DELIVERY.c.state.in_(_SAID))
    row = connection.execute(statement.order_by(_OUTBOX.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return Newest(
        message_id=row.message_id,
        delivery_id=row.delivery_id,
        payload=row.payload,
        is_waiting=row.state == "waiting",
    )


def place(connection: Connection, receiver: str, incident_id: int) -> tuple[str, str]:
    """The channel and the `ts` of an incident's message; empty if there is none."""
    those = (_REF.c.receiver == receiver, _REF.c.incident_id == incident_id)
    row = connection.execute(select(_REF.c.channel, _REF.c.ts).where(*those)).one_or_none()
    return ("", "") if row is None else (row.channel, row.ts)


def doubt(connection: Connection, receiver: str, message_id: int, *, at: float) -> float | None:
    """Put a delivered message in doubt before it is edited once more; returns since when it was in doubt, if it was."""
    one = (_DELIVERY.c.message_id == message_id, _DELIVERY.c.receiver == receiver)
    before: float | None = connection.execute(select(_DELIVERY.c.in_doubt_at).where(*one)).scalar()
    connection.execute(update(_DELIVERY).where(*one).values(in_doubt_at=at))
    return before


def settle(connection: Connection, receiver: str, message_id: int, *, doubted_at: float, before: float | None) -> None:
    """End the doubt of `doubted_at`, unless it was renewed; an earlier one goes on."""
    one = (_DELIVERY.c.message_id == message_id, _DELIVERY.c.receiver == receiver)
    same = _DELIVERY.c.in_doubt_at == doubted_at
    connection.execute(update(_DELIVERY).where(*one, same).values(in_doubt_at=before))


def move(connection: Connection, receiver: str, incident_id: int, *, channel: str, ts: str) -> None:
    """Record where the message of an incident is now."""
    upsert(
        connection, MessageRefRow, [{"incident_id": incident_id, "receiver": receiver, "channel": channel, "ts": ts}]
    )


def clear(connection: Connection, receiver: str, doubts: Collection[InDoubt]) -> None:
    """Remove doubts, except those that another attempt has renewed."""
    for each in doubts:
        one = (_DELIVERY.c.message_id == each.message_id, _DELIVERY.c.receiver == receiver)
        same = _DELIVERY.c.in_doubt_at == each.in_doubt_at
        connection.execute(update(_DELIVERY).where(*one, same).values(in_doubt_at=None))
