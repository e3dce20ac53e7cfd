"""The incidents, alerts and changes of policy that the store returns: plain objects whose keys are declared here.

They are dicts, because they are sent as JSON. An older reader must also accept a key that a newer guard adds.
"""

from typing import Annotated, Any, Literal, Protocol, TypeVar, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic accepts that of `typing` only from Python 3.12 on

Moment = Annotated[float, Field(description="Unix time, in seconds")]
Signal = Annotated[dict[str, Any], Field(description="the figures of the rule; their keys depend on its kind")]
Payload = Annotated[dict[str, Any], Field(description="the figures in the message; empty if nothing was announced")]


@with_config(ConfigDict(extra="forbid"))
class Record(TypedDict):
    """A plain object with the declared keys and no others."""


R = TypeVar("R", bound=Record)


class Columns(Protocol):
    """Values by name: a row of a query, or a record with more keys."""

    def __getitem__(self, name: str, /) -> object:
        """The value of that name."""


def record_of(kind: type[R], row: Columns) -> R:
    """The values of `row` under the keys that `kind` declares."""
    return cast("R", {name: row[name] for name in kind.__annotations__})


class TrendChange(Record):
    """A change of policy in the period of a plot."""

    at: Moment
    scope: str
    act: Literal["raise", "release", "pin", "unpin"]
    from_threshold: float
    to_threshold: float
    cause: Annotated[str, Field(description="the rule; empty for a person's change")]
    author: Annotated[str, Field(description="the person; empty for a rule's change")]
    why: str


class PolicyChange(TrendChange):
    """One change of policy, by a rule or a person."""

    version: int
    signal: Signal
    applied: Annotated[bool, Field(description="false: observe mode, shadow mode or a pin prevented the change")]


class Acknowledged(Record):
    """A person's acknowledgement of an incident."""

    author: str
    why: str
    at: Moment


class IncidentBase(Record):
    """One firing of a rule, from start to end, without its acknowledgement."""

    id: int
    rule: str
    scope: str
    started_at: Moment
    resolved_at: Annotated[float | None, Field(description="null while it is open")]
    announced: Payload
    announced_at: Moment
    slack_channel: Annotated[str, Field(description="of its message on Slack, or of one of them; empty without one")]
    slack_ts: Annotated[str, Field(description="the id of that message in its channel")]
    called_for_at: Annotated[float | None, Field(description="when people were last notified that it is open")]
    collected_at: Annotated[float | None, Field(description="when it began to wait for the next digest")]


class Incident(IncidentBase):
    """One firing of a rule, from start to end."""

    acknowledged: Annotated[Acknowledged | None, Field(description="null: not acknowledged")]


class Alert(Record):
    """The state of a rule in one scope."""

    rule: str
    scope: str
    state: Literal["inactive", "pending", "firing"]
    level: Annotated[str, Field(description="the last reading: above, below, unclear or no_data")]
    since: Moment
    incident_id: Annotated[int | None, Field(description="while it fires")]
    signal: Signal
    updated_at: Moment


class StoredAlert(Alert):
    """The state of a rule in one scope, with the column that only rules use."""

    below_since: float | None


class DeliveryChange(Record):
    """What a person did about a message that was not delivered."""

    act: Literal["drop", "retry"]
    at: Moment
    author: str
    why: str


class MessageDelivery(Record):
    """One message to one receiver."""

    receiver: str
    state: Literal["waiting", "delivered", "skipped", "failed", "superseded", "dropped", "cancelled"]
    attempts: int
    due_at: Annotated[float, Field(description="the next attempt, while it waits")]
    delivered_at: Annotated[float | None, Field(description="when the receiver accepted or skipped it")]
    error: Annotated[str, Field(description="of the last attempt, unless the receiver has accepted it")]
    acts: Annotated[list[DeliveryChange], Field(description="what people did about it")]


class Arrival(Record):
    """The deliveries of one message."""

    delivered_at: Annotated[float | None, Field(description="at the last receiver; null while it waits for one")]
    attempts: Annotated[int, Field(description="at all receivers")]
    error: Annotated[str, Field(description="of the last attempt, while it waits or if it was refused")]
    deliveries: Annotated[list[MessageDelivery], Field(description="one for each receiver; empty at first")]


class UndeliveredMessage(Record):
    """A message that one receiver has not accepted."""

    message_id: Annotated[int, Field(description="its number, for drop and retry")]
    receiver: str
    state: Literal["waiting", "failed"]
    incident_id: Annotated[int | None, Field(description="null for digests and reports")]
    kind: str
    rule: Annotated[str, Field(description="empty for digests and reports")]
    scope: Annotated[str, Field(description="empty for digests and reports")]
    since: Annotated[float, Field(description="when people should have heard of it (Unix time)")]
    attempts: int
    due_at: Annotated[float, Field(description="the next attempt, while it waits")]
    error: Annotated[str, Field(description="of the last attempt")]


class IncidentMessage(Arrival):
    """One message about an incident."""

    kind: Literal["started", "changed", "acknowledged", "reminder", "resolved", "digest"]
    payload: Payload
    created_at: Moment


class IncidentStory(Incident):
    """One incident with its messages and policy changes; the newest two hundred of each, oldest first."""

    messages: list[IncidentMessage]
    policy_changes: list[PolicyChange]


class ReceiverQueue(Record):
    """The messages to one receiver."""

    waiting: int
    delivered: int
    failed: Annotated[int, Field(description="refused for good")]
    attempts: int


class Queue(Record):
    """The messages; each counts once for each receiver."""

    waiting: int
    delivered: int
    attempts: int
    last_error: str
    receivers: Annotated[dict[str, ReceiverQueue], Field(description="by name")]


class Judged(Record, total=False):
    """The grader's verdict; empty if this grader has not graded the answer."""

    verdict: str | None
    failure: str | None
    reason: str | None
