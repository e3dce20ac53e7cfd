import asyncio
import json
import socket
import struct
import threading
import time
from dataclasses import FrozenInstanceError, replace

import anthropic
import httpx2
import pytest
from anthropic import types

from cheapdeep_ops.testing import CLASSES, FrozenClock, Reply, SimulatedAnthropic, TrafficClass
from cheapdeep_ops.testing.messages_api.models import MODELS

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
SCHEMA = {
    "type": "object",
    "properties": {"confidence": {"type": "number"}, "answer": {"type": ["string", "null"]}},
    "required": ["confidence", "answer"],
    "additionalProperties": False,
}
TRIAGE = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
OLD_VERSION = {"anthropic-version": "2023-06-01"}
SURE = TrafficClass(name="sure", marker="sure", confidences={0.9: 1}, accuracy=1.0)


def ask(client, text="hello", *, model=HAIKU, max_tokens=256, **more):
    return client.messages.create(
        model=model, max_tokens=max_tokens, messages=[{"role": "user", "content": text}], **more
    )


def post(api, body, headers=None):
    known = {"authorization": "Bearer any", "anthropic-version": "2026-10-21"}
    return httpx2.post(f"{api.url}/v1/messages", content=body, headers=known if headers is None else headers)


def text_of(message):
    return "".join(block.text for block in message.content)


# What it answers


def test_plain_answer_is_a_message_of_the_api_shape(api, client):
    message = ask(client, CLASSES[0].prompt(1))
    assert isinstance(message, types.Message)
    assert message.model == "claude-haiku-4-5-20251001"  # an alias answers with its dated id
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == -(-len(CLASSES[0].prompt(1)) // 4)
    assert message.usage.service_tier == "standard"
    assert message.usage.cache_read_input_tokens == message.usage.cache_creation_input_tokens == 0
    assert api.was_correct(text_of(message)) in {True, False}


def test_triage_by_schema_and_by_prompt_are_the_same_answer(api, client):
    by_schema = ask(client, CLASSES[0].prompt(5), **TRIAGE)
    by_prompt = ask(client, CLASSES[0].prompt(5), system='Reply with JSON: "confidence" and "answer".')
    assert text_of(by_schema) == text_of(by_prompt)
    assert set(json.loads(text_of(by_schema))) == {"confidence", "answer"}
    assert all(request.is_triage for request in api.requests)


def test_another_schema_is_not_triage(api, client):
    schema = {"type": "object", "properties": {"verdict": {"type": "string"}}}
    ask(
        client,
        'the "confidence" of this "answer"',
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert not api.requests[0].is_triage


def test_same_text_same_reply_in_any_order_and_on_another_server(client):
    prompts = [CLASSES[0].prompt(n) for n in range(6)]
    first = {prompt: text_of(ask(client, prompt, **TRIAGE)) for prompt in prompts}
    with SimulatedAnthropic() as other, anthropic.Anthropic(base_url=other.url, api_key="k") as second:
        again = {prompt: text_of(ask(second, prompt, **TRIAGE)) for prompt in reversed(prompts)}
    assert first == again


def test_seed_changes_the_draw():
    def answers(seed):
        with SimulatedAnthropic(seed=seed) as api, anthropic.Anthropic(base_url=api.url, api_key="k") as client:
            return [text_of(ask(client, CLASSES[0].prompt(n))) for n in range(3)]

    assert answers(0) != answers(1)


def test_deep_model_is_right_and_sure(api, client):
    message = ask(client, CLASSES[4].prompt(1), model=OPUS, **TRIAGE)
    triage = json.loads(text_of(message))
    assert triage["confidence"] == 0.97
    assert api.was_correct(triage["answer"]) is True
    assert message.model == OPUS


def test_was_correct_is_unknown_for_text_it_never_gave(api):
    assert api.was_correct("anything") is None


def test_accuracy_decides_what_is_correct():
    wrong = replace(SURE, accuracy=0.0)
    with (
        SimulatedAnthropic(classes=[wrong]) as api,
        anthropic.Anthropic(base_url=api.url, api_key="k") as client,
    ):
        answer = json.loads(text_of(ask(client, "sure", **TRIAGE)))["answer"]
        assert api.was_correct(answer) is False


def test_null_answer_below_one_half_and_malformed_reply():
    unsure = TrafficClass(name="unsure", marker="unsure", confidences={0.3: 1})
    broken = TrafficClass(name="broken", marker="broken", confidences={None: 1})
    with (
        SimulatedAnthropic(classes=[unsure, broken]) as api,
        anthropic.Anthropic(base_url=api.url, api_key="k") as client,
    ):
        assert json.loads(text_of(ask(client, "unsure", **TRIAGE))) == {"confidence": 0.3, "answer": None}
        for n in range(12):
            assert not _keeps_the_contract(text_of(ask(client, f"broken {n}", **TRIAGE)))


def _keeps_the_contract(text):
    try:
        reply = json.loads(text)
    except ValueError:
        return False
    return isinstance(reply, dict) and isinstance(reply.get("confidence"), float) and "answer" in reply


def test_content_blocks_and_the_last_user_turn_are_what_counts(api, client):
    blocks = [{"type": "text", "text": "sure"}, {"type": "text", "text": "thing"}]
    client.messages.create(
        model=HAIKU,
        max_tokens=50,
        messages=[
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": blocks},
        ],
    )
    assert api.requests[0].question == "sure\nthing"


@pytest.mark.parametrize("limit", [1, 5])
def test_max_tokens_cuts_the_answer(api, client, limit):
    message = ask(client, max_tokens=limit)
    assert message.stop_reason == "max_tokens"
    assert len(text_of(message)) == 4 * limit
    assert message.usage.output_tokens == limit
    assert api.was_correct(text_of(message)) is not None


def test_max_tokens_of_zero_warms_the_cache_only(client):
    message = ask(client, max_tokens=0)
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)


# Streaming


@pytest.mark.parametrize("extra", [{}, TRIAGE], ids=["plain", "triage"])
def test_stream_adds_up_to_the_message(client, extra):
    whole = ask(client, CLASSES[0].prompt(2), **extra)
    with client.messages.stream(
        model=HAIKU, max_tokens=256, messages=[{"role": "user", "content": CLASSES[0].prompt(2)}], **extra
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == text_of(final) == text_of(whole)
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)


def test_stream_has_the_events_of_the_api_in_order(api):
    body = {"model": HAIKU, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    response = post(api, json.dumps(body).encode())
    names = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event:")]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    for line in response.text.splitlines():
        if line.startswith("data:"):
            assert json.loads(line.removeprefix("data:"))["type"] in names


def test_refusal_is_streamed_too(api, client):
    api.enqueue(Reply.refusal("bio"))
    with client.messages.stream(model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        final = stream.get_final_message()
    assert (final.content, final.stop_reason, final.stop_details.category) == ([], "refusal", "bio")


async def test_async_client_plain_and_streamed(api):
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="k", open_telemetry=False) as client:
        replies = await asyncio.gather(*(ask(client, f"sure {n}") for n in range(20)))
        assert len({text_of(reply) for reply in replies}) == 20
        async with client.messages.stream(
            model=HAIKU, max_tokens=200, messages=[{"role": "user", "content": "sure 3"}]
        ) as stream:
            assert await stream.get_final_text() == text_of(replies[3])


# What it refuses


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The request body is not valid JSON"),
        (b"[]", "The request body is not valid JSON"),
        (b"{}", "model: Field required"),
        (b'{"model": "claude-haiku-4-5"}', "max_tokens: Field required"),
        (
            b'{"model": "claude-haiku-4-5", "max_tokens": true}',
            "max_tokens: Input should be a valid non-negative integer",
        ),
        (b'{"model": "claude-haiku-4-5", "max_tokens": 1}', "messages: Field required"),
        (
            b'{"model": "claude-haiku-4-5", "max_tokens": 1, "messages": []}',
            "messages: at least one message is required",
        ),
    ],
)
def test_invalid_request(api, body, message):
    response = post(api, body)
    assert response.status_code == 400
    assert response.json() == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
        "request_id": response.headers["request-id"],
    }


def test_missing_key_and_missing_version(api):
    assert post(api, b"{}", {"anthropic-version": "2026-10-21"}).json()["error"]["type"] == "authentication_error"
    assert post(api, b"{}", {"x-api-key": "k"}).json()["error"]["message"] == "anthropic-version: header is required"


def test_unknown_and_retired_models(api, client):
    with pytest.raises(anthropic.NotFoundError) as failure:
        ask(client, model="claude-nine")
    assert failure.value.body["error"]["message"] == "model: claude-nine"
    api.put_model(replace(MODELS[0], lifecycle="retired"))
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model=MODELS[0].id)
    assert client.models.retrieve(MODELS[0].id).lifecycle == "retired"
    assert MODELS[0].id not in {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (HAIKU, {"extra_body": {"temperature": 0}}),
        (HAIKU, {"extra_body": {"top_k": 5}}),
        (OPUS, {"extra_body": {"top_p": 0.5}, "extra_headers": OLD_VERSION}),
        (OPUS, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (HAIKU, {"thinking": {"type": "adaptive"}}),
        (HAIKU, {"output_config": {"effort": "low"}}),
        (HAIKU, {"max_tokens": 64_001, "timeout": 5}),
        (HAIKU, {"thinking": {"type": "between_tools"}}),
        ("claude-opus-4-5", {"output_config": {"effort": "max"}}),
        ("claude-opus-4-6", {"output_config": {"effort": "xhigh"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}, "output_config": {"effort": "max"}}),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}}),
        ("claude-opus-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}),
        ("claude-opus-5-5", {"tool_choice": {"type": "any"}}),
        ("claude-fable-5-1", {"thinking": {"type": "disabled"}}),
        ("claude-mythos-5-1", {"tool_choice": {"type": "tool", "name": "t"}}),
    ],
)
def test_parameters_that_a_model_refuses(client, model, more):
    with pytest.raises(anthropic.BadRequestError) as failure:
        ask(client, model=model, **more)
    assert failure.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (HAIKU, {"extra_body": {"temperature": 0}, "extra_headers": OLD_VERSION}),
        (HAIKU, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OPUS, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (OPUS, {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}, "output_config": {"effort": "high"}}),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}),
        ("claude-opus-5-5", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
    ],
)
def test_parameters_that_a_model_takes(client, model, more):
    assert text_of(ask(client, model=model, **more))


def test_prefill_is_refused_by_opus_only(client):
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The answer is"}]
    assert client.messages.create(model=HAIKU, max_tokens=50, messages=turns).content
    with pytest.raises(anthropic.BadRequestError, match="prefill"):
        client.messages.create(model=OPUS, max_tokens=50, messages=turns)


DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
CITED = {"type": "text", "text": "a", "citations": [{"type": "char_location"}]}


@pytest.mark.parametrize(
    ("turns", "is_refused"),
    [
        ([("user", "a"), ("assistant", [DOCUMENT]), ("user", "b")], True),
        ([("user", [DOCUMENT])], False),
        ([("user", [CITED])], True),
        ([("user", "a"), ("assistant", [CITED]), ("user", "b")], False),
    ],
)
def test_blocks_that_newer_versions_of_the_api_refuse(client, turns, is_refused):
    messages = [{"role": role, "content": content} for role, content in turns]
    request = {"model": HAIKU, "max_tokens": 50, "messages": messages}
    assert client.messages.create(**request, extra_headers=OLD_VERSION).content
    if is_refused:
        with pytest.raises(anthropic.BadRequestError, match="are not supported"):
            client.messages.create(**request)
    else:
        assert client.messages.create(**request).content


def test_a_model_may_be_told_to_refuse_more(api, client):
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}
    assert ask(client, **wanted).content
    api.refuse("format", model=HAIKU)
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format: Extra inputs are not permitted"):
        ask(client, **wanted)
    assert ask(client).content
    assert ask(client, model=OPUS, **wanted).content
    assert client.models.retrieve(HAIKU).capabilities.structured_outputs.supported is False


def test_thinking_counts_towards_the_limit_and_is_paid(api, client):
    api.put_model(replace(by_id("claude-haiku-5-5"), thinks=500))
    thoughtful = {"model": "claude-haiku-5-5", "max_tokens": 600}
    whole = ask(client, **thoughtful)
    assert (whole.stop_reason, whole.usage.output_tokens_details.thinking_tokens) == ("end_turn", 500)
    assert whole.usage.output_tokens > 500
    nothing = ask(client, **thoughtful | {"max_tokens": 500})
    assert (nothing.stop_reason, nothing.content, nothing.usage.output_tokens) == ("max_tokens", [], 500)
    some = ask(client, **thoughtful | {"max_tokens": 501})
    assert (some.stop_reason, len(text_of(some)), some.usage.output_tokens) == ("max_tokens", 4, 501)
    unthinking = ask(client, **thoughtful | {"max_tokens": 100}, thinking={"type": "disabled"})
    assert unthinking.stop_reason == "end_turn"


def by_id(name):
    return next(model for model in MODELS if model.id == name)


def test_context_limit_differs_by_model(client):
    long = "word " * 170_000
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 212500 tokens > 200000 maximum"):
        ask(client, long)
    assert ask(client, long, model=OPUS).usage.input_tokens == 212_500


# Scripted replies and faults


def test_scripted_replies_come_first_in_order_and_by_model(api, client):
    api.enqueue(Reply.text("for haiku"), model=HAIKU)
    api.enqueue(Reply.text("one"), Reply.text("two"))
    assert [text_of(ask(client, model=model)) for model in (OPUS, HAIKU, OPUS)] == ["one", "for haiku", "two"]
    assert text_of(ask(client)).startswith("Answer ")
    assert api.enqueued == 0


def test_standing_replies(api, client):
    api.always(Reply.text("all"))
    api.always(Reply.text("opus"), model=OPUS)
    assert [text_of(ask(client, model=model)) for model in (HAIKU, OPUS)] == ["all", "opus"]
    api.always(None, model=OPUS)
    assert text_of(ask(client, model=OPUS)) == "all"
    api.always(None)
    assert text_of(ask(client)).startswith("Answer ")


def test_standing_function_answers_or_leaves_it(api, client):
    api.always(lambda request: Reply.text("mine") if "grade" in request.question else None)
    assert text_of(ask(client, "grade this")) == "mine"
    assert text_of(ask(client, "other")).startswith("Answer ")


def test_an_invalid_request_takes_no_scripted_reply(api, client):
    api.enqueue(Reply.text("kept"))
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="claude-nine")
    assert text_of(ask(client)) == "kept"


def test_scripted_triage_text_and_usage(api, client):
    api.enqueue(
        Reply.triage(1.7, None, usage={"cache_read_input_tokens": 7}), Reply.text("{", stop_reason="max_tokens")
    )
    first, second = ask(client), ask(client)
    assert json.loads(text_of(first)) == {"confidence": 1.7, "answer": None}
    assert first.usage.cache_read_input_tokens == 7
    assert (text_of(second), second.stop_reason) == ("{", "max_tokens")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (402, anthropic.PaymentRequiredError, "billing_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (408, anthropic.RequestTimeoutError, "timeout_error"),
        (413, anthropic.ContentTooLargeError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
def test_errors_have_the_usual_type(api, client, status, error, kind):
    api.enqueue(Reply.error(status, retry_after=1.5))
    with pytest.raises(error) as failure:
        ask(client)
    assert failure.value.body["error"]["type"] == kind
    assert failure.value.response.headers["retry-after"] == "1.5"
    assert failure.value.request_id == failure.value.body["request_id"]


def test_error_of_ones_own_and_the_sdk_retrying(api):
    api.enqueue(Reply.error(529, type="odd", message="words", headers={"retry-after-ms": "1"}))
    with anthropic.Anthropic(base_url=api.url, api_key="k", max_retries=1) as client:
        assert ask(client).stop_reason == "end_turn"
    assert [request.headers["x-stainless-retry-count"] for request in api.requests] == ["0", "1"]


def test_recorded_bodies_go_out_word_for_word(api, client):
    recorded = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":null}'
    api.enqueue(Reply.body(recorded, status=529, headers={"x-should-retry": "false"}))
    with pytest.raises(anthropic.OverloadedError) as failure:
        ask(client)
    assert failure.value.response.content == recorded
    assert failure.value.response.headers["x-should-retry"] == "false"


def test_error_event_inside_a_stream(api, client):
    broken = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    api.enqueue(Reply.body(broken))
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client.messages.stream(model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize("after_bytes", [0, 10])
def test_cut_reply_breaks_the_connection(api, client, after_bytes):
    api.enqueue(Reply.triage(0.9, "never arrives").cut(after_bytes))
    with pytest.raises(anthropic.APIConnectionError) as failure:
        ask(client)
    assert isinstance(failure.value.__cause__, httpx2.RemoteProtocolError)
    assert ask(client).stop_reason == "end_turn"


def test_cut_stream_breaks_off(api, client):
    api.enqueue(Reply.text("a long enough answer to be cut somewhere").cut(700))
    with (
        pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)),
        client.messages.stream(model=HAIKU, max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        stream.until_done()


def test_a_client_that_leaves_a_long_stream_is_no_warning(caplog):
    with SimulatedAnthropic() as api, socket.create_connection(("127.0.0.1", api.port)) as leaving:
        api.always(Reply.text("word " * 500))
        body = json.dumps(
            {"model": HAIKU, "max_tokens": 999, "stream": True, "messages": [{"role": "user", "content": "x"}]}
        )
        head = f"host: x\r\nx-api-key: any\r\nanthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
        leaving.sendall(f"POST /v1/messages HTTP/1.1\r\n{head}{body}".encode())
        assert leaving.recv(1)
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it resets it
    assert caplog.text == ""


def test_slow_reply_times_out_in_the_client(api, client):
    api.enqueue(Reply.text("late").slow(60))
    with pytest.raises(anthropic.APITimeoutError):
        ask(client, timeout=0.05)


def test_stopping_ends_slow_replies_at_once():
    arrived = threading.Event()

    def late(request):
        arrived.set()
        return Reply.text("late").slow(60)

    with SimulatedAnthropic() as api:
        api.always(late)
        failures = []
        thread = threading.Thread(target=_catch, args=(api.url, failures))
        thread.start()
        assert arrived.wait(60)
        began = time.monotonic()
    thread.join(60)
    assert isinstance(failures[0], anthropic.APIConnectionError)
    assert time.monotonic() - began < 30


def _catch(url, failures):
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, open_telemetry=False) as client:
        try:
            ask(client)
        except anthropic.APIConnectionError as exc:
            failures.append(exc)


def test_latency_applies_to_messages(client):
    with SimulatedAnthropic(latency_s=0.02) as api, anthropic.Anthropic(base_url=api.url, api_key="k") as slower:
        began = time.monotonic()
        ask(slower)
        assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reply.error(200), "status must be 400 or above"),
        (lambda: Reply.text("x").slow(-1), "seconds must be 0 or more"),
        (lambda: Reply.text("x").cut(-1), "after_bytes must be 0 or more"),
    ],
)
def test_replies_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Other endpoints, the record, the lifecycle


def test_a_newer_tokenizer_counts_more_tokens_of_the_same_text(api, client):
    asked = {"messages": [{"role": "user", "content": "FAQ ticket 1: " + "word " * 200}], "max_tokens": 100}
    before = client.messages.create(model=OPUS, **asked).usage
    counted = client.messages.count_tokens(model=OPUS, messages=asked["messages"]).input_tokens
    api.put_model(replace(next(model for model in MODELS if model.id == OPUS), tokens_ratio=1.3))
    after = client.messages.create(model=OPUS, **asked).usage
    assert after.input_tokens == round(before.input_tokens * 1.3)
    assert after.output_tokens == round(before.output_tokens * 1.3)
    assert client.messages.count_tokens(model=OPUS, messages=asked["messages"]).input_tokens == round(counted * 1.3)


def test_count_tokens(client):
    counted = client.messages.count_tokens(model=HAIKU, system="four", messages=[{"role": "user", "content": "12345"}])
    assert counted.input_tokens == 3


def test_model_catalogue(client):
    haiku = client.models.retrieve(HAIKU)
    assert (haiku.lifecycle, haiku.line, haiku.max_input_tokens) == ("active", "haiku", 200_000)
    assert haiku.capabilities.effort.supported is False
    assert haiku.capabilities.thinking.types.enabled.supported is True
    assert client.models.retrieve("claude-sonnet-4-5").retires_at is not None
    assert {model.id for model in client.models.list()} == {model.id for model in MODELS}
    assert [m.lifecycle for m in client.models.list(lifecycle=["deprecated"])] == ["deprecated"] * 4
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-nine")


def test_health_and_unknown_routes(api):
    assert httpx2.get(f"{api.url}/healthz").status_code == 200
    assert httpx2.get(f"{api.url}/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert httpx2.get(f"{api.url}/v1/models").status_code == 401


def test_requests_are_recorded_without_secrets(client):
    clock = FrozenClock(1_000.0)
    with SimulatedAnthropic(clock=clock, keep_requests=2) as api:
        post(api, b"{}", {"x-api-key": "secret", "authorization": "Bearer secret", "anthropic-version": "2026-10-21"})
        (request,) = api.requests
        assert "secret" not in repr(request)
        assert (request.method, request.path, request.body, request.at) == ("POST", "/v1/messages", {}, 1_000.0)
        with pytest.raises(FrozenInstanceError):
            request.path = "/"
        for _ in range(3):
            post(api, b"{}")
        assert len(api.requests) == 2
        api.clear()
        assert not api.requests


def test_restart_keeps_the_port():
    api = SimulatedAnthropic()
    with pytest.raises(RuntimeError, match="no port before"):
        _ = api.url
    with api:
        url = api.url
        with pytest.raises(RuntimeError, match="already running"):
            api.start()
    api.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/healthz")
    with api:
        assert api.url == url
        assert httpx2.get(f"{url}/healthz").status_code == 200


def test_port_in_use_is_an_error(api):
    with pytest.raises(OSError, match="in use"):
        SimulatedAnthropic(port=api.port).start()


def test_classes_must_be_distinct():
    with pytest.raises(ValueError, match="at least one"):
        SimulatedAnthropic(classes=[])
    with pytest.raises(ValueError, match="share a marker"):
        SimulatedAnthropic(classes=[SURE, replace(SURE, name="other")])
