"""Replies that are parsed in one step: equal to what the SDK makes of them, or left to the SDK."""

import copy
import dataclasses
import json
from pathlib import Path

import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.claude.conversion import read_reply, unwrapped
from cheapdeep_ops.claude.lean_messages import AsyncLeanMessages, LeanMessages, parsed
from cheapdeep_ops.claude.raw_message import raw_message
from cheapdeep_ops.testing import Reply

FIXTURES = Path(__file__).parents[2] / "shared" / "data" / "anthropic_fixtures"
HELLO = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}

TEXT = {"type": "text", "text": "Paris", "citations": None}
CITATION = {
    "type": "char_location", "cited_text": "a", "document_index": 0, "document_title": None, "start_char_index": 0,
    "end_char_index": 1, "file_id": None,
}  # fmt: skip
BLOCKS = (
    TEXT,
    {"type": "text", "text": "Füße 🙂", "citations": [CITATION]},
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1, 2.5, None]}, "caller": {"type": "direct"}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "of_tomorrow", "what": 1},
)
USAGE = {
    "input_tokens": 12, "output_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": None,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "service_tier": "standard",
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}, "inference_geo": "global",
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [TEXT],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE,
}  # fmt: skip
ODD = st.sampled_from(
    [None, "", "12", 12, -1, 2.5, True, [], {}, [1], {"type": "text"}, "end_turn", "\ud800", 10**30, {"a": {"b": []}}]
)


def response(body, **headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"content-type": "application/json", "Request-Id": "req_1", "anthropic-workspace-id": "wrkspc_1", **headers}
    return httpx2.Response(200, headers=own, content=text, request=httpx2.Request("POST", "http://api"))


def by_the_sdk(raw):
    transport = httpx2.MockTransport(lambda _request: raw)
    with Anthropic(api_key="any", open_telemetry=False, http_client=httpx2.Client(transport=transport)) as client:
        return client.messages.create(model="claude-haiku-4-5", **HELLO)


def shape(value):
    """The value with the classes of all its parts, and the fields that are set, but for those that the SDK lacks."""
    if isinstance(value, list):
        return [shape(each) for each in value]
    if not hasattr(value, "model_fields_set"):
        return type(value), value
    fields = {**vars(value), **(value.model_extra or {})}
    known = value.model_fields_set & type(value).model_fields.keys()
    return type(value), known, {name: shape(field) for name, field in fields.items()}


def assert_equal_to_the_sdks(raw):
    lean = parsed(raw)
    if lean is None:
        return False
    other = by_the_sdk(raw)
    assert lean == other
    assert shape(lean) == shape(other)
    assert lean.to_json(exclude_unset=True) == other.to_json(exclude_unset=True)
    assert (lean._request_id, lean._workspace_id) == (other._request_id, other._workspace_id)
    return True


def in_any_order(usage):
    return usage and dataclasses.replace(usage, unpriced=tuple(sorted(usage.unpriced)))


def places(value, path=()):
    """The paths of all parts of a JSON value."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def changed(body, path, value):
    body = copy.deepcopy(body)
    if not path:
        return value
    part = body
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return body


def test_what_the_api_sends_is_parsed_in_one_step():
    assert assert_equal_to_the_sdks(response(MESSAGE))
    assert assert_equal_to_the_sdks(response({**MESSAGE, "content": list(BLOCKS[:5]), "new": {"field": [1]}}))


@given(content=st.lists(st.sampled_from(BLOCKS), max_size=4), data=st.data())
def test_a_reply_that_is_not_as_the_types_say_is_left_to_the_sdk(content, data):
    body = {**MESSAGE, "content": content}
    for _ in range(data.draw(st.integers(0, 3))):
        path = data.draw(st.sampled_from([path for path in places(body) if path]))
        body = changed(body, path, data.draw(st.one_of(ODD, st.just(...))))
    assert_equal_to_the_sdks(response(body))


@given(content=st.lists(st.sampled_from(BLOCKS), max_size=3), answer=st.text(max_size=9), data=st.data())
def test_a_raw_reply_means_what_the_sdks_message_means(content, answer, data):
    body = {**MESSAGE, "content": content}
    for _ in range(data.draw(st.integers(0, 3))):
        path = data.draw(st.sampled_from([path for path in places(body) if path]))
        body = changed(body, path, data.draw(st.one_of(ODD, st.just(...))))
    raw = raw_message(response(body))
    if raw is None:  # the router gets the SDK's message
        return
    message = by_the_sdk(response(body))
    assert (raw.id, raw.model, raw.stop_reason) == (message.id, message.model, message.stop_reason)
    options = {"user_text": "hello", "max_tokens": 50}
    of_raw, of_message = read_reply(raw, **options), read_reply(message, **options)
    assert of_raw.verdict == of_message.verdict
    if parsed(response(body)) is not None:  # else the SDK may have made a number of a text
        assert in_any_order(of_raw.usage) == in_any_order(of_message.usage)
    made, copied = raw.with_answer(answer), unwrapped(message, answer)
    assert made == copied
    assert shape(made) == shape(copied)
    assert (made._request_id, made._workspace_id) == (copied._request_id, copied._workspace_id)


def test_a_usual_reply_is_read_raw():
    assert raw_message(response(MESSAGE)) is not None
    assert raw_message(response({**MESSAGE, "content": list(BLOCKS)})) is not None


def test_an_unknown_name_is_left_to_the_sdk():
    assert parsed(response({**MESSAGE, "content": [BLOCKS[-1]]})) is None
    assert parsed(response({**MESSAGE, "stop_reason": "of_tomorrow"})) is None
    assert parsed(response(changed(MESSAGE, ("usage", "input_tokens"), "12"))) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"id": NaN}', b"\xff"])
def test_what_is_no_message_is_left_to_the_sdk(body):
    assert parsed(response(body)) is None
    assert raw_message(response(body)) is None


@pytest.mark.parametrize("ids", [["req_1", "req_2"], ["ü".encode()], [b"\xfc"]])
def test_ids_are_read_from_headers_as_the_sdk_reads_them(ids):
    raw = response(MESSAGE)
    del raw.headers["request-id"]
    raw.headers = httpx2.Headers([*raw.headers.raw, *((b"request-id", each) for each in ids)])
    assert assert_equal_to_the_sdks(raw)


def test_a_text_that_looks_like_a_message_is_left_to_the_sdk():
    assert parsed(response(MESSAGE, **{"content-type": "text/plain"})) is None
    assert parsed(response(MESSAGE, **{"content-type": "application/vnd.api+json; charset=utf-8"})) is not None


@pytest.mark.shared
def test_recorded_replies_are_parsed_in_one_step():
    replies = [json.loads(path.read_text("utf-8")) for path in FIXTURES.rglob("*.json")]
    messages = [reply for reply in replies if isinstance(reply, dict) and reply.get("type") == "message"]
    if not messages:
        pytest.skip("the recorded replies are not at hand: they are not part of this repository")
    assert sum(assert_equal_to_the_sdks(response(message)) for message in messages) > len(messages) / 2


class TestWhereItIsUsed:
    def test_in_the_copies_of_a_client_of_the_sdks_own(self, api):
        with Router(settings=Settings(record=False), base_url=api.url, api_key="any") as router:
            assert type(router._triage.messages) is LeanMessages
            assert type(router._originals.messages) is LeanMessages
            assert type(router._sdk.messages) is Messages

    async def test_for_asyncio_too(self, api):
        async with AsyncRouter(settings=Settings(record=False), base_url=api.url, api_key="any") as router:
            assert type(router._triage.messages) is AsyncLeanMessages
            assert type(router._sdk.messages) is AsyncMessages

    def test_not_where_a_middleware_may_look_at_the_reply(self, api):
        options = {"base_url": api.url, "api_key": "any", "middleware": [lambda request, call_next: call_next(request)]}
        with Router(settings=Settings(record=False), **options) as router:
            assert type(router._triage.messages) is Messages

    def test_not_while_something_lies_around_the_clients_post(self, api, monkeypatch):
        seen = []

        def watched(self, path, *, cast_to, **request):
            seen.append(cast_to)
            return post(self, path, cast_to=cast_to, **request)

        post = Anthropic.post
        api.always(Reply.triage(0.9, "Paris"))
        with Router(settings=Settings(record=False), base_url=api.url, api_key="any") as router:
            router.messages.create(**HELLO)
            monkeypatch.setattr(Anthropic, "post", watched)
            assert router.messages.create(**HELLO).content[0].text == "Paris"
        assert seen == [Message]

    @pytest.mark.parametrize("kind", [Anthropic, AsyncAnthropic])
    async def test_an_odd_reply_arrives_as_the_sdk_parses_it(self, api, kind):
        odd = changed(MESSAGE, ("usage", "input_tokens"), "12")
        lean = LeanMessages if kind is Anthropic else AsyncLeanMessages
        client = kind(api_key="any", open_telemetry=False, http_client=_answering(kind, odd))
        answer = lean(client, is_raw=False).create(model="claude-haiku-4-5", **HELLO)
        message = answer if kind is Anthropic else await answer
        assert (message.usage.input_tokens, message._request_id) == ("12", "req_1")


def _answering(kind, body):
    transport = httpx2.MockTransport(lambda _request: response(body))
    return httpx2.Client(transport=transport) if kind is Anthropic else httpx2.AsyncClient(transport=transport)
