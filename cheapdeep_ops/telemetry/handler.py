"""Emits finished decisions as spans and metrics; nothing here raises into a caller's call.

Uses the OpenTelemetry API only, which does nothing until the service or the command line sets providers up. Ids and
details go to spans; metrics have bounded labels only.
"""

from collections.abc import Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.instruments import Instruments, instruments_of, is_stand_in, outcome_of
from cheapdeep_ops.telemetry.shield import shielded
from cheapdeep_ops.values import Decision, Outcome, Trace, Usage

OpenSpan = Span
"""The type of an open span, for modules that do not import OpenTelemetry."""

Attributes = dict[str, AttributeValue]
Entered = Token[otel_context.Context] | None


@dataclass(slots=True, kw_only=True)
class ChatRecord:
    """The facts of one finished model call; the fields of the response are empty if the call failed.

    `confidence` and `outcome` are those of a triage call; `outcome` is at the threshold in force.
    """

    usage: Usage | None = None
    cost_usd: float | None = None
    confidence: float | None = None
    outcome: Outcome | None = None
    response_id: str = ""
    response_model: str = ""
    stop_reason: str = ""


class ChatSpan:
    """The open CLIENT span of one model call."""

    __slots__ = ("is_recording", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.is_recording = shielded(span.is_recording) or False
        """Whether its attributes are kept."""

    def finish(self, record: ChatRecord) -> None:
        """Set the attributes of the finished call."""
        if self.is_recording:
            shielded(self.span.set_attributes, _chat_attributes(record))

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed with `error`."""
        if self.is_recording:
            shielded(_mark_failed, self.span, type(error).__name__)

    def end(self) -> None:
        """End the span."""
        if self.span is not trace.INVALID_SPAN:
            shielded(self.span.end)


_NO_CHAT: Final = ChatSpan(trace.INVALID_SPAN)
_NO_TRACER: Final = trace.NoOpTracer()


class Telemetry:
    """The spans and metrics of one router; providers that are not given are the global ones.

    A global provider may be set later: it gets the calls from then on.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        # Getting a tracer can fail too: a provider is the application's code.
        tracer = shielded(trace.get_tracer, names.SCOPE, tracer_provider=tracer_provider)
        self._tracer = tracer or _NO_TRACER
        self._is_traced = type(self._tracer) not in (trace.NoOpTracer, trace.ProxyTracer)
        self._meter_provider = meter_provider
        self._is_global = meter_provider is None or is_stand_in(meter_provider)
        self._metered: tuple[MeterProvider | None, Instruments | None] = (None, None)
        self._instruments()

    @property
    def destination(self) -> int | None:
        """A number for the meter provider that was given; None for the global one."""
        return None if self._meter_provider is None else id(self._meter_provider)

    def begin_route(self) -> Span:
        """Start the INTERNAL span around one call; the caller must end it."""
        # Asked for each call, because the application may set the global provider later.
        if not self._is_traced and isinstance(self._tracer, trace.ProxyTracer):
            self._is_traced = not isinstance(shielded(trace.get_tracer_provider), trace.ProxyTracerProvider)
        if not self._is_traced:
            return _NO_TRACER.start_span(names.ROUTE_SPAN)
        return self._begin(names.ROUTE_SPAN, SpanKind.INTERNAL, None)

    def end_route(self, span: Span, *, at_ns: int | None = None) -> None:
        """End the span of a call, now or at a past time (`at_ns`, Unix time in nanoseconds)."""
        if span is not trace.INVALID_SPAN:
            shielded(span.end, at_ns)

    def enter(self, span: Span) -> Entered:
        """Make `span` the current span until `leave` gets what this returns; an invalid span changes nothing."""
        # The application's own span must stay the current one if ours could not be started.
        return None if span is trace.INVALID_SPAN else otel_context.attach(trace.set_span_in_context(span))

    def leave(self, entered: Entered) -> None:
        """Make the span current again that was the current one before `enter`."""
        if entered is not None:
            otel_context.detach(entered)

    def trace_of(self, span: Span) -> Trace | None:
        """The ids of `span`, so that a later grade can be attached to it; None if the span is not valid."""
        return shielded(_trace_of, span)

    def begin_chat(
        self,
        *,
        provider: str,
        model: str,
        tier: int,
        kind: str,
        max_tokens: object,
        translated: tuple[str, ...],
        prompt_version: str = "",
        silent: bool = False,
    ) -> ChatSpan:
        """Start the CLIENT span around one model call; the caller must end it.

        With `silent`, no span is started: use it where the SDK or another package makes a span for the call.
        """
        # Two CLIENT spans of one call would count its tokens and cost twice.
        if silent or not self._is_traced:
            return _NO_CHAT
        attributes: Attributes = {
            names.GEN_AI_OPERATION: names.OPERATION,
            names.GEN_AI_PROVIDER: provider,
            names.GEN_AI_REQUEST_MODEL: model,
            names.TIER: tier,
            names.CALL_KIND: kind,
        }
        if isinstance(max_tokens, int):
            attributes[names.GEN_AI_REQUEST_MAX_TOKENS] = max_tokens
        if prompt_version:
            attributes[names.PROMPT_VERSION] = prompt_version
        if translated:
            attributes[names.TRANSLATED] = translated
        return ChatSpan(self._begin(f"{names.OPERATION} {model}", SpanKind.CLIENT, attributes))

    def record_decision(
        self,
        span: Span,
        decision: Decision,
        *,
        provider: str,
        hop_s: Sequence[float],
        waited_s: float,
        sampled: bool = False,
    ) -> None:
        """Record a finished decision on its route span and in the metrics, whose exemplars lead to that span.

        `provider` is the name of the models' provider. `hop_s` is the duration of each hop, and `waited_s` the caller's
        total wait for models, in seconds. `sampled` is whether the answer is in the share that will be graded.
        """
        is_started = span is not trace.INVALID_SPAN
        if is_started:
            shielded(_describe, span, decision, sampled=sampled)
        instruments = self._instruments()
        if instruments is not None:
            context = trace.set_span_in_context(span) if is_started else None
            shielded(instruments.record, decision, provider=provider, hop_s=hop_s, waited_s=waited_s, context=context)

    def record_dropped(self, count: int) -> None:
        """Count decisions that the recorder dropped."""
        instruments = self._instruments()
        if instruments is not None:
            instruments.dropped.add(count, (), trace.INVALID_SPAN_CONTEXT)

    def record_refused_part(self, model: str, part: str) -> None:
        """Count a part of triage requests that `model` has turned out to refuse."""
        instruments = self._instruments()
        if instruments is not None:
            shielded(instruments.count_refused_part, model, part)

    def record_guard_age(self, seconds: float) -> None:
        """Record the age of the guard's last heartbeat, in seconds, as this process sees it."""
        instruments = self._instruments()
        if instruments is not None:
            shielded(instruments.guard_age.set, seconds)

    def record_threshold(self, route: str, threshold: float) -> None:
        """Record the threshold that this process uses for a route."""
        instruments = self._instruments()
        if instruments is not None:
            shielded(instruments.threshold.set, threshold, {names.LABEL_ROUTE: route})

    def _begin(self, name: str, kind: SpanKind, attributes: Attributes | None) -> Span:
        """Start a span; an invalid span if the tracer fails."""
        span = shielded(self._tracer.start_span, name, kind=kind, attributes=attributes)
        return span or trace.INVALID_SPAN

    def _instruments(self) -> Instruments | None:
        """The instruments of the meter provider; None without one."""
        known, instruments = self._metered
        # Asked for each call, as in `begin_route`.
        provider = shielded(metrics.get_meter_provider) if self._is_global else self._meter_provider
        if provider is not None and provider is not known:
            instruments = shielded(instruments_of, provider)
            self._metered = (provider, instruments)
        return instruments


def _describe(span: Span, decision: Decision, *, sampled: bool) -> None:
    if not span.is_recording():
        return
    span.set_attributes(_decision_attributes(decision, sampled=sampled))
    if decision.error:
        _mark_failed(span, decision.error)


def _decision_attributes(decision: Decision, *, sampled: bool) -> Attributes:
    attributes: dict[str, AttributeValue | None] = {
        names.ROUTE: decision.route,
        names.INPUT_CLASS: decision.input_class or None,
        names.TIER: decision.tier,
        names.MODEL: decision.model,
        names.CONFIDENCE: decision.confidence,
        names.THRESHOLD: decision.threshold,
        names.POLICY_VERSION: decision.policy_version,
        names.OUTCOME: outcome_of(decision),
        names.REASON: decision.reason and decision.reason.value,
        names.BYPASS_CAUSE: decision.bypass_cause and decision.bypass_cause.value,
        names.BASE_OUTCOME: decision.base_outcome and decision.base_outcome.value,
        names.CALL_ID: decision.call_id,
        names.COST: decision.cost_usd,
        names.BASELINE_COST: decision.baseline_cost_usd,
        names.TRIAGE_ERROR: decision.triage_error or None,
        names.MALFORMED_CAUSE: decision.malformed_cause and decision.malformed_cause.value,
        names.FALLBACK: decision.is_fallback or None,
        names.REPLAY_REJECTED: decision.is_replay_rejected or None,
        names.SHADOW: decision.is_shadow or None,
        names.SHADOW_COST: decision.routed_cost_usd,
        names.SAMPLED: sampled,
    }  # fmt: skip
    return {name: value for name, value in attributes.items() if value is not None}


def _chat_attributes(record: ChatRecord) -> Attributes:
    stop_reason = record.stop_reason
    attributes: dict[str, AttributeValue | None] = {
        names.GEN_AI_RESPONSE_ID: record.response_id or None,
        names.GEN_AI_RESPONSE_MODEL: record.response_model if record.response_id else None,
        names.GEN_AI_FINISH_REASONS: (stop_reason,) if stop_reason else None,
        names.STOP_REASON: stop_reason or None,
        **(_usage_attributes(record.usage) if record.usage is not None else {}),
        names.CONFIDENCE: record.confidence,
        names.OUTCOME: record.outcome and record.outcome.value,
        names.COST: record.cost_usd,
    }  # fmt: skip
    return {name: value for name, value in attributes.items() if value is not None}


def _usage_attributes(usage: Usage) -> Mapping[str, AttributeValue | None]:
    return {
        names.GEN_AI_INPUT_TOKENS: usage.total_input_tokens,
        names.GEN_AI_OUTPUT_TOKENS: usage.output_tokens,
        names.GEN_AI_CACHE_READ_TOKENS: usage.cache_read_tokens,
        names.GEN_AI_CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        names.USAGE_UNPRICED: usage.unpriced or None,
        names.USAGE_ESTIMATED: usage.is_estimate or None,
    }


def _trace_of(span: Span) -> Trace | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return Trace(
        trace_id=trace.format_trace_id(context.trace_id),
        span_id=trace.format_span_id(context.span_id),
        sampled=context.trace_flags.sampled,
    )


def _mark_failed(span: Span, error: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR, error))
