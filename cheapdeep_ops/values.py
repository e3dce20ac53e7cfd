"""The values that travel through the package: replies, verdicts, decisions, grades and their closed sets of names."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

ALL_ROUTES: Final = "*"
"""The scope that stands for every route."""

DEFAULT_ROUTE: Final = "default"
"""The route of a call that names none."""

OTHER: Final = "other"
"""The route, or input class, of all calls whose own is not admitted."""


class Name(NamedTuple):
    """A route and an input class as callers name them; an empty class stands for the route itself."""

    route: str
    input_class: str = ""

    def __str__(self) -> str:
        return f"{self.route} / {self.input_class}" if self.input_class else self.route


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


class MalformedCause(StrEnum):
    """Why a triage reply was refused as `malformed`."""

    NOT_JSON = "not_json"
    NOT_A_VERDICT = "not_a_verdict"
    """A key is missing, or has a value that is none of a verdict."""
    TEXT_AROUND = "text_around"
    SECOND_VERDICT = "second_verdict"
    """The reply has more than one object, confidence or answer, also inside its answer."""
    COPIED_VERDICT = "copied_verdict"
    """The same, and the caller's own text has a verdict in it."""
    CONTROL_CHARACTER = "control_character"
    LOST_ESCAPE = "lost_escape"
    """The reply is JSON, but its answer shows that a level of escaping is missing."""
    NOT_UNICODE = "not_unicode"
    NOT_TEXT = "not_text"
    STOP_REASON = "stop_reason"


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
    DEEP_REQUESTED = "deep_requested"
    """The caller of a gateway wants no triage."""
    NO_TRIAGE_TIER = "no_triage_tier"
    TOO_LONG = "too_long"
    UNKNOWN_MODEL = "unknown_model"
    """The API has not answered with this deep model yet, so that its name may be wrong."""
    SUSPICIOUS_TEXT = "suspicious_text"
    """Whether the text has a verdict of its own cannot be found out with bounded work."""
    PARAMETERS = "parameters"
    MALFORMED_REQUEST = "malformed_request"
    SHADOW = "shadow"


class TriagePart(StrEnum):
    """A part of a triage request that some platforms refuse, and that triage can do without."""

    FORMAT = "output_config.format"
    EFFORT = "output_config.effort"


TriageParts = frozenset[TriagePart]
NO_PARTS: Final[TriageParts] = frozenset()


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
    """What the API bills for one model call; `input_tokens` excludes cache reads and writes.

    `inference_geo`, `speed` and `service_tier` change the price of the tokens; they are empty where the list
    price holds. `unpriced` names what was billed besides, and has no known price. `is_estimate` marks the usage of a
    stream that was closed early: the API sends the output tokens last.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    inference_geo: str = ""
    speed: str = ""
    service_tier: str = ""
    unpriced: tuple[str, ...] = ()
    is_estimate: bool = False

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written into the prompt cache, for five minutes or an hour."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_input_tokens(self) -> int:
        """Tokens of the whole prompt, as OpenTelemetry counts them."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The content of a triage reply, after a strict reading.

    `problem` is set if the reply can never ship at any threshold; `cause` is set if it is malformed.
    `confidence` may still be known then, for example in a confident reply without an answer.
    """

    confidence: float | None = None
    answer: str | None = field(default=None, repr=False)  # content stays out of logs
    problem: Reason | None = None
    cause: MalformedCause | None = None
    detail: str = ""


@dataclass(slots=True, kw_only=True)
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
class ListedBatch:
    """A batch in the API's list: its number of requests, and whether all of them have a result."""

    id: str
    requests: int
    has_ended: bool


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
    """One model call of a decision, with its verdict or error.

    `outcome` is of a triage call: its answer went out as confident, or the call went on to the next tier.
    `base_outcome` is the outcome at the base threshold. Both are None for an original request, and if triage was
    interrupted.
    """

    tier: Tier
    usage: Usage | None
    cost_usd: float | None
    verdict: Verdict | None = None
    reason: Reason | None = None
    error: str = ""
    outcome: Outcome | None = None
    base_outcome: Outcome | None = None

    @property
    def confidence(self) -> float | None:
        """The confidence that the tier stated; None if it stated none."""
        return self.verdict.confidence if self.verdict else None

    @property
    def malformed_cause(self) -> MalformedCause | None:
        """Why the reply was refused as malformed; None if it was not."""
        return self.verdict.cause if self.verdict is not None and self.reason is Reason.MALFORMED else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one call was answered, at which threshold, why, and at which cost.

    `tier` is the index of the tier that answered, `model` is its model, and `confidence` is what it stated. If the deep
    tier answered, which states none, or if no tier did, `confidence` is the first tier's: the one that `reason` and
    `base_outcome` are about. `base_outcome` is the flow's outcome for the first tier's reply at the base threshold; it
    is None if the call was not triaged. `hops` has the verdict, outcome and cost of each tier. `prompt_version` is the
    triage prompt's; it is empty if the call was not triaged or the version is unknown. `error` is the exception type of
    a failed call.

    Costs are US dollars; None means *unpriced*, never zero. `baseline_cost_usd` is the estimated cost of the call at
    the deep tier alone. `baseline_basis` is how it was estimated. `cold_cache_usd` is the part of the cost that a warm
    deep-tier cache would have saved.

    `is_shadow` marks a call that the deep tier answered while triage ran beside it for the figures. Its triage hops
    come first, and `cost_usd` includes their cost; `routed_cost_usd` is the cost that routing would have had.
    `is_fallback` marks a triage answer that went out because the deep tier failed. `is_replay_rejected` marks a request
    that the deep tier refused as invalid after triage had escalated it. `is_budgeted` marks a triage answer below the
    threshold that went out because a budget was used up, and `is_refused` a call that was refused for that.

    `route` and `input_class` are the caller's own text. `name` is that without ids, and `counted` is what metrics show:
    the name, or `other`. None: they are the caller's own text.
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
    is_budgeted: bool = False
    is_refused: bool = False
    cold_cache_usd: float = 0.0
    name: Name | None = None
    counted: Name | None = None

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
    def first_confidence(self) -> float | None:
        """The first tier's confidence, whichever tier answered: the one for counts that go with `base_outcome`."""
        answers_later = self.tier > 0 and any(hop.tier.index == self.tier and not hop.tier.is_deep for hop in self.hops)
        return self.hops[0].confidence if answers_later else self.confidence

    @property
    def candidate(self) -> Hop | None:
        """The first hop whose answer ships at the base threshold, so that it may be graded; None if none does."""
        if self.base_outcome is Outcome.SHIP:
            return self.hops[0]
        return next((hop for hop in self.hops if hop.base_outcome is Outcome.SHIP), None)

    @property
    def triage_error(self) -> str:
        """The exception type of the first failed triage call; empty if none failed."""
        for hop in self.hops:
            if hop.error and self.triaged and not hop.tier.is_deep:
                return hop.error
        return ""

    @property
    def malformed_cause(self) -> MalformedCause | None:
        """Why the first malformed triage reply was refused; None if there was none."""
        for hop in self.hops:
            if hop.malformed_cause is not None:
                return hop.malformed_cause
        return None

    @property
    def withheld(self) -> bool:
        """Whether the first tier's answer would have shipped at base, but a raised threshold made it escalate."""
        return self.reason is Reason.RAISED_THRESHOLD
