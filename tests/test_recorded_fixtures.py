import json
from pathlib import Path

import anthropic
import pytest

from cheapdeep_ops import Reason
from cheapdeep_ops.testing import Reply

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "anthropic_fixtures"
HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


def made_up():
    """Bodies of the shapes that were recorded: a plain answer without cache fields, one with thinking, three errors."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "stop_sequence": None, "stop_reason": "end_turn"}
    text = {"type": "text", "text": "Seven."}
    thinking = {"type": "thinking", "thinking": "Three and four.", "signature": "c2ln"}
    tool_use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 3, "b": 4}}
    old, new = {"input_tokens": 17, "output_tokens": 10}, {"service_tier": "standard", "cache_read_input_tokens": 9}
    bodies = {
        "plain": (200, {**message, "model": "claude-old", "content": [text], "usage": old}),
        "thinking": (200, {**message, "model": OPUS, "content": [thinking, text], "usage": old | new}),
        "a tool": (200, {**message, "model": OPUS, "content": [tool_use], "stop_reason": "tool_use", "usage": old}),
        "400": (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}),
        "401": (401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}),
        "404": (
            404,
            {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}, "request_id": None},
        ),
    }
    for name, (status, body) in bodies.items():
        yield pytest.param(Reply.body(body, status=status), id=f"made up: {name}")


def recorded(ending):
    if not RECORDED.is_dir():
        missing = pytest.mark.skip(reason="the recorded replies are not part of this repository")
        yield pytest.param(None, marks=[pytest.mark.shared, missing], id="recorded")
        return
    for entry in json.loads((RECORDED / "INDEX.json").read_text("utf-8")):
        path = RECORDED / entry["file"]
        if entry["path"].split("?")[0] == "/v1/messages" and path.suffix == ending:
            reply = Reply.body(path.read_bytes(), status=entry["status"])
            yield pytest.param(reply, marks=pytest.mark.shared, id=path.stem)


each_reply = pytest.mark.parametrize("reply", [*made_up(), *recorded(".json")])


def outcome(create):
    """What a call comes to, in a form that can be compared: the whole message, or the error."""
    try:
        message = create()
    except anthropic.APIStatusError as error:
        return type(error), error.status_code, error.body, error.response.content
    return message.model_dump(), message.to_json()


@each_reply
def test_a_recorded_reply_of_the_deep_tier_comes_back_as_without_a_router(api, bare, open_shell, ledger, reply):
    api.enqueue(reply, model=OPUS)
    expected = outcome(lambda: bare.messages.create(model=OPUS, **QUESTION))
    api.enqueue(Reply.triage(0.1, None), model=HAIKU)
    api.enqueue(reply, model=OPUS)
    shell = open_shell(router={"recorder": ledger})
    assert outcome(lambda: shell.create(**QUESTION)) == expected
    (decision,) = ledger.decisions
    assert (decision.model, decision.reason) == (OPUS, Reason.LOW_CONFIDENCE)
    if reply.status == 200:
        usage = json.loads(reply.payload)["usage"]
        assert decision.hops[1].usage.input_tokens == usage["input_tokens"]
        assert decision.hops[1].usage.output_tokens == usage["output_tokens"]
        assert decision.hops[1].usage.cache_read_tokens == (usage.get("cache_read_input_tokens") or 0)
        assert decision.cost_usd > decision.triage_cost_usd > 0
    else:
        assert issubclass(expected[0], anthropic.APIStatusError)
        assert decision.error == expected[0].__name__


@each_reply
def test_a_recorded_reply_of_the_triage_tier_is_never_shipped(api, open_shell, reply):
    for _ in range(2 if reply.status == 400 else 1):  # the second question leaves out what may have been refused
        api.enqueue(reply, model=HAIKU)
    api.enqueue(Reply.text("The deep answer."), model=OPUS)
    routed = open_shell().route(**QUESTION)
    assert routed.text == "The deep answer."
    assert routed.decision.reason is (Reason.MALFORMED if reply.status == 200 else Reason.TRIAGE_ERROR)
    assert routed.decision.model == OPUS


STREAM = b"".join(
    b"event: %b\ndata: %b\n\n" % (data["type"].encode(), json.dumps(data).encode())
    for data in (
        {
            "type": "message_start",
            "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": OPUS, "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Seven."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    )
)  # fmt: skip


@pytest.mark.parametrize("reply", [pytest.param(Reply.body(STREAM), id="made up: a stream"), *recorded(".sse")])
def test_a_recorded_stream_arrives_event_by_event_as_without_a_router(api, bare, open_shell, reply):
    api.always(reply)
    with bare.messages.create(model=OPUS, stream=True, **QUESTION) as stream:
        expected = [event.model_dump() for event in stream]
    assert len(expected) > 4
    assert [event.model_dump() for event in open_shell().streamed_events(**QUESTION)] == expected
