"""The tables. Money is in billionths of a US dollar, so that sums are exact; times are Unix seconds."""

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, Table
from sqlmodel import Field, SQLModel


class _Counters(SQLModel):
    """What is counted of calls; every number is a sum, so rows add up over time, routes and processes."""

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


class Bucket(_Counters, table=True):
    """Counters of one second of one route and input class in one process."""

    __tablename__ = "bucket"
    __table_args__ = (Index("ix_bucket_at", "at"),)

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    at: int = Field(primary_key=True, sa_type=BigInteger)


class Total(_Counters, table=True):
    """The same since the process began: what counters on a metrics page need, however long the history."""

    __tablename__ = "total"

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)


class Process(SQLModel, table=True):
    """A router or a guard that has shown itself; `seen_at` is its heartbeat."""

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


class PolicyRow(SQLModel, table=True):
    """The state of one scope; the log of how it came about is `policy_change`."""

    __tablename__ = "policy"

    scope: str = Field(primary_key=True)
    version: int
    pin: float | None = None
    raised: float
    causes: list[str] = Field(default_factory=list, sa_type=JSON)


class PolicyChange(SQLModel, table=True):
    """One change of policy, appended and never altered; `applied` is false for what observe mode would have done."""

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


class AlertRow(SQLModel, table=True):
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


class Incident(SQLModel, table=True):
    """One firing from start to resolved, what was last said of it, and where its Slack message is."""

    __tablename__ = "incident"

    id: int | None = Field(default=None, primary_key=True)
    rule: str
    scope: str
    started_at: float
    resolved_at: float | None = None
    announced: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    announced_at: float
    slack_channel: str = ""
    slack_ts: str = ""


class OutboxRow(SQLModel, table=True):
    """A message that is to be delivered at least once, in the order of `id` within its incident."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_open", "delivered_at", "due_at"),)

    id: int | None = Field(default=None, primary_key=True)
    incident_id: int | None = None
    kind: str
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: float
    due_at: float
    attempts: int = 0
    delivered_at: float | None = None
    error: str = ""


class Lease(SQLModel, table=True):
    """Who may act as the guard until when."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    until: float


METADATA: Final = SQLModel.metadata


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table of a model, for statements without the ORM."""
    return METADATA.tables[str(model.__tablename__)]
