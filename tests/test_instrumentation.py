"""What others put around the SDK's methods: who makes the span of a model call, and what it sees of a stream."""

import functools
import sys
import threading
from types import SimpleNamespace

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.resources.messages import AsyncMessages, Messages
from opentelemetry import context as otel_context
from opentelemetry import trace

from cheapdeep_ops import AsyncRouter
from cheapdeep_ops.claude.instrumentation import is_plain, is_traced
from cheapdeep_ops.policy import PolicyAct, ScopeState, act_on, blank_book
from cheapdeep_ops.router.provider import claude
from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
ANSWER = "An answer of some length, so that it takes several events."
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
METHODS = ("create", "stream", "parse")


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        return function(*arguments, **options)

    return wrapper


class Proxy:
    """A wrapper that looks like what it wraps, as those of wrapt do."""

    def __init__(self, wrapped):
        self.__wrapped__ = wrapped

    @property
    def __class__(self):
        return type(self.__wrapped__)

    def __getattr__(self, name):
        return getattr(self.__wrapped__, name)

    def __get__(self, instance, owner):
        return Proxy(self.__wrapped__.__get__(instance, owner))

    def __call__(self, *arguments, **options):
        return self.__wrapped__(*arguments, **options)


@pytest.fixture
def client():
    with Anthropic(api_key="any", open_telemetry=False) as client:
        yield client


class TestWhoTraces:
    @pytest.mark.parametrize("name", METHODS)
    def test_nobody_does_by_default(self, client, name):
        method = getattr(client.messages, name)
        assert is_plain(method)
        assert not is_traced(method)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_sdk_does_by_its_own_option(self, name):
        with Anthropic(api_key="any", open_telemetry={"traces": {"enabled": True}}) as client:
            assert is_traced(getattr(client.messages, name))
            assert is_plain(getattr(client.messages, name))

    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("wrap", [wrapped, Proxy])
    def test_a_wrapper_around_a_method_of_the_class_does(self, client, monkeypatch, name, wrap):
        monkeypatch.setattr(Messages, name, wrap(getattr(Messages, name)))
        for other in METHODS:
            assert is_traced(getattr(client.messages, other)) is (other == name)
            assert is_plain(getattr(client.messages, other)) is (other != name)

    @pytest.mark.parametrize("wrap", [wrapped, Proxy])
    def test_a_wrapper_in_a_client_does(self, client, wrap):
        client.messages.create = wrap(client.messages.create)
        assert is_traced(client.messages.create)
        assert is_plain(client.messages.stream)

    def test_a_wrapper_around_the_request_does(self, client):
        client.request = wrapped(client.request)
        assert all(is_traced(getattr(client.messages, name)) for name in METHODS)
        assert not any(is_plain(getattr(client.messages, name)) for name in METHODS)

    def test_a_subclass_with_ways_of_its_own_does_not(self, client):
        class Own(Messages):
            def create(self, **params):
                return super().create(**params)

        assert not is_traced(Own(client).create)
        assert not is_plain(Own(client).create)
        assert is_plain(Own(client).stream)

    @pytest.mark.parametrize("options", [{"traces_sample_rate": 0.1}, {"traces_sampler": max}, {}], ids=str)
    def test_sentry_does_where_its_tracing_is_on(self, client, monkeypatch, options):
        sentry = SimpleNamespace(get_client=lambda: SimpleNamespace(options=options))
        monkeypatch.setitem(sys.modules, "sentry_sdk", sentry)
        source = "def wrap(function, wraps):\n    @wraps(function)\n    def wrapper(*a, **k): ...\n    return wrapper"
        module = {"__name__": "sentry_sdk.integrations.anthropic"}
        exec(source, module)
        client.messages.create = module["wrap"](client.messages.create, functools.wraps)
        assert is_traced(client.messages.create) is bool(options)
        client.messages.create = wrapped(client.messages.create)  # another one around Sentry's
        assert is_traced(client.messages.create)

    def test_a_mock_does_not(self):
        assert not is_traced(SimpleNamespace(create=lambda: None).create)


class Tracer:
    """An instrumentation that opens a span for each stream, makes it the current one, and ends it with the stream."""

    def __init__(self, monkeypatch):
        self.open, self.ended, self.is_strict = 0, [], True
        for resource in (Messages, AsyncMessages):
            for name in ("create", "stream"):
                monkeypatch.setattr(resource, name, self.around(getattr(resource, name), is_helper=name == "stream"))

    def around(self, method, *, is_helper):
        @functools.wraps(method)
        def call(resource, **params):
            if is_helper:
                return Manager(self, method(resource, **params))
            if not params.get("stream"):
                return method(resource, **params)
            given = method(resource, **params)
            return self.awaited(given) if hasattr(given, "__await__") else Read(self, given)

        return call

    async def awaited(self, given):
        return AsyncRead(self, await given)

    def begin(self):
        self.open += 1
        span = trace.NonRecordingSpan(trace.SpanContext(1, self.open, is_remote=False))
        return otel_context.attach(trace.set_span_in_context(span))


class Spanned:
    def __init__(self, tracer, stream):
        self.tracer, self.stream, self.token, self.events = tracer, stream, tracer.begin(), []

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def end(self):
        if self.token is not None:
            # In another context than that of `begin`, the API's own function logs an error; this one raises it.
            detach = otel_context._RUNTIME_CONTEXT.detach if self.tracer.is_strict else otel_context.detach
            detach(self.token)
            self.token = None
            self.tracer.ended.append(self.events)


class Read(Spanned):
    def __iter__(self):
        for event in self.stream:
            self.events.append(event.type)
            yield event
        self.end()

    def close(self):
        self.stream.close()
        self.end()


class AsyncRead(Spanned):
    async def __aiter__(self):
        async for event in self.stream:
            self.events.append(event.type)
            yield event
        self.end()

    async def close(self):
        await self.stream.close()
        self.end()


class Manager:
    def __init__(self, tracer, manager):
        self.tracer, self.manager = tracer, manager

    def __enter__(self):
        self.read = Read(self.tracer, self.manager.__enter__())
        return self.read

    def __exit__(self, *details):
        self.manager.__exit__(*details)
        self.read.end()

    async def __aenter__(self):
        self.read = AsyncRead(self.tracer, await self.manager.__aenter__())
        return self.read

    async def __aexit__(self, *details):
        await self.manager.__aexit__(*details)
        self.read.end()


@pytest.fixture
def tracer(monkeypatch):
    return Tracer(monkeypatch)


@pytest.fixture
def shell(open_shell, watched, ledger):
    return open_shell(router={"telemetry": watched.telemetry, "recorder": ledger})


def scripted(api, confidence, answer):
    api.enqueue(Reply.triage(confidence, answer), model=HAIKU)
    if confidence < 0.8:
        api.enqueue(Reply.text(ANSWER), model=OPUS)


class TestATracedStream:
    @pytest.mark.parametrize("way", ["streamed_text", "streamed_events", "final_message"])
    @pytest.mark.parametrize("reply", [(0.95, ANSWER), (0.3, None), (0.3, "Perhaps."), (0.3, ANSWER * 3)], ids=str)
    def test_ends_each_span_once_and_leaves_the_callers_alone(self, api, shell, tracer, way, reply):
        scripted(api, *reply)
        getattr(shell, way)(**QUESTION)
        assert len(tracer.ended) == tracer.open == len(api.requests)
        assert not trace.get_current_span().get_span_context().is_valid

    @pytest.mark.parametrize("way", ["streamed_text", "streamed_events"])
    def test_shows_all_of_a_short_triage_reply_and_of_the_deep_answer(self, api, shell, tracer, way):
        scripted(api, 0.3, None)
        getattr(shell, way)(**QUESTION)
        assert [events[-1] for events in tracer.ended] == ["message_stop", "message_stop"]

    def test_gives_a_short_reply_its_exact_tokens(self, api, shell, ledger, tracer):
        scripted(api, 0.3, None)
        shell.streamed_text(**QUESTION)
        assert not ledger.decisions[0].hops[0].usage.is_estimate
        assert tracer.open == 2

    def test_is_left_where_an_answer_goes_on(self, api, shell, ledger, tracer):
        scripted(api, 0.3, ANSWER * 3)
        shell.streamed_text(**QUESTION)
        assert "message_stop" not in tracer.ended[0]
        assert ledger.decisions[0].hops[0].usage.is_estimate

    def test_whose_end_does_not_come_is_left_soon(self, api, shell, ledger, tracer):
        api.enqueue(Reply.triage(0.3, None).paced(30, at_once=7), model=HAIKU)
        api.enqueue(Reply.text(ANSWER), model=OPUS)
        assert shell.streamed_text(**QUESTION) == ANSWER
        (decision,) = ledger.decisions
        assert (decision.reason, decision.triage_error) == ("low_confidence", "")
        assert decision.duration_s < 20
        assert len(tracer.ended) == 2

    def test_gives_the_caller_the_sdks_events(self, api, shell, tracer):
        scripted(api, 0.3, None)
        bare = [each.type for each in events_of(shell)]
        assert bare[:3] == ["message_start", "content_block_start", "content_block_delta"]
        assert bare[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert "text" in bare
        assert len(tracer.ended) == 2

    def test_fails_as_the_sdk_fails(self, api, shell, ledger, tracer):
        api.enqueue(Reply.triage(0.3, None), model=HAIKU)
        api.enqueue(Reply.text(ANSWER).cut(400), model=OPUS)
        with pytest.raises(Exception, match=r"closed|peer|incomplete|Connection") as failure:
            shell.streamed_text(**QUESTION)
        assert type(failure.value).__module__.partition(".")[0] in ("anthropic", "httpx2")
        assert ledger.decisions[0].error == type(failure.value).__name__
        assert len(tracer.ended) == 2


def events_of(shell):
    """All events of the SDK's helper, with those that it adds."""
    manager = shell.router.messages.stream(**QUESTION)
    if isinstance(shell.router, AsyncRouter):
        return shell._run(async_events(manager))
    with manager as stream:
        return list(stream)


async def async_events(manager):
    async with manager as stream:
        return [event async for event in stream]


class TestATracedAnswerThatIsWithheld:
    @pytest.fixture
    def kept(self, open_shell, ledger):
        ledger.book = blank_book().with_scope(act_on(ScopeState(scope="*"), PolicyAct.RAISE, cause="EscalationStorm"))
        return open_shell(router={"recorder": ledger}, record=True, sample_rate=1.0)

    @pytest.mark.parametrize("way", ["streamed_text", "streamed_events"])
    def test_is_read_to_its_end_and_ends_its_span(self, api, kept, ledger, tracer, way):
        api.enqueue(Reply.triage(0.85, ANSWER), model=HAIKU)
        api.enqueue(Reply.text(ANSWER), model=OPUS)
        getattr(kept, way)(**QUESTION)
        kept.close()
        assert sorted(events[-1] for events in tracer.ended) == ["message_stop", "message_stop"]
        (decision,) = ledger.decisions
        assert decision.withheld
        assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("open_shell", ["sync"], indirect=True)
def test_a_traced_stream_may_be_closed_while_another_thread_reads_it(api, open_shell, tracer):
    shell, tracer.is_strict = open_shell(), False
    api.enqueue(Reply.text(ANSWER).paced(0.5, at_once=5))  # closing wakes no reader; the next event does
    stream = shell.create(stream=True, stop_sequences=["END"], **QUESTION)
    has_begun, errors = threading.Event(), []

    def read():
        try:
            for _ in stream:
                has_begun.set()
        except Exception as error:  # noqa: BLE001 - what a closed connection gives is the SDK's
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert has_begun.wait(60)
    stream.close()
    claude.abort_response(stream.response)
    reader.join(60)
    assert not reader.is_alive()
    assert tracer.open == 1


@pytest.mark.usefixtures("tracer")
@pytest.mark.parametrize("way", ["route", "create", "streamed_text", "streamed_events"])
@pytest.mark.parametrize("outcome", [(0.95, ANSWER), (0.3, None)])
def test_a_call_has_the_tracers_spans_in_the_place_of_ours(api, shell, watched, way, outcome):
    scripted(api, *outcome)
    getattr(shell, way)(**QUESTION)
    assert [span.name for span in watched.spans] == ["cheapdeep.route"]


def test_an_instrumentation_may_be_switched_on_and_off_at_any_time(api, shell, watched, monkeypatch):
    for is_on in (False, True, False):
        scripted(api, 0.95, ANSWER)
        with monkeypatch.context() as patch:
            if is_on:
                Tracer(patch)
            shell.route(**QUESTION)
    names = [span.name for span in watched.spans]
    assert names.count(f"chat {HAIKU}") == 2
    assert names.count("cheapdeep.route") == 3


def test_the_router_itself_is_not_taken_for_a_model_call(shell, tracer):
    assert isinstance(shell.router, anthropic.Anthropic | anthropic.AsyncAnthropic)
    assert tracer.open == 0
    assert not hasattr(type(shell.router.messages).create, "__wrapped__")
