"""Failed triage that is no failure of the API: faults of the router, and an event loop that it cannot use."""

import asyncio
import logging
from itertools import product

import pytest
import sniffio
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from cheapdeep_ops import AsyncRouter, Reason, Settings
from cheapdeep_ops.cli import main
from cheapdeep_ops.errors import CheapdeepError, EventLoopError
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.router.planner import CallPlanner
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
FAULTS = [TypeError, AttributeError, KeyError, RuntimeError, ValueError]
FAILURES = [
    (Reply.error(529), "OverloadedError"),
    (Reply.error(403), "PermissionDeniedError"),
    (Reply.body(b"{"), None),
    (Reply.triage(0.9, "Cheap.").cut(100), None),
]
WAYS = ["route", "create", "streamed_text", "streamed_events"]


@pytest.fixture
def shell(open_shell, watched, ledger):
    return open_shell(router={"telemetry": watched.telemetry, "recorder": ledger})


def broken(monkeypatch, error, *, name="request"):
    """Plant a fault in a step of each triage call, such as the making of its request."""
    method = getattr(CallPlanner, name)

    code = "def fails(planner, call, ask, *more):\n    if ask.kind == 'triage':\n        raise error\n"
    code += "    return method(planner, call, ask, *more)"
    module = {"__name__": "cheapdeep_ops.router.planner", "error": error, "method": method}
    exec(code, module)  # so that the frame is one of the router's
    monkeypatch.setattr(CallPlanner, name, module["fails"])


def answered(api, shell, way):
    api.enqueue(Reply.triage(0.95, "Cheap."), model=HAIKU)
    api.enqueue(Reply.text("Deep."), model=OPUS)
    getattr(shell, way)(**QUESTION)
    api.clear()


def tracebacks(caplog):
    return [record for record in caplog.records if record.exc_info and record.name.startswith("cheapdeep_ops.router")]


class TestAFaultOfTheRouter:
    @pytest.mark.parametrize("case", list(product(FAULTS, WAYS)), ids=str)
    def test_escalates_and_has_a_name_of_its_own(self, api, shell, ledger, monkeypatch, case):
        fault, way = case
        broken(monkeypatch, fault("planted"))
        answered(api, shell, way)
        (decision,) = ledger.decisions
        marked = f"router_error:{fault.__name__}"
        assert (decision.reason, decision.triage_error) == (Reason.TRIAGE_ERROR, marked)
        assert (decision.model, decision.error) == (OPUS, "")

    def test_is_on_the_span_of_the_call(self, api, shell, watched, monkeypatch):
        broken(monkeypatch, TypeError("planted"))
        answered(api, shell, "route")
        (route,) = watched.named("cheapdeep.route")
        assert route.attributes[names.TRIAGE_ERROR] == "router_error:TypeError"

    def test_in_what_reads_a_reply_is_one_too(self, api, shell, ledger, monkeypatch):
        broken(monkeypatch, TypeError("planted"), name="read")
        answered(api, shell, "route")
        assert ledger.decisions[0].triage_error == "router_error:TypeError"

    @pytest.mark.parametrize("way", ["route", "streamed_text"])
    def test_is_logged_once_for_each_kind_with_its_traceback(self, api, shell, monkeypatch, caplog, way):
        for fault in (TypeError("planted"), KeyError("planted")):
            with monkeypatch.context() as patch:
                broken(patch, fault)
                for _ in range(3):
                    answered(api, shell, way)
        assert [record.exc_info[0] for record in tracebacks(caplog)] == [TypeError, KeyError]
        assert all(record.levelno == logging.ERROR and record.exc_info[2] for record in tracebacks(caplog))

    def test_of_the_deep_call_reaches_the_caller_with_its_own_name(self, api, shell, ledger, monkeypatch):
        code = "def fails(planner, call, ask):\n    raise TypeError('planted')"
        module = {"__name__": "cheapdeep_ops.router.planner"}
        exec(code, module)
        monkeypatch.setattr(CallPlanner, "request", module["fails"])
        with pytest.raises(TypeError, match="planted"):
            shell.route(**QUESTION)
        assert ledger.decisions[0].error == "TypeError"

    @pytest.mark.parametrize("case", list(product(range(len(FAILURES)), WAYS)), ids=str)
    def test_is_not_what_the_api_does(self, api, shell, ledger, caplog, case):
        number, way = case
        reply, name = FAILURES[number]
        api.enqueue(reply, model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        getattr(shell, way)(**QUESTION)
        (decision,) = ledger.decisions
        assert not decision.triage_error.startswith("router_error:")
        assert name in (None, decision.triage_error)
        assert tracebacks(caplog) == []

    @pytest.mark.thorough
    @pytest.mark.parametrize("way", WAYS)
    def test_is_not_a_limit_of_time_or_an_open_breaker(self, api, open_shell, ledger, caplog, way):
        shell = open_shell(router={"recorder": ledger}, triage_timeout_s=0.2, breaker_failures=1)
        for _ in range(2):
            api.enqueue(Reply.triage(0.9, "Late.").slow(30), model=HAIKU)
            api.enqueue(Reply.text("Deep."), model=OPUS)
            getattr(shell, way)(**QUESTION)
            api.clear()
        late, skipped = (decision.triage_error for decision in ledger.decisions)
        assert late in ("APITimeoutError", "TimeoutError")
        assert skipped == "BreakerOpenError"
        assert tracebacks(caplog) == []

    def test_is_shown_by_the_status_apart_from_the_apis(self, api, open_shell, store_url, monkeypatch, capsys):
        shell = open_shell(record=True, store_url=store_url)
        api.enqueue(Reply.error(529), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        shell.route(**QUESTION)
        broken(monkeypatch, TypeError("planted"))
        answered(api, shell, "route")
        shell.close()
        store = Store(store_url)
        found = status(store, Settings(store_url=store_url), shell.router._core.planner.clock() + 1)
        store.close()
        assert found["triage_errors"] == {"OverloadedError": 1, "router_error:TypeError": 1}
        monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
        assert main(["status"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "failed triage OverloadedError 1, router_error:TypeError 1 in the last hour" in shown


@pytest.fixture
def client(api):
    return AsyncAnthropic(base_url=api.url, api_key="any", http_client=DefaultAsyncHttpxClient(verify=False))


def awaited(coroutine):
    """Run a coroutine that waits for nothing, without any event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


async def helped(router):
    async with router.messages.stream(**QUESTION):
        pass


CALLS = {
    "route": lambda router: router.route(**QUESTION),
    "ask": lambda router: router.ask("hello"),
    "create": lambda router: router.messages.create(**QUESTION),
    "create_stream": lambda router: router.messages.create(stream=True, **QUESTION),
    "stream": helped,
    "parse": lambda router: router.messages.parse(model=OPUS, output_format=dict, **QUESTION),
}


class TestAnotherAsyncLibrary:
    @pytest.fixture
    def router(self, client, ledger):
        return AsyncRouter(client=client, settings=Settings(record=False), recorder=ledger)

    @pytest.mark.parametrize("library", ["trio", "curio"])
    def test_refuses_to_make_a_router(self, client, monkeypatch, library):
        monkeypatch.setattr(sniffio.thread_local, "name", library)
        with pytest.raises(EventLoopError, match=f"needs asyncio, but {library} runs here") as failure:
            AsyncRouter(client=client, settings=Settings(record=False))
        assert isinstance(failure.value, CheapdeepError)

    @pytest.mark.parametrize("case", list(product(CALLS, ["trio", None])), ids=str)
    def test_refuses_each_call_before_anything_is_sent(self, api, router, ledger, monkeypatch, case):
        call, library = case
        monkeypatch.setattr(sniffio.thread_local, "name", library)
        with pytest.raises(EventLoopError, match="asyncio"):
            awaited(CALLS[call](router))
        assert list(api.requests) == []
        assert ledger.decisions == []

    def test_does_not_hide_the_error_by_closing_the_router(self, client, monkeypatch):
        async def used(router):
            async with router:
                await router.ask("hello")

        router = AsyncRouter(client=client, settings=Settings(record=False))
        monkeypatch.setattr(sniffio.thread_local, "name", "trio")
        with pytest.raises(EventLoopError) as failure:
            awaited(used(router))
        assert failure.value.__context__ is None

    @pytest.mark.parametrize("call", ["route", "ask", "create", "stream"])
    def test_is_not_asyncio(self, api, router, client, ledger, call):
        async def called():
            async with client:
                await CALLS[call](router)

        api.enqueue(Reply.triage(0.95, "Cheap."))
        asyncio.run(called())
        assert len(ledger.decisions) == 1
