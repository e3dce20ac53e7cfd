"""The tables of alerts, incidents and messages."""

from typing import Any, Final

from sqlalchemy import JSON, Index, text
from sqlmodel import Field

from cheapdeep_ops.store.tables.row import Row

_IS_UNROUTED: Final = {"sqlite": text("routed = 0"), "postgresql": text("NOT routed")}
"""As SQLAlchemy renders it for each engine: an engine uses the index only if the statement repeats its condition."""

_IS_WAITING: Final = text("state = 'waiting'")
_HAS_FAILED: Final = text("state = 'failed'")
_IS_IN_DOUBT: Final = text("in_doubt_at IS NOT NULL")


class AlertRow(Row, table=True):
    """The state of one rule in one scope."""

    __tablename__ = "alert"

    rule: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    state: str
    level: str
    since: float
    below_since: float | None = None
    incident_id: int | None = None
    signal: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    updated_at: float


class IncidentRow(Row, table=True):
    """One firing from start to resolved, and its last announcement.

    `held` is a resolved message that a silence suppresses. `called_for_at` is when people were last notified, by the
    first message or a reminder. `collected_at` is when it began to wait for the next digest.
    """

    __tablename__ = "incident"

    id: int | None = Field(default=None, primary_key=True)
    rule: str
    scope: str
    started_at: float
    resolved_at: float | None = None
    announced: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    announced_at: float
    called_for_at: float | None = None
    collected_at: float | None = None
    # SQL's NULL and not JSON's null, so that IS NULL finds it.
    held: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))


class Acknowledgement(Row, table=True):
    """A person's acknowledgement of an incident; appended, and the newest one counts."""

    __tablename__ = "acknowledgement"
    __table_args__ = (Index("ix_acknowledgement_incident", "incident_id"),)

    id: int | None = Field(default=None, primary_key=True)
    incident_id: int
    at: float
    author: str
    why: str


class SilenceRow(Row, table=True):
    """A silence: it suppresses a rule's messages until a time; `scope` is None for all scopes.

    With `incident_id` it ends earlier if that incident is resolved.
    """

    __tablename__ = "silence"

    id: int | None = Field(default=None, primary_key=True)
    rule: str
    scope: str | None = None
    since: float
    until: float
    incident_id: int | None = None
    author: str
    why: str
    ended_at: float | None = None
    ended_by: str = ""
    ended_why: str = ""


class OutboxRow(Row, table=True):
    """A message for people, in the order of `id` within its incident.

    `routed` is false until the guard has created its delivery to each receiver. `in_thread` is for senders with
    threads: the message belongs into the thread of the incident's message.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_incident", "incident_id"),
        Index(
            "ix_outbox_unrouted",
            "id",
            sqlite_where=_IS_UNROUTED["sqlite"],
            postgresql_where=_IS_UNROUTED["postgresql"],
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    incident_id: int | None = None
    kind: str
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: float
    routed: bool = False
    in_thread: bool = False


class DeliveryRow(Row, table=True):
    """One message to one receiver, delivered at least once.

    `state` is `waiting`, `delivered`, `skipped`, `failed`, `superseded`, `dropped` or `cancelled`. Skipped: the
    receiver shows no such message. Failed: it refused the message for good. Superseded: a newer message says what is
    left to say. Dropped: a person gave it up. Cancelled: the receiver was removed from the settings. `since` is when
    people should have heard of it, also if that was an older message that it supersedes. `due_at` is the time of the
    next attempt, `tried_at` that of the last one. `delivered_at` is when the receiver accepted or skipped it.
    `delivery_id` is random, and identifies the delivery to the receiver. `attempts` grows when an attempt begins, so
    its number tells an attempt from those of other guards. `in_doubt_at` is when the last attempt began of which
    nothing says whether the receiver accepted the message.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        # Partial indexes, because only these states are searched, and most deliveries have others.
        Index("ix_delivery_waiting", "message_id", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),
        Index("ix_delivery_failed", "message_id", sqlite_where=_HAS_FAILED, postgresql_where=_HAS_FAILED),
        Index("ix_delivery_in_doubt", "message_id", sqlite_where=_IS_IN_DOUBT, postgresql_where=_IS_IN_DOUBT),
    )

    message_id: int = Field(primary_key=True)
    receiver: str = Field(primary_key=True)
    delivery_id: str
    state: str = "waiting"
    since: float
    due_at: float
    attempts: int = 0
    tried_at: float | None = None
    in_doubt_at: float | None = None
    delivered_at: float | None = None
    error: str = ""


class MessageRefRow(Row, table=True):
    """Where a receiver keeps the message of an incident that it edits: one message for each incident and receiver."""

    __tablename__ = "message_ref"

    incident_id: int = Field(primary_key=True)
    receiver: str = Field(primary_key=True)
    channel: str
    ts: str


class PictureRow(Row, table=True):
    """A file with the picture of an incident, at one receiver.

    `state` is `uploading`, `ready`, `shown`, `old`, `refused` or `deleted`. Uploading: the receiver knows the file,
    which may have no content yet. Ready: it has its content. Shown: the incident's message shows it. Old: it is to be
    deleted. Refused: likewise, because no message could show it; then deleted. `message_id` is the newest message whose
    state it shows. `due_at` is the time of the next attempt to show or delete it, of which
    `tries` have failed.
    """

    __tablename__ = "picture"
    __table_args__ = (Index("ix_picture_incident", "incident_id"), Index("ix_picture_state", "state"))

    receiver: str = Field(primary_key=True)
    file_id: str = Field(primary_key=True)
    incident_id: int
    message_id: int
    state: str
    text: str
    drawn_at: float
    due_at: float
    tries: int = 0


class ReceiverRow(Row, table=True):
    """A receiver that the settings configure, since `since`; `target` is its address, without any secret.

    `resting_until` is the end of a pause that it asked for. `retried_at` is when a person last asked for an attempt.
    """

    __tablename__ = "receiver"

    name: str = Field(primary_key=True)
    target: str
    since: float
    resting_until: float | None = None
    retried_at: float | None = None


class DeliveryAct(Row, table=True):
    """What a person did about a message that was not delivered; `act` is `drop` or `retry`. Appended."""

    __tablename__ = "delivery_act"
    __table_args__ = (Index("ix_delivery_act_message", "message_id"),)

    id: int | None = Field(default=None, primary_key=True)
    message_id: int
    receiver: str
    act: str
    at: float
    author: str
    why: str


class OrderRow(Row, table=True):
    """An order of a person that was carried out; `key` names it, so that it is carried out once."""

    __tablename__ = "person_order"

    key: str = Field(primary_key=True)
    at: float
    author: str
