"""The metrics of the routers, once for each meter provider. Labels are bounded."""

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, MeterProvider, NoOpMeter, NoOpMeterProvider
from opentelemetry.trace import SpanContext, get_current_span

from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.shield import shielded
from cheapdeep_ops.telemetry.sums import ObservedCounter
from cheapdeep_ops.values import Decision, Hop, Outcome

_MAX_MODELS: Final = 100
_BY_CLASS: Final = (names.LABEL_ROUTE, names.LABEL_INPUT_CLASS)
_Labels = dict[str, str]


class Instruments:
    """The metric instruments of one meter provider.

    Counters are observed: a write to a counter of the SDK costs about as much as one to a histogram.
    """

    def __init__(self, meter: Meter) -> None:
        self._models: set[str] = set()

        def counter(name: str, unit: str, description: str, *labels: str) -> ObservedCounter:
            made = ObservedCounter(*labels)
            meter.create_observable_counter(name, [made.observe], unit, description)
            return made

        def histogram(name: str, unit: str, description: str, edges: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=edges)

        self._calls = counter(
            names.CALLS, "{call}", "Calls through the router", *_BY_CLASS, names.LABEL_OUTCOME, names.LABEL_MODEL
        )
        self._escalations = counter(
            names.ESCALATIONS, "{call}", "Calls that left the first tier", *_BY_CLASS, names.LABEL_REASON
        )
        self._base_escalations = counter(
            names.BASE_ESCALATIONS,
            "{call}",
            "Calls that would have left it at the base threshold",
            *_BY_CLASS,
            names.LABEL_REASON,
        )
        self._cost = counter(names.COSTS, "USD", "Cost of all model calls", *_BY_CLASS)
        self._baseline = counter(names.BASELINE_COSTS, "USD", "Estimated cost of the deep tier alone", *_BY_CLASS)
        self._unpriced = counter(names.UNPRICED, "{call}", "Calls whose cost is not known", *_BY_CLASS)
        self._fallbacks = counter(
            names.FALLBACKS, "{call}", "Triage answers that went out because the deep tier failed", *_BY_CLASS
        )
        self._rejected = counter(
            names.REPLAYS_REJECTED, "{call}", "Requests that the deep tier refused after triage", *_BY_CLASS
        )
        self._refused_parts = counter(
            names.REFUSED_PARTS,
            "{part}",
            "Parts of triage requests that models turned out to refuse",
            names.LABEL_MODEL,
            names.LABEL_PART,
        )
        self._malformed = counter(
            names.MALFORMED,
            "{reply}",
            "Triage replies that were refused as malformed, by cause",
            names.LABEL_ROUTE,
            names.LABEL_CAUSE,
        )
        self.dropped = counter(names.RECORDER_DROPPED, "{call}", "Decisions that the recorder dropped")
        self.guard_age = meter.create_gauge(names.GUARD_AGE, "s", "Time since a guard's last heartbeat in the store")
        self.threshold = meter.create_gauge(names.THRESHOLDS, description="Threshold in force")
        self._confidence = histogram(
            names.CONFIDENCES, "{confidence}", "Confidence stated by the first tier", names.CONFIDENCE_EDGES
        )
        self._duration = histogram(names.CALL_DURATION, "s", "Duration of a whole call", names.DURATION_EDGES)
        self._overhead = histogram(
            names.OVERHEAD_DURATION, "s", "Duration of a call outside of its model calls", names.OVERHEAD_EDGES
        )
        self._operation = histogram(names.OPERATION_DURATION, "s", "Duration of a model call", names.DURATION_EDGES)
        self._tokens = histogram(names.TOKEN_USAGE, "{token}", "Tokens of a model call", names.TOKEN_EDGES)

    def record(
        self, decision: Decision, *, provider: str, hop_s: Sequence[float], waited_s: float, context: Context | None
    ) -> None:
        """Record one call; see `Telemetry.record_decision`. Exemplars lead to the span of `context` (None: current)."""
        scope = decision.counted or (decision.route, decision.input_class)
        self._count(decision, scope, get_current_span(context).get_span_context())
        labels = {names.LABEL_ROUTE: scope[0], names.LABEL_INPUT_CLASS: scope[1]}
        # The first tier's, whichever tier answered: a distribution of two models' confidences would mean nothing.
        confidence = decision.first_confidence
        # Each write has a shield of its own, so that an instrument that fails costs no other figure.
        if confidence is not None:
            shielded(self._confidence.record, confidence, labels, context)
        shielded(self._duration.record, decision.duration_s, labels, context)
        shielded(self._overhead.record, max(decision.duration_s - waited_s, 0.0), None, context)
        for hop, seconds in zip(decision.hops, hop_s, strict=False):
            self._record_hop(hop, seconds, provider, context)

    def _record_hop(self, hop: Hop, seconds: float, provider: str, context: Context | None) -> None:
        labels = _hop_labels(provider, self._label(hop.tier.model), hop.error)
        shielded(self._operation.record, seconds, labels.operation, context)
        if hop.usage is not None:
            shielded(self._tokens.record, hop.usage.total_input_tokens, labels.input_tokens, context)
            shielded(self._tokens.record, hop.usage.output_tokens, labels.output_tokens, context)

    def _count(self, decision: Decision, scope: tuple[str, str], at: SpanContext) -> None:
        self._calls.add(1, (*scope, outcome_of(decision), self._label(decision.model)), at)
        if decision.escalated and decision.reason:
            self._escalations.add(1, (*scope, decision.reason.value), at)
        if decision.base_outcome is Outcome.ESCALATE and decision.base_reason:
            self._base_escalations.add(1, (*scope, decision.base_reason.value), at)
        if decision.is_fallback:
            self._fallbacks.add(1, scope, at)
        if decision.is_replay_rejected:
            self._rejected.add(1, scope, at)
        for hop in decision.hops:
            cause = hop.malformed_cause
            if cause is not None:
                self._malformed.add(1, (scope[0], cause.value), at)
        # Cost and baseline are compared, so they must be sums over one set of calls.
        if decision.cost_usd is None or decision.baseline_cost_usd is None:
            self._unpriced.add(1, scope, at)
        else:
            self._cost.add(decision.cost_usd, scope, at)
            self._baseline.add(decision.baseline_cost_usd, scope, at)

    def count_refused_part(self, model: str, part: str) -> None:
        """Add one to the refused parts of triage requests."""
        self._refused_parts.add(1, (self._label(model), str(part)), get_current_span().get_span_context())

    def _label(self, model: str) -> str:
        """The model's one name as a label value; `other` after the first _MAX_MODELS models."""
        # Callers choose model names, so the number of label values needs a bound.
        model = model_name(model).name
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return names.OTHER
            self._models.add(model)
        return model


class _HopLabels(NamedTuple):
    operation: _Labels
    input_tokens: _Labels
    output_tokens: _Labels


@lru_cache(maxsize=512)
def _hop_labels(provider: str, model: str, error: str) -> _HopLabels:
    """The labels of a model call's duration and tokens. They are shared, so they must not be changed."""
    labels = {
        names.GEN_AI_OPERATION: names.OPERATION,
        names.GEN_AI_PROVIDER: provider,
        names.GEN_AI_REQUEST_MODEL: model,
    }
    return _HopLabels(
        operation={**labels, names.ERROR_TYPE: error} if error else labels,
        input_tokens={**labels, names.GEN_AI_TOKEN_TYPE: "input"},
        output_tokens={**labels, names.GEN_AI_TOKEN_TYPE: "output"},
    )


def outcome_of(decision: Decision) -> str:
    """The outcome of a call in one word: `error`, `escalate` or `ship`."""
    if decision.error:
        return "error"
    return Outcome.ESCALATE.value if decision.escalated else Outcome.SHIP.value


# Re-entrant, because a provider, or a signal handler, may make a call meanwhile.
_making: Final = threading.RLock()


def is_stand_in(provider: MeterProvider) -> bool:
    """Whether a provider is the API's own, for a global one that is not set yet."""
    is_of_api = type(provider).__module__.startswith(f"{metrics.__name__}.")
    return is_of_api and not isinstance(provider, NoOpMeterProvider)


def instruments_of(provider: MeterProvider) -> Instruments | None:
    """The instruments of a meter provider; None if it records nothing."""
    # A stand-in passes its instruments on: the real provider would have each counter twice, and ask only the first.
    if is_stand_in(provider):
        return None
    with _making:
        return _once(provider, lambda: _of_meter(provider.get_meter(names.SCOPE)))


def _of_meter(meter: Meter) -> Instruments | None:
    # Wrappers around one provider give the same meter.
    return None if type(meter) is NoOpMeter else _once(meter, lambda: Instruments(meter))


# Once, because two routers on one provider share their counters: the SDK takes a counter's first callback only.
def _once(owner: object, make: Callable[[], Instruments | None]) -> Instruments | None:
    """What `make` returned the first time for this very provider or meter, which may be equal to others."""
    if id(owner) not in _made:
        _made.setdefault(id(owner), (owner, make()))
    return _made[id(owner)][1]


_made: Final[dict[int, tuple[object, Instruments | None]]] = {}
"""By the id of a provider or meter, which is kept, so that no other gets that id."""
