"""The values that travel through the package: replies, verdicts, decisions, grades and their closed sets of names."""

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

ALL_ROUTES: Final = "*"
"""The scope that stands for every route."""

DEFAULT_ROUTE: Final = "default"
"""The route of a call that names none."""


class Reason(StrEnum):
    """Why a call escalated: a closed set, which spans, metrics, tables and alerts use."""

    LOW_CONFIDENCE = "low_confidence"
    NO_ANSWER = "no_answer"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    REFUSAL = "refusal"
    TRIAGE_ERROR = "triage_error"
    RAISED_THRESHOLD = "raised_threshold"
    BYPASS = "bypass"
    STICKY = "sticky"
    BUDGET = "budget"


class BypassCause(StrEnum):
    """Why a call was not triaged."""

    TOOLS = "tools"
    IMAGES = "images"
    DOCUMENTS = "documents"
    CITATIONS = "citations"
    THINKING = "thinking"
    EFFORT = "effort"
    SAMPLING = "sampling"
    CONVERSATION = "conversation"
    STRUCTURED_OUTPUT = "structured_output"
    STOP_SEQUENCES = "stop_sequences"
    PREFILL = "prefill"
    CHEAP_REQUESTED = "cheap_requested"
    NO_TRIAGE_TIER = "no_triage_tier"
    TOO_LONG = "too_long"
    PARAMETERS = "parameters"
    MALFORMED_REQUEST = "malformed_request"
    SHADOW = "shadow"


class Outcome(StrEnum):
    """The outcome of a triage reply: its answer shipped, or the call went to the next tier."""

    SHIP = "ship"
    ESCALATE = "escalate"


class Grade(StrEnum):
    """A grader's verdict on an answer; a failed grading has a `GradeFailure` instead."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNSURE = "unsure"


class GradeFailure(StrEnum):
    """Why a grading failed."""

    MALFORMED = "malformed"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class CandidateState(StrEnum):
    """The state of an answer that was kept for grading."""

    KEPT = "kept"
    """Not chosen yet."""
    SKIPPED = "skipped"
    """Cannot be graded, for example because redaction altered the answer."""
    WAITING = "waiting"
    SUBMITTED = "submitted"
    """Part of a batch that the API is processing."""
    GRADED = "graded"
    FAILED = "failed"
    EXPIRED = "expired"
    """Chosen, but not graded before its content was removed."""


class StopReason(StrEnum):
    """The stop reasons that the verdict distinguishes; any other one makes a reply malformed.

    Source: the Messages API reference, `stop_reason`.
    """

    END_TURN = "end_turn"
    MAX_TOKENS = "max_tokens"
    CONTEXT_EXCEEDED = "model_context_window_exceeded"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A model and its position in the cascade; the last tier is the deep tier."""

    model: str
    index: int
    is_deep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one model call as the API bills them; `input_tokens` excludes cache reads and writes.

    `is_estimate` marks the usage of a stream that was closed early: the API sends the output tokens last.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    is_estimate: bool = False

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written into the prompt cache, for five minutes or an hour."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_input_tokens(self) -> int:
        """Tokens of the whole prompt, as OpenTelemetry counts them."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The content of a triage reply, after a strict reading.

    `problem` is set if the reply can never ship at any threshold. `confidence` may still be known then, for example in
    a confident reply without an answer.
    """

    confidence: float | None = None
    answer: str | None = field(default=None, repr=False)  # content stays out of logs
    problem: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReply:
    """The reply to one model call, without types of the SDK; `message` is passed through unread.

    `usage` is None if the API sent none.
    """

    verdict: Verdict | None = None
    usage: Usage | None = None
    message: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTurn:
    """One turn of a conversation as text; `role` is `system`, `user` or `assistant`.

    `is_whole` is whether the turn had only text, and no image for example.
    """

    role: str
    text: str = field(repr=False)
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The ids of a span in W3C hexadecimal form; `sampled` is the span's real flag."""

    trace_id: str
    span_id: str
    sampled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The first tier's conversation and its answer, which a grader reads."""

    turns: tuple[TextTurn, ...]
    answer: str = field(repr=False)
    response_id: str = ""
    prompt_version: str = ""
    trace: Trace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeResult:
    """The result of one grading: a grade or a failure; `usage` is None if the API sent none.

    `spelled` is the verdict as the grader spelled it, such as `Correct`.
    """

    grade: Grade | None = None
    failure: GradeFailure | None = None
    reason: str = ""
    usage: Usage | None = None
    spelled: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One model call of a decision, with its verdict or error."""

    tier: Tier
    usage: Usage | None
    cost_usd: float | None
    verdict: Verdict | None = None
    reason: Reason | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one call was answered, at which threshold, why, and at which cost.

    `tier` is the index of the tier that answered, and `model` is its model. `confidence` and `base_outcome` belong to
    the first tier's reply. `base_outcome` is the flow's outcome for that reply at the base threshold; it is None if the
    call was not triaged. `prompt_version` is the triage prompt's; it is empty if the call was not triaged or the
    version is unknown. `error` is the exception type of a failed call.

    Costs are US dollars; None means *unpriced*, never zero. `baseline_cost_usd` is the estimated cost of the call at
    the deep tier alone. `baseline_basis` is how it was estimated. `cold_cache_usd` is the part of the cost that a warm
    deep-tier cache would have saved.

    `is_shadow` marks a call that the deep tier answered while triage ran beside it for the figures. Its triage hops
    come first, and `cost_usd` includes their cost; `routed_cost_usd` is the cost that routing would have had.
    `is_fallback` marks a triage answer that went out because the deep tier failed. `is_replay_rejected` marks a request
    that the deep tier refused as invalid after triage had escalated it.
    """

    call_id: str
    route: str
    input_class: str
    tier: int
    model: str
    confidence: float | None
    threshold: float
    policy_version: int
    escalated: bool
    reason: Reason | None
    bypass_cause: BypassCause | None
    base_outcome: Outcome | None
    base_reason: Reason | None
    cost_usd: float | None
    triage_cost_usd: float | None
    baseline_cost_usd: float | None
    baseline_basis: str
    started_at: float
    duration_s: float
    triage_duration_s: float
    hops: tuple[Hop, ...]
    error: str = ""
    prompt_version: str = ""
    is_shadow: bool = False
    routed_cost_usd: float | None = None
    is_fallback: bool = False
    is_replay_rejected: bool = False
    cold_cache_usd: float = 0.0

    @property
    def triaged(self) -> bool:
        """Whether the call was triaged, and triage was not interrupted."""
        # Also in shadow mode, where the deep tier answers every call.
        return self.base_outcome is not None

    @property
    def shipped(self) -> bool:
        """Whether a triage tier's answer shipped."""
        return self.triaged and not self.error and not self.hops[-1].tier.is_deep

    @property
    def triage_error(self) -> str:
        """The exception type of the first failed triage call; empty if none failed."""
        return next((hop.error for hop in self.hops if hop.error and self.triaged and not hop.tier.is_deep), "")

    @property
    def withheld(self) -> bool:
        """Whether the first tier's answer would have shipped at base, but a raised threshold made it escalate."""
        return self.reason is Reason.RAISED_THRESHOLD


@dataclass(slots=True, kw_only=True)
class Counters:
    """Counters of calls; each mapping counts by name, such as a reason, a confidence bin or a model."""

    calls: int = 0
    triaged: int = 0
    shipped: int = 0
    escalated: int = 0
    base_escalated: int = 0
    withheld: int = 0
    bypassed: int = 0
    errors: int = 0
    unpriced: int = 0
    cost_nusd: int = 0
    triage_cost_nusd: int = 0
    baseline_nusd: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    base_reasons: Counter[str] = field(default_factory=Counter)
    bypass_causes: Counter[str] = field(default_factory=Counter)
    confidence: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    triage_replies: int = 0
    triage_input_tokens: int = 0
    triage_output_tokens: int = 0
    added_latency: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    base_origins: Counter[str] = field(default_factory=Counter)
    shadowed: int = 0
    shadow_cost_nusd: int = 0
    shadow_baseline_nusd: int = 0
    fallbacks: int = 0
    replays_rejected: int = 0
    triage_errors: Counter[str] = field(default_factory=Counter)
    triage_cache_read_tokens: int = 0
    deep_replies: int = 0
    deep_input_tokens: int = 0
    deep_cache_read_tokens: int = 0
    cold_cache_nusd: int = 0

    def row(self) -> dict[str, object]:
        """The counters by name, as columns of the store; the mappings are shared."""
        return {name: getattr(self, name) for name in COUNTERS}


COUNTERS: Final = tuple(each.name for each in fields(Counters))
"""The names of all counters."""
