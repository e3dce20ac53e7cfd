"""Deliveries: one for each message of the outbox and each receiver; and the place of an incident's message.

A message is put into the outbox without any receiver. The guard, which knows the receivers, then routes it: it creates
a delivery for each of them. After that, every receiver has its own attempts, waits and order.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, literal_column, or_, select, update

from cheapdeep_ops.store import delivery_acts
from cheapdeep_ops.store.records import MessageDelivery, Queue, ReceiverQueue, record_of
from cheapdeep_ops.store.tables.alert_tables import DeliveryRow, MessageRefRow, OutboxRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import prepare_insert_absent, upsert

_OUTBOX: Final = table_of(OutboxRow)
_DELIVERY: Final = table_of(DeliveryRow)
_REF: Final = table_of(MessageRefRow)
_IS_UNROUTED: Final = ~_OUTBOX.c.routed
_BATCH: Final = 200
"""How many messages one transaction routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDelivery:
    """A message that waits for one receiver; `channel` and `ts` are the place of the incident's message there.

    `delivery_id` stays the same at each attempt. `attempts` have begun. `in_doubt_at` is when an earlier one began of
    which nothing says whether the receiver accepted the message; see `in_doubt.py`.
    """

    message_id: int
    receiver: str
    delivery_id: str
    incident_id: int | None
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    since: float
    is_told: bool
    """Whether the receiver has accepted an earlier message of the incident."""
    in_doubt_at: float | None = None
    is_in_doubt: bool = False
    """Whether this delivery, or an earlier one of its incident's message, may have arrived without a record."""
    channel: str = ""
    ts: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrouted:
    """Messages without a delivery, and those with a delivery that waits for a receiver that is no longer configured."""

    fresh: tuple[int, ...]
    orphaned: tuple[int, ...]

    @property
    def message_ids(self) -> list[int]:
        """All of them, oldest first, each once."""
        return sorted({*self.fresh, *self.orphaned})


def unrouted(connection: Connection, receivers: Collection[str]) -> Unrouted:
    """The oldest messages to route to `receivers`: at most two hundred of each sort."""
    fresh = select(_OUTBOX.c.id).where(_IS_UNROUTED).order_by(_OUTBOX.c.id).limit(_BATCH)
    orphaned = select(_DELIVERY.c.message_id).where(_is(_DELIVERY, "waiting"), _DELIVERY.c.receiver.not_in(receivers))
    return Unrouted(
        fresh=tuple(connection.execute(fresh).scalars()),
        orphaned=tuple(connection.execute(orphaned.order_by(_DELIVERY.c.message_id).limit(_BATCH)).scalars()),
    )


def contents(connection: Connection, message_ids: Collection[int]) -> dict[int, Mapping[str, Any]]:
    """The payloads of messages by their ids."""
    rows = connection.execute(select(_OUTBOX.c.id, _OUTBOX.c.payload).where(_OUTBOX.c.id.in_(message_ids)))
    return {row.id: row.payload for row in rows}


def told_of(connection: Connection, message_ids: Collection[int]) -> dict[int, set[str]]:
    """The receivers that have accepted a message of the incident of each of these messages."""
    of, told, delivered = _OUTBOX.alias("of"), _OUTBOX.alias("told"), _DELIVERY.alias("delivered")
    joined = (
        select(of.c.id, delivered.c.receiver)
        .join_from(of, told, told.c.incident_id == of.c.incident_id)
        .join(delivered, delivered.c.message_id == told.c.id)
        .where(of.c.id.in_(message_ids), _is(delivered, "delivered"))
        .distinct()
    )
    found: dict[int, set[str]] = {}
    for row in connection.execute(joined):
        found.setdefault(row.id, set()).add(row.receiver)
    return found


def route(
    connection: Connection,
    messages: Unrouted,
    *,
    delivery_ids: Mapping[tuple[int, str], str],
    receivers: Collection[str] | None = None,
    at: float,
) -> None:
    """Create a delivery, due at once, for each message and receiver that `delivery_ids` names.

    A delivery that exists is not changed. A delivery that waits for none of `receivers`, by default those that are
    named, is cancelled.
    """
    columns = (_OUTBOX.c.id, _OUTBOX.c.created_at)
    found = connection.execute(select(*columns).where(_OUTBOX.c.id.in_(messages.message_ids)))
    created = {row.id: row.created_at for row in found}
    rows = [
        {"message_id": message_id, "receiver": receiver, "delivery_id": delivery_id, "due_at": at,
         "since": created[message_id]}
        for (message_id, receiver), delivery_id in delivery_ids.items() if message_id in created
    ]  # fmt: skip
    # Two guards may route one message: one of them may have lost the lease without knowing it.
    prepare_insert_absent(DeliveryRow, rows)(connection)
    if messages.fresh:
        connection.execute(update(_OUTBOX).where(_OUTBOX.c.id.in_(messages.fresh)).values(routed=True))
    if messages.orphaned:
        receivers = {receiver for _, receiver in delivery_ids} if receivers is None else receivers
        of_others = (_DELIVERY.c.message_id.in_(messages.orphaned), _DELIVERY.c.receiver.not_in(receivers))
        connection.execute(update(_DELIVERY).where(*of_others, _is(_DELIVERY, "waiting")).values(state="cancelled"))


def next_due(connection: Connection, receiver: str, *, now: float) -> PendingDelivery | None:
    """The delivery that may be sent to `receiver` next: in the order of incidents, and within one oldest first.

    It is due, and no earlier message of its incident waits for that receiver. Messages about no incident come last.
    """
    # A message must not overtake an earlier one of its incident.
    earlier, message = _DELIVERY.alias("earlier"), _OUTBOX.alias("earlier_message")
    blocked = (
        select(earlier.c.message_id)
        .join_from(earlier, message, message.c.id == earlier.c.message_id)
        .where(
            earlier.c.receiver == receiver,
            _is(earlier, "waiting"),
            earlier.c.message_id < _OUTBOX.c.id,
            message.c.incident_id == _OUTBOX.c.incident_id,
        )
        .exists()
    )
    ref = and_(_REF.c.incident_id == _OUTBOX.c.incident_id, _REF.c.receiver == receiver)
    columns = (
        _DELIVERY.c.message_id, _DELIVERY.c.receiver, _DELIVERY.c.delivery_id, _OUTBOX.c.incident_id, _OUTBOX.c.kind,
        _OUTBOX.c.payload, _DELIVERY.c.attempts, _DELIVERY.c.since, _is_told(receiver).label("is_told"),
        _DELIVERY.c.in_doubt_at, _is_in_doubt(receiver).label("is_in_doubt"),
        func.coalesce(_REF.c.channel, "").label("channel"),
        func.coalesce(_REF.c.ts, "").label("ts"),
    )  # fmt: skip
    statement = (
        select(*columns)
        .select_from(_DELIVERY.join(_OUTBOX, _OUTBOX.c.id == _DELIVERY.c.message_id).outerjoin(_REF, ref))
        .where(_DELIVERY.c.receiver == receiver, _is(_DELIVERY, "waiting"), _DELIVERY.c.due_at <= now, ~blocked)
        .order_by(_OUTBOX.c.incident_id.is_(None), _OUTBOX.c.incident_id, _DELIVERY.c.message_id)
        .limit(1)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else PendingDelivery(**row)


def _is_told(receiver: str) -> ColumnElement[bool]:
    """Whether the receiver has accepted a message of the incident of a row of the outbox."""
    before, told = _DELIVERY.alias("before"), _OUTBOX.alias("told")
    return (
        select(before.c.message_id)
        .join_from(before, told, told.c.id == before.c.message_id)
        .where(before.c.receiver == receiver, _is(before, "delivered"), told.c.incident_id == _OUTBOX.c.incident_id)
        .exists()
    )


def _is_in_doubt(receiver: str) -> ColumnElement[bool]:
    """Whether a delivery is in doubt, or if it is no reply, another one of its incident's message."""
    other, message = _DELIVERY.alias("other"), _OUTBOX.alias("other_message")
    of_incident = (
        select(other.c.message_id)
        .join_from(other, message, message.c.id == other.c.message_id)
        .where(
            other.c.receiver == receiver,
            other.c.in_doubt_at.is_not(None),
            message.c.incident_id == _OUTBOX.c.incident_id,
            ~message.c.in_thread,
        )
        .exists()
    )
    return or_(_DELIVERY.c.in_doubt_at.is_not(None), and_(~_OUTBOX.c.in_thread, of_incident))


def newer_told(connection: Connection, delivery: PendingDelivery) -> Mapping[str, Any] | None:
    """The payload of the newest later message of the incident that the receiver has accepted; None if there is none."""
    newest = (
        select(_OUTBOX.c.payload)
        .join_from(_OUTBOX, _DELIVERY, _OUTBOX.c.id == _DELIVERY.c.message_id)
        .where(
            _DELIVERY.c.receiver == delivery.receiver,
            _is(_DELIVERY, "delivered"),
            _OUTBOX.c.incident_id == delivery.incident_id,
            _OUTBOX.c.id > delivery.message_id,
            ~_OUTBOX.c.in_thread,
        )
        .order_by(_OUTBOX.c.id.desc())
        .limit(1)
    )
    found: Mapping[str, Any] | None = connection.execute(newest).scalar()
    return found


def begin(connection: Connection, delivery: PendingDelivery, *, at: float) -> PendingDelivery | None:
    """Record that an attempt begins, before anything is sent; None if another guard has begun one meanwhile.

    Pass what it returns to the function that records the result. Until then the delivery is in doubt.
    """
    is_begun = _update(connection, delivery, _is(_DELIVERY, "waiting"), attempts=delivery.attempts + 1, in_doubt_at=at)
    return replace(delivery, attempts=delivery.attempts + 1) if is_begun else None


def delivered(connection: Connection, attempt: PendingDelivery, *, at: float, channel: str, ts: str) -> None:
    """Record that the receiver accepted the message, and where the incident's message is now."""
    values = {"state": "delivered", "tried_at": at, "delivered_at": at, "error": ""}
    if not _update(connection, attempt, **values, in_doubt_at=attempt.in_doubt_at):
        _doubt(connection, attempt, at=at)
        return
    # Most deliveries edit the message, so its place stays and needs no write.
    is_moved = (channel, ts) != (attempt.channel, attempt.ts)
    if attempt.incident_id is not None and ts and is_moved:
        ref = {"incident_id": attempt.incident_id, "receiver": attempt.receiver, "channel": channel, "ts": ts}
        upsert(connection, MessageRefRow, [ref])


def postponed(
    connection: Connection,
    attempt: PendingDelivery,
    *,
    at: float,
    until: float,
    error: str,
    may_be_sent: bool = False,
) -> None:
    """Record a failed attempt; the next one is due at `until`. `may_be_sent` leaves the delivery in doubt."""
    doubt = at if may_be_sent else attempt.in_doubt_at
    if not _update(connection, attempt, tried_at=at, due_at=until, error=error, in_doubt_at=doubt) and may_be_sent:
        _doubt(connection, attempt, at=at)


def failed(connection: Connection, attempt: PendingDelivery, *, at: float, error: str) -> None:
    """Record that the receiver refused the message for good: it is not retried, and later messages may be sent."""
    _update(connection, attempt, state="failed", tried_at=at, error=error, in_doubt_at=attempt.in_doubt_at)


def skipped(connection: Connection, attempt: PendingDelivery, *, at: float) -> None:
    """Record that the receiver shows no such message: nothing was sent, and later messages may be sent."""
    none = {"attempts": attempt.attempts - 1, "in_doubt_at": attempt.in_doubt_at}
    _update(connection, attempt, state="skipped", delivered_at=at, error="", **none)


def _update(
    connection: Connection, delivery: PendingDelivery, *conditions: ColumnElement[bool], **values: object
) -> bool:
    """Change a delivery, unless another guard has begun an attempt meanwhile; returns whether it was changed."""
    number = _DELIVERY.c.attempts == delivery.attempts
    changed = update(_DELIVERY).where(*_one(delivery), number, *conditions).values(**values)
    return bool(connection.execute(changed).rowcount)


def _doubt(connection: Connection, attempt: PendingDelivery, *, at: float) -> None:
    """Note that an attempt, which another guard has overtaken, may have sent the message once more."""
    connection.execute(update(_DELIVERY).where(*_one(attempt)).values(in_doubt_at=at))


def _one(delivery: PendingDelivery) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _DELIVERY.c.message_id == delivery.message_id, _DELIVERY.c.receiver == delivery.receiver


def queue_state(connection: Connection) -> Queue:
    """The numbers of waiting and delivered deliveries and of attempts, and the last error of the oldest waiting one.

    A message counts once for each receiver, and once while it has no delivery yet. `receivers` has the figures of each
    receiver, with the deliveries that it refused for good as `failed`.
    """
    counts = select(
        _DELIVERY.c.receiver,
        func.count().filter(_is(_DELIVERY, "waiting")).label("waiting"),
        func.count().filter(_is(_DELIVERY, "delivered")).label("delivered"),
        func.count().filter(_is(_DELIVERY, "failed")).label("failed"),
        func.coalesce(func.sum(_DELIVERY.c.attempts), 0).label("attempts"),
    ).group_by(_DELIVERY.c.receiver)
    rows = connection.execute(counts.order_by(_DELIVERY.c.receiver)).mappings()
    receivers: dict[str, ReceiverQueue] = {row["receiver"]: record_of(ReceiverQueue, row) for row in rows}
    return {
        "waiting": sum(each["waiting"] for each in receivers.values()) + _count_unrouted(connection),
        "delivered": sum(each["delivered"] for each in receivers.values()),
        "attempts": sum(each["attempts"] for each in receivers.values()),
        "last_error": _oldest_error(connection),
        "receivers": receivers,
    }


def oldest_waiting(connection: Connection) -> dict[str, Any]:
    """How many messages wait, the time of the oldest, the most attempts at one, and the oldest one's last error.

    `is_used` says whether there was ever a message. Times are Unix seconds.
    """
    waiting = select(
        func.count(_DELIVERY.c.message_id.distinct()).label("waiting"),
        func.min(_DELIVERY.c.since).label("oldest"),
        func.coalesce(func.max(_DELIVERY.c.attempts), 0).label("attempts"),
    )
    row = connection.execute(waiting.where(_is(_DELIVERY, "waiting"))).one()
    first_unrouted = connection.execute(select(func.min(_OUTBOX.c.created_at)).where(_IS_UNROUTED)).scalar()
    return {
        "waiting": row.waiting + _count_unrouted(connection),
        "oldest": min((at for at in (row.oldest, first_unrouted) if at is not None), default=None),
        "attempts": row.attempts,
        "error": _oldest_error(connection),
        "is_used": connection.execute(select(_OUTBOX.c.id).limit(1)).first() is not None,
    }


def refusal(connection: Connection, *, since: float) -> str:
    """Why a receiver refused a message for good, at `since` or later; empty if it has accepted a later one."""
    later = _DELIVERY.alias("later")
    accepted = (
        select(later.c.message_id)
        .where(
            later.c.receiver == _DELIVERY.c.receiver,
            later.c.message_id > _DELIVERY.c.message_id,
            _is(later, "delivered"),
        )
        .exists()
    )
    recent = (_is(_DELIVERY, "failed"), _DELIVERY.c.tried_at >= since)
    statement = select(_DELIVERY.c.error).where(*recent, ~accepted).order_by(_DELIVERY.c.message_id.desc()).limit(1)
    return connection.execute(statement).scalar() or ""


def of_messages(connection: Connection, message_ids: Sequence[int]) -> dict[int, list[MessageDelivery]]:
    """The deliveries of these messages by message, as people see them; a message without one is left out."""
    statement = select(_DELIVERY).where(_DELIVERY.c.message_id.in_(message_ids))
    rows = connection.execute(statement.order_by(_DELIVERY.c.message_id, _DELIVERY.c.receiver)).mappings()
    grouped = groupby(rows, key=itemgetter("message_id"))
    acts = delivery_acts.of_messages(connection, message_ids)
    return {
        key: [record_of(MessageDelivery, {**row, "acts": acts.get((key, row["receiver"]), [])}) for row in each]
        for key, each in grouped
    }


def _count_unrouted(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(_OUTBOX).where(_IS_UNROUTED)).scalar_one()


def _oldest_error(connection: Connection) -> str:
    stuck = select(_DELIVERY.c.error).where(_is(_DELIVERY, "waiting"), _DELIVERY.c.error != "")
    return connection.execute(stuck.order_by(_DELIVERY.c.message_id).limit(1)).scalar() or ""


def _is(table: FromClause, state: str) -> ColumnElement[bool]:
    """Whether a row of `table` is in that state."""
    # A literal, because an engine uses a partial index only if the statement itself names the state.
    return table.c.state == literal_column(f"'{state}'")
