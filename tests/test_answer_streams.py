"""The stream helper of an answer that ships: what it gives is what the SDK's own gives for the same events."""

import asyncio
import json

import anthropic
import pytest
from anthropic import AsyncMessageStream, MessageStream, omit
from anthropic.lib.streaming import TextEvent
from anthropic.types import RawMessageDeltaEvent, RawMessageStartEvent, RawMessageStopEvent
from pydantic import BaseModel

from cheapdeep_ops import AsyncRouter
from cheapdeep_ops.claude import answer_streams, stream_events
from cheapdeep_ops.claude.answer_streams import AnswerStream, AsyncAnswerStream
from cheapdeep_ops.testing import Reply

LONG = 'An answer of some length, with "quotes", a \\ and ünïcödé 🙂, so that it takes several events.'
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
PIECE = 7


def answered(answer=LONG):
    """The bytes of a triage stream, and how many of its deltas have text of the answer."""
    verdict = json.dumps({"confidence": 0.93, "answer": answer})
    deltas = [{"type": "text_delta", "text": verdict[at : at + PIECE]} for at in range(0, len(verdict), PIECE)]
    begin, end = verdict.index(json.dumps(answer)) + 1, len(verdict) - 2
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    }  # fmt: skip
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 90}},
        {"type": "message_stop"},
    ]
    body = b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)
    return body, sum(at < end and at + PIECE > begin for at in range(0, len(verdict), PIECE))


class Told:
    """The events of a stream, told again as a raw stream of the SDK's."""

    def __init__(self, events):
        self._events = events

    def __iter__(self):
        return iter(self._events)


async def _each(things):
    if hasattr(things, "__aiter__"):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


async def _settled(value):
    return await value if hasattr(value, "__await__") else value


@pytest.fixture
def shell(open_shell):
    return open_shell()


@pytest.fixture
def helped(api, shell):
    """Gives what `read` takes from the helper of an answer, and from the SDK's own helper over the same events."""

    def both(read):
        api.always(Reply.body(answered()[0]))
        sdks = MessageStream(Told(shell.streamed_events(**QUESTION)), omit)
        return given(shell, read), asyncio.run(read(sdks))

    return both


def given(shell, read):
    """What `read` takes from the helper of an answer."""
    reading = _read(shell, read)
    return shell._run(reading) if isinstance(shell.router, AsyncRouter) else asyncio.run(reading)


async def _read(shell, read):
    manager = shell.router.messages.stream(**QUESTION)
    if isinstance(shell.router, AsyncRouter):
        async with manager as stream:
            assert isinstance(stream, AsyncAnswerStream | AsyncMessageStream)
            return await read(stream)
    with manager as stream:
        assert isinstance(stream, AnswerStream | MessageStream)
        return await read(stream)


def data_of(thing):
    return thing if isinstance(thing, str) else (type(thing), thing.model_dump(), thing.model_fields_set)


async def events(stream):
    return [data_of(each) async for each in _each(stream)]


async def texts(stream):
    pieces = [each async for each in _each(stream.text_stream)]
    return [*pieces, data_of(stream.current_message_snapshot)]


async def final(stream):
    return data_of(await _settled(stream.get_final_message()))


async def some_events_then_the_message(stream):
    return [*await first(stream, 5), await final(stream), *await events(stream)]


async def some_texts_then_all_events(stream):
    pieces = _each(stream.text_stream)
    begun = await anext(pieces) + await anext(pieces)
    assert stream.current_message_snapshot.content[0].text == begun
    return begun, await events(stream)


async def some_events_then_texts(stream):
    return [*await first(stream, 5), *await texts(stream)]


async def first(stream, number):
    things = _each(stream)
    return [data_of(await anext(things)) for _ in range(number)]


async def the_message_then_everything(stream):
    return [await final(stream), await final(stream), await texts(stream), await events(stream)]


READERS = [
    events, texts, final, some_events_then_the_message, some_events_then_texts, the_message_then_everything,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
def test_it_gives_what_the_sdks_own_gives(helped, read):
    routed, sdks = helped(read)
    assert routed == sdks
    assert routed


@pytest.mark.parametrize("length", range(60, 60 + PIECE))
def test_it_gives_as_many_texts_as_upstream_sent(api, shell, length):
    plain = ("An answer that needs no escapes. " * 3)[:length]
    body, sent = answered(plain)
    api.enqueue(Reply.body(body))
    *pieces, _message = given(shell, texts)
    assert "".join(pieces) == plain
    assert len(pieces) == sent


def test_a_caller_who_turns_from_texts_to_events_gets_the_rest(api, shell):
    api.enqueue(Reply.body(answered()[0]))
    begun, rest = given(shell, some_texts_then_all_events)
    told = [fields["text"] for kind, fields, _ in rest if kind is TextEvent]
    assert begun + "".join(told) == LONG
    assert rest[-1][1]["message"]["content"][0]["text"] == LONG


def test_no_event_of_a_delta_is_built_for_a_caller_who_sees_none(api, shell, monkeypatch):
    built = []
    monkeypatch.setattr(answer_streams, "text_event", built.append)
    monkeypatch.setattr(answer_streams, "TextEvent", lambda **fields: built.append(fields))
    api.always(Reply.triage(0.93, LONG))
    assert given(shell, texts)
    assert given(shell, final)
    assert built == []
    assert given(shell, _count) > len(built) > 0


async def _count(stream):
    return len([each async for each in _each(stream)])


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_triage_stream_is_plain_data_unless_the_sdk_traces_it(api, open_shell, watched, monkeypatch, is_traced):
    arrived = []
    read = stream_events.received
    monkeypatch.setattr(stream_events, "received", lambda event: (arrived.append(event), read(event))[1])
    api.enqueue(Reply.body(answered()[0]))
    shell = open_shell(client={"open_telemetry": {"tracer_provider": watched.tracer_provider}} if is_traced else {})
    assert given(shell, texts)
    assert {isinstance(event, BaseModel if is_traced else dict) for event in arrived} == {True}


def test_the_deep_answer_comes_by_the_sdks_own(api, shell):
    api.always(Reply.triage(0.4, LONG), model="claude-haiku-4-5")
    api.always(Reply.text(LONG), model="claude-opus-4-7")

    async def kind(stream):
        return type(stream)

    assert given(shell, kind) in (anthropic.MessageStream, anthropic.AsyncMessageStream)


def test_a_helper_that_failed_at_an_odd_event_ends_when_it_is_read_on():
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    }  # fmt: skip
    events = [
        RawMessageStartEvent.construct(type="message_start", message=message),
        RawMessageDeltaEvent.construct(type="message_delta", delta={"stop_reason": "end_turn"}),  # without a usage
        RawMessageStopEvent.construct(type="message_stop"),
    ]
    for helper in (MessageStream(Told(events), omit), AnswerStream(Told(events), iter(events), omit)):
        with pytest.raises(AttributeError):
            list(helper.text_stream)
        assert list(helper) == []
