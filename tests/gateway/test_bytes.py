"""What is forwarded goes and comes back byte for byte: prompt caches and signatures depend on it."""

import base64
import json
import random

import httpx2
import pytest

from cheapdeep_ops.testing import Reply
from tests.gateway.both import OPUS

pytestmark = pytest.mark.thorough

VERSION = "2026-10-21"
HEADERS = {"x-api-key": "any", "anthropic-version": VERSION, "content-type": "application/json"}
PICTURE = base64.b64encode(random.Random(7).randbytes(5 * 1024 * 1024 * 3 // 4)).decode()
ODD_TOOLS = r"""
{ "tools":[ {"input_schema" :{"type":"object","properties":{"\u006eame":{"type":"string"}, "a":{"type" : "number"}},
   "additionalProperties" :true}, "description":"Gr\u00fc\u00dfe, \"Tab\"\t and \/ slash","name":"find"}],
  "messages" : [{"content":"caf\u00e9 and café, \ud83d\ude00 and 😀, 1.0e+2 ","role":"user"}],
  "metadata":{"user_id":"00"},"max_tokens":   64 , "model":"claude-opus-4-7"%s } 
"""  # noqa: W291 - spaces at the end are bytes too
BODIES = {
    "keys in an odd order, spaces and escapes": ODD_TOOLS % "",
    "a field twice": ODD_TOOLS % ',"max_tokens":65',
    "a field of tomorrow": ODD_TOOLS % ',"x_new":{"b":1e2,"a":-0.0,"big":123456789012345678901234567890}',
    "half of a pair of surrogates": ODD_TOOLS % r',"stop_sequences":["\ud800"]',
    "five megabytes of base64": json.dumps(
        {
            "model": OPUS,
            "max_tokens": 64,
            "tools": [{"name": "find", "input_schema": {"type": "object"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}
                    ],
                }
            ],
        }
    ),
}
WHOLE = b"""{  "role":"assistant", "id" : "msg_01", "type":"message","model":"claude-opus-4-7",
 "content":[{"text":"Gr\\u00fc\\u00dfe, gr\xc3\xbc\xc3\x9fe \\/","type":"text", "new":[1.0,1e2]}],"stop_sequence":null,
 "usage" :{"output_tokens": 3,"input_tokens":5, "x":{"z":1,"a":2}}, "stop_reason":"end_turn"}
"""
STREAMED = b"""event: message_start
data: { "message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-4-7","content":[],\
"stop_reason":null,"stop_sequence":null,"usage":{"output_tokens":1 ,"input_tokens":5}},"type":"message_start"}

: a comment

event:content_block_start
data:{"type":"content_block_start","index":0,"content_block":{"text":"","type":"text"}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"index" : 0,"delta":{"type":"text_delta","text":"Gr\\u00fc\xc3\x9fe"},"type":"content_block_delta"}

event: an_event_of_tomorrow
data: {"type":"an_event_of_tomorrow", "x":[1.0]}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_sequence":null,"stop_reason":"end_turn"},"usage":{"output_tokens":3}}

event: message_stop
data: {"type":"message_stop"  }

"""


@pytest.fixture
def post(gateway_url):
    """Sends bytes to the gateway, and returns its response as it came."""

    def post(body, path="/v1/messages", **headers):
        content = body.encode() if isinstance(body, str) else body
        with httpx2.stream(
            "POST", gateway_url + path, content=content, headers={**HEADERS, **headers}, timeout=120
        ) as response:
            return response.status_code, b"".join(response.iter_raw()), response.headers

    return post


def streamed(body):
    """The body, with the field that asks for a stream behind its first brace."""
    return body.replace("{", '{"stream" :true, ', 1)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(("change", "reply"), [(str, WHOLE), (streamed, STREAMED)])
def test_a_forwarded_request_and_its_reply_keep_every_byte(api, post, name, change, reply):
    api.enqueue(Reply.body(reply))
    body = change(BODIES[name])
    status, content, _ = post(body)
    assert [request.raw for request in api.requests] == [body.encode()]
    assert (status, content) == (200, reply)


def test_an_escalated_request_reaches_the_deep_model_as_it_came(api, post):
    body = '{"messages":[ {"content":"caf\\u00e9?", "role":"user"} ],\n"max_tokens" : 64,"model":"claude-opus-4-7"%s}'
    for more, reply in (("", WHOLE), (',"stream":true ', STREAMED)):
        api.clear()
        api.enqueue(Reply.triage(0.1, None), Reply.body(reply))
        status, content, _ = post(body % more)
        assert (status, content) == (200, reply)
        assert [request.raw for request in api.requests][1:] == [(body % more).encode()]


@pytest.mark.parametrize(
    "error", [b'{ "error" :{"message":"\\u00fc","type":"overloaded_error"},"type":"error"}', b"<p>"]
)
def test_an_error_is_passed_on_word_for_word(api, post, error):
    for change in (str, streamed):
        api.enqueue(Reply.body(error, status=529, headers={"content-type": "text/plain", "retry-after": "3", "x": "y"}))
        status, content, headers = post(change(BODIES["a field of tomorrow"]))
        assert (status, content) == (529, error)
        assert (headers["content-type"], headers["retry-after"]) == ("text/plain", "3")
        assert headers["request-id"].startswith("req_")


def test_versions_and_betas_are_passed_on_unchanged(api, post):
    betas = "unheard-of-2031-01-01, files-api-2025-04-14"
    post(BODIES["a field twice"], path="/v1/messages?beta=true&x=%2F", **{"anthropic-beta": betas})
    (request,) = api.requests
    assert (request.headers["anthropic-beta"], request.headers["anthropic-version"]) == (betas, VERSION)
    assert request.query == "beta=true&x=%2F"


@pytest.mark.parametrize(
    "path", ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/files", "/v1/of_tomorrow/a%20b?c=%2F"]
)
def test_other_paths_are_forwarded_byte_for_byte(api, post, path):
    body = b'\x00\xff {"requests": [ ]}\r\n'
    forwarded = post(body, path=path, **{"content-type": "application/octet-stream"})
    (request,) = api.requests
    assert (request.raw, request.headers["content-type"]) == (body, "application/octet-stream")
    straight = httpx2.post(api.url + path, content=body, headers=HEADERS)
    assert forwarded[0] == straight.status_code
    assert without_id(forwarded[1]) == without_id(straight.content)
    assert request.query == api.requests[-1].query


def test_what_is_no_json_gets_the_answer_of_the_api(api, post):
    for body in (b"", b"{", b"[1]", b'{"model": "\xff"}', b"[" * 5000):
        api.clear()
        status, content, _ = post(body)
        assert [request.raw for request in api.requests] == [body]
        straight = httpx2.post(f"{api.url}/v1/messages", content=body, headers=HEADERS)
        assert (status, without_id(content)) == (straight.status_code, without_id(straight.content))


def without_id(content):
    return {**json.loads(content), "request_id": None}
