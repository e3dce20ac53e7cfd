"""The words of the domain as values: what a call, a reply, a verdict and a decision are made of."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

ALL_ROUTES: Final = "*"
"""The scope that stands for every route."""

DEFAULT_ROUTE: Final = "default"
"""The route of a call that names none."""


class Reason(StrEnum):
    """Why a call left the first tier: a closed set, the same in spans, metrics, tables and alerts."""

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
    """Why a call was not triaged at all."""

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
    """What became of a triage reply: its answer went out, or the call went on to the next tier."""

    SHIP = "ship"
    ESCALATE = "escalate"


class Grade(StrEnum):
    """What a grader finds of an answer; a grading that failed is none of these."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNSURE = "unsure"


class GradeFailure(StrEnum):
    """Why a grading gave no grade."""

    MALFORMED = "malformed"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class CandidateState(StrEnum):
    """What has become of an answer that was kept for grading."""

    KEPT = "kept"
    """Not chosen so far."""
    SKIPPED = "skipped"
    """Not fit for grading: redaction altered it, say."""
    WAITING = "waiting"
    SUBMITTED = "submitted"
    """Part of a batch that the API works on."""
    GRADED = "graded"
    FAILED = "failed"
    EXPIRED = "expired"
    """Chosen, and not graded within its time."""


class StopReason(StrEnum):
    """The stop reasons that the verdict tells apart; any other one makes a reply malformed.

    Source: the Messages API reference, `stop_reason`.
    """

    END_TURN = "end_turn"
    MAX_TOKENS = "max_tokens"
    CONTEXT_EXCEEDED = "model_context_window_exceeded"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A model with its place in the cascade; the last tier is the deep one."""

    model: str
    index: int
    is_deep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model call as the API bills them: `input_tokens` excludes both cache figures.

    `is_estimate` marks those of a stream that was left before its end: the API tells the output tokens last.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    is_estimate: bool = False

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written into the prompt cache, for whatever time."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_input_tokens(self) -> int:
        """Tokens of the whole prompt, as OpenTelemetry counts them."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A triage reply, read strictly.

    `problem` is set where the reply can never ship, whatever the threshold; `confidence` may still be
    known then (a confident reply without an answer, for example).
    """

    confidence: float | None = None
    answer: str | None = field(default=None, repr=False)  # content stays out of logs
    problem: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReply:
    """What came back from one model call, freed from the SDK: `message` is handed through unopened.

    `usage` is None where the API said nothing of it.
    """

    verdict: Verdict | None = None
    usage: Usage | None = None
    message: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTurn:
    """One turn of a conversation as text; `role` is `system`, `user` or `assistant`.

    `is_whole` says that there was nothing else in it, such as an image.
    """

    role: str
    text: str = field(repr=False)
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A span's place in its trace, in W3C's hexadecimal; `sampled` is the flag that the span really has."""

    trace_id: str
    span_id: str
    sampled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the first tier was asked and what it answered: the material of a grade."""

    turns: tuple[TextTurn, ...]
    answer: str = field(repr=False)
    response_id: str = ""
    prompt_version: str = ""
    trace: Trace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeResult:
    """What came of one grading: a grade, or the failure to give one; `usage` is None where the API named none."""

    grade: Grade | None = None
    failure: GradeFailure | None = None
    reason: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One model call within a decision, and what became of it."""

    tier: Tier
    usage: Usage | None
    cost_usd: float | None
    verdict: Verdict | None = None
    reason: Reason | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one call was answered, at which threshold, why, and what it cost.

    `tier` is the index of the tier that answered and `model` its model. `confidence` and `base_outcome` are
    those of the first tier's reply; `base_outcome` is what the flow would have done with that reply at the
    base threshold, and is None where the call was not triaged. Costs are US dollars; None means *unpriced*,
    never zero. `baseline_cost_usd` is an estimate of the same call sent straight to the deep tier;
    `baseline_basis` says how it was made. `error` names the exception type of a call that ended in one.
    `prompt_version` is that of the triage prompt, empty where the call was not triaged or nobody knows it.
    `is_shadow` marks a call that the deep tier answered while triage was tried beside it, for the figures alone: the
    triage hops come first and their cost is in `cost_usd`; `routed_cost_usd` is what the call would have cost, routed.
    `is_fallback` marks a triage tier's answer that went out because the deep tier failed; `is_replay_rejected` a
    request that the deep tier refused as invalid after triage had passed it on. `cold_cache_usd` is the part of the
    cost that the deep tier's cache would have spared, had all calls gone there.
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
        """Whether a triage tier was asked, and not interrupted."""
        return self.base_outcome is not None

    @property
    def shipped(self) -> bool:
        """Whether a triage tier's answer went out."""
        return self.triaged and not self.error and not self.hops[-1].tier.is_deep

    @property
    def triage_error(self) -> str:
        """The exception type of the first triage call that failed, if any did."""
        return next((hop.error for hop in self.hops if hop.error and self.triaged and not hop.tier.is_deep), "")

    @property
    def withheld(self) -> bool:
        """Whether the first tier's answer would have shipped at base and was held back by a raise."""
        return self.reason is Reason.RAISED_THRESHOLD
