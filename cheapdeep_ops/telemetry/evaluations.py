"""Emits grades as events and spans on the traces of the graded calls, and as metrics; nothing here raises.

The GenAI conventions define a grade as an event, which travels as a log record. Backends for traces (Tempo, Phoenix)
accept no logs, so each grade is a span too.
"""

from dataclasses import dataclass

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider, get_logger
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TracerProvider

from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.handler import Attributes
from cheapdeep_ops.telemetry.shield import shielded
from cheapdeep_ops.values import Grade, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeRecord:
    """The facts of one grade; `explanation` is content, and stays empty unless content capture is on."""

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
    """The events, spans and metrics of one grader; providers that are not given are the global ones."""

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

    def record(self, record: GradeRecord) -> None:
        """Emit one grade; its event and span belong to the trace of the call, if that is known."""
        shielded(lambda: self._measure(record))
        if record.grade is not None:
            shielded(lambda: self._emit(record))
            shielded(lambda: self._mark(record))

    def _measure(self, record: GradeRecord) -> None:
        labels = {names.LABEL_ROUTE: record.route}
        self._grades.add(1, {**labels, names.LABEL_VERDICT: record.grade.value if record.grade else record.failure})
        if record.cost_usd is not None:
            self._cost.add(record.cost_usd, labels)
        if record.grade is not None:
            self._lag.record(record.lag_s, labels)

    def _emit(self, record: GradeRecord) -> None:
        if self._logger is not None:
            self._logger.emit(
                event_name=names.EVALUATION,
                attributes=_attributes(record) | _answer(record),
                context=_context_of(record.trace),
            )

    def _mark(self, record: GradeRecord) -> None:
        """Emit a span of zero length at the time of the grade, below the span of the call."""
        # Only if the call's span was sampled: without a parent, the span would be an orphan in the trace.
        if self._tracer is not None and record.trace is not None and record.trace.sampled:
            context = _context_of(record.trace)
            self._tracer.start_span(names.GRADE_SPAN, context, attributes=_attributes(record)).end()


def _instruments(meter: Meter) -> tuple[Counter, Counter, Histogram]:
    """Counters of grades and of their cost, and the histogram of their lag."""
    return (
        meter.create_counter(names.GRADES, unit="{grade}", description="Gradings by verdict or failure"),
        meter.create_counter(names.GRADE_COSTS, unit="USD", description="Cost of gradings"),
        meter.create_histogram(
            names.GRADE_LAG,
            unit="s",
            description="Time from a call to its grade",
            explicit_bucket_boundaries_advisory=names.LAG_EDGES,
        ),
    )


def _attributes(record: GradeRecord) -> Attributes:
    """The attributes of the event and of the span.

    Source: the event `gen_ai.evaluation.result` of the GenAI conventions (status Development).
    """
    attributes: Attributes = {
        names.EVALUATION_NAME: names.EVALUATED,
        names.EVALUATION_LABEL: record.grade.value if record.grade else "",
        names.CALL_ID: record.call_id,
        names.ROUTE: record.route,
        names.GRADER_MODEL: record.grader_model,
        names.GRADER_PROMPT: record.grader_prompt,
    }
    # An unsure grade has no score, so that an average of scores is over decided grades.
    if record.grade in (Grade.CORRECT, Grade.INCORRECT):
        attributes[names.EVALUATION_SCORE] = float(record.grade is Grade.CORRECT)
    if record.explanation:
        attributes[names.EVALUATION_EXPLANATION] = record.explanation
    return attributes


def _answer(record: GradeRecord) -> Attributes:
    """The id of the graded answer, for an event that is read without its trace; a span has its parent for that."""
    return {names.GEN_AI_RESPONSE_ID: record.response_id} if record.response_id else {}


def _context_of(parent: Trace | None) -> Context:
    """The context of the graded call, with the real sampled flag of its trace; a blank one if there is no trace."""
    if parent is None:
        # An empty context would mean the current one.
        return trace.set_span_in_context(trace.INVALID_SPAN, Context())
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    span_context = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())
