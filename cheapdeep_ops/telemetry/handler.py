"""Emits finished decisions as spans and metrics; nothing here raises into a caller's call.

Uses the OpenTelemetry API only, which does nothing until the service or the command line sets providers up. Ids and
details go to spans; metrics have bounded labels only.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import Histogram, Meter, MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.values import Decision, Hop, Outcome, Trace, Usage

_log: Final = logging.getLogger(__name__)
_MAX_MODELS: Final = 100
_T = TypeVar("_T")
OpenSpan = Span
"""The type of an open span, for modules that do not import OpenTelemetry."""

Attributes = dict[str, AttributeValue]
Entered = Token[otel_context.Context] | None


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def __init__(self, span: Span) -> None:
        self.span = span
        self.is_recording = shielded(span.is_recording) or False
        """Whether its attributes are kept."""

    def finish(self, record: ChatRecord) -> None:
        """Set the attributes of the finished call."""
        shielded(lambda: self.span.set_attributes(_chat_attributes(record)))

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed with `error`."""
        shielded(lambda: _mark_failed(self.span, type(error).__name__))

    def end(self) -> None:
        """End the span."""
        shielded(self.span.end)


class Telemetry:
    """The spans and metrics of one router; providers that are not given are the global ones."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        tracer = shielded(lambda: trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider))
        self._meter_provider = meter_provider
        # Getting a tracer can fail too: a provider is the application's code.
        self._tracer = tracer or trace.NoOpTracer()
        instruments = shielded(lambda: _instruments(meter_provider or metrics.get_meter_provider()))
        self._instruments = instruments or _instruments(metrics.NoOpMeterProvider())

    @property
    def destination(self) -> int | None:
        """A number for the meter provider that was given; None for the global one."""
        return None if self._meter_provider is None else id(self._meter_provider)

    def begin_route(self) -> Span:
        """Start the INTERNAL span around one call; the caller must end it."""
        return self._begin(names.ROUTE_SPAN, SpanKind.INTERNAL, {})

    def end_route(self, span: Span, *, at_ns: int | None = None) -> None:
        """End the span of a call, now or at a past time (`at_ns`, Unix time in nanoseconds)."""
        shielded(lambda: span.end(at_ns))

    def enter(self, span: Span) -> Entered:
        """Make `span` the current span until `leave` gets what this returns; an invalid span changes nothing."""
        # The application's own span must stay the current one if ours could not be started.
        return None if span is trace.INVALID_SPAN else otel_context.attach(trace.set_span_in_context(span))

    def leave(self, entered: Entered) -> None:
        """Make the span the current one that was it before."""
        if entered is not None:
            otel_context.detach(entered)

    def trace_of(self, span: Span) -> Trace | None:
        """The ids of `span`, so that a later grade can be attached to it; None if the span is not valid."""
        return shielded(lambda: _trace_of(span))

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
        if silent:
            return ChatSpan(trace.INVALID_SPAN)
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
        """Record a finished decision on its route span and in the metrics.

        `provider` is the name of the models' provider. `hop_s` is the duration of each hop, and `waited_s` the caller's
        total wait for models, in seconds. `sampled` is whether the answer is in the share that will be graded.
        """
        shielded(lambda: span.set_attributes({**_decision_attributes(decision), names.SAMPLED: sampled}))
        if decision.error:
            shielded(lambda: _mark_failed(span, decision.error))
        overhead_s = max(decision.duration_s - waited_s, 0.0)
        shielded(lambda: self._instruments.record_decision(decision, overhead_s))
        for hop, seconds in zip(decision.hops, hop_s, strict=False):
            shielded(partial(self._instruments.record_hop, hop, seconds, provider))

    def record_dropped(self, count: int) -> None:
        """Count decisions that the recorder dropped."""
        shielded(lambda: self._instruments.dropped.add(count))

    def record_refused_part(self, model: str, part: str) -> None:
        """Count a part of triage requests that `model` has turned out to refuse."""
        shielded(lambda: self._instruments.record_refused_part(model, part))

    def record_guard_age(self, seconds: float) -> None:
        """Record the age of the guard's last heartbeat, in seconds, as this process sees it."""
        shielded(lambda: self._instruments.guard_age.set(seconds))

    def record_threshold(self, route: str, threshold: float) -> None:
        """Record the threshold that this process uses for a route."""
        shielded(lambda: self._instruments.threshold.set(threshold, {names.LABEL_ROUTE: route}))

    def _begin(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        """Start a span; an invalid span if the tracer fails."""
        span = shielded(lambda: self._tracer.start_span(name, kind=kind, attributes=attributes))
        return span or trace.INVALID_SPAN


class _Instruments:
    """The metric instruments, created once for each meter provider."""

    def __init__(self, meter: Meter) -> None:
        self._models: set[str] = set()
        counter, histogram = meter.create_counter, meter.create_histogram
        self.calls = counter(names.CALLS, unit="{call}", description="Calls through the router")
        self.escalations = counter(names.ESCALATIONS, unit="{call}", description="Calls that left the first tier")
        self.base_escalations = counter(
            names.BASE_ESCALATIONS, unit="{call}", description="Calls that would have left it at the base threshold"
        )
        self.cost = counter(names.COSTS, unit="USD", description="Cost of all model calls")
        self.baseline = counter(names.BASELINE_COSTS, unit="USD", description="Estimated cost of the deep tier alone")
        self.unpriced = counter(names.UNPRICED, unit="{call}", description="Calls whose cost is not known")
        self.fallbacks = counter(
            names.FALLBACKS, unit="{call}", description="Triage answers that went out because the deep tier failed"
        )
        self.rejected = counter(
            names.REPLAYS_REJECTED, unit="{call}", description="Requests that the deep tier refused after triage"
        )
        self.refused_parts = counter(
            names.REFUSED_PARTS, unit="{part}", description="Parts of triage requests that models turned out to refuse"
        )
        self.malformed = counter(
            names.MALFORMED, unit="{reply}", description="Triage replies that were refused as malformed, by cause"
        )
        self.dropped = counter(names.RECORDER_DROPPED, unit="{call}", description="Decisions that the recorder dropped")
        self.guard_age = meter.create_gauge(
            names.GUARD_AGE, unit="s", description="Time since a guard's last heartbeat in the store"
        )
        self.threshold = meter.create_gauge(names.THRESHOLDS, description="Threshold in force")
        self.confidence = histogram(
            names.CONFIDENCES,
            unit="{confidence}",
            description="Confidence stated by the first tier",
            explicit_bucket_boundaries_advisory=names.CONFIDENCE_EDGES,
        )
        self.duration = _seconds(meter, names.CALL_DURATION, "Duration of a whole call", names.DURATION_EDGES)
        self.overhead = _seconds(
            meter, names.OVERHEAD_DURATION, "Duration of a call outside of its model calls", names.OVERHEAD_EDGES
        )
        self.operation = _seconds(meter, names.OPERATION_DURATION, "Duration of a model call", names.DURATION_EDGES)
        self.tokens = histogram(
            names.TOKEN_USAGE,
            unit="{token}",
            description="Tokens of a model call",
            explicit_bucket_boundaries_advisory=names.TOKEN_EDGES,
        )

    def record_decision(self, decision: Decision, overhead_s: float) -> None:
        labels = {names.LABEL_ROUTE: decision.route, names.LABEL_INPUT_CLASS: decision.input_class}
        self.calls.add(
            1, {**labels, names.LABEL_OUTCOME: _outcome(decision), names.LABEL_MODEL: self._label(decision.model)}
        )
        if decision.escalated and decision.reason:
            self.escalations.add(1, {**labels, names.LABEL_REASON: decision.reason.value})
        if decision.base_outcome is Outcome.ESCALATE and decision.base_reason:
            self.base_escalations.add(1, {**labels, names.LABEL_REASON: decision.base_reason.value})
        if decision.is_fallback:
            self.fallbacks.add(1, labels)
        if decision.is_replay_rejected:
            self.rejected.add(1, labels)
        for cause in filter(None, (hop.malformed_cause for hop in decision.hops)):
            self.malformed.add(1, {names.LABEL_ROUTE: decision.route, names.LABEL_CAUSE: cause.value})
        # The first tier's, whichever tier answered: a distribution of two models' confidences would mean nothing.
        if decision.first_confidence is not None:
            self.confidence.record(decision.first_confidence, labels)
        self._record_cost(decision, labels)
        self.duration.record(decision.duration_s, labels)
        self.overhead.record(overhead_s)

    def record_refused_part(self, model: str, part: str) -> None:
        self.refused_parts.add(1, {names.LABEL_MODEL: self._label(model), names.LABEL_PART: str(part)})

    def _record_cost(self, decision: Decision, labels: Mapping[str, str]) -> None:
        """Add the cost and the baseline cost of a call, or count it as unpriced if either is unknown."""
        # The two are compared, so they must be sums over one set of calls.
        if decision.cost_usd is None or decision.baseline_cost_usd is None:
            self.unpriced.add(1, labels)
            return
        self.cost.add(decision.cost_usd, labels)
        self.baseline.add(decision.baseline_cost_usd, labels)

    def record_hop(self, hop: Hop, seconds: float, provider: str) -> None:
        labels = {
            names.GEN_AI_OPERATION: names.OPERATION,
            names.GEN_AI_PROVIDER: provider,
            names.GEN_AI_REQUEST_MODEL: self._label(hop.tier.model),
        }
        self.operation.record(seconds, {**labels, names.ERROR_TYPE: hop.error} if hop.error else labels)
        if hop.usage is not None:
            self.tokens.record(hop.usage.total_input_tokens, {**labels, names.GEN_AI_TOKEN_TYPE: "input"})
            self.tokens.record(hop.usage.output_tokens, {**labels, names.GEN_AI_TOKEN_TYPE: "output"})

    def _label(self, model: str) -> str:
        """The model's one name as a label value; `other` after the first _MAX_MODELS models."""
        # Callers choose model names, so the number of label values needs a bound.
        model = model_name(model).name
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return names.OTHER
            self._models.add(model)
        return model


# Cached, because two routers on one provider would otherwise create every instrument twice.
@cache
def _instruments(provider: MeterProvider) -> _Instruments:
    return _Instruments(provider.get_meter(names.SCOPE))


def _seconds(meter: Meter, name: str, description: str, edges: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(name, unit="s", description=description, explicit_bucket_boundaries_advisory=edges)


def _outcome(decision: Decision) -> str:
    if decision.error:
        return "error"
    return Outcome.ESCALATE.value if decision.escalated else Outcome.SHIP.value


def _decision_attributes(decision: Decision) -> Attributes:
    attributes: Mapping[str, AttributeValue | None] = {
        names.ROUTE: decision.route,
        names.INPUT_CLASS: decision.input_class or None,
        names.TIER: decision.tier,
        names.MODEL: decision.model,
        names.CONFIDENCE: decision.confidence,
        names.THRESHOLD: decision.threshold,
        names.POLICY_VERSION: decision.policy_version,
        names.OUTCOME: _outcome(decision),
        names.REASON: decision.reason,
        names.BYPASS_CAUSE: decision.bypass_cause,
        names.BASE_OUTCOME: decision.base_outcome,
        names.CALL_ID: decision.call_id,
        names.COST: decision.cost_usd,
        names.BASELINE_COST: decision.baseline_cost_usd,
        names.TRIAGE_ERROR: decision.triage_error or None,
        names.MALFORMED_CAUSE: decision.malformed_cause,
        names.FALLBACK: decision.is_fallback or None,
        names.REPLAY_REJECTED: decision.is_replay_rejected or None,
        names.SHADOW: decision.is_shadow or None,
        names.SHADOW_COST: decision.routed_cost_usd,
    }
    return _known(attributes)


def _known(attributes: Mapping[str, AttributeValue | None]) -> Attributes:
    return {name: _plain(value) for name, value in attributes.items() if value is not None}


def _plain(value: AttributeValue) -> AttributeValue:
    """`value`, with an enum member as a plain string, which every exporter accepts."""
    return str(value) if isinstance(value, str) else value


def _chat_attributes(record: ChatRecord) -> Attributes:
    attributes: Attributes = {}
    if record.response_id:
        attributes |= {names.GEN_AI_RESPONSE_ID: record.response_id, names.GEN_AI_RESPONSE_MODEL: record.response_model}
    if record.stop_reason:
        attributes |= {names.GEN_AI_FINISH_REASONS: (record.stop_reason,), names.STOP_REASON: record.stop_reason}
    if record.usage is not None:
        attributes |= _usage_attributes(record.usage)
    verdict = {names.CONFIDENCE: record.confidence, names.OUTCOME: record.outcome, names.COST: record.cost_usd}
    return attributes | _known(verdict)


def _usage_attributes(usage: Usage) -> Attributes:
    attributes: Attributes = {
        names.GEN_AI_INPUT_TOKENS: usage.total_input_tokens,
        names.GEN_AI_OUTPUT_TOKENS: usage.output_tokens,
        names.GEN_AI_CACHE_READ_TOKENS: usage.cache_read_tokens,
        names.GEN_AI_CACHE_WRITE_TOKENS: usage.cache_write_tokens,
    }
    if usage.unpriced:
        attributes[names.USAGE_UNPRICED] = usage.unpriced
    return {**attributes, names.USAGE_ESTIMATED: True} if usage.is_estimate else attributes


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


def shielded(write: Callable[[], _T]) -> _T | None:
    """The result of `write`; if a telemetry library, exporter or processor raises, it is logged, and None returned."""
    try:
        return write()
    except Exception:  # noqa: BLE001 - a failing provider of the application must not fail a call
        _log.debug("telemetry failed", exc_info=True)
        return None
