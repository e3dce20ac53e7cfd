"""Spans and metrics over OTLP/HTTP, as a collector of somebody else's reads them."""

import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cheapdeep_ops.testing import Reply, SimulatedAnthropic


class Collector:
    """Keeps what is posted to /v1/traces and /v1/metrics."""

    def __init__(self):
        self.bodies = {"/v1/traces": [], "/v1/metrics": []}
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


def ask(api, tmp_path, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
    environment = {
        **kept,
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "simulated",
        "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db",
        **more,
    }
    command = [sys.executable, "-m", "cheapdeep_ops", "ask", "Is this clause valid?"]
    subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)


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
    assert collector.bodies == {"/v1/traces": [], "/v1/metrics": []}
