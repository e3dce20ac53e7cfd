"""What needs no server: headers, bodies, and the whole message of a stream."""

import json
import socket

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.claude.assembled import as_whole
from cheapdeep_ops.claude.forwarded import PassedStream
from cheapdeep_ops.claude.wire_requests import params_of
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.events import error_event, part_bytes
from cheapdeep_ops.gateway.exchange import HttpExchange
from cheapdeep_ops.gateway.headers import call_options, of_triage, to_caller, to_upstream
from cheapdeep_ops.gateway.stored_calls import EndedCall, StoredCalls
from cheapdeep_ops.gateway.upstream import Upstream
from cheapdeep_ops.listening import listen
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing.messages_api.wire import event_stream
from cheapdeep_ops.values import Decision
from tests.gateways import OPUS, asked, events_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": OPUS, "stop_reason": "end_turn",
    "stop_sequence": None, "stop_details": None,
    "usage": {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 9},
}  # fmt: skip


def streamed(content: bytes) -> httpx2.Response:
    headers = {"content-type": "text/event-stream", "request-id": "req_1"}
    return httpx2.Response(200, headers=headers, content=content, request=httpx2.Request("POST", "http://api/"))


@pytest.mark.thorough
@given(texts=st.lists(TEXT, min_size=1, max_size=3))
def test_the_events_of_a_message_add_up_to_it(texts):
    whole = {**MESSAGE, "content": [{"type": "text", "text": text} for text in texts]}
    response = as_whole(streamed(b"".join(event_stream(whole))))
    assert response.json() == whole
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["request-id"] == "req_1"


def test_blocks_of_all_kinds_add_up():
    events = [
        {"type": "message_start", "message": {**MESSAGE, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "so"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]
    message = as_whole(streamed(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events))).json()
    assert message["content"] == [
        {"type": "thinking", "thinking": "so", "signature": "s1"},
        {"type": "tool_use", "id": "t", "input": {"a": 1}},
    ]
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("tool_use", 12)


@pytest.mark.parametrize(
    "content",
    [
        b"".join(event_stream({**MESSAGE, "content": []})).rpartition(b"event:")[0],
        b'data: {"type": "content_block_delta", "index": 0, "delta": {}}\n\n',
        b"data: [1]\n\n",
        b"data: {\n\n",
    ],
    ids=["broken off", "no block", "no object", "no JSON"],
)
def test_a_stream_without_a_whole_message_is_a_fault_of_the_api(content):
    with pytest.raises(httpx2.RemoteProtocolError, match="not in the API's format"):
        as_whole(streamed(content))


def test_an_event_that_cannot_be_read_hides_no_figures_of_those_behind_it():
    progress = PassedStream()
    progress.take(b"data: {\n\n" + b"".join(event_stream({**MESSAGE, "content": []})))
    assert progress.reply().usage.output_tokens == 9


@pytest.mark.thorough
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30), text=TEXT)
def test_the_figures_of_passed_bytes_do_not_depend_on_how_they_are_cut(sizes, text):
    whole = {**MESSAGE, "content": [{"type": "text", "text": text}]}
    rest, progress, passed = b"".join(event_stream(whole)), PassedStream(), b""
    while rest:
        chunk, rest = rest[: sizes[0]], rest[sizes[0] :]
        sizes = [*sizes[1:], sizes[0]]
        passed += b"".join(progress.take(chunk))
    assert passed == b"".join(event_stream(whole))
    usage = progress.reply().usage
    assert (usage.input_tokens, usage.output_tokens, usage.is_estimate) == (3, 9, False)


@given(text=TEXT)
def test_a_text_becomes_one_event(text):
    ((name, data),) = events_of(part_bytes(text))
    assert (name, json.loads(data)["delta"]) == ("content_block_delta", {"type": "text_delta", "text": text})


@pytest.mark.thorough
@given(message=TEXT)
def test_an_error_becomes_one_event(message):
    ((name, data),) = events_of(error_event({"type": "error", "error": {"type": "api_error", "message": message}}))
    assert (name, json.loads(data)["error"]["message"]) == ("error", message)


@pytest.mark.thorough
@given(
    fields=st.dictionaries(
        st.sampled_from(["extra_headers", "extra_query", "timeout", "conversation", "temperature", "speed", "n"]),
        st.integers() | st.dictionaries(st.just("x-api-key"), TEXT),
    )
)
def test_a_body_sets_no_option_of_the_client(fields):
    params = params_of(json.dumps(asked(**fields)).encode())
    assert params is not None
    assert set(params) <= {"model", "max_tokens", "messages", "extra_body"}
    assert params.get("extra_body", {}) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1]", b'{"model": 3}', b'{"messages": []}', b'"\\ud800"', b'{"model": "claude\\u0000"}',
        b'{"model": "%s"}' % (b"a" * 301),
    ],
)  # fmt: skip
def test_what_the_api_refuses_has_no_arguments(body):
    assert params_of(body) is None


HOPS = [
    (b"connection", b"keep-alive, X-Private"), (b"x-private", b"1"), (b"keep-alive", b"5"), (b"te", b"trailers"),
    (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"proxy-authorization", b"Basic eA=="),
]  # fmt: skip


def test_headers_of_one_connection_and_of_the_gateway_do_not_pass():
    kept = [(b"anthropic-beta", b"a"), (b"anthropic-beta", b"b"), (b"x-api-key", b"k"), (b"user-agent", b"u")]
    own = [(b"x-cheapdeep-route", b"chat"), (b"x-cheapdeep-whatever", b"1"), (b"host", b"gateway"), (b"expect", b"x")]
    assert to_upstream([*HOPS, *own, *kept, (b"content-length", b"7")]) == kept
    assert to_caller([*HOPS, (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"X-Cheapdeep-Tier", b"9")]) == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    assert of_triage([*own, *kept]) == {"x-api-key": "k", "anthropic-beta": "a, b"}


async def test_a_body_in_chunks_is_sent_without_the_length_that_its_caller_states():
    scope = {"method": "POST", "raw_path": b"/v1/files", "query_string": b""}
    chunked = {**scope, "headers": [(b"transfer-encoding", b"chunked"), (b"content-length", b"3")]}
    async with httpx2.AsyncClient() as http:
        upstream = Upstream(http, "http://api")
        request = upstream.request(HttpExchange(chunked, None, None))
        assert "content-length" not in request.headers
        known = upstream.request(HttpExchange({**scope, "headers": [(b"content-length", b"3")]}, None, None))
        assert known.headers["content-length"] == "3"


def test_what_a_caller_says_of_a_call():
    headers = {b"route": "träge".encode(), b"input-class": b" a\0b", b"mode": b"OFF", b"grading": b"off"}
    options = call_options([(b"x-cheapdeep-" + name, value) for name, value in headers.items()])
    assert (options.route, options.input_class, options.is_off, options.may_be_graded) == ("träge", "ab", True, False)
    plain = call_options([(b"route", b"no")])
    assert (plain.route, plain.input_class, plain.conversation, plain.is_off) == (None, "", "", False)
    assert plain.may_be_graded


def test_a_port_that_is_taken_is_named_with_its_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="choose another port with CHEAPDEEP_GATEWAY_PORT"):
            listen("127.0.0.1", taken.getsockname()[1], setting="CHEAPDEEP_GATEWAY_PORT")


async def test_a_call_is_told_of_for_ten_minutes(decision: Decision):
    now = [1_000.0]
    calls = RecentCalls(clock=lambda: now[0])
    calls.put("me", decision)
    now[0] += 599
    assert await calls.find("call", "me") is not None
    assert await calls.find("call", "you") is None
    now[0] += 2
    assert await calls.find("call", "me") is None


def test_a_call_that_the_store_rejects_holds_up_no_later_ones(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    migrated = Store(url)
    migrate(migrated)
    migrated.close()
    stored = StoredCalls(url, every_s=0.01, clock=lambda: 0.0)
    for call_id in (None, "good"):
        stored.put(EndedCall(call_id=call_id, fingerprint="me", at=0.0, facts={}))
        stored._flush_safely()
    assert stored.find("good", "me", since=0.0) == {}
    stored.stop()


@pytest.fixture
def decision() -> Decision:
    return Decision(
        call_id="call", route="support", input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9,
        threshold=0.8, policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=None,
        base_reason=None, cost_usd=0.1, triage_cost_usd=0.1, baseline_cost_usd=None, baseline_basis="",
        started_at=0.0, duration_s=0.0, triage_duration_s=0.0, hops=(),
    )  # fmt: skip
