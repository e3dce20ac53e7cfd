"""Spans and metrics over OTLP/HTTP, as a collector of somebody else's reads them."""

import contextlib
import gzip
import os
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough


class Collector:
    """Keeps what is posted to /v1/traces, /v1/metrics and /v1/logs."""

    def __init__(self):
        self.bodies = {"/v1/traces": [], "/v1/metrics": [], "/v1/logs": []}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies[self.path].append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self):
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies["/v1/traces"]]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def events(self):
        requests = [ExportLogsServiceRequest.FromString(body) for body in self.bodies["/v1/logs"]]
        return [
            record
            for request in requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def metrics(self):
        requests = [ExportMetricsServiceRequest.FromString(body) for body in self.bodies["/v1/metrics"]]
        return {
            metric.name: metric
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def settings_of(api, tmp_path, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
    return {
        **kept,
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "simulated",
        "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db",
        **more,
    }


def ask(api, tmp_path, **more):
    environment = settings_of(api, tmp_path, **more)
    command = [sys.executable, "-m", "cheapdeep_ops", "ask", "Is this clause valid?"]
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)


def test_an_escalated_call_is_one_route_span_with_one_span_for_each_model_call(collector, tmp_path):
    with SimulatedAnthropic() as api:
        api.enqueue(Reply.triage(0.2, None), Reply.text("It is."))
        ask(api, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    names = sorted(span.name for span in collector.spans)
    assert names == ["chat claude-haiku-4-5", "chat claude-opus-4-7", "cheapdeep.route"]
    (route,) = [span for span in collector.spans if span.name == "cheapdeep.route"]
    assert all(span.parent_span_id == route.span_id for span in collector.spans if span is not route and span != route)
    calls = collector.metrics["cheapdeep.calls"].sum.data_points
    escalations = collector.metrics["cheapdeep.escalations"].sum.data_points
    assert [point.as_int for point in calls] == [1]
    assert [(point.as_int, "low_confidence" in str(point.attributes)) for point in escalations] == [(1, True)]
    everything = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert b"clause" not in everything
    assert b"It is." not in everything


def test_nothing_is_exported_unless_asked(collector, tmp_path):
    with SimulatedAnthropic() as api:
        ask(api, tmp_path)
    assert not any(collector.bodies.values())


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_a_grade_lies_on_the_trace_of_the_call_that_it_is_of(collector, tmp_path, sampler):
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "CHEAPDEEP_SAMPLE_RATE": "1", "OTEL_TRACES_SAMPLER": sampler}
    with SimulatedAnthropic() as api:
        ask(api, tmp_path, **told)
        often = {"CHEAPDEEP_GRADE_EVERY_S": "0.2", "CHEAPDEEP_EVALUATE_EVERY_S": "0.2", "CHEAPDEEP_PORT": "0"}
        environment = settings_of(api, tmp_path, **told, **often)
        command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
        guard = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_for_grade(tmp_path / "store.db")
        finally:
            guard.terminate()
            guard.wait(PATIENCE_S)
    (event,) = collector.events
    said = {attribute.key: attribute.value for attribute in event.attributes}
    assert event.event_name == "gen_ai.evaluation.result"
    assert said["gen_ai.evaluation.score.label"].string_value in ("correct", "incorrect", "unsure")
    assert event.flags == (sampler == "always_on")
    if sampler == "always_on":
        (route,) = [span for span in collector.spans if span.name == "cheapdeep.route"]
        assert (event.trace_id, event.span_id) == (route.trace_id, route.span_id)
        (grade,) = [span for span in collector.spans if span.name == "cheapdeep.grade"]
        assert (grade.trace_id, grade.parent_span_id) == (route.trace_id, route.span_id)
    assert "cheapdeep.grades" in collector.metrics
    assert b"clause" not in b"".join(body for bodies in collector.bodies.values() for body in bodies)


def wait_for_grade(path):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(path)) as store, contextlib.suppress(sqlite3.OperationalError):
            if store.execute("SELECT count(*) FROM grade").fetchone()[0]:
                return
        time.sleep(0.05)
    pytest.fail(f"waited {PATIENCE_S:g} s for a grade")
