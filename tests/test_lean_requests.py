"""Triage requests that are copies of the client's first one: byte by byte those that the SDK sends."""

import logging
from functools import partial

import httpx2
import pytest
from anthropic import NOT_GIVEN, Anthropic, AsyncAnthropic, omit
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import TextBlock

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.claude.clients import CallClients
from cheapdeep_ops.claude.lean_messages import AsyncLeanMessages, LeanMessages
from cheapdeep_ops.claude.lean_requests import RequestTemplate
from cheapdeep_ops.testing import Reply

HELLO = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Füße 🙂"}]}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Paris"}], "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
CLOUDFLARE = {"set-cookie": "__cf_bm=abc; path=/"}


LEAN = partial(LeanMessages, is_raw=False)
ASYNC_LEAN = partial(AsyncLeanMessages, is_raw=False)


def answering(sent, **response):
    def answer(request):
        sent.append((request.method, str(request.url), request.headers.raw, request.content, request.extensions))
        return httpx2.Response(200, json=MESSAGE, **response)

    return httpx2.MockTransport(answer)


def client_of(transport, http=None, **options):
    http_client = httpx2.Client(transport=transport, **(http or {}))
    return Anthropic(**{"api_key": "any", "open_telemetry": False, "http_client": http_client, **options})


def triage_client(client, kind):
    triage = CallClients(client, triage_timeout_s=7.0).now().triage
    vars(triage)["messages"] = kind(triage)
    if kind in (Messages, AsyncMessages):  # the SDK notes in a header that a middleware is there
        vars(triage).update(_middleware=(), _middleware_chain=None)
    return triage


def sent_by(kind, change=lambda _client, _turn: None, response=None, arguments=None, **options):
    """What three calls send."""
    sent = []
    triage = triage_client(client_of(answering(sent, **(response or {})), **options), kind)
    for turn in range(3):
        change(triage, turn)
        triage.messages.create(**{**HELLO, **(arguments or {})})
    return sent


def assert_sent_as_by_the_sdk(**given):
    lean = sent_by(LEAN, **given)
    assert len(lean) == 3
    assert lean == sent_by(Messages, **given)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"api_key": None, "auth_token": "token"},
        {"default_headers": {"anthropic-beta": "a,b", "User-Agent": "me", "x-stainless-os": omit}},
        {"default_query": {"a": "x y+z", "b": ["1", "2"], "c": True}},
        {"base_url": "http://gateway_1/claude/v2"},
        {"http": {"headers": {"x-own": "1"}, "params": {"p": "a b"}, "auth": ("user", "word")}},
        {"http": {"cookies": {"q": "1"}}},
        {"default_headers": {"Cookie": "session=1"}},
        {"default_headers": {"Cookie": omit}, "http": {"cookies": {"q": "1"}}},
        {"http": {"headers": {"cookie": "session=1"}}},
        {"default_headers": {"Cookie": "session=1"}, "http": {"cookies": {"q": "1"}}},
    ],
)
@pytest.mark.parametrize("response", [{}, {"headers": CLOUDFLARE}])
def test_the_clients_options_are_sent(options, response):
    assert_sent_as_by_the_sdk(response=response, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "inference_geo": None, "stop_sequences": ("a",)},
        {"user_profile_id": "u", "workspace_id": "w"},
        {"system": NOT_GIVEN, "extra_headers": {"x-a": NOT_GIVEN, "x-b": "1"}},
        {"extra_query": {"a": "1", "b": NOT_GIVEN}},
        {"extra_body": {"max_tokens": 7, "b": omit}},
        {"timeout": 3.0},
        {"messages": [{"role": "assistant", "content": [TextBlock(type="text", text="a")]}]},
        {"messages": [{"role": "user", "content": {"a"}, 1: True, None: 1.5, "left out": omit}]},
    ],
)
def test_the_calls_arguments_are_sent(arguments):
    assert_sent_as_by_the_sdk(arguments=arguments)


def test_changed_headers_and_queries_hold_for_the_next_call():
    turns = []

    def change(client, turn):
        client._custom_headers = {"x-turn": str(turn)}
        client._client.headers["x-http"] = str(turn)
        turns[:] = [str(turn)]

    assert_sent_as_by_the_sdk(change=change, default_query={"in_place": turns})


def test_what_a_hook_changes_holds_for_one_request():
    def impatient(request):
        request.extensions["timeout"]["read"] -= 1
        request.headers["x-read"] = str(request.extensions["timeout"]["read"])

    assert_sent_as_by_the_sdk(http={"event_hooks": {"request": [impatient]}})


def test_the_body_is_known_to_whatever_builds_the_request():
    def change(client, _turn):
        http = client._client
        http.build_request = lambda *args, **more: _signed(httpx2.Client.build_request(http, *args, **more))

    assert_sent_as_by_the_sdk(change=change)


def _signed(request):
    request.headers["x-signature"] = str(len(request.content))
    return request


def test_each_request_has_a_key_of_its_own_where_the_client_sends_keys():
    def change(client, _turn):
        client._idempotency_header = "Idempotency-Key"

    keys = [dict(headers)[b"Idempotency-Key"] for _, _, headers, *_ in sent_by(LEAN, change)]
    assert len(set(keys)) == 3


def assert_is_signed(api, client):
    api.always(Reply.triage(0.9, "Paris"))
    with Router(settings=Settings(record=False), client=client) as router:
        for _ in range(2):
            router.messages.create(max_tokens=50, messages=HELLO["messages"])
    signed = [request.headers.get("x-signature") == request.headers["content-length"] for request in api.requests]
    assert signed == [True, True]


def test_a_function_in_the_place_of_a_method_of_the_client_is_called(api):
    with Anthropic(base_url=api.url, api_key="any", open_telemetry=False) as client:
        client._prepare_request = _signed
        assert_is_signed(api, client)


def test_a_function_in_the_place_of_a_method_of_the_class_is_called(api, monkeypatch):
    monkeypatch.setattr(Anthropic, "_prepare_request", lambda _self, request: _signed(request))
    with Anthropic(base_url=api.url, api_key="any", open_telemetry=False) as client:
        assert_is_signed(api, client)


async def test_the_same_holds_for_asyncio():
    async def sent_by(kind):
        sent = []
        http_client = httpx2.AsyncClient(transport=answering(sent, headers=CLOUDFLARE))
        triage = triage_client(AsyncAnthropic(api_key="any", open_telemetry=False, http_client=http_client), kind)
        for _ in range(3):
            await triage.messages.create(**HELLO)
        return sent

    assert await sent_by(ASYNC_LEAN) == await sent_by(AsyncMessages)


def test_a_logged_request_is_the_sdks(caplog):
    caplog.set_level(logging.DEBUG, logger="anthropic._base_client")
    assert_sent_as_by_the_sdk()
    assert sum(record.getMessage().startswith("Request options") for record in caplog.records) == 6


class Failing(httpx2.BaseTransport):
    """Fails as often as it has outcomes, and then answers."""

    def __init__(self, *outcomes):
        self.outcomes, self.sent = list(outcomes), []

    def handle_request(self, request):
        self.sent.append((request.headers.raw, request.content))
        outcome = self.outcomes.pop(0) if self.outcomes else 200
        if isinstance(outcome, Exception):
            raise outcome
        body = MESSAGE if outcome == 200 else {"type": "error", "error": {"type": "api_error", "message": "no"}}
        return httpx2.Response(outcome, json=body, headers={"retry-after-ms": "1", "request-id": "req_1"})


def deep_client(transport):
    return CallClients(client_of(transport), triage_timeout_s=7.0).now().original


@pytest.mark.parametrize(
    "outcomes",
    [
        (500, 529),
        (500, 500, 500),
        (400,),
        # The SDK waits for some time where no response says how long.
        pytest.param((httpx2.ConnectError("no"), 429), marks=pytest.mark.thorough),
        pytest.param((httpx2.ReadTimeout("late"), httpx2.ReadError("cut"), 500), marks=pytest.mark.thorough),
        pytest.param((RuntimeError("of a transport"),) * 3, marks=pytest.mark.thorough),
    ],
)
def test_a_deep_call_is_retried_as_by_the_sdk(outcomes):
    ends, requests = [], []
    for is_lean in (True, False):
        transport = Failing(200)
        client = deep_client(transport) if is_lean else client_of(transport)
        client.messages.create(**HELLO)
        transport.outcomes, transport.sent = list(outcomes), []
        try:
            ends.append(client.messages.create(**HELLO))
        except Exception as error:  # noqa: BLE001 - the two must fail alike
            ends.append((type(error), str(error), type(error.__cause__)))
        requests.append(transport.sent)
    assert ends[0] == ends[1]
    lean, by_the_sdk = [
        [(dict(headers)[b"x-stainless-retry-count"], body) for headers, body in sent] for sent in requests
    ]
    assert lean == by_the_sdk
    assert len(lean) > 1 or outcomes == (400,)


@pytest.mark.parametrize("name", ["_only_sends", "_newest"])
def test_a_name_that_the_sdk_lacks_fails_no_call(api, monkeypatch, name):
    def lacking(*_arguments):
        raise AttributeError("no attribute '_custom_headers'")

    monkeypatch.setattr(RequestTemplate, name, lacking)
    api.always(Reply.triage(0.9, "Paris"), model=HELLO["model"])
    api.always(Reply.text("Deep."))
    with Router(settings=Settings(record=False), base_url=api.url, api_key="any") as router:
        assert router.ask("Capital of France?").decision.shipped
        bypassed = router.messages.create(max_tokens=50, messages=HELLO["messages"], stop_sequences=["END"])
    assert bypassed.content[0].text == "Deep."
