"""Pictures of incidents at receivers: which are wanted, and what has become of each file.

A file is on record before it has its content, so that a guard that is killed leaves none behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, delete, func, insert, select, update

from cheapdeep_ops.store.tables.alert_tables import DeliveryRow, MessageRefRow, OutboxRow, PictureRow
from cheapdeep_ops.store.tables.row import table_of

_DELIVERY: Final = table_of(DeliveryRow)
_OUTBOX: Final = table_of(OutboxRow)
_PICTURE: Final = table_of(PictureRow)
_REF: Final = table_of(MessageRefRow)
_NEWEST_MESSAGES: Final = 500
"""How many messages of the outbox are looked at: a picture of an older one comes too late."""

_MOST: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An incident whose message at a receiver has no picture of its present state; `drawn_at` is that of the last."""

    incident_id: int
    message_id: int
    payload: Mapping[str, Any]
    drawn_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A file with a picture of an incident; `tries` attempts to show or to delete it have failed."""

    receiver: str
    file_id: str
    incident_id: int
    text: str
    tries: int


def wanted(connection: Connection, receiver: str, *, since: float) -> list[Wanted]:
    """The incidents whose newest accepted message, since that Unix time, is newer than their last picture."""
    oldest = select(func.max(_OUTBOX.c.id) - _NEWEST_MESSAGES).scalar_subquery()
    newest = (
        select(_OUTBOX.c.incident_id, func.max(_OUTBOX.c.id).label("message_id"))
        .join_from(_OUTBOX, _DELIVERY, _DELIVERY.c.message_id == _OUTBOX.c.id)
        .join(_REF, and_(_REF.c.incident_id == _OUTBOX.c.incident_id, _REF.c.receiver == receiver))
        .where(
            _OUTBOX.c.id > oldest,
            ~_OUTBOX.c.in_thread,
            _DELIVERY.c.receiver == receiver,
            _DELIVERY.c.state == "delivered",
            _DELIVERY.c.delivered_at >= since,
        )
        .group_by(_OUTBOX.c.incident_id)
        .subquery()
    )
    last = (
        select(
            _PICTURE.c.incident_id,
            func.max(_PICTURE.c.message_id).label("message_id"),
            func.max(_PICTURE.c.drawn_at).label("drawn_at"),
        )
        .where(_PICTURE.c.receiver == receiver)
        .group_by(_PICTURE.c.incident_id)
        .subquery()
    )
    statement = (
        select(newest.c.incident_id, newest.c.message_id, _OUTBOX.c.payload, last.c.drawn_at)
        .join_from(newest, _OUTBOX, _OUTBOX.c.id == newest.c.message_id)
        .outerjoin(last, last.c.incident_id == newest.c.incident_id)
        .where(func.coalesce(last.c.message_id, 0) < newest.c.message_id)
        .order_by(newest.c.message_id)
    )
    return [Wanted(**row) for row in connection.execute(statement).mappings()]


def begin(connection: Connection, receiver: str, file_id: str, of: Wanted, *, text: str, at: float) -> None:
    """Record a file that is about to get its content; `text` describes the picture."""
    row = {
        "receiver": receiver, "file_id": file_id, "incident_id": of.incident_id, "message_id": of.message_id,
        "state": "uploading", "text": text, "drawn_at": at, "due_at": at, "tries": 0,
    }  # fmt: skip
    of_incident = (_PICTURE.c.receiver == receiver, _PICTURE.c.incident_id == of.incident_id)
    connection.execute(delete(_PICTURE).where(*of_incident, _is("deleted")))
    connection.execute(insert(_PICTURE).values(**row))


def ready(connection: Connection, receiver: str, file_id: str) -> None:
    """Record that a file has its content."""
    connection.execute(update(_PICTURE).where(*_one(receiver, file_id), _is("uploading")).values(state="ready"))


def has_unfinished(connection: Connection, receiver: str) -> bool:
    """Whether there are files whose upload has not ended."""
    some = select(_PICTURE.c.file_id).where(_PICTURE.c.receiver == receiver, _is("uploading")).limit(1)
    return connection.execute(some).first() is not None


def abandon(connection: Connection, receiver: str) -> None:
    """Have the files deleted whose upload did not end, because a guard was killed or a request failed."""
    connection.execute(update(_PICTURE).where(_PICTURE.c.receiver == receiver, _is("uploading")).values(state="old"))


def to_show(connection: Connection, receiver: str, *, now: float) -> list[Picture]:
    """The files that are ready, and due to be shown; oldest first."""
    return _found(connection, _due(receiver, ("ready",), now))


def to_delete(connection: Connection, receiver: str, *, now: float) -> list[Picture]:
    """The files that are due to be deleted; oldest first, at most fifty."""
    return _found(connection, _due(receiver, ("old", "refused"), now))


def shown(connection: Connection, picture: Picture) -> None:
    """Record that the incident's message shows this file; files that it showed before are to be deleted."""
    of_incident = (_PICTURE.c.receiver == picture.receiver, _PICTURE.c.incident_id == picture.incident_id)
    old = update(_PICTURE).where(*of_incident, _is("shown"), _PICTURE.c.file_id != picture.file_id)
    connection.execute(old.values(state="old", tries=0))
    connection.execute(update(_PICTURE).where(*_one(picture.receiver, picture.file_id)).values(state="shown", tries=0))


def give_up(connection: Connection, picture: Picture) -> None:
    """Have a file deleted that no message will show; another one is drawn once the incident has changed."""
    refused = update(_PICTURE).where(*_one(picture.receiver, picture.file_id))
    connection.execute(refused.values(state="refused", tries=0))


def postpone(connection: Connection, picture: Picture, *, until: float) -> None:
    """Record a failed attempt; the next one is due at `until`."""
    later = update(_PICTURE).where(*_one(picture.receiver, picture.file_id))
    connection.execute(later.values(due_at=until, tries=picture.tries + 1))


def forget(connection: Connection, picture: Picture) -> None:
    """Forget a file that is deleted; one that was refused stays on record, so that it is not drawn again."""
    one = _one(picture.receiver, picture.file_id)
    connection.execute(delete(_PICTURE).where(*one, _is("old")))
    connection.execute(update(_PICTURE).where(*one, _is("refused")).values(state="deleted"))


def file_of(connection: Connection, receiver: str, incident_id: int) -> tuple[str, str] | None:
    """The file that an incident's message shows, and its description; None without one."""
    shows = (_PICTURE.c.receiver == receiver, _PICTURE.c.incident_id == incident_id, _is("shown"))
    row = connection.execute(select(_PICTURE.c.file_id, _PICTURE.c.text).where(*shows).limit(1)).one_or_none()
    return None if row is None else (row.file_id, row.text)


def _due(receiver: str, states: Sequence[str], now: float) -> Select[Any]:
    columns = (_PICTURE.c.receiver, _PICTURE.c.file_id, _PICTURE.c.incident_id, _PICTURE.c.text, _PICTURE.c.tries)
    those = (_PICTURE.c.receiver == receiver, _PICTURE.c.state.in_(states), _PICTURE.c.due_at <= now)
    return select(*columns).where(*those).order_by(_PICTURE.c.drawn_at).limit(_MOST)


def _found(connection: Connection, statement: Select[Any]) -> list[Picture]:
    rows: Sequence[Mapping[Any, Any]] = connection.execute(statement).mappings().all()
    return [Picture(**row) for row in rows]


def _is(state: str) -> Any:
    return _PICTURE.c.state == state


def _one(receiver: str, file_id: str) -> tuple[Any, Any]:
    return _PICTURE.c.receiver == receiver, _PICTURE.c.file_id == file_id
