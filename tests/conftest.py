import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import hypothesis
import pytest
from anthropic import DefaultAsyncHttpxClient, DefaultHttpxClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cheapdeep_ops import AsyncRouter, Decision, Routed, Router, Settings
from cheapdeep_ops.claude.aiohttp_client import LoopAioHttpClient
from cheapdeep_ops.policy import PolicyBook, blank_book
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.testing import SimulatedAnthropic
from cheapdeep_ops.values import Exchange
from tests import browser
from tests.patience import PATIENCE_S
from tests.postgres import Server, packages, running

Open = Callable[..., "Shell"]
# Without bytecode, every run would rewrite and compile two hundred modules of tests anew, in each of its workers.
sys.dont_write_bytecode = False
ON_AIOHTTP = {"test_interruptions.py", "test_router.py", "test_streams.py", "test_triage_faults.py"}

# No example fails because the machine is busy, and every run draws the same ones.
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside of `ON_AIOHTTP`, the tests that repeat on aiohttp what runs on httpx2 are thorough."""
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if params.get("open_shell") == "aiohttp" and item.path.name not in ON_AIOHTTP:
            item.add_marker(pytest.mark.thorough)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Twelve thousand tests are a million objects, which no garbage collection from now on has to look through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def bare_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test inherits settings, keys, exporters or servers from whoever runs it, but those that call the real API."""
    if request.node.get_closest_marker("live"):
        return
    # Without bytecode, every process that a test starts would compile the whole package again.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for name in list(os.environ):
        if name.startswith(("CHEAPDEEP_", "ANTHROPIC_", "OTEL_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _served_api() -> Iterator[SimulatedAnthropic]:
    with SimulatedAnthropic() as api:
        yield api


@pytest.fixture
def api(_served_api: SimulatedAnthropic) -> Iterator[SimulatedAnthropic]:
    """The simulated API with nothing received and nothing scripted; started once, because stopping takes 0.1 s."""
    _served_api.clear()
    yield _served_api
    _served_api.clear()


@pytest.fixture
def patient_recorders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorders wait for a guard as long as a busy machine takes, and not three seconds."""
    monkeypatch.setattr("cheapdeep_ops.recorder.guard_destination._TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """For what is about SQLite alone; the file is not there yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """For what any store will do."""
    return sqlite_url


@pytest.fixture
def page(tmp_path: Path) -> Iterator[browser.Page]:
    """A tab of a real browser."""
    executable = browser.installed()
    if executable is None:
        pytest.skip("Chromium is not installed; apt-get install chromium has it")
    with browser.browsing(executable, tmp_path / "profile") as page:
        yield page


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """One server for each worker, started by the first test that wants one; its database `migrated` is a template."""
    installed = packages()
    if installed is None:
        pytest.skip("PostgreSQL's programs are not installed; the extra dev has them")
    with running(installed) as server:
        server.execute("CREATE DATABASE migrated")
        store = Store(server.url("migrated"))
        migrate(store)
        store.close()
        yield server


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """For what is about PostgreSQL alone: a migrated database of the test's own."""
    with postgresql.database("migrated") as name:
        yield postgresql.url(name)


@pytest.fixture
def blank_postgresql_url(postgresql: Server) -> Iterator[str]:
    """The same before `cheapdeep-ops migrate`."""
    with postgresql.database() as name:
        yield postgresql.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def engine(request: pytest.FixtureRequest) -> str:
    """Runs a test once for each engine; `parametrize("engine", ["sqlite"], indirect=True)` leaves it at one.

    The fast tests run on SQLite alone. Those of the store, whose subject is SQL, override this fixture.
    """
    name: str = request.param
    return name


@pytest.fixture
def either_url(request: pytest.FixtureRequest, engine: str) -> str:
    """For what must hold on both engines: the store as a router finds it, which is to say migrated on PostgreSQL."""
    url: str = request.getfixturevalue(f"{engine}_url")
    return url


@pytest.fixture
def blank_url(request: pytest.FixtureRequest, engine: str) -> str:
    """For what must hold on both engines, without any table."""
    url: str = request.getfixturevalue("sqlite_url" if engine == "sqlite" else "blank_postgresql_url")
    return url


@dataclass
class Ledger:
    """A sink that keeps decisions in a list and follows whatever policies a test gives it."""

    book: PolicyBook = field(default_factory=blank_book)
    decisions: list[Decision] = field(default_factory=list)
    tells: list[Callable[[], Exchange | None]] = field(default_factory=list)
    closed: bool = False

    def put(self, decision: Decision, tell: Callable[[], Exchange | None]) -> None:
        self.decisions.append(decision)
        self.tells.append(tell)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


class Watched:
    """Telemetry into memory, through providers of its own."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(tracer_provider=self.tracer_provider, meter_provider=self._meter_provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order in which they ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def metrics(self) -> dict[str, Any]:
        """Each metric by its name."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """The data points of one metric by their labels."""
        found = self.metrics().get(name)
        return {frozenset(point.attributes.items()): point for point in found.data.data_points} if found else {}


@pytest.fixture
def watched() -> Watched:
    return Watched()


class Shell:
    """`Router` and `AsyncRouter` in the same words: each test of the router runs through both."""

    def __init__(self, router: Router | AsyncRouter, run: Callable[[Any], Any]) -> None:
        self.router, self._run = router, run

    def ask(self, text: str = "hello", **params: Any) -> Routed:
        return self._run(self.router.ask(text, **params))

    def route(self, **params: Any) -> Routed:
        return self._run(self.router.route(**params))

    def create(self, **params: Any) -> Any:
        return self._run(self.router.messages.create(**params))

    def parse(self, **params: Any) -> Any:
        return self._run(self.router.messages.parse(**params))

    def streamed_events(self, **params: Any) -> list[Any]:
        """All events of `messages.create(stream=True)`."""
        stream = self.create(stream=True, **params)
        return self._run(_gathered(stream)) if isinstance(self.router, AsyncRouter) else list(stream)

    def streamed_text(self, **params: Any) -> str:
        """The text that `messages.stream` gives, piece by piece."""
        opened = self.router.messages.stream(**params)
        if isinstance(self.router, AsyncRouter):
            return self._run(_text_of(opened))
        with opened as stream:
            return "".join(stream.text_stream)

    def streamed_text_of(self, change: Callable[[str], Any], **params: Any) -> list[Any]:
        """What `change` makes of each piece of that text."""
        opened = self.router.messages.stream(**params)
        if isinstance(self.router, AsyncRouter):
            return self._run(_changed(opened, change))
        with opened as stream:
            return [change(piece) for piece in stream.text_stream]

    def final_message(self, **params: Any) -> Any:
        """The message that `messages.stream` adds up to."""
        opened = self.router.messages.stream(**params)
        if isinstance(self.router, AsyncRouter):
            return self._run(_final(opened))
        with opened as stream:
            return stream.get_final_message()

    def ask_all(self, texts: Iterable[str]) -> list[Routed]:
        """All questions at once, in threads or as tasks."""
        if isinstance(self.router, AsyncRouter):
            return self._run(_together(self.router.ask(text) for text in texts))
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self.router.ask, texts))

    def close(self) -> None:
        self._run(self.router.aclose() if isinstance(self.router, AsyncRouter) else self.router.close())


async def _gathered(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def _together(calls: Iterable[Awaitable[Routed]]) -> list[Routed]:
    return await asyncio.gather(*calls)


async def _text_of(opened: Any) -> str:
    async with opened as stream:
        return "".join([piece async for piece in stream.text_stream])


async def _changed(opened: Any, change: Callable[[str], Any]) -> list[Any]:
    async with opened as stream:
        return [change(piece) async for piece in stream.text_stream]


async def _final(opened: Any) -> Any:
    async with opened as stream:
        return await stream.get_final_message()


def _same(value: Any) -> Any:
    return value


@pytest.fixture(params=["sync", "async", "aiohttp"])
def open_shell(request: pytest.FixtureRequest, api: SimulatedAnthropic) -> Iterator[Open]:
    """Opens routers of one kind for the simulated API; settings by keyword, all of them closed at the end.

    `async` is on httpx2. `aiohttp`, a router's default, is fast in the modules of `ON_AIOHTTP`, elsewhere thorough.
    """
    with asyncio.Runner() as runner:

        def awaited(call: Any) -> Any:
            return runner.run(call, context=copy_context())  # spans that are open in the test lie around the call

        run = _same if request.param == "sync" else awaited
        closing: list[Any] = []

        def opened(
            *,
            router: Mapping[str, Any] | None = None,
            client: Mapping[str, Any] | None = None,
            change: Callable[[Any], Any] = _same,
            **settings: Any,
        ) -> Shell:
            """A router over a client with the options `client`, which `change` may change or wrap."""
            given = {"settings": Settings(**{"record": False, **settings}), **(router or {})}
            over = change(_client(request.param, api.url, client or {}))
            shell = Shell(_router(request.param, over, given), run)
            closing.append(shell)
            return shell

        yield opened
        for shell in closing:
            shell.close()
            run(shell.router._sdk.close())


def _client(kind: str, url: str, options: Mapping[str, Any]) -> Any:
    # Certificates would take longer to load than the test takes to run, and loopback needs none.
    known = {"base_url": url, "api_key": "any", "max_retries": 0, "open_telemetry": False, **options}
    if kind == "sync":
        return anthropic.Anthropic(http_client=DefaultHttpxClient(verify=False), **known)
    make = LoopAioHttpClient if kind == "aiohttp" else DefaultAsyncHttpxClient
    return anthropic.AsyncAnthropic(http_client=make(verify=False), **known)


def _router(kind: str, client: Any, given: Mapping[str, Any]) -> Router | AsyncRouter:
    return Router(client=client, **given) if kind == "sync" else AsyncRouter(client=client, **given)


@pytest.fixture
def bare(api: SimulatedAnthropic) -> Iterator[anthropic.Anthropic]:
    """The SDK's client without a router: what the router is compared with."""
    client: anthropic.Anthropic = _client("sync", api.url, {})
    with client:
        yield client
