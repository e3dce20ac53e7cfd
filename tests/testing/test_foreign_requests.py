"""What the simulated API has for clients that are not ours: tools, thinking, files, keys, limits, raw bytes."""

import json

import httpx2
import pytest
from anthropic import AuthenticationError

from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
VERSION = {"anthropic-version": "2026-10-21"}
TOOL = {"name": "weather", "input_schema": {"type": "object"}}
ARGUMENTS = {"city": "Zürich", "days": [1, 2], "nested": {"unit": "°C"}}
THINKING = {"type": "thinking", "thinking": "They ask for the sum of two numbers.", "signature": "c2lnbmF0dXJl"}

pytestmark = pytest.mark.thorough


def asked(client, **more):
    known = {"model": OPUS, "max_tokens": 256, "messages": [{"role": "user", "content": "hello"}]}
    return client.messages.create(**known | more)


def streamed(client, **more):
    known = {"model": OPUS, "max_tokens": 256, "messages": [{"role": "user", "content": "hello"}]}
    with client.messages.stream(**known | more) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("way", [asked, streamed])
def test_a_tool_is_called_whole_and_as_a_stream(api, client, way):
    api.enqueue(Reply.tool_use("weather", ARGUMENTS, id="toolu_7"))
    message = way(client, tools=[TOOL])
    assert message.stop_reason == "tool_use"
    assert [(block.id, block.name, block.input) for block in message.content] == [("toolu_7", "weather", ARGUMENTS)]


@pytest.mark.parametrize("way", [asked, streamed])
def test_blocks_of_all_kinds_arrive_whole_and_as_a_stream(api, client, way):
    blocks = [THINKING, {"type": "redacted_thinking", "data": "eA=="}, {"type": "text", "text": "It is four."}]
    api.enqueue(Reply.of_blocks(*blocks))
    assert [block.to_dict() for block in way(client).content] == blocks


def test_the_body_is_kept_as_it_arrived(api):
    body = b'{ "max_tokens":5,\n "model": "claude-opus-4-7", "messages":[{"content":"\\u00fc","role":"user"}]}'
    httpx2.post(f"{api.url}/v1/messages?beta=true", content=body, headers={"x-api-key": "any", **VERSION})
    (received,) = api.requests
    assert (received.raw, received.query) == (body, "beta=true")
    assert received.question == "ü"


def test_a_key_that_is_not_among_the_accepted_ones_is_refused(api, client):
    api.keys = {"other"}
    with pytest.raises(AuthenticationError, match="invalid x-api-key"):
        asked(client)
    bearer = httpx2.get(f"{api.url}/v1/models", headers={"authorization": "Bearer other"})
    assert (bearer.status_code, httpx2.get(f"{api.url}/v1/models").status_code) == (200, 401)


def test_limits_are_those_of_the_model_that_answers(api, client):
    def limit(model):
        found = client.messages.with_raw_response.create(
            model=model, max_tokens=9, messages=[{"role": "user", "content": "hello"}]
        ).headers
        return found["anthropic-ratelimit-requests-limit"], found["anthropic-ratelimit-requests-remaining"]

    assert limit(HAIKU) == ("4000", "3999")
    assert limit(OPUS) == ("2000", "1999")


def test_a_file_lives_until_it_is_deleted(api, client):
    content = bytes(range(256)) + b"\r\n--x\r\n"
    uploaded = client.beta.files.upload(file=("a.pdf", content, "application/pdf"))
    assert (uploaded.filename, uploaded.size_bytes, uploaded.mime_type) == ("a.pdf", len(content), "application/pdf")
    assert [file.id for file in client.beta.files.list()] == [uploaded.id]
    assert client.beta.files.retrieve_metadata(uploaded.id) == uploaded
    assert client.beta.files.download(uploaded.id).read() == content
    assert client.beta.files.delete(uploaded.id).id == uploaded.id
    gone = httpx2.get(f"{api.url}/v1/files/{uploaded.id}", headers={"x-api-key": "any", **VERSION})
    assert (gone.status_code, json.loads(gone.content)["error"]["type"]) == (404, "not_found_error")
