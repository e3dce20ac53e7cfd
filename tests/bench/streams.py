"""Streams through the router: when the first text comes, how early a stream is left, and that nothing leaks.

`python tests/bench/streams.py [SECONDS]` prints three tables: time to the first text of a shipped answer beside that of
the bare triage stream, in one run, turn by turn; how many events of a triage stream had gone out when the deep tier was
asked; and what is left of 200 concurrent streams, a third of them left midway, after SECONDS (60). Everything goes over
HTTP to a simulated API whose events come at a fixed pace.
"""

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Any

from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cheapdeep_ops import AsyncRouter, Settings
from cheapdeep_ops.policy import PolicyBook, blank_book
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from cheapdeep_ops.testing.messages_api.wire import DELTA_CHARS
from cheapdeep_ops.values import Decision

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
PACE_S = 0.02
LONG = "An answer of some length, so that it takes many events to arrive. " * 8
QUESTION: dict[str, Any] = {"max_tokens": 1_000, "messages": [{"role": "user", "content": "hello"}]}


@dataclass
class Counted:
    """A sink that keeps decisions."""

    book: PolicyBook = field(default_factory=blank_book)
    decisions: list[Decision] = field(default_factory=list)

    def put(self, decision: Decision, tell: Callable[[], object]) -> None:
        del tell
        self.decisions.append(decision)

    def close(self) -> None:
        pass


def client_for(api: SimulatedAnthropic) -> AsyncAnthropic:
    return AsyncAnthropic(
        base_url=api.url, api_key="any", max_retries=0, open_telemetry=False,
        http_client=DefaultAsyncHttpxClient(verify=False, trust_env=False),
    )  # fmt: skip


def router_for(client: AsyncAnthropic, sink: Counted, telemetry: Telemetry | None = None) -> AsyncRouter:
    return AsyncRouter(settings=Settings(record=False), client=client, recorder=sink, telemetry=telemetry)


async def first_text_s(events: Any, holds: Callable[[str], bool]) -> float:
    """Seconds until the text so far `holds`; the stream is left there."""
    began, text = time.perf_counter(), ""
    async with await events as stream:
        async for event in stream:
            if event.type == "content_block_delta":
                text += event.delta.text
                if holds(text):
                    break
        return time.perf_counter() - began


async def first_texts(turns: int, *, pace_s: float = PACE_S) -> tuple[float, float]:
    """Median seconds to the answer's first text: of the bare triage stream, and of the routed one."""
    with SimulatedAnthropic() as api:
        api.always(Reply.triage(0.93, LONG).paced(pace_s))
        async with client_for(api) as client, router_for(client, Counted()) as router:
            routed = {**QUESTION, "stream": True}
            await first_text_s(router.messages.create(**routed), bool)
            body = {name: value for name, value in api.requests[0].body.items() if name != "stream"}
            bare_s, routed_s = [], []
            for _ in range(turns):
                bare_s.append(await first_text_s(client.messages.create(**body, stream=True), _has_begun))
                routed_s.append(await first_text_s(router.messages.create(**routed), bool))
    return median(bare_s), median(routed_s)


def _has_begun(text: str) -> bool:
    return '"answer": "' in text and not text.endswith('"answer": "')


async def events_beyond_the_delimiter(turns: int, *, pace_s: float = PACE_S) -> list[int]:
    """How many events had gone out behind the one that ends the confidence, when the deep tier was asked."""
    beyond: list[int] = []
    with SimulatedAnthropic() as api:
        reply = Reply.triage(0.4, LONG)
        delimiter = _events_until_delimiter(reply.content or "")

        def deep(_request: object) -> Reply:
            beyond.append(api.streams[-1].sent - delimiter)
            return Reply.text("Deep.")

        api.always(reply.paced(pace_s), model=HAIKU)
        api.always(deep, model=OPUS)
        async with client_for(api) as client, router_for(client, Counted()) as router:
            for _ in range(turns):
                async with router.messages.stream(**QUESTION) as stream:
                    await stream.get_final_message()
    return beyond


def _events_until_delimiter(text: str) -> int:
    """Events of the simulated stream up to the one with the comma behind the confidence."""
    return 3 + text.index(",") // DELTA_CHARS + 1  # behind message_start, content_block_start and ping


@dataclass(frozen=True, kw_only=True)
class Left:
    """What many concurrent streams leave behind."""

    calls: int
    left_midway: int
    recorded: int
    spans_open: int
    tasks: int
    connections: int
    upstream: int


async def many(concurrency: int, seconds: float, *, pace_s: float, seed: int = 0) -> Left:
    """Keep `concurrency` streams going for `seconds`; a third are left midway, in one of three ways."""
    exporter = InMemorySpanExporter()
    provider = _Counting(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sink, rng, state = Counted(), Random(seed), {"calls": 0, "left": 0}
    tasks = len(asyncio.all_tasks())
    with SimulatedAnthropic(keep_requests=1_000_000) as api:
        api.always(Reply.triage(0.93, LONG).paced(pace_s), model=HAIKU)
        api.always(Reply.text(LONG).paced(pace_s), model=OPUS)
        client = client_for(api)
        router = router_for(client, sink, Telemetry(tracer_provider=provider))
        until = time.monotonic() + seconds

        async def caller(number: int) -> None:
            own = Random(rng.random() + number)
            while time.monotonic() < until:
                was_left = await one_call(router, own, pace_s)
                state["calls"] += 1
                state["left"] += was_left

        await asyncio.gather(*map(caller, range(concurrency)))
        gc.collect()
        for _ in range(200):  # a server learns a little later that its reader has gone
            if not any(stream.is_open for stream in api.streams):
                break
            await asyncio.sleep(0.05)
        open_upstream = sum(stream.is_open for stream in api.streams)
        busy = _busy_connections(client)
        await router.aclose()
        await client.close()
        await asyncio.sleep(0)
    finished = len(exporter.get_finished_spans())
    return Left(
        calls=state["calls"],
        left_midway=state["left"],
        recorded=len(sink.decisions),
        spans_open=provider.started - finished,
        tasks=len(asyncio.all_tasks()) - tasks,
        connections=busy,
        upstream=open_upstream,
    )


async def one_call(router: AsyncRouter, rng: Random, pace_s: float) -> bool:
    """One stream; gives whether it was left midway."""
    stop_after = rng.randrange(1, 12) if rng.random() < 1 / 3 else None
    deep = {"stop_sequences": ["never"]} if rng.random() < 0.3 else {}
    if stop_after is None:
        async with router.messages.stream(**QUESTION, **deep) as stream:
            await stream.get_final_message()
        return False
    if rng.random() < 0.5:
        async with await router.messages.create(stream=True, **QUESTION, **deep) as events:
            for _ in range(stop_after):
                await anext(events)
        return True
    task = asyncio.create_task(_read(router, deep))
    await asyncio.sleep(stop_after * pace_s)
    task.cancel()
    await asyncio.wait([task])
    return True


async def _read(router: AsyncRouter, deep: dict[str, Any]) -> None:
    async with router.messages.stream(**QUESTION, **deep) as stream:
        async for _ in stream.text_stream:
            pass


def _busy_connections(client: AsyncAnthropic) -> int:
    pool = client._client._transport._pool
    return sum(not connection.is_idle() for connection in pool.connections)


class _Counting(TracerProvider):
    """Counts the spans that are begun."""

    started = 0

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer, start = super().get_tracer(*args, **kwargs), None
        start = tracer.start_span

        def counted(*span_args: Any, **span_kwargs: Any) -> Any:
            self.started += 1
            return start(*span_args, **span_kwargs)

        tracer.start_span = counted
        return tracer


def main() -> None:
    """Print the tables."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    bare_s, routed_s = asyncio.run(first_texts(50))
    ratio = routed_s / bare_s
    print(f"first text, ms: bare triage stream {bare_s * 1e3:.1f}, routed {routed_s * 1e3:.1f}: {ratio:.3f} times")
    beyond = asyncio.run(events_beyond_the_delimiter(50))
    print(f"events behind the confidence's delimiter when the deep tier was asked, {len(beyond)} calls: {max(beyond)}")
    threads = threading.active_count()
    left = asyncio.run(many(200, seconds, pace_s=0.1))
    print(json.dumps({**left.__dict__, "threads": threading.active_count() - threads}))


if __name__ == "__main__":
    main()
