"""Sets OpenTelemetry providers up for the guard and the command line; an embedding application has its own."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

_ENDPOINTS: Final = {
    "traces": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "metrics": ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "logs": ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
}
SIGNALS: Final = tuple(_ENDPOINTS)
"""The kinds of telemetry, each of which has its own exporter."""


def is_asked_for(signal: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard `OTEL_*` variables turn the export of `signal` on ("traces", "metrics" or "logs").

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    if exporter:
        return "otlp" in [name.strip() for name in exporter.split(",")]
    return endpoint_of(signal, environ) is not None


def endpoint_of(signal: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The endpoint of `signal`: its own variable's, else the common one's; None if neither is set."""
    return next((environ[name] for name in _ENDPOINTS[signal] if environ.get(name)), None)


def configure(service_name: str, *, scraped: bool = False) -> Callable[[], None]:
    """Set up the global providers for OTLP over HTTP that the environment asks for.

    With `scraped`, the metrics are in the registry of `prometheus_client` too. Returns a function that flushes and
    stops the providers.
    """
    stops = [
        _metrics(service_name, scraped=scraped) if signal == "metrics" else _SET_UPS[signal](service_name)
        for signal in SIGNALS
        if is_asked_for(signal) or (scraped and signal == "metrics")
    ]

    def stop() -> None:
        for each in stops:
            each()

    return stop


def _traces(service_name: str) -> Callable[[], None]:
    # Imported late, so that a process without an export loads neither the SDK nor an exporter.
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=_resource(service_name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _metrics(service_name: str, *, scraped: bool = False) -> Callable[[], None]:
    from opentelemetry import metrics  # noqa: PLC0415 - see _traces
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415

    readers = [*([_pushing()] if is_asked_for("metrics") else ()), *([_scraped()] if scraped else ())]
    provider = MeterProvider(metric_readers=readers, resource=_resource(service_name))
    metrics.set_meter_provider(provider)
    return provider.shutdown


def _pushing() -> "MetricReader":
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - see _traces
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _scraped() -> "MetricReader":
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - see _traces

    return PrometheusMetricReader()


def _logs(service_name: str) -> Callable[[], None]:
    from opentelemetry._logs import set_logger_provider  # noqa: PLC0415 - see _traces
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: PLC0415
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    provider = LoggerProvider(resource=_resource(service_name))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(provider)
    return provider.shutdown


def _resource(service_name: str) -> "Resource":
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - see _traces

    # An attribute given here would win over the variable, so it is given only without one.
    named = os.environ.get("OTEL_SERVICE_NAME")
    return Resource.create({} if named else {SERVICE_NAME: service_name})


_SET_UPS: Final[Mapping[str, Callable[[str], Callable[[], None]]]] = {
    "traces": _traces,
    "logs": _logs,
}
