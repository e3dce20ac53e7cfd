"""The tables of calls, processes and policies."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Index
from sqlmodel import Field

from cheapdeep_ops.store.tables.row import Row


class _Counters(Row):
    """The counters of calls. Every number is a sum, so rows can be added over time, routes and processes."""

    calls: int = 0
    triaged: int = 0
    shipped: int = 0
    escalated: int = 0
    base_escalated: int = 0
    later_answers: int = 0
    withheld: int = 0
    bypassed: int = 0
    errors: int = 0
    unpriced: int = 0
    unpriced_triaged: int = 0
    unpriced_deep: int = 0
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
    unpriced_shadowed: int = 0
    shadow_cost_nusd: int = Field(default=0, sa_type=BigInteger)
    shadow_baseline_nusd: int = Field(default=0, sa_type=BigInteger)
    fallbacks: int = 0
    replays_rejected: int = 0
    budget_shipped: int = 0
    budget_refused: int = 0
    triage_errors: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    malformed_causes: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    triage_cache_read_tokens: int = Field(default=0, sa_type=BigInteger)
    deep_replies: int = 0
    deep_input_tokens: int = Field(default=0, sa_type=BigInteger)
    deep_cache_read_tokens: int = Field(default=0, sa_type=BigInteger)
    cold_cache_nusd: int = Field(default=0, sa_type=BigInteger)
    answer_tokens: int = Field(default=0, sa_type=BigInteger)
    compared: int = 0
    compared_tokens: int = Field(default=0, sa_type=BigInteger)
    compared_deep_tokens: int = Field(default=0, sa_type=BigInteger)
    doubtful: int = 0
    doubtful_tokens: int = Field(default=0, sa_type=BigInteger)
    doubtful_deep_tokens: int = Field(default=0, sa_type=BigInteger)


class Bucket(_Counters, table=True):
    """Counters of one second of one route and input class in one process, until they are folded into `rollup`."""

    __tablename__ = "bucket"
    __table_args__ = (Index("ix_bucket_at", "at"),)

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)
    at: int = Field(primary_key=True, sa_type=BigInteger)


class DeadSecond(Row, table=True):
    """How many calls are known of one second of a process that counts as dead: counted, or refused as late.

    The process may send that second again, with more calls. Only those that are more than known become late.
    """

    __tablename__ = "dead_second"

    process: str = Field(primary_key=True)
    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    at: int = Field(primary_key=True, sa_type=BigInteger)
    calls: int = 0


class Rollup(_Counters, table=True):
    """Counters of one second, minute, hour or day of one route and input class, in all processes.

    They count what was folded out of `bucket`, in the `width_s` seconds from `at` on. Rows of the route `*` add up all
    routes. In a minute, bit n of `call_seconds` and of `base_seconds` is set if a call or a base escalation fell in its
    second n; in other rows both are 0.
    """

    __tablename__ = "rollup"
    # The primary key serves reads of all routes by time, the index those of one route and of all together.
    __table_args__ = (Index("ix_rollup_route", "width_s", "route", "at"),)

    width_s: int = Field(primary_key=True)
    at: int = Field(primary_key=True, sa_type=BigInteger)
    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    call_seconds: int = Field(default=0, sa_type=BigInteger)
    base_seconds: int = Field(default=0, sa_type=BigInteger)


class Horizon(Row, table=True):
    """Since when the rows of one width in `rollup` are complete (Unix time); older ones are deleted."""

    __tablename__ = "horizon"

    width_s: int = Field(primary_key=True)
    since: int = Field(sa_type=BigInteger)


class Total(_Counters, table=True):
    """Counters of one route and input class since the process began: a metrics page reads them at constant cost."""

    __tablename__ = "total"

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    process: str = Field(primary_key=True)


class Process(Row, table=True):
    """A router or a guard; `seen_at` is its last heartbeat, in the store's time.

    `clock_ahead_s` is how far its host's clock was ahead of the store's time then.
    `folded` counts its calls whose route or input class was not admitted; `folded_names` has some of their names.
    Of a router that sends over HTTP, `flush` is the number of the last flush that was stored. `secret` is the hash of
    the secret that its requests must have, in hexadecimal digits; it is empty for every other process.
    Of a guard, `evaluated_at` is when its last evaluation of all rules was stored; None: never.
    It never writes seconds before `closed_before` again. Seconds before `sealed_before` may be folded, so the store
    refuses their rows, and adds their calls to `late`.
    """

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
    clock_ahead_s: float = 0.0
    flush: int = Field(default=0, sa_type=BigInteger)
    secret: str = ""
    folded: int = 0
    folded_names: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    closed_before: int = Field(default=0, sa_type=BigInteger)
    sealed_before: int = Field(default=0, sa_type=BigInteger)
    late: int = Field(default=0, sa_type=BigInteger)
    evaluated_at: float | None = None


class PolicyRow(Row, table=True):
    """The policy of one scope; `policy_change` is the log of its changes.

    `pin_until` is when the guard releases the pin; None: a person does.
    """

    __tablename__ = "policy"

    scope: str = Field(primary_key=True)
    version: int
    pin: float | None = None
    pin_until: float | None = None
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


class LeaseRow(Row, table=True):
    """The guard that may do a part of the work; `number` grows with each new holder, `beats` with each renewal."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    number: int = Field(default=0, sa_type=BigInteger)
    beats: int = Field(default=0, sa_type=BigInteger)


class RouteLabel(Row, table=True):
    """A route that the fleet counts by name, or an input class of one; all others count as `other`.

    The class is empty in the row of the route itself. `how` is `auto`, or the person who admitted it. `version` is the
    number of the change that admitted it.
    """

    __tablename__ = "route_label"

    route: str = Field(primary_key=True)
    input_class: str = Field(primary_key=True)
    admitted_at: float
    last_called: float
    how: str
    version: int = Field(sa_type=BigInteger)


class SecretRow(Row, table=True):
    """A secret of the store, in hexadecimal digits; it is never shown."""

    __tablename__ = "secret"

    name: str = Field(primary_key=True)
    value: str


class Revision(Row, table=True):
    """The number of changes of each named part of the store."""

    __tablename__ = "revision"

    name: str = Field(primary_key=True)
    number: int = Field(default=0, sa_type=BigInteger)
