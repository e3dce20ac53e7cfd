"""The tables. Money is in billionths of a US dollar, so that sums are exact; times are Unix seconds.

A change here needs a new version of the schema: see `schema.py`, which creates the tables from these classes.
"""

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

_HAS_CONTENT: Final = text("answer IS NOT NULL")
_HAS_REASON: Final = text("reason != ''")
_IS_UNROUTED: Final = {"sqlite": text("routed = 0"), "postgresql": text("NOT routed")}
"""As SQLAlchemy renders it for each engine: an engine uses the index only if the statement repeats its condition."""

_IS_WAITING: Final = text("state = 'waiting'")
_HAS_FAILED: Final = text("state = 'failed'")


class Row(SQLModel, registry=registry()):
    """The base of all tables; a service's own SQLModel classes are in another registry."""


class _Counters(Row):
    """The counters of calls. Every number is a sum, so rows can be added over time, routes and processes."""

    calls: int = 0
    triaged: int = 0
    shipped: int = 0
    escalated: int = 0
    base_escalated: int = 0
    withheld: int = 0
    bypassed: int = 0
    errors: int = 0
    unpriced: int = 0
    cost_nusd: int = Field(default=0, sa_type=BigInteger)
    triage_cost_nusd: int = Field(default=0, sa_type=BigInteger)
    baseline_nusd: int = Field(default=0, sa_type=BigInteger)
    reasons: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    base_reasons: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    bypass_causes: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    confidence: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    models: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    triage_replies: int = 0
    triage_input_tokens: int = Field(default=0, sa_type=BigInteger)
    triage_output_tokens: int = Field(default=0, sa_type=BigInteger)
    added_latency: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    origins: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    base_origins: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    shadowed: int = 0
    shadow_cost_nusd: int = Field(default=0, sa_type=BigInteger)
    shadow_baseline_nusd: int = Field(default=0, sa_type=BigInteger)
    fallbacks: int = 0
    replays_rejected: int = 0
    triage_errors: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    triage_cache_read_tokens: int = Field(default=0, sa_type=BigInteger)
    deep_replies: int = 0
    deep_input_tokens: int = Field(default=0, sa_type=BigInteger)
    deep_cache_read_tokens: int = Field(default=0, sa_type=BigInteger)
    cold_cache_nusd: int = Field(default=0, sa_type=BigInteger)


class Bucket(_Counters, table=True):
    """Counters of one second of one route and input class in one process."""

    __tablename__ = "bucket"
    __table_args__ = (Index("ix_bucket_at", "at"),)

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    at: int = Field(primary_key=True, sa_type=BigInteger)


class Total(_Counters, table=True):
    """Counters of one route and input class since the process began: a metrics page reads them at constant cost."""

    __tablename__ = "total"

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)


class Process(Row, table=True):
    """A router or a guard; `seen_at` is its last heartbeat."""

    __tablename__ = "process"

    process: str = Field(primary_key=True)
    kind: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    package_version: str
    base_threshold: float
    policy_version: int = 0
    dropped: int = 0


class PolicyRow(Row, table=True):
    """The policy of one scope; `policy_change` is the log of its changes."""

    __tablename__ = "policy"

    scope: str = Field(primary_key=True)
    version: int
    pin: float | None = None
    raised: float
    causes: list[str] = Field(default_factory=list, sa_type=JSON)


class PolicyChangeRow(Row, table=True):
    """One change of policy, appended and never altered; `applied` is false for a change that observe mode prevented."""

    __tablename__ = "policy_change"

    version: int | None = Field(default=None, primary_key=True)
    at: float
    scope: str
    act: str
    from_threshold: float
    to_threshold: float
    cause: str = ""
    signal: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    author: str = ""
    why: str = ""
    applied: bool = True


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
    """A silence: it suppresses a rule's messages until a time; `scope` is None for all scopes."""

    __tablename__ = "silence"

    id: int | None = Field(default=None, primary_key=True)
    rule: str
    scope: str | None = None
    since: float
    until: float
    author: str
    why: str
    ended_at: float | None = None
    ended_by: str = ""
    ended_why: str = ""


class OutboxRow(Row, table=True):
    """A message for people, in the order of `id` within its incident.

    `routed` is false until the guard has created its delivery to each receiver.
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


class DeliveryRow(Row, table=True):
    """One message to one receiver, delivered at least once.

    `state` is `waiting`, `delivered`, `skipped`, `failed` or `cancelled`. Skipped: the receiver shows no such message.
    Failed: it refused the message for good. Cancelled: it was removed from the settings. `due_at` is the time of the
    next attempt, `tried_at` that of the last one. `delivered_at` is when the receiver accepted or skipped it.
    `delivery_id` is random, and identifies the delivery to the receiver.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        # Partial indexes, because only these states are searched, and most deliveries have others.
        Index("ix_delivery_waiting", "message_id", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),
        Index("ix_delivery_failed", "message_id", sqlite_where=_HAS_FAILED, postgresql_where=_HAS_FAILED),
    )

    message_id: int = Field(primary_key=True)
    receiver: str = Field(primary_key=True)
    delivery_id: str
    state: str = "waiting"
    due_at: float
    attempts: int = 0
    tried_at: float | None = None
    delivered_at: float | None = None
    error: str = ""


class MessageRefRow(Row, table=True):
    """Where a receiver keeps the message of an incident that it edits: one message for each incident and receiver."""

    __tablename__ = "message_ref"

    incident_id: int = Field(primary_key=True)
    receiver: str = Field(primary_key=True)
    channel: str
    ts: str


class Candidate(Row, table=True):
    """An answer with base outcome ship that may be graded; its content is removed after a time, and the row stays.

    `inclusion` is the probability with which the call was chosen; None if it was not. A `steered` candidate was chosen
    later, because of other grades: detectors use it, estimates do not.
    """

    __tablename__ = "candidate"
    __table_args__ = (
        Index("ix_candidate_at", "at"),
        Index("ix_candidate_content", "at", sqlite_where=_HAS_CONTENT, postgresql_where=_HAS_CONTENT),
        Index("ix_candidate_state", "state", "due_at"),
    )

    call_id: str = Field(primary_key=True)
    position: float
    kept_share: float
    route: str
    input_class: str
    at: float
    shipped: bool
    confidence: float
    threshold: float
    policy_version: int
    model: str
    prompt_version: str = ""
    response_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    trace_sampled: bool = False
    # SQL's NULL and not JSON's null, so that IS NULL finds it.
    turns: list[dict[str, str]] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    answer: str | None = None
    state: str
    why: str = ""
    inclusion: float | None = None
    chosen_at: float | None = None
    due_at: float = 0.0
    attempts: int = 0
    batch_id: str = ""
    steered: bool = False


class GradeRow(Row, table=True):
    """One grader's result for one answer: a verdict or a failure. It never changes, but its `reason` may be removed.

    It repeats the call's columns that the rules need, because the candidate may be deleted. The call began at
    `called_at` and was graded at `at`. `model` answered, with the triage prompt `prompt_version`. `cost_nusd` is None
    if the grader's model has no price or sent no usage. A `second` grade is by the second grader: it is used only to
    compare graders.
    """

    __tablename__ = "grade"
    __table_args__ = (
        # A retry or a second guard must not add another grade by this grader.
        UniqueConstraint("call_id", "grader_model", "grader_prompt"),
        Index("ix_grade_at", "at"),
        Index("ix_grade_called_at", "called_at"),
        Index("ix_grade_reason", "called_at", sqlite_where=_HAS_REASON, postgresql_where=_HAS_REASON),
        Index("ix_grade_route", "route", "called_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    call_id: str
    grader_model: str
    grader_prompt: str
    verdict: str | None = None
    failure: str = ""
    reason: str = ""
    at: float
    called_at: float
    route: str
    input_class: str
    shipped: bool
    confidence: float
    policy_version: int
    inclusion: float
    batch: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cost_nusd: int | None = Field(default=None, sa_type=BigInteger)
    model: str = ""
    prompt_version: str = ""
    steered: bool = False
    second: bool = False


class GradeTotal(Row, table=True):
    """The number and cost of all gradings of a route with one outcome: a metrics page reads them at constant cost."""

    __tablename__ = "grade_total"

    route: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    count: int = 0
    cost_nusd: int = Field(default=0, sa_type=BigInteger)


class NormalRow(Row, table=True):
    """A scope's baseline of the false-confident rate by one grader version, learned from calls after `since`.

    The columns from `rate` on are None until enough calls are graded. `author` and `why` belong to the last reset.
    """

    __tablename__ = "normal"

    scope: str = Field(primary_key=True)
    grader_model: str = Field(primary_key=True)
    grader_prompt: str = Field(primary_key=True)
    since: float
    rate: float | None = None
    n: float | None = None
    grades: int = 0
    until: float | None = None
    learned_at: float | None = None
    author: str = ""
    why: str = ""


class GraderRow(Row, table=True):
    """The state of the grader, in one row."""

    __tablename__ = "grader"

    name: str = Field(primary_key=True)
    paused_until: float | None = None
    paused_why: str = ""
    failures_in_row: int = 0
    last_failure: str = ""
    last_failure_at: float | None = None
    last_grade_at: float | None = None


class GradingBatch(Row, table=True):
    """A batch of gradings that was sent to the API; `ended_at` is when its results were read."""

    __tablename__ = "grading_batch"

    id: str = Field(primary_key=True)
    grader_model: str
    grader_prompt: str
    submitted_at: float
    requests: int
    ended_at: float | None = None


class DetectorRow(Row, table=True):
    """The state of a sequential test in one scope; `grade_id` is the last grade that it has used."""

    __tablename__ = "detector"

    rule: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    grader_model: str = Field(primary_key=True)
    grader_prompt: str = Field(primary_key=True)
    grade_id: int = Field(default=0, sa_type=BigInteger)
    state: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    updated_at: float


class SamplingRow(Row, table=True):
    """The share of a route's confident answers that is graded, for calls that begin from `since` on; appended."""

    __tablename__ = "sampling"
    __table_args__ = (Index("ix_sampling_route", "route", "since"),)

    id: int | None = Field(default=None, primary_key=True)
    route: str
    since: float
    rate: float
    why: str = ""


class LabelRow(Row, table=True):
    """A person's label of a graded answer: correct, incorrect or unsure; one for each person and answer."""

    __tablename__ = "label"

    call_id: str = Field(primary_key=True)
    author: str = Field(primary_key=True)
    verdict: str
    at: float


class ModelLife(Row, table=True):
    """A model's lifecycle, as the API last reported it; `retires_at` is None if the API gives no date."""

    __tablename__ = "model_life"

    model: str = Field(primary_key=True)
    lifecycle: str
    retires_at: float | None = None
    checked_at: float
    error: str = ""


class Lease(Row, table=True):
    """The guard that may act, and until when; `number` is the fencing number, which grows with each new holder."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    until: float
    number: int = Field(default=0, sa_type=BigInteger)


class Revision(Row, table=True):
    """The number of changes of each named part of the store."""

    __tablename__ = "revision"

    name: str = Field(primary_key=True)
    number: int = Field(default=0, sa_type=BigInteger)


METADATA: Final = Row.metadata

VERSION: Final = Table("cheapdeep_version", METADATA, Column("version", String, primary_key=True))
"""One row: the version of the schema."""


def table_of(model: type[Row]) -> Table:
    """The SQLAlchemy table of a model, for statements without the ORM."""
    return METADATA.tables[str(model.__tablename__)]
