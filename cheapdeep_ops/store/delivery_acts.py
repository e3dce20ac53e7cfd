"""Messages that a receiver has not accepted, and what people do about them; each act is recorded."""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection, insert, select, update

from cheapdeep_ops.store.records import DeliveryChange, UndeliveredMessage, record_of
from cheapdeep_ops.store.tables.alert_tables import DeliveryAct, DeliveryRow, IncidentRow, OutboxRow
from cheapdeep_ops.store.tables.row import table_of

_ACT: Final = table_of(DeliveryAct)
_DELIVERY: Final = table_of(DeliveryRow)
_INCIDENT: Final = table_of(IncidentRow)
_OUTBOX: Final = table_of(OutboxRow)
_MOST: Final = 200


def undelivered(connection: Connection) -> list[UndeliveredMessage]:
    """The messages that wait or were refused for good, for each receiver; oldest first, at most two hundred."""
    columns = (
        _DELIVERY.c.message_id, _DELIVERY.c.receiver, _DELIVERY.c.state, _OUTBOX.c.incident_id, _OUTBOX.c.kind,
        _INCIDENT.c.rule, _INCIDENT.c.scope, _DELIVERY.c.since, _DELIVERY.c.attempts, _DELIVERY.c.due_at,
        _DELIVERY.c.error,
    )  # fmt: skip
    joined = (
        select(*columns)
        .join_from(_DELIVERY, _OUTBOX, _OUTBOX.c.id == _DELIVERY.c.message_id)
        .outerjoin(_INCIDENT, _INCIDENT.c.id == _OUTBOX.c.incident_id)
        .where(_DELIVERY.c.state.in_(("waiting", "failed")))
        .order_by(_DELIVERY.c.message_id, _DELIVERY.c.receiver)
        .limit(_MOST)
    )
    rows = connection.execute(joined).mappings()
    return [
        record_of(UndeliveredMessage, {**row, "rule": row["rule"] or "", "scope": row["scope"] or ""}) for row in rows
    ]


def drop(connection: Connection, message_id: int, *, author: str, why: str, at: float) -> list[str]:
    """Give a message up for all receivers that have not accepted it; returns their names."""
    those = (_DELIVERY.c.message_id == message_id, _DELIVERY.c.state.in_(("waiting", "failed")))
    dropped = update(_DELIVERY).where(*those).values(state="dropped").returning(_DELIVERY.c.receiver)
    names = list(connection.execute(dropped).scalars())
    _record(connection, message_id, names, act="drop", author=author, why=why, at=at)
    return names


def retry(connection: Connection, message_id: int, *, author: str, why: str, at: float) -> list[str]:
    """Have a message sent at once to all receivers that have not accepted it; returns their names."""
    those = (_DELIVERY.c.message_id == message_id, _DELIVERY.c.state.in_(("waiting", "failed")))
    due = update(_DELIVERY).where(*those).values(state="waiting", due_at=at).returning(_DELIVERY.c.receiver)
    names = list(connection.execute(due).scalars())
    _record(connection, message_id, names, act="retry", author=author, why=why, at=at)
    return names


def of_messages(connection: Connection, message_ids: Sequence[int]) -> dict[tuple[int, str], list[DeliveryChange]]:
    """What people did about these messages, by message and receiver; oldest first."""
    acts: dict[tuple[int, str], list[DeliveryChange]] = {}
    rows = connection.execute(select(_ACT).where(_ACT.c.message_id.in_(message_ids)).order_by(_ACT.c.id)).mappings()
    for row in rows:
        acts.setdefault((row["message_id"], row["receiver"]), []).append(record_of(DeliveryChange, row))
    return acts


def _record(
    connection: Connection, message_id: int, receivers: Collection[str], *, act: str, author: str, why: str, at: float
) -> None:
    rows = [
        {"message_id": message_id, "receiver": each, "act": act, "at": at, "author": author, "why": why}
        for each in receivers
    ]
    if rows:
        connection.execute(insert(_ACT), rows)
