"""`@anthropic-ai/sdk`, straight at the API and through the gateway."""

import pytest

from cheapdeep_ops.testing import Reply
from tests.gateway.both import ANSWER, ESCALATED, HAIKU, OPUS, SHIPPED, USAGE, failing, with_a_tool
from tests.gateway.processes import gateway, until

pytestmark = pytest.mark.thorough

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
OWN = "x-cheapdeep-"
# What a server decides for each connection and each body, and what differs from request to request.
FREE = {"date", "server", "content-length", "transfer-encoding", "connection", "request-id", "keep-alive"}
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def compared(headers):
    """Headers that must be equal; those of limits by name alone, because time is in them."""
    kept = {name: text for name, text in headers.items() if name not in FREE and not name.startswith(OWN)}
    return {name: "" if name.endswith("-reset") else text for name, text in kept.items()}


def without_id(error):
    """The API's error object without the id of its request."""
    return {**error["body"], "request_id": None}


def test_a_shipped_answer_reads_like_the_api(typescript):
    pair = typescript("create", SHIPPED)
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], [HAIKU])
    assert pair.routed["content"] == pair.straight["content"] == [{"type": "text", "text": ANSWER}]
    assert pair.routed["stop_reason"] == pair.straight["stop_reason"] == "end_turn"
    assert pair.routed["usage"] == pair.straight["usage"]
    assert USAGE.items() <= pair.routed["usage"].items()
    assert pair.routed["model"] == f"{HAIKU}-20251001"
    assert pair.routed["request_id"].startswith("req_")
    headers = pair.routed["headers"]
    assert headers["anthropic-ratelimit-requests-limit"] == "4000"  # that of the model that answered
    assert compared(headers).keys() == compared(pair.straight["headers"]).keys()
    assert headers[f"{OWN}tier"] == "0"
    assert float(headers[f"{OWN}confidence"]) == 0.95


def test_an_escalated_answer_is_that_of_the_deep_model(typescript):
    pair = typescript("create", ESCALATED)
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], [HAIKU, OPUS])
    for name in ("content", "stop_reason", "usage", "model"):
        assert pair.routed[name] == pair.straight[name]
    assert compared(pair.routed["headers"]) == compared(pair.straight["headers"])
    assert pair.routed["headers"][f"{OWN}reason"] == "low_confidence"


@pytest.mark.parametrize(("script", "asked"), [(SHIPPED, [HAIKU]), (ESCALATED, [HAIKU, OPUS])])
def test_the_stream_helper_adds_up_the_answer(typescript, script, asked):
    pair = typescript("stream", script)
    assert pair.asked_routed == asked
    assert pair.routed["text"] == pair.straight["text"] == ANSWER
    for name in ("content", "stop_reason", "usage"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.routed["started"][0]["input_tokens"] == USAGE["input_tokens"]
    # A shipped answer may come in other pieces than the API's.
    assert list(dict.fromkeys(pair.routed["events"])) == list(dict.fromkeys(pair.straight["events"]))
    assert compared(pair.routed["headers"]).keys() >= compared(pair.straight["headers"]).keys()


def test_an_escalated_stream_has_the_events_of_the_deep_model(typescript):
    pair = typescript("events", ESCALATED)
    straight, routed = pair.straight["events"], pair.routed["events"]
    for events in (straight, routed):
        events[0]["message"].pop("id")
    assert routed == straight


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_of_tools_runs_as_it_does_without_the_gateway(typescript, stream):
    pair = typescript("toolRunner", with_a_tool, stream=stream)
    assert pair.routed == pair.straight
    assert pair.straight["called"] == [{"city": "Zürich"}]
    assert pair.asked_routed == pair.asked_straight == [OPUS, OPUS]


@pytest.mark.parametrize("act", ["create", "stream"])
def test_a_tool_is_offered_and_called(typescript, act):
    pair = typescript(act, with_a_tool, more={"tools": [TOOL]})
    assert pair.asked_routed == [OPUS]
    for name in ("content", "stop_reason", "usage", "model"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.straight["content"][0]["input"] == {"city": "Zürich"}
    assert compared(pair.routed["headers"]) == compared(pair.straight["headers"])


def test_an_image_arrives(typescript, api):
    turn = {"role": "user", "content": [IMAGE, {"type": "text", "text": "What is it?"}]}
    pair = typescript("create", ESCALATED, more={"messages": [turn]})
    assert api.requests[-1].body["messages"] == [turn]
    for name in ("content", "stop_reason", "usage", "model"):
        assert pair.routed[name] == pair.straight[name]


def test_thinking_comes_with_its_signature(typescript):
    thinking = {"type": "thinking", "thinking": "A reset, so the settings.", "signature": "c2ln/bmF0dXJl+w=="}

    def script(api):
        deep = Reply.of_blocks(thinking, {"type": "text", "text": ANSWER}, usage=USAGE)
        api.always(lambda request: Reply.triage(0.3, None) if request.is_triage else deep)

    for act in ("create", "stream"):
        pair = typescript(act, script, more={"thinking": {"type": "adaptive"}})
        assert pair.routed["content"] == pair.straight["content"]
        assert pair.straight["content"][0] == thinking


def test_tokens_models_batches_and_files_are_those_of_the_api(typescript):
    for act in ("countTokens", "models", "files"):
        pair = typescript(act)
        assert "failed" not in pair.straight
        assert pair.routed == pair.straight
        assert len(pair.asked_routed) == len(pair.asked_straight)
    pair = typescript("batches", SHIPPED)
    assert pair.routed == pair.straight
    assert pair.straight["results"].keys() == {"a", "b"}


@pytest.mark.parametrize("act", ["create", "stream"])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 500, 529])
def test_an_error_of_the_deep_model_is_the_one_that_the_client_raises(typescript, act, status):
    pair = typescript(act, failing(status, message="It's ünusual.", headers={"retry-after": "7"}))
    for name in ("failed", "status", "type", "retryable"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.straight["status"] == status
    assert without_id(pair.routed) == without_id(pair.straight)
    assert pair.routed["request_id"] == pair.routed["body"]["request_id"]
    assert compared(pair.routed["headers"]) == compared(pair.straight["headers"])
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], [HAIKU, OPUS])


def test_a_request_that_the_api_refuses_is_refused_in_its_words(typescript):
    for more in ({"max_tokens": None}, {"messages": []}, {"model": "claude-unheard-of"}, {"max_tokens": -1}):
        pair = typescript("create", ESCALATED, more=more)
        assert (pair.routed["failed"], pair.routed["status"]) == (pair.straight["failed"], pair.straight["status"])
        assert without_id(pair.routed) == without_id(pair.straight)


def test_a_wrong_key_is_an_authentication_error(typescript):
    def script(api):
        api.keys = {"right"}

    for act in ("create", "stream", "models", "countTokens"):
        pair = typescript(act, script, key="wrong")
        assert (pair.routed["failed"], pair.routed["status"]) == ("AuthenticationError", 401)
        assert without_id(pair.routed) == without_id(pair.straight)
    assert "failed" not in typescript("create", script, key="right").routed


@pytest.mark.parametrize("act", ["create", "stream"])
@pytest.mark.parametrize("status", [429, 500, 529])
def test_the_client_alone_retries_the_deep_call(typescript, act, status):
    pair = typescript(act, failing(status, headers={"retry-after": "0"}), retries=2)
    assert pair.routed["failed"] == pair.straight["failed"]
    assert pair.asked_straight == [OPUS] * 3
    assert pair.asked_routed.count(OPUS) == 3


def test_a_retry_that_succeeds_is_an_answer(typescript):
    def script(api):
        ESCALATED(api)
        api.enqueue(Reply.error(529, headers={"retry-after": "0"}), model=OPUS)

    pair = typescript("create", script, retries=2)
    assert pair.routed["content"] == pair.straight["content"]
    assert (pair.asked_straight.count(OPUS), pair.asked_routed.count(OPUS)) == (2, 2)


@pytest.mark.parametrize("more", [{}, {"tools": [TOOL]}], ids=["escalated", "forwarded"])
def test_a_stream_that_fails_midway_fails_as_it_does_without_the_gateway(typescript, more):
    begun = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_01","type":"message","content":[],'
        b'"role":"assistant","model":"claude-opus-4-7","stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
    )
    overloaded = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    for deep in (Reply.body(begun + overloaded), Reply.text(ANSWER * 40).cut(2_000)):

        def script(api, deep=deep):
            api.always(lambda request: Reply.triage(0.3, None) if request.is_triage else deep)

        pair = typescript("stream", script, more=more)
        assert pair.straight["failed"]
        for name in ("failed", "status", "type", "message"):
            assert pair.routed[name] == pair.straight[name]


@pytest.mark.parametrize("confidence", [0.95, 0.3])
def test_a_client_that_leaves_ends_the_call_of_the_api(typescript, api, confidence):
    def script(api):
        triage = Reply.triage(confidence, ANSWER * 40).paced(0.05, at_once=30)
        deep = Reply.text(ANSWER * 40).paced(0.05)
        api.always(lambda request: triage if request.is_triage else deep)

    pair = typescript("abort", script)
    assert pair.routed == pair.straight == {"error": "APIUserAbortError", "started": True}
    until(lambda: not api.streams[-1].is_open, "the end of the API's stream")
    assert api.streams[-1].sent < 100  # of about 170 events


def test_what_a_caller_says_in_headers_is_heard_and_goes_no_further(typescript, api):
    pair = typescript("create", SHIPPED, headers={f"{OWN}mode": "off", f"{OWN}route": "support", "x-own": "1"})
    assert pair.asked_routed == [OPUS]
    assert pair.routed["content"] == pair.straight["content"]
    (request,) = api.requests
    assert not [name for name in request.headers if name.startswith(OWN)]


def test_a_call_over_the_budget_is_refused_once(typescript_client, api, tmp_path):
    SHIPPED(api)
    with gateway(tmp_path, api.url, CHEAPDEEP_USD_PER_DAY="0.001", CHEAPDEEP_AT_BUDGET="refuse") as own:
        known = {"url": own.url, "question": "Is it open?", "key": "any", "retries": 2}
        answers = [typescript_client("create", **known)]
        while "failed" not in answers[-1] and len(answers) < 100:
            answers.append(typescript_client("create", **known))
    *answered, refused = answers
    assert answered  # each costs $0.000126
    assert (refused["failed"], refused["status"], refused["type"]) == ("PaymentRequiredError", 402, "billing_error")
    assert refused["headers"]["x-should-retry"] == "false"
    assert "retry-after" not in refused["headers"]
    assert len(api.requests) == len(answered)
