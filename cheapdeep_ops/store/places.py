"""Where receivers keep the messages of open incidents, when a receiver gets another name or another address.

A message that no configured receiver edits is left under the name `receiver@address`, which no receiver can have. A
receiver with that address takes it over; otherwise it is edited once more, when its incident is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, exists, or_, select, update

from cheapdeep_ops.store.tables.alert_tables import DeliveryRow, IncidentRow, MessageRefRow, OutboxRow, PictureRow
from cheapdeep_ops.store.tables.row import table_of

_DELIVERY: Final = table_of(DeliveryRow)
_INCIDENT: Final = table_of(IncidentRow)
_OUTBOX: Final = table_of(OutboxRow)
_PICTURE: Final = table_of(PictureRow)
_REF: Final = table_of(MessageRefRow)
LEFT: Final = "@"
"""What follows the name of a receiver, before its former address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a receiver was told of an incident under a name or an address that it no longer has.

    `payload` is the incident's last announcement. `channel` and `ts` are empty for a receiver that edits no message.
    """

    incident_id: int
    receiver: str
    target: str
    channel: str
    ts: str
    payload: Mapping[str, Any]

    @property
    def left(self) -> str:
        """The name under which its message is left."""
        return f"{self.receiver}{LEFT}{self.target}"


def is_left() -> ColumnElement[bool]:
    """Whether a place is one that a receiver has left."""
    return _REF.c.receiver.contains(LEFT)


def told(connection: Connection, receiver: str, target: str) -> list[Place]:
    """What `receiver` at `target` has been told of incidents that go on, or whose messages wait for it."""
    is_open = _OUTBOX.c.incident_id.in_(select(_INCIDENT.c.id).where(_INCIDENT.c.resolved_at.is_(None)))
    heard = select(_OUTBOX.c.incident_id).join_from(_OUTBOX, _DELIVERY, _DELIVERY.c.message_id == _OUTBOX.c.id)
    accepted = heard.where(_DELIVERY.c.receiver == receiver, _DELIVERY.c.state == "delivered", is_open)
    waiting = heard.where(_DELIVERY.c.receiver == receiver, _DELIVERY.c.state == "waiting")
    columns = (_INCIDENT.c.id, _INCIDENT.c.announced, _REF.c.channel, _REF.c.ts)
    ref = (_REF.c.incident_id == _INCIDENT.c.id) & (_REF.c.receiver == receiver)
    those = or_(_INCIDENT.c.id.in_(accepted), _INCIDENT.c.id.in_(waiting))
    rows = connection.execute(select(*columns).join_from(_INCIDENT, _REF, ref, isouter=True).where(those))
    return [_place(row, receiver, target) for row in rows]


def left(connection: Connection) -> list[Place]:
    """The messages that receivers have left, oldest incident first."""
    columns = (_INCIDENT.c.id, _INCIDENT.c.announced, _REF.c.receiver, _REF.c.channel, _REF.c.ts)
    joined = select(*columns).join_from(_REF, _INCIDENT, _INCIDENT.c.id == _REF.c.incident_id)
    rows = connection.execute(joined.where(is_left()).order_by(_INCIDENT.c.id))
    return [_place(row, *row.receiver.split(LEFT, 1)) for row in rows]


def over(connection: Connection, *, since: float) -> Place | None:
    """The first message that a receiver has left whose incident has ended since that Unix time; None without one."""
    announced_end = _INCIDENT.c.announced["kind"].as_string() == "resolved"
    columns = (_INCIDENT.c.id, _INCIDENT.c.announced, _REF.c.receiver, _REF.c.channel, _REF.c.ts)
    joined = select(*columns).join_from(_REF, _INCIDENT, _INCIDENT.c.id == _REF.c.incident_id)
    those = (is_left(), announced_end, _INCIDENT.c.resolved_at >= since)
    row = connection.execute(joined.where(*those).order_by(_INCIDENT.c.id).limit(1)).one_or_none()
    return None if row is None else _place(row, *row.receiver.split(LEFT, 1))


def is_heard(connection: Connection, receiver: str, place: Place) -> bool:
    """Whether `receiver` has a message of the incident by itself; without a place, whether it has accepted one."""
    incident_id = place.incident_id
    if place.ts:
        own = select(_REF.c.ts).where(_REF.c.incident_id == incident_id, _REF.c.receiver == receiver)
        return connection.execute(own).first() is not None
    of_it = (_OUTBOX.c.incident_id == incident_id, _DELIVERY.c.receiver == receiver, _DELIVERY.c.state == "delivered")
    joined = select(_OUTBOX.c.id).join_from(_OUTBOX, _DELIVERY, _DELIVERY.c.message_id == _OUTBOX.c.id)
    return connection.execute(joined.where(*of_it).limit(1)).first() is not None


def take_over(connection: Connection, place: Place, receiver: str) -> None:
    """Have `receiver` go on with an incident's message, as if it had sent all that was sent to the former one."""
    of_incident = select(_OUTBOX.c.id).where(_OUTBOX.c.incident_id == place.incident_id)
    own = _DELIVERY.alias("own")
    has_own = exists().where(own.c.receiver == receiver, own.c.message_id == _DELIVERY.c.message_id)
    former = (_DELIVERY.c.receiver == place.receiver, _DELIVERY.c.message_id.in_(of_incident), ~has_own)
    connection.execute(update(_DELIVERY).where(*former).values(receiver=receiver))
    drawn = (_PICTURE.c.receiver == place.receiver, _PICTURE.c.incident_id == place.incident_id)
    connection.execute(update(_PICTURE).where(*drawn).values(receiver=receiver))
    at = (_REF.c.incident_id == place.incident_id, _REF.c.channel == place.channel, _REF.c.ts == place.ts)
    known_as = _REF.c.receiver.in_((place.receiver, place.left))
    connection.execute(update(_REF).where(*at, known_as).values(receiver=receiver))


def leave(connection: Connection, place: Place) -> None:
    """Keep where the message of an incident is, for its end; a receiver that edits none leaves nothing."""
    forget(connection, place)
    one = (_REF.c.incident_id == place.incident_id, _REF.c.receiver == place.receiver)
    connection.execute(update(_REF).where(*one, _REF.c.ts != "").values(receiver=place.left))


def forget(connection: Connection, place: Place) -> None:
    """Forget a message that a receiver has left."""
    one = (_REF.c.incident_id == place.incident_id, _REF.c.receiver == place.left)
    connection.execute(delete(_REF).where(*one))


def _place(row: Any, receiver: str, target: str) -> Place:
    return Place(
        incident_id=row.id,
        receiver=receiver,
        target=target,
        channel=row.channel or "",
        ts=row.ts or "",
        payload=row.announced or {},
    )
