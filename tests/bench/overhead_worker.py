"""Makes the calls of one variant for `overhead.py`, in a process of its own.

It reads `SECONDS CONCURRENCY` from standard input, makes calls for so long, and prints their number with the CPU
seconds of the whole process. Spans go to a batch processor, metrics to a periodic reader, counters to a SQLite store:
each is flushed once a second and once at the end, inside the measured time.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anthropic
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from overhead_server import UNSURE

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.telemetry.handler import Telemetry as RouterTelemetry

WORD = "The patient, a woman of 54, takes venlafaxine 150 mg, ramipril 5 mg and levothyroxine 75 mcg every day. "
SYSTEM = "You answer questions of pharmacists in short, plain sentences, and you say what you do not know. " * 6
QUESTION = f"{WORD * 12}What does venlafaxine inhibit? "
TOOL = {"name": "lookup", "description": "Look a drug up.", "input_schema": {"type": "object", "properties": {}}}
MODEL = "claude-opus-4-7"

Call = Callable[[], Awaitable[object]]
Flush = Callable[[], object]


def request(kind: str) -> dict[str, Any]:
    """The arguments of a call, about 2 kB of text."""
    content = QUESTION + UNSURE if kind == "escalated" else QUESTION
    tools = {"tools": [TOOL]} if kind == "bypassed" else {}
    return {"max_tokens": 1024, "system": SYSTEM, "messages": [{"role": "user", "content": content}], **tools}


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


def bare(kind: str, transport: str, url: str, extras: list[str]) -> tuple[Call, Flush]:
    """A client of the SDK without a router."""
    given: dict[str, Any] = options(url)
    telemetry = None
    if "traced" in extras:
        telemetry = Telemetry()
        given["open_telemetry"] = {"tracer_provider": telemetry.tracers}
    if transport == "sync":
        client: Any = anthropic.Anthropic(**given)
    else:
        if transport == "aiohttp":
            given["http_client"] = anthropic.DefaultAioHttpClient()
        client = anthropic.AsyncAnthropic(**given)
    return call_of(client.messages, kind, model=MODEL), telemetry.flush if telemetry else lambda: None


def call_of(messages: Any, kind: str, **more: Any) -> Call:
    """One call by the public methods of a client's `messages`."""
    arguments = {**request(kind), **more}
    if kind in ("helper", "streamed"):
        return lambda: _helped(messages, arguments)
    if kind in ("events", "streamed-events"):
        return lambda: _events(messages, arguments)
    return lambda: messages.create(**arguments)


async def _helped(messages: Any, arguments: dict[str, Any]) -> None:
    async with messages.stream(**arguments) as stream:
        await stream.get_final_message()


async def _events(messages: Any, arguments: dict[str, Any]) -> None:
    async for _ in await messages.create(**arguments, stream=True):
        pass


def routed(kind: str, transport: str, url: str, extras: list[str], folder: str) -> tuple[Call, Flush]:
    """A router."""
    given: dict[str, Any] = options(url)
    telemetry = None if "no-telemetry" in extras else Telemetry()
    if telemetry:
        given["telemetry"] = RouterTelemetry(tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    records = "no-recording" not in extras
    given["settings"] = Settings(store_url=f"sqlite:///{Path(folder)}/store.db", record=records)
    if transport == "sync":
        router: Any = Router(**given)
    else:
        http_client = anthropic.DefaultAioHttpClient if transport == "aiohttp" else anthropic.DefaultAsyncHttpxClient
        router = AsyncRouter(**given, http_client=http_client())

    def flush() -> None:
        if telemetry:
            telemetry.flush()
        recorder = router._core.recorder
        if records:
            recorder.recorder.flush()

    return call_of(router.messages, kind), flush


async def measured(call: Call, flush: Flush, *, seconds: float, concurrency: int) -> dict[str, float]:
    """Make calls for `seconds`; CPU is that of all threads of the process."""
    for _ in range(20):
        await call()
    made, until = 0, time.monotonic() + seconds

    async def caller() -> None:
        nonlocal made
        while time.monotonic() < until:
            await call()
            made += 1

    began, began_wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    flush()
    return {"calls": made, "cpu_s": time.process_time() - began, "wall_s": time.perf_counter() - began_wall}


def measured_in_threads(call: Any, flush: Flush, *, seconds: float, concurrency: int) -> dict[str, float]:
    """`measured` for a synchronous client, with a thread for each caller."""
    for _ in range(20):
        call()
    until = time.monotonic() + seconds

    def caller(_number: int) -> int:
        made = 0
        while time.monotonic() < until:
            call()
            made += 1
        return made

    with ThreadPoolExecutor(concurrency) as threads:
        began, began_wall = time.process_time(), time.perf_counter()
        made = sum(threads.map(caller, range(concurrency)))
        flush()
        return {"calls": made, "cpu_s": time.process_time() - began, "wall_s": time.perf_counter() - began_wall}


def main(variant: str, url: str) -> None:
    """Measure `variant` (`KIND/TRANSPORT[/EXTRA...]`) as often as it is asked for."""
    kind, transport, *extras = variant.split("/")
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        is_bare = kind in ("bare", "helper", "events")
        make = bare(kind, transport, url, extras) if is_bare else routed(kind, transport, url, extras, folder)
        print("ready", flush=True)
        with suppress(KeyboardInterrupt):
            for line in sys.stdin:
                seconds, concurrency = float(line.split()[0]), int(line.split()[1])
                if transport == "sync":
                    figures = measured_in_threads(*make, seconds=seconds, concurrency=concurrency)
                else:
                    figures = runner.run(measured(*make, seconds=seconds, concurrency=concurrency))
                print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
