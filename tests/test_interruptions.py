"""An exception that others raise into a triage goes to the caller; only a failed request escalates."""

import signal
import threading
from contextlib import contextmanager, nullcontext

import anthropic
import httpx2
import pytest

from cheapdeep_ops import Reason, decision_of
from cheapdeep_ops.claude.clients import interruption
from cheapdeep_ops.router.streams import OpenStream
from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
HELLO = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
WAYS = {
    "whole": lambda shell: shell.route(**HELLO),
    "a stream of events": lambda shell: shell.streamed_events(**HELLO),
    "the stream helper": lambda shell: shell.streamed_text(**HELLO),
}


class SoftTimeLimitExceeded(Exception):  # noqa: N818 - Celery's name
    """As Celery's: it is an `Exception`, and a signal's handler raises it."""


class Timeout(BaseException):
    """As gevent's."""


INTERRUPTIONS = [SoftTimeLimitExceeded, Timeout, TimeoutError, RuntimeError, ValueError, KeyboardInterrupt]


@contextmanager
def signalled(api, error):
    """When a triage request has arrived, a signal's handler raises `error` in this thread."""

    def handler(_number, _frame):
        raise error

    def reply(request):
        if not request.is_triage:
            return Reply.text("Deep.")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        return Reply.triage(0.9, "Yes.").slow(1)

    before = signal.signal(signal.SIGUSR1, handler)
    api.always(reply)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def sends_as_it_likes(client):
    """The client with a `messages` of its own, which the router asks in a thread."""
    client.messages = type("Ours", (), {name: getattr(client.messages, name) for name in ("create", "stream")})()
    return client


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform cannot signal a thread")
@pytest.mark.parametrize("open_shell", ["sync"], indirect=True)
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
class TestASignalDuringTriage:
    @pytest.mark.thorough
    @pytest.mark.parametrize("kind", INTERRUPTIONS)
    def test_goes_to_the_caller(self, api, open_shell, ledger, ask, kind):
        shell = open_shell(router={"recorder": ledger})
        with signalled(api, kind("limit")), pytest.raises(kind, match="limit") as raised:
            ask(shell)
        assert [request.model for request in api.requests] == [HAIKU]
        (decision,) = ledger.decisions
        assert (decision.error, decision.reason, decision.base_outcome) == (kind.__name__, None, None)
        if isinstance(raised.value, Exception):
            assert decision_of(raised.value).call_id == decision.call_id

    @pytest.mark.thorough
    def test_goes_to_the_caller_of_a_client_that_sends_as_it_likes(self, api, open_shell, ask):
        shell = open_shell(change=sends_as_it_likes)
        with signalled(api, SoftTimeLimitExceeded()), pytest.raises(SoftTimeLimitExceeded):
            ask(shell)
        assert [request.model for request in api.requests] == [HAIKU]

    @pytest.mark.thorough
    def test_does_not_count_against_the_tier(self, api, open_shell, ask):
        shell = open_shell(breaker_failures=1, breaker_pause_s=60.0)
        with signalled(api, TimeoutError()), pytest.raises(TimeoutError):
            ask(shell)
        api.always(Reply.triage(0.9, "Yes."))
        ask(shell)
        assert [request.model for request in api.requests] == [HAIKU, HAIKU]


@pytest.mark.parametrize("open_shell", ["sync"], indirect=True)
@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, KeyboardInterrupt, httpx2.ReadError])
def test_an_interruption_while_the_end_of_a_traced_reply_is_read_goes_to_the_caller(
    api, open_shell, ledger, monkeypatch, kind
):
    is_raised = kind is not httpx2.ReadError

    def take_tail(_opened, _event):
        raise kind("limit")

    monkeypatch.setattr(OpenStream, "has_tail", True)
    monkeypatch.setattr(OpenStream, "take_tail", take_tail)
    shell = open_shell(router={"recorder": ledger})
    api.always(lambda request: Reply.triage(0.3, "Yes.") if request.is_triage else Reply.text("Deep."))
    with pytest.raises(kind) if is_raised else nullcontext():
        assert shell.streamed_text(**HELLO) == "Deep."
    assert [request.is_triage for request in api.requests] == ([True] if is_raised else [True, False])
    assert ledger.decisions[0].error == (kind.__name__ if is_raised else "")


@pytest.mark.parametrize("open_shell", ["sync"], indirect=True)
@pytest.mark.parametrize(("kind", "reason"), [(TimeoutError, None), (httpx2.ReadError, Reason.TRIAGE_ERROR)])
def test_an_interruption_while_the_answer_streams_is_no_failure_of_the_tier(api, open_shell, ledger, kind, reason):
    def take(_event):
        raise kind("limit")

    shell = open_shell(router={"recorder": ledger}, breaker_failures=1, breaker_pause_s=60.0)
    api.always(Reply.triage(0.9, "Yes, and some more words."))
    stream = shell.router.messages.create(model=OPUS, stream=True, **HELLO)
    next(stream)
    stream._opened.passed.clear()
    stream._opened.progress.take = take
    with pytest.raises(kind):
        list(stream)
    (decision,) = ledger.decisions
    assert (decision.error, decision.reason, decision.base_reason) == (kind.__name__, reason, reason)
    assert shell.router._core.models._breakers[0].is_open is (reason is not None)


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
class TestAnErrorInARequest:
    def test_of_the_callers_own_middleware_goes_to_the_caller(self, api, open_shell, ask):
        class Refusing(anthropic.Middleware):
            def handle(self, request, call_next):
                raise SoftTimeLimitExceeded

            async def handle_async(self, request, call_next):
                raise SoftTimeLimitExceeded

        with pytest.raises(SoftTimeLimitExceeded):
            ask(open_shell(client={"middleware": [Refusing()]}))
        assert not api.requests

    def test_of_the_callers_own_middleware_that_tells_of_a_failure_escalates(self, api, open_shell, ledger, ask):
        class Telling(anthropic.Middleware):
            def handle(self, request, call_next):
                if request.options.json_data["model"] == HAIKU:
                    raise SoftTimeLimitExceeded from anthropic.RetryableError("a failed request")
                return call_next(request)

            async def handle_async(self, request, call_next):
                return await self.handle(request, call_next)

        api.always(Reply.text("Deep."))
        ask(open_shell(router={"recorder": ledger}, client={"middleware": [Telling()]}))
        assert [(each.reason, each.model) for each in ledger.decisions] == [(Reason.TRIAGE_ERROR, OPUS)]

    def test_of_the_network_escalates(self, api, open_shell, ledger, ask):
        api.always(lambda request: Reply.text("").cut(after_bytes=3) if request.is_triage else Reply.text("Deep."))
        ask(open_shell(router={"recorder": ledger}))
        assert [(each.reason, each.model) for each in ledger.decisions] == [(Reason.TRIAGE_ERROR, OPUS)]

    def test_of_reading_the_reply_escalates(self, api, open_shell, ledger, ask, monkeypatch):
        api.always(lambda request: Reply.triage(0.9, "Yes.") if request.is_triage else Reply.text("Deep."))
        shell = open_shell(router={"recorder": ledger})
        planner = shell.router._core.planner

        def breaking(method):
            def read(call, request, *more):
                if request.kind == "triage":
                    raise KeyError("ours")
                return method(call, request, *more)

            return read

        for name in ("progress", "read"):
            monkeypatch.setattr(planner, name, breaking(getattr(planner, name)))
        ask(shell)
        assert [(each.reason, each.model) for each in ledger.decisions] == [(Reason.TRIAGE_ERROR, OPUS)]


def test_what_the_caller_handles_meanwhile_is_no_interruption(api, open_shell, ledger):
    api.always(lambda request: Reply.triage(0.9, "Yes.").slow(60) if request.is_triage else Reply.text("Deep."))
    shell = open_shell(router={"recorder": ledger}, client={"timeout": 0.6})
    try:
        raise SoftTimeLimitExceeded  # noqa: TRY301 - as in the caller's own code
    except SoftTimeLimitExceeded:
        assert shell.ask().text == "Deep."
    assert ledger.decisions[0].reason is Reason.TRIAGE_ERROR


def test_an_error_that_is_its_own_cause_is_read_to_its_end():
    error = anthropic.AnthropicError()
    error.__cause__ = error
    assert interruption(error) is None


def refused(client):
    client.close()
    client.messages.create(model=OPUS, **HELLO)


@pytest.mark.parametrize(
    "work",
    [
        lambda _: httpx2.Response(200, content=b"{").json(),
        lambda _: httpx2.Response(200, content=b"\xff").json(),
        lambda client: client.with_options(base_url="http://127.0.0.1:9/").messages.create(model=OPUS, **HELLO),
        lambda client: client.with_options(api_key="\n").messages.create(model=OPUS, **HELLO),
        lambda client: client.messages.create(model=OPUS, **{**HELLO, "max_tokens": 100_000}),
        lambda client: client.messages.create(model=OPUS, **HELLO, extra_body=object()),
        refused,
    ],
    ids=["JSON", "UTF-8", "connection", "key", "length", "body", "closed"],
)
def test_what_the_sdk_and_its_libraries_raise_is_a_failed_request(work, bare):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of several libraries
        work(bare)
    assert interruption(raised.value) is None
