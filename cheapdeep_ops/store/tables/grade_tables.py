"""The tables of answers, grades and labels."""

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from cheapdeep_ops.store.tables.row import Row

_HAS_CONTENT: Final = text("answer IS NOT NULL")
_REVEALS_TEXT: Final = text("reason != '' OR fingerprint != ''")


class Candidate(Row, table=True):
    """An answer with base outcome ship that may be graded; its content is removed after a time, and the row stays.

    `tier` is the index of the tier that gave it; `model` and `confidence` are that tier's. `inclusion` is the
    probability with which the call was chosen; None if it was not. A `steered` candidate was chosen later, because of
    other grades: detectors use it, estimates do not. Requests with equal turns have an equal `fingerprint`, a hash with
    the store's secret key. It is removed with the content.
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
    tier: int = 0
    prompt_version: str = ""
    response_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    trace_sampled: bool = False
    # SQL's NULL and not JSON's null, so that IS NULL finds it.
    turns: list[dict[str, str]] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    answer: str | None = None
    fingerprint: str = ""
    state: str
    why: str = ""
    inclusion: float | None = None
    chosen_at: float | None = None
    due_at: float = 0.0
    attempts: int = 0
    batch_id: str = ""
    steered: bool = False


class GradeRow(Row, table=True):
    """One grader's result for one answer: a verdict or a failure. It never changes, but its text may be removed.

    It repeats the call's columns that the rules need, because the candidate may be deleted. The call began at
    `called_at` and was graded at `at`. The tier with index `tier` and its `model` answered, with the triage prompt
    `prompt_version`. `cost_nusd` is None if the grader's model has no price or sent no usage. A `second` grade is by
    the second grader: it is used only to compare graders.
    """

    __tablename__ = "grade"
    __table_args__ = (
        # A retry or a second guard must not add another grade by this grader.
        UniqueConstraint("call_id", "grader_model", "grader_prompt"),
        Index("ix_grade_at", "at"),
        Index("ix_grade_called_at", "called_at"),
        Index("ix_grade_reason", "called_at", sqlite_where=_REVEALS_TEXT, postgresql_where=_REVEALS_TEXT),
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
    tier: int = 0
    prompt_version: str = ""
    steered: bool = False
    second: bool = False
    fingerprint: str = ""


class GradeTotal(Row, table=True):
    """The number and cost of all gradings of a route with one outcome: a metrics page reads them at constant cost."""

    __tablename__ = "grade_total"

    route: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    count: int = 0
    cost_nusd: int = Field(default=0, sa_type=BigInteger)


class NormalRow(Row, table=True):
    """A scope's baseline of the false-confident rate by one grader version, learned from calls after `since`.

    The columns from `rate` to `ceiling` are None until enough calls are graded; `grades.Baseline` explains them.
    `earlier` has the former steps of learning as lists. `author` and `why` belong to the last reset.
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
    share: float | None = None
    ceiling: float | None = None
    earlier: list[Any] = Field(default_factory=list, sa_type=JSON)
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
    """Gradings that were sent to the API, or are about to be; `ended_at` is when the last result was read, or given up.

    `kind` is `intent` before the API has accepted a batch, `batch` from then on, and `direct` for single requests.
    `unread` requests have no result yet; each is estimated to cost `nusd_each`. `intent` is a part of the requests'
    custom ids. `missing_since` is when the API first did not find the batch or some of its results. `missing_reads` is
    how often in a row, `missing_why` the reason.
    """

    __tablename__ = "grading_batch"

    id: str = Field(primary_key=True)
    kind: str
    intent: str = ""
    grader_model: str
    grader_prompt: str
    submitted_at: float
    requests: int
    unread: int
    nusd_each: int = Field(default=0, sa_type=BigInteger)
    ended_at: float | None = None
    missing_since: float | None = None
    missing_reads: int = 0
    missing_why: str = ""


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


class AnchorRow(Row, table=True):
    """The redacted content of a labelled answer, which the team has agreed to keep so that it can be graded again.

    The call began at `at`.
    """

    __tablename__ = "anchor"

    call_id: str = Field(primary_key=True)
    at: float
    kept_at: float
    turns: list[dict[str, str]] = Field(default_factory=list, sa_type=JSON)
    answer: str


class RegradeRow(Row, table=True):
    """A repeated grading of a labelled answer. It checks the grader, and is no grade of traffic.

    `label` is people's label at that time. `verdict` is None for a failure.
    """

    __tablename__ = "regrade"
    __table_args__ = (Index("ix_regrade_at", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    call_id: str
    grader_model: str
    grader_prompt: str
    label: str
    verdict: str | None = None
    failure: str = ""
    at: float
    cost_nusd: int | None = Field(default=None, sa_type=BigInteger)


class OutcomeRow(Row, table=True):
    """What a source, such as a user or a program, says about an answer; one for each call and source.

    `at` is when the last one came, `is_wrong` what it says. If `is_known`, the store has the call, and its columns are
    the store's own. Else they are the sender's claims, None or empty if it made none.
    """

    __tablename__ = "outcome"
    __table_args__ = (Index("ix_outcome_at", "at"),)

    call_id: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    is_wrong: bool
    at: float
    is_known: bool
    route: str = ""
    tier: int | None = None
    confidence: float | None = None
    called_at: float | None = None


class ModelLife(Row, table=True):
    """A model's lifecycle, as the API last reported it; `retires_at` is None if the API gives no date."""

    __tablename__ = "model_life"

    model: str = Field(primary_key=True)
    lifecycle: str
    retires_at: float | None = None
    checked_at: float
    error: str = ""
