"""How many functions of the package one call runs: a figure that repeats exactly, on every machine.

Time would tell more, but no test of it holds on a busy machine. `python -m tests.test_work_per_call` prints the table.
"""

import asyncio
import gc
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final, Self

import anthropic
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import cheapdeep_ops
from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.claude.content import pieces
from cheapdeep_ops.recorder import RecorderShare
from cheapdeep_ops.recorder.recorder import Recorder
from cheapdeep_ops.redaction import redact
from cheapdeep_ops.sampling import kept_share, position
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.testing import Reply, SimulatedAnthropic

NOTED: Final = {
    "Router, shipped": 292,
    "Router, escalated": 434,
    "Router, streamed": 834,
    "AsyncRouter, shipped": 294,
}
"""Calls of the package's functions for one call of the router. A commit that raises one says why it is worth it."""

MOST_GROWTH: Final = 1.05
WARM_UP, COUNTED = 5, 3

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
ANSWER = "Venlafaxine inhibits the reuptake of serotonin and noradrenaline. " * 4
QUESTION: dict[str, Any] = {
    "max_tokens": 1024,
    "system": "You answer questions of pharmacists in short, plain sentences. ",
    "messages": [{"role": "user", "content": "What does venlafaxine inhibit? "}],
}
NEVER_SAMPLED: Final = "call-3"
"""The id of every call here, because a call that is kept for grading takes more functions than another."""

PINNED: Final = ("anthropic", "opentelemetry-sdk", "pydantic")
HERE: Final = Path(__file__).parent
PACKAGE: Final = f"{Path(cheapdeep_ops.__file__).parent}{os.sep}"
AFTER_AWAIT: Final = 3
"""The argument of CPython's instruction RESUME where a frame goes on after a wait.

Source: https://docs.python.org/3.11/library/dis.html#opcode-RESUME
"""


def other_versions() -> str:
    """What differs from the environment in which the numbers were noted; empty if nothing does."""
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (HERE.parent / "requirements.lock").read_text(), re.MULTILINE))
    wanted = ["CPython 3.11", *(f"{name} {locked[name]}" for name in PINNED)]
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    found = [python, *(f"{name} {version(name)}" for name in PINNED)]
    return ", ".join(f"{has} for {want}" for has, want in zip(found, wanted, strict=True) if has != want)


pytestmark = pytest.mark.skipif(bool(other_versions()), reason=f"the counts are of other versions: {other_versions()}")


class NoSpans(SpanExporter):
    """Throws spans away."""

    def export(self, _spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Count:
    """Counts the calls of the package's functions in this thread, while it is entered.

    A generator counts each time it goes on, except after a wait: how often one waits depends on the network.
    """

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> Self:
        gc.disable()  # it may run code of other calls
        self._before = sys.getprofile()
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        gc.enable()

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            self.calls += code.co_code[frame.f_lasti + 1] != AFTER_AWAIT


def in_a_thread(call: Callable[[], object]) -> list[int]:
    """How many functions some calls run, one after the other."""
    for _ in range(WARM_UP):
        call()
    counts = []
    for _ in range(COUNTED):
        with Count() as count:
            call()
        counts.append(count.calls)
    return counts


async def in_a_loop(call: Callable[[], Any]) -> list[int]:
    """The same with coroutines."""
    for _ in range(WARM_UP):
        await call()
    counts = []
    for _ in range(COUNTED):
        with Count() as count:
            await call()
        counts.append(count.calls)
    return counts


def streamed(router: Router) -> None:
    with router.messages.stream(**QUESTION) as stream:
        stream.get_final_message()


@contextmanager
def router_options(api: SimulatedAnthropic) -> Iterator[dict[str, Any]]:
    """Providers of the OpenTelemetry SDK and a recorder on a store of its own, as in a service.

    The recorder has no thread, because the first call after each reading of the policies takes a few functions more.
    """
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(NoSpans()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    with TemporaryDirectory() as folder:
        settings = Settings(store_url=f"sqlite:///{folder}/store.db")
        recorder = Recorder(settings, background=False)
        recorder.refresh(time.time())
        with closing(recorder):
            yield {
                "settings": settings,
                "telemetry": Telemetry(tracer_provider=tracers, meter_provider=meters),
                "recorder": RecorderShare(recorder, redact, close=lambda _: None),
                "new_id": lambda: NEVER_SAMPLED,
                "base_url": api.url,
                "api_key": "any",
            }
            assert recorder.is_behind
        assert (recorder.is_behind, recorder.dropped) == (False, 0)


def counted() -> dict[str, list[int]]:
    """The counts of some calls of each kind."""
    counts: dict[str, list[int]] = {}
    with SimulatedAnthropic() as api, router_options(api) as options:
        api.always(Reply.text(ANSWER), model=OPUS)
        http_client = anthropic.DefaultHttpxClient(verify=False)
        with http_client, Router(**options, http_client=http_client) as router:
            for kind, confidence in (("shipped", 0.93), ("escalated", 0.4)):
                api.always(Reply.triage(confidence, ANSWER), model=HAIKU)
                counts[f"Router, {kind}"] = in_a_thread(lambda: router.messages.create(**QUESTION))
            api.always(Reply.triage(0.93, ANSWER), model=HAIKU)
            counts["Router, streamed"] = in_a_thread(lambda: streamed(router))
        counts |= asyncio.run(_counted_in_a_loop(options))
    return counts


async def _counted_in_a_loop(options: dict[str, Any]) -> dict[str, list[int]]:
    http_client = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with http_client, AsyncRouter(**options, http_client=http_client) as router:
        return {
            "AsyncRouter, shipped": await in_a_loop(lambda: router.messages.create(**QUESTION)),
        }


@pytest.fixture(scope="module")
def counts() -> dict[str, list[int]]:
    return counted()


@pytest.mark.parametrize("kind", NOTED)
def test_a_call_takes_no_more_functions_than_noted(counts, kind):
    noted, (now, *others) = NOTED[kind], counts[kind]
    assert others == [now] * len(others), "the count does not repeat"
    assert now <= MOST_GROWTH * noted, (
        f"one call ({kind}) ran {noted} functions of the package and now runs {now}. If that is worth it, note the "
        f"output of `python -m tests.test_work_per_call` in NOTED, and say why in the commit"
    )


def test_each_function_counts_and_a_generator_counts_each_time_it_goes_on():
    with Count() as count:
        kept_share(0.01)
        list(pieces("one"))  # it begins, and goes on after its one text
    assert count.calls == 1 + 2


def test_no_call_here_is_kept_for_grading():
    assert position(NEVER_SAMPLED) > kept_share(Settings().sample_rate)


if __name__ == "__main__":
    print(f"# {other_versions() or 'the versions of requirements.lock'}")
    print("NOTED: Final = {")
    for kind, (now, *_) in counted().items():
        print(f'    "{kind}": {now},')
    print("}")
