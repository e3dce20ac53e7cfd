import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry._logs import NoOpLogger
from opentelemetry.metrics import NoOpMeter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import NoOpTracer, SpanKind, TraceFlags

from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.evaluations import GradeRecord, GradeTelemetry
from cheapdeep_ops.telemetry.setup import is_asked_for
from cheapdeep_ops.values import Grade, GradeFailure, Trace

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PLACE = Trace(trace_id=TRACE_ID, span_id=SPAN_ID, sampled=True)
RECORD = GradeRecord(
    route="support",
    call_id="call-1",
    grade=Grade.INCORRECT,
    failure="",
    grader_model="claude-opus-4-7",
    grader_prompt="c0ffee00",
    lag_s=42.0,
    cost_usd=0.0125,
    trace=PLACE,
    response_id="msg_1",
)


class Seen:
    """Grades told into memory, through providers of the test's own."""

    def __init__(self, sampler=None) -> None:
        self._exporter, self._reader = InMemoryLogRecordExporter(), InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.telemetry = GradeTelemetry(
            logger_provider=self.logger_provider,
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
        )

    def tell(self, **changes):
        self.telemetry.record(replace(RECORD, **changes))

    @property
    def events(self):
        return [each.log_record for each in self._exporter.get_finished_logs()]

    @property
    def spans(self):
        return self._spans.get_finished_spans()

    @property
    def scopes(self):
        return {each.instrumentation_scope.name for each in self._exporter.get_finished_logs()}

    def metrics(self):
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name):
        found = self.metrics().get(name)
        return {frozenset(point.attributes.items()): point for point in found.data.data_points} if found else {}


@pytest.fixture
def seen() -> Seen:
    return Seen()


def only(found):
    (one,) = found
    return one


# The event


def test_a_grade_is_one_event_with_the_names_of_the_conventions(seen):
    seen.tell()
    event = only(seen.events)
    assert (event.event_name, event.body) == ("gen_ai.evaluation.result", None)
    assert dict(event.attributes) == {
        "gen_ai.evaluation.name": "cheapdeep.correctness",
        "gen_ai.evaluation.score.label": "incorrect",
        "gen_ai.evaluation.score.value": 0.0,
        "gen_ai.response.id": "msg_1",
        "cheapdeep.call.id": "call-1",
        "cheapdeep.route": "support",
        "cheapdeep.grader.model": "claude-opus-4-7",
        "cheapdeep.grader.prompt.version": "c0ffee00",
    }
    assert seen.scopes == {"cheapdeep_ops"}


def test_the_names_are_those_of_the_published_conventions():
    ours = {names.EVALUATION_NAME, names.EVALUATION_LABEL, names.EVALUATION_SCORE, names.EVALUATION_EXPLANATION}
    theirs = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_EVALUATION")}
    assert ours <= theirs


@pytest.mark.parametrize(("grade", "score"), [(Grade.CORRECT, 1.0), (Grade.INCORRECT, 0.0), (Grade.UNSURE, None)])
def test_a_score_is_a_number_and_stands_only_where_the_grader_has_decided(seen, grade, score):
    seen.tell(grade=grade)
    attributes = only(seen.events).attributes
    assert (attributes["gen_ai.evaluation.score.label"], attributes.get("gen_ai.evaluation.score.value")) == (
        grade.value,
        score,
    )
    kinds = {name: type(value) for name, value in attributes.items()}
    assert kinds.pop("gen_ai.evaluation.score.value", float) is float
    assert set(kinds.values()) == {str}


@pytest.mark.parametrize("sampled", [True, False])
def test_the_event_lies_in_the_trace_of_its_call_with_the_flag_of_that(seen, sampled):
    seen.tell(trace=replace(PLACE, sampled=sampled))
    event = only(seen.events)
    assert (f"{event.trace_id:032x}", f"{event.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert event.trace_flags == (TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)


@pytest.mark.parametrize(("place", "expected"), [(None, (0, 0)), (PLACE, (int(TRACE_ID, 16), int(SPAN_ID, 16)))])
def test_a_span_that_happens_to_be_open_is_not_the_calls(seen, place, expected):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("guard")
    with tracer.start_as_current_span("grade"):
        seen.tell(trace=place)
    event = only(seen.events)
    assert (event.trace_id or 0, event.span_id or 0) == expected


def test_an_explanation_is_told_only_where_there_is_one(seen):
    seen.tell()
    seen.tell(explanation="The law says otherwise.")
    found = [event.attributes.get("gen_ai.evaluation.explanation") for event in seen.events]
    assert found == [None, "The law says otherwise."]


def test_a_response_without_an_id_has_none(seen):
    seen.tell(response_id="")
    assert "gen_ai.response.id" not in only(seen.events).attributes


@pytest.mark.parametrize("failure", list(GradeFailure))
def test_a_failure_is_counted_with_its_cost_and_is_no_event(seen, failure):
    seen.tell(grade=None, failure=failure.value)
    assert seen.events == []
    (labels, point), = seen.points("cheapdeep.grades").items()  # fmt: skip
    assert (dict(labels), point.value) == ({"route": "support", "verdict": failure.value}, 1)
    assert only(seen.points("cheapdeep.grade.cost").values()).value == 0.0125
    assert seen.points("cheapdeep.grade.lag") == {}


# The span, for what keeps traces and takes no events


def test_a_grade_is_a_span_in_the_trace_of_its_call_below_the_calls_own(seen):
    seen.tell()
    span = only(seen.spans)
    assert (span.name, span.kind) == ("cheapdeep.grade", SpanKind.INTERNAL)
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (SPAN_ID, True)
    assert {**span.attributes, "gen_ai.response.id": "msg_1"} == dict(only(seen.events).attributes)
    assert "gen_ai.response.id" not in span.attributes, "what reads traces would take it for a model call"


@pytest.mark.parametrize("place", [None, replace(PLACE, sampled=False)])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ParentBased(ALWAYS_ON)])
def test_no_span_is_made_below_a_call_that_was_not_exported(place, sampler):
    seen = Seen(sampler)
    with seen.tracer_provider.get_tracer("guard").start_as_current_span("grade"):
        seen.tell(trace=place)
    assert [span.name for span in seen.spans] == ["grade"]
    assert len(seen.events) == 1


def test_a_guard_that_is_told_to_sample_nothing_makes_no_span():
    seen = Seen(ALWAYS_OFF)
    seen.tell()
    assert (len(seen.spans), len(seen.events)) == (0, 1)


def test_a_failure_is_no_span(seen):
    seen.tell(grade=None, failure=GradeFailure.REJECTED.value)
    assert seen.spans == ()


# The metrics


def test_grades_are_counted_by_route_and_verdict(seen):
    for route, grade in (("a", Grade.CORRECT), ("a", Grade.CORRECT), ("a", Grade.UNSURE), ("b", Grade.CORRECT)):
        seen.tell(route=route, grade=grade)
    counts = {tuple(sorted(dict(labels).values())): point.value for labels, point in seen.points(names.GRADES).items()}
    assert counts == {("a", "correct"): 2, ("a", "unsure"): 1, ("b", "correct"): 1}


def test_costs_add_up_and_an_unknown_one_adds_nothing(seen):
    for cost in (0.25, 0.5, None):
        seen.tell(cost_usd=cost)
    assert only(seen.points(names.GRADE_COSTS).values()).value == 0.75


def test_the_lag_falls_into_buckets_of_its_own(seen):
    for lag_s in (0.0, 42.0, 100_000.0):
        seen.tell(lag_s=lag_s)
    point = only(seen.points(names.GRADE_LAG).values())
    assert (point.explicit_bounds, point.count, point.sum) == (names.LAG_EDGES, 3, 100_042.0)
    assert [index for index, count in enumerate(point.bucket_counts) if count] == [0, 3, len(names.LAG_EDGES)]


def test_every_metric_has_its_unit_and_no_id_among_its_labels(seen):
    seen.tell()
    found = {
        name: (metric.unit, {label for point in metric.data.data_points for label in point.attributes})
        for name, metric in seen.metrics().items()
    }
    assert found == {
        "cheapdeep.grades": ("{grade}", {"route", "verdict"}),
        "cheapdeep.grade.cost": ("USD", {"route"}),
        "cheapdeep.grade.lag": ("s", {"route"}),
    }


# Providers that fail


class Failing:
    """Raises at whatever it is asked."""

    def __getattr__(self, name):
        raise RuntimeError(f"no {name} today")


class FailingLater:
    """Gives a logger or a meter that raises when used."""

    def get_logger(self, *_args, **_more):
        logger = NoOpLogger("test")
        logger.emit = self._fail
        return logger

    def get_tracer(self, *_args, **_more):
        tracer = NoOpTracer()
        tracer.start_span = self._fail
        return tracer

    def get_meter(self, *_args, **_more):
        meter = NoOpMeter("test")
        meter.create_counter = meter.create_histogram = self._fail
        return meter

    def _fail(self, *_args, **_more):
        raise RuntimeError("not today")


class FailingInstruments(FailingLater):
    """Gives a meter whose instruments raise when used."""

    def get_meter(self, *_args, **_more):
        meter = NoOpMeter("test")
        counter = meter.create_counter("test")
        counter.add = self._fail
        meter.create_counter = lambda *_args, **_more: counter
        return meter


@pytest.mark.parametrize("kind", [Failing, FailingLater, FailingInstruments])
def test_a_provider_that_raises_costs_only_what_it_was_for(seen, kind):
    fails = kind()
    GradeTelemetry(logger_provider=fails, tracer_provider=fails, meter_provider=fails).record(RECORD)
    ours = {
        "logger_provider": seen.logger_provider,
        "tracer_provider": seen.tracer_provider,
        "meter_provider": seen.meter_provider,
    }
    told = []
    for broken in ours:
        GradeTelemetry(**{**ours, broken: fails}).record(RECORD)
        told.append((len(seen.events), len(seen.spans), only(seen.points(names.GRADES).values()).value))
    assert told == [(0, 1, 1), (1, 1, 2), (2, 2, 2)]


@pytest.mark.parametrize("ids", [("", ""), ("no hex", "at all"), (TRACE_ID, "")])
def test_a_trace_that_is_none_costs_event_and_span_and_nothing_else(seen, ids):
    seen.tell(trace=Trace(trace_id=ids[0], span_id=ids[1], sampled=True))
    assert seen.spans == ()
    assert (len(seen.events), only(seen.points(names.GRADES).values()).value) == (0, 1)


# Setting providers up

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, False),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, True),
        ({"OTEL_LOGS_EXPORTER": "console, otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
        (ENDPOINT | {"OTEL_LOGS_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_LOGS_EXPORTER": "console"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_LOGS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_events_are_asked_for_by_the_standard_variables(environ, asked):
    assert is_asked_for("logs", environ) is asked


class Collector(ThreadingHTTPServer):
    """Keeps what is posted, by path."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                collector.posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


TELLING = """
from cheapdeep_ops.telemetry.evaluations import GradeRecord, GradeTelemetry
from cheapdeep_ops.telemetry.setup import configure
from cheapdeep_ops.values import Grade, Trace

stop = configure("guard-of-the-test")
GradeTelemetry().record(GradeRecord(
    route="support", call_id="call-1", grade=Grade.CORRECT, failure="", grader_model="m", grader_prompt="p",
    lag_s=1.0, cost_usd=None, trace=Trace(trace_id="{trace}", span_id="{span}", sampled=True),
))
stop()
"""


def test_configured_providers_send_the_event_to_a_collector(collector):
    code = TELLING.format(trace=TRACE_ID, span=SPAN_ID)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ = {**kept, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://127.0.0.1:{collector.server_port}/v1/logs"}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=300)
    (path, body) = only(collector.posted)
    resource = only(ExportLogsServiceRequest.FromString(body).resource_logs)
    event = only(only(resource.scope_logs).log_records)
    assert path == "/v1/logs"
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == (
        "guard-of-the-test"
    )
    assert (event.event_name, event.trace_id.hex(), event.span_id.hex(), event.flags) == (
        "gen_ai.evaluation.result",
        TRACE_ID,
        SPAN_ID,
        1,
    )
