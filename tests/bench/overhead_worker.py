"""Makes the calls of one variant for `overhead.py`, in a process of its own; see `overhead_loop.py`.

Spans go to a batch processor, metrics to a periodic reader, counters to a SQLite store: each is flushed once a second
and once at the end, inside the measured time.
"""

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anthropic
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from overhead_loop import MODEL, Act, Variant, request, serve

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.handler import Telemetry as RouterTelemetry

ADD_ONS = {
    "add-on": "opentelemetry.instrumentation.anthropic",
    "add-on-genai": "opentelemetry.instrumentation.genai.anthropic",
}
"""Modules of packages that trace the SDK's client."""

PACKAGES = (
    "anthropic",
    "httpx2",
    "aiohttp",
    "opentelemetry-sdk",
    *(f"opentelemetry-{module.removeprefix('opentelemetry.').replace('.', '-')}" for module in ADD_ONS.values()),
)


class NoSpans(SpanExporter):
    """Throws spans away."""

    def export(self, _spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class NoMetrics(MetricExporter):
    """Throws metrics away."""

    def export(self, *_args: Any, **_options: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, *_args: Any, **_options: Any) -> bool:
        return True

    def shutdown(self, *_args: Any, **_options: Any) -> None:
        return None


class Telemetry:
    """Providers of the OpenTelemetry SDK whose exporters throw everything away."""

    def __init__(self) -> None:
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(
            BatchSpanProcessor(NoSpans(), max_queue_size=100_000, schedule_delay_millis=1_000)
        )
        self.meters = MeterProvider([PeriodicExportingMetricReader(NoMetrics(), export_interval_millis=1_000)])

    def flush(self) -> None:
        """Export everything."""
        self.tracers.force_flush()
        self.meters.force_flush()


def options(url: str) -> dict[str, Any]:
    """The options of every client."""
    return {"base_url": url, "api_key": "any", "max_retries": 2}


def client_of(transport: str, url: str, **more: Any) -> Any:
    """A client of the SDK."""
    if transport == "sync":
        return anthropic.Anthropic(**options(url), **more)
    if transport == "aiohttp":
        more["http_client"] = anthropic.DefaultAioHttpClient()
    return anthropic.AsyncAnthropic(**options(url), **more)


def bare(kind: str, transport: str, url: str, extras: list[str]) -> Variant:
    """A client of the SDK without a router: alone, with the SDK's own tracing, or with an add-on's."""
    telemetry = Telemetry() if extras else None
    given: dict[str, Any] = {}
    if telemetry and "traced" in extras:
        given["open_telemetry"] = {"tracer_provider": telemetry.tracers}
    elif telemetry:
        add_on = import_module(ADD_ONS[extras[0]]).AnthropicInstrumentor()
        add_on.instrument(tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    client = client_of(transport, url, **given)
    call = call_of(client.messages, kind, transport, model=MODEL)
    return Variant(call=call, flush=telemetry.flush if telemetry else lambda: None, close=client.close)


def call_of(messages: Any, kind: str, transport: str, **more: Any) -> Act:
    """One call by the public methods of a client's `messages`."""
    arguments = {**request(kind), **more}
    is_sync = transport == "sync"
    if kind in ("helper", "streamed"):
        read = _read_stream if is_sync else _aread_stream
    elif kind in ("events", "streamed-events"):
        read = _read_events if is_sync else _aread_events
    else:
        return lambda: messages.create(**arguments)
    return lambda: read(messages, arguments)


def _read_stream(messages: Any, arguments: dict[str, Any]) -> Any:
    with messages.stream(**arguments) as stream:
        return stream.get_final_message()


async def _aread_stream(messages: Any, arguments: dict[str, Any]) -> Any:
    async with messages.stream(**arguments) as stream:
        return await stream.get_final_message()


def _read_events(messages: Any, arguments: dict[str, Any]) -> Any:
    event = None
    for event in messages.create(**arguments, stream=True):  # noqa: B007 - the last one is returned
        pass
    return event


async def _aread_events(messages: Any, arguments: dict[str, Any]) -> Any:
    event = None
    async for event in await messages.create(**arguments, stream=True):  # noqa: B007 - as above
        pass
    return event


def routed(kind: str, transport: str, url: str, extras: list[str], folder: str) -> Variant:
    """A router."""
    given: dict[str, Any] = options(url)
    telemetry = None if "no-telemetry" in extras else Telemetry()
    if telemetry:
        given["telemetry"] = RouterTelemetry(tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    records = "no-recording" not in extras
    given["settings"] = Settings(store_url=f"sqlite:///{Path(folder)}/store.db", record=records)
    if transport == "sync":
        router: Any = Router(**given)
    elif transport == "aiohttp":
        router = AsyncRouter(**given)  # its default where aiohttp is installed
    else:
        router = AsyncRouter(**given, http_client=anthropic.DefaultAsyncHttpxClient())

    def flush() -> None:
        if telemetry:
            telemetry.flush()
        recorder = router._core.recorder
        if records:
            recorder.recorder.flush()

    return Variant(call=call_of(router.messages, kind, transport), flush=flush, close=router.close)


def floor(transport: str, url: str, telemetry: Telemetry) -> Variant:
    """The SDK's `post` with the spans and histograms of a shipped call, from attributes that are ready, and no routing.

    The reply stays plain data. The router's counters cost nearly nothing, so they are left out.
    """
    client = client_of(transport, url)
    body = {"model": "claude-haiku-4-5", **request("shipped")}
    begin = telemetry.tracers.get_tracer(names.SCOPE).start_span
    record = _recorded(telemetry.meters)

    async def call() -> object:
        route = begin(names.ROUTE_SPAN, kind=SpanKind.INTERNAL)
        context = trace.set_span_in_context(route)
        chat = begin("chat claude-haiku-4-5", context, kind=SpanKind.CLIENT, attributes=ASKED)
        reply = await client.post("/v1/messages", cast_to=object, body=body)
        chat.set_attributes(REPLIED)
        chat.end()
        route.set_attributes(DECIDED)
        record(context)
        route.end()
        return reply

    return Variant(call=call, flush=telemetry.flush, close=client.close)


def _recorded(meters: MeterProvider) -> Callable[[Any], None]:
    """Records the six figures of a shipped call."""
    meter = meters.get_meter(names.SCOPE)
    by_route = {names.LABEL_ROUTE: "default", names.LABEL_INPUT_CLASS: ""}
    by_model = {key: ASKED[key] for key in (names.GEN_AI_OPERATION, names.GEN_AI_PROVIDER, names.GEN_AI_REQUEST_MODEL)}
    read, written = ({**by_model, names.GEN_AI_TOKEN_TYPE: kind} for kind in ("input", "output"))

    def histogram(name: str, edges: tuple[float, ...]) -> Callable[..., None]:
        return meter.create_histogram(name, explicit_bucket_boundaries_advisory=edges).record

    confidence = histogram(names.CONFIDENCES, names.CONFIDENCE_EDGES)
    duration = histogram(names.CALL_DURATION, names.DURATION_EDGES)
    overhead = histogram(names.OVERHEAD_DURATION, names.OVERHEAD_EDGES)
    operation = histogram(names.OPERATION_DURATION, names.DURATION_EDGES)
    tokens = histogram(names.TOKEN_USAGE, names.TOKEN_EDGES)

    def record(context: Any) -> None:
        confidence(0.93, by_route, context)
        duration(0.9, by_route, context)
        overhead(0.0002, None, context)
        operation(0.8, by_model, context)
        tokens(610, read, context)
        tokens(240, written, context)

    return record


ASKED: dict[str, Any] = {
    names.GEN_AI_OPERATION: names.OPERATION,
    names.GEN_AI_PROVIDER: "anthropic",
    names.GEN_AI_REQUEST_MODEL: "claude-haiku-4-5",
    names.TIER: 0,
    names.CALL_KIND: "triage",
    names.GEN_AI_REQUEST_MAX_TOKENS: 1024,
    names.PROMPT_VERSION: "0123456789ab",
}
REPLIED: dict[str, Any] = {
    names.GEN_AI_RESPONSE_ID: "msg_01XFDUDYJgAACzvnptvVoYEL",
    names.GEN_AI_RESPONSE_MODEL: "claude-haiku-4-5",
    names.GEN_AI_FINISH_REASONS: ("stop",),
    names.STOP_REASON: "end_turn",
    names.GEN_AI_INPUT_TOKENS: 610,
    names.GEN_AI_OUTPUT_TOKENS: 240,
    names.GEN_AI_CACHE_READ_TOKENS: 0,
    names.GEN_AI_CACHE_WRITE_TOKENS: 0,
    names.COST: 0.00181,
    names.CONFIDENCE: 0.93,
    names.OUTCOME: "ship",
}
DECIDED: dict[str, Any] = {
    names.ROUTE: "default",
    names.TIER: 0,
    names.MODEL: "claude-haiku-4-5",
    names.CONFIDENCE: 0.93,
    names.THRESHOLD: 0.8,
    names.POLICY_VERSION: 0,
    names.OUTCOME: "ship",
    names.BASE_OUTCOME: "ship",
    names.CALL_ID: "0195d3a0-8f0e-7c7e-9d5d-6b0b8d7a4c11",
    names.COST: 0.00181,
    names.BASELINE_COST: 0.00905,
    names.SAMPLED: False,
}
"""What the spans of a shipped call say: what was asked and replied on the model call's span, the rest on the call's."""


def made(variant: str, url: str, folder: str) -> Variant:
    """The calls of `variant` (`KIND/TRANSPORT[/EXTRA...]`). Raises ModuleNotFoundError for a package it needs."""
    kind, transport, *extras = variant.split("/")
    if transport == "aiohttp":
        import_module("aiohttp")
    if kind == "floor":
        return floor(transport, url, Telemetry())
    if kind in ("bare", "helper", "events"):
        return bare(kind, transport, url, extras)
    return routed(kind, transport, url, extras, folder)


if __name__ == "__main__":
    # No guard watches these stores, and each router would say so.
    logging.getLogger("cheapdeep_ops").setLevel(logging.ERROR)
    name, api = sys.argv[1:]
    with TemporaryDirectory() as scratch:
        serve(lambda: made(name, api, scratch), PACKAGES, is_sync=name.split("/")[1] == "sync")
