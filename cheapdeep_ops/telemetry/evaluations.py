"""Writing grades onto the traces of the calls they are of, and as metrics; nothing here raises.

A grade is an event, as the conventions have it, and a span beside it: an event travels as a log record, and what keeps
traces (Tempo, Phoenix) takes no logs.
"""

from dataclasses import dataclass

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, get_logger
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TracerProvider

from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.handler import Attributes, shielded
from cheapdeep_ops.values import Grade, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeRecord:
    """What is told of one grade; `explanation` is content, and empty unless content was asked for."""

    route: str
    call_id: str
    grade: Grade | None
    failure: str
    grader_model: str
    grader_prompt: str
    lag_s: float
    cost_usd: float | None
    trace: Trace | None = None
    response_id: str = ""
    explanation: str = ""


class GradeTelemetry:
    """The events, spans and metrics of one grader; the global providers serve where none are given."""

    def __init__(
        self,
        *,
        logger_provider: LoggerProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = shielded(lambda: trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider))
        self._logger = shielded(lambda: get_logger(names.SCOPE, logger_provider=logger_provider))
        made = shielded(lambda: _instruments((meter_provider or metrics.get_meter_provider()).get_meter(names.SCOPE)))
        self._grades, self._cost, self._lag = made or _instruments(metrics.NoOpMeter(names.SCOPE))

    def record(self, told: GradeRecord) -> None:
        """Tell of one grade, in the trace of its call where that is known."""
        shielded(lambda: self._measure(told))
        if told.grade is not None:
            shielded(lambda: self._emit(told))
            shielded(lambda: self._mark(told))

    def _measure(self, told: GradeRecord) -> None:
        labels = {names.LABEL_ROUTE: told.route}
        self._grades.add(1, {**labels, names.LABEL_VERDICT: told.grade.value if told.grade else told.failure})
        if told.cost_usd is not None:
            self._cost.add(told.cost_usd, labels)
        if told.grade is not None:
            self._lag.record(told.lag_s, labels)

    def _emit(self, told: GradeRecord) -> None:
        if self._logger is not None:
            self._logger.emit(
                event_name=names.EVALUATION,
                attributes=_attributes(told) | _answer(told),
                context=_context_of(told.trace),
            )

    def _mark(self, told: GradeRecord) -> None:
        """A span without length, at the moment of the grade; none below a call of which no span was exported."""
        if self._tracer is not None and told.trace is not None and told.trace.sampled:
            context = _context_of(told.trace)
            self._tracer.start_span(names.GRADE_SPAN, context, attributes=_attributes(told)).end()


def _instruments(meter: Meter) -> tuple[Counter, Counter, Histogram]:
    """Counters of grades and of their cost, and the histogram of their lag."""
    return (
        meter.create_counter(names.GRADES, unit="{grade}", description="Gradings by what came of them"),
        meter.create_counter(names.GRADE_COSTS, unit="USD", description="Cost of gradings"),
        meter.create_histogram(
            names.GRADE_LAG,
            unit="s",
            description="From a call to its grade",
            explicit_bucket_boundaries_advisory=names.LAG_EDGES,
        ),
    )


def _attributes(told: GradeRecord) -> Attributes:
    """Of the event and of the span. Source: the GenAI conventions' event `gen_ai.evaluation.result` (Development)."""
    attributes: Attributes = {
        names.EVALUATION_NAME: names.EVALUATED,
        names.EVALUATION_LABEL: told.grade.value if told.grade else "",
        names.CALL_ID: told.call_id,
        names.ROUTE: told.route,
        names.GRADER_MODEL: told.grader_model,
        names.GRADER_PROMPT: told.grader_prompt,
    }
    if told.grade in (Grade.CORRECT, Grade.INCORRECT):
        attributes[names.EVALUATION_SCORE] = float(told.grade is Grade.CORRECT)
    if told.explanation:
        attributes[names.EVALUATION_EXPLANATION] = told.explanation
    return attributes


def _answer(told: GradeRecord) -> Attributes:
    """Which answer was graded, for an event that may be read without its trace; a span's place says it already."""
    return {names.GEN_AI_RESPONSE_ID: told.response_id} if told.response_id else {}


def _context_of(place: Trace | None) -> Context:
    """The graded call's own context, with the sampled flag that its trace really has; a blank one without a trace."""
    if place is None:
        return trace.set_span_in_context(trace.INVALID_SPAN, Context())  # an empty one would stand for the current one
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    there = SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(there), Context())
