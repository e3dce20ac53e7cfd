"""What callers get from `POST /v1/messages`: over HTTP, with the simulated API behind the gateway."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import select

from cheapdeep_ops.gateway.events import PING
from cheapdeep_ops.gateway.upstream import Upstream
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.grade_tables import Candidate
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.gateways import HAIKU, KEY, OPUS, QUESTION, Served, asked, events_of, serving
from tests.patience import PATIENCE_S
from tests.raw_server import STREAM, RawServer, talking

ANSWER = "Under Settings: »Reset« \\ then wait.\n"
HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
TOOLS = [{"name": "look", "input_schema": {"type": "object"}}]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('gateway')}/store.db"


@pytest.fixture(scope="module")
def _gateway(_served_api: SimulatedAnthropic, store: str) -> Iterator[Served]:
    with serving(_served_api.url, store, gateway_status_within_s=0.2) as served:
        yield served


@pytest.fixture
def gateway(_gateway: Served, api: SimulatedAnthropic) -> Served:
    """One gateway for all tests; `api` is behind it, with nothing scripted."""
    return _gateway


def models_asked(api: SimulatedAnthropic) -> list[str]:
    return [request.model for request in api.requests]


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_confident_answer_of_the_first_tier_goes_out_as_a_message(gateway, api):
    api.always(Reply.triage(0.95, ANSWER, usage={"input_tokens": 41, "output_tokens": 17}))
    response = gateway.ask()
    message, headers = response.json(), response.headers
    assert (response.status_code, message["type"], message["role"]) == (200, "message", "assistant")
    assert message["content"] == [{"type": "text", "text": ANSWER}]
    assert message["model"].startswith(HAIKU)
    assert (message["usage"]["input_tokens"], message["stop_reason"]) == (41, "end_turn")
    assert headers["x-cheapdeep-tier"] == "0"
    assert (headers["x-cheapdeep-confidence"], headers["x-cheapdeep-threshold"]) == ("0.95", "0.8")
    assert float(headers["x-cheapdeep-cost-usd"]) == pytest.approx(126e-6)
    assert headers["request-id"].startswith("req_")
    assert "x-cheapdeep-reason" not in headers
    assert models_asked(api) == [HAIKU]


@pytest.mark.thorough
def test_a_doubtful_answer_is_replaced_by_that_of_the_deep_tier_as_it_came(gateway, api):
    deep = b'{ "id":"msg_1", "type":"message","role":"assistant","model":"claude-opus-4-7", "content":[],\n "usage":{}}'
    api.enqueue(Reply.triage(0.3, ANSWER), model=HAIKU)
    api.enqueue(Reply(kind="verbatim", payload=deep, headers={"anthropic-ratelimit-requests-limit": "7"}), model=OPUS)
    response = gateway.ask()
    assert response.content == deep
    assert response.headers["anthropic-ratelimit-requests-limit"] == "7"
    assert (response.headers["x-cheapdeep-tier"], response.headers["x-cheapdeep-reason"]) == ("1", "low_confidence")
    assert models_asked(api) == [HAIKU, OPUS]


@pytest.mark.thorough
def test_what_is_not_triaged_is_forwarded_and_counted_as_a_bypassed_call(gateway, api, store):
    # A route of its own, so that its count is this test's alone.
    response = gateway.ask(tools=TOOLS, headers={"x_cheapdeep_route": "forwarded", "x_cheapdeep_input_class": "look"})
    facts = gateway.facts(response).json()
    assert (facts["reason"], facts["bypass_cause"], facts["tier"]) == ("bypass", "tools", 1)
    assert (facts["route"], facts["input_class"]) == ("forwarded", "look")
    assert facts["cost_usd"] == pytest.approx(float(response.headers["x-cheapdeep-cost-usd"]))
    assert models_asked(api) == [OPUS]
    assert not {name for name in api.requests[-1].headers if name.startswith("x-cheapdeep")}


@pytest.mark.thorough
def test_a_shipped_stream_has_named_events_with_the_real_usage(gateway, api):
    api.always(Reply.triage(0.95, ANSWER, usage={"input_tokens": 41, "output_tokens": 17}))
    response = gateway.ask(stream=True)
    events = [(name, json.loads(data)) for name, data in events_of(response)]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert all(data["type"] == name for name, data in events)
    names = list(dict.fromkeys(name for name, _ in events))
    assert names == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert events[0][1]["message"]["usage"]["input_tokens"] == 41
    assert "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta") == ANSWER
    assert (response.headers["x-cheapdeep-tier"], response.headers["x-cheapdeep-confidence"]) == ("0", "0.95")
    until(lambda: gateway.facts(response).status_code == 200)
    assert gateway.facts(response).json()["cost_usd"] == pytest.approx(126e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS}], ids=["escalated", "bypassed"])
def test_a_stream_of_the_deep_tier_passes_byte_by_byte(gateway, api, fields):
    raw = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":3}}}\n\n'
    raw += b'event: odd\ndata: {"type":"odd",  "x":"\\u00e9"}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    api.always(Reply.triage(0.1, ANSWER), model=HAIKU)
    api.always(Reply(kind="verbatim", payload=raw), model=OPUS)
    response = gateway.ask(stream=True, **fields)
    assert response.content == raw
    assert response.headers["x-cheapdeep-tier"] == "1"


@pytest.mark.thorough
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_errors_of_the_deep_tier_come_word_for_word_after_one_attempt(gateway, api, status, stream):
    api.always(Reply.triage(0.1, ANSWER), model=HAIKU)
    api.always(Reply.error(status, retry_after=7), model=OPUS)
    straight = httpx2.post(f"{api.url}/v1/messages", json=asked(stream=stream), headers=HEADERS)
    api.requests.clear()
    response = gateway.ask(stream=stream)
    assert response.status_code == status
    without_id = [{**each.json(), "request_id": ""} for each in (straight, response)]
    assert without_id[0] == without_id[1]
    assert response.headers["retry-after"] == "7"
    assert response.headers["request-id"] == response.json()["request_id"]
    assert models_asked(api) == [HAIKU, OPUS]


@pytest.mark.thorough
def test_the_wait_for_the_first_verdict_ends_with_a_ping_and_a_later_error_is_an_event(gateway, api):
    api.always(Reply.triage(0.1, ANSWER).slow(0.5), model=HAIKU)
    api.always(Reply.error(529), model=OPUS)
    response = gateway.ask(stream=True)
    assert response.status_code == 200
    events = events_of(response)
    assert events[0] == ("ping", '{"type":"ping"}')
    assert response.content.startswith(PING)
    name, data = events[-1]
    assert (name, json.loads(data)["type"], json.loads(data)["error"]["type"]) == ("error", "error", "overloaded_error")
    assert response.headers["x-cheapdeep-threshold"] == "0.8"
    assert "x-cheapdeep-tier" not in response.headers
    assert gateway.facts(response).json()["error"] == "OverloadedError"


@pytest.mark.thorough
def test_after_a_ping_the_stream_goes_on_as_usual(gateway, api):
    api.always(Reply.triage(0.95, ANSWER).slow(0.5))
    events = events_of(gateway.ask(stream=True))
    assert next(name for name, _ in events if name != "ping") == "message_start"
    assert events[-1][0] == "message_stop"


@pytest.mark.thorough
@pytest.mark.parametrize("confidence", [0.95, 0.1])
def test_a_long_answer_is_whole_but_never_asked_for_unstreamed(gateway, api, confidence):
    api.always(Reply.triage(confidence, ANSWER), model=HAIKU)
    api.always(Reply.text(ANSWER, usage={"input_tokens": 41, "output_tokens": 17}), model=OPUS)
    response = gateway.ask(max_tokens=128_000)
    message = response.json()
    assert message["content"] == [{"type": "text", "text": ANSWER}]
    assert (message["stop_reason"], message["usage"]["output_tokens"] > 0) == ("end_turn", True)
    deep = [request for request in api.requests if request.model == OPUS]
    assert [request.body.get("stream") for request in deep] == ([] if confidence > 0.8 else [True])


@pytest.mark.thorough
def test_an_error_in_the_middle_of_a_long_answer_has_its_status(gateway, api):
    raw = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":3}}}\n\n'
    raw += b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    api.always(Reply.triage(0.1, ANSWER), model=HAIKU)
    api.always(Reply(kind="verbatim", payload=raw), model=OPUS)
    response = gateway.ask(max_tokens=128_000)
    assert (response.status_code, response.json()["error"]["type"]) == (529, "overloaded_error")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}', 400)],
)
def test_the_api_says_what_is_wrong_with_a_request(gateway, api, body, status):
    response = gateway.post(body)
    assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")
    assert response.json()["request_id"].startswith("req_")


@pytest.mark.thorough
def test_without_a_key_the_api_refuses(gateway, api):
    response = gateway.http.post("/v1/messages", json=asked(), headers={"anthropic-version": "2023-06-01"})
    assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")


@pytest.mark.thorough
def test_a_model_that_the_api_has_not_answered_with_is_asked_itself_first(gateway, api):
    refused = [gateway.ask(model="claude-none-9").status_code for _ in range(2)]
    assert refused == [404, 404]
    assert HAIKU not in models_asked(api)
    api.requests.clear()
    first, second = (gateway.ask(model="claude-sonnet-4-6") for _ in range(2))
    assert gateway.facts(first).json()["bypass_cause"] == "unknown_model"
    assert gateway.facts(second).json()["bypass_cause"] is None
    assert models_asked(api)[:2] == ["claude-sonnet-4-6", HAIKU]


@pytest.mark.thorough
def test_a_caller_may_switch_triage_off(gateway, api):
    response = gateway.ask(headers={"x_cheapdeep_mode": "off"})
    assert gateway.facts(response).json()["bypass_cause"] == "deep_requested"
    assert models_asked(api) == [OPUS]


@pytest.mark.thorough
def test_only_the_caller_itself_is_told_of_a_call(gateway, api):
    response = gateway.ask()
    assert gateway.facts(response).json()["call_id"] == response.headers["x-cheapdeep-call-id"]
    strange = gateway.facts(response, key="sk-ant-of-another")
    assert (strange.status_code, strange.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.thorough
def test_another_gateway_on_the_store_tells_of_a_call(gateway, api, store):
    response = gateway.ask(QUESTION + " I forgot it.")
    with serving(api.url, store) as other:
        until(lambda: other.facts(response).status_code == 200)
        assert other.facts(response).json() == gateway.facts(response).json()
        assert other.facts(response, key="sk-ant-of-another").status_code == 404


@pytest.mark.thorough
def test_triage_has_the_callers_version_and_betas(gateway, api):
    gateway.ask(headers={"anthropic_beta": "one-2025-01-01,two-2025-02-02", "authorization": "Bearer b"})
    assert api.requests[0].headers["anthropic-beta"] == "one-2025-01-01,two-2025-02-02"
    assert api.requests[0].headers["anthropic-version"] == "2023-06-01"


@pytest.mark.thorough
@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS}], ids=["triaged", "bypassed"])
def test_a_caller_that_goes_away_ends_the_call_upstream(gateway, api, fields):
    paced = Reply.triage(0.95, ANSWER * 100).paced(0.05, at_once=8)
    api.always(paced, model=HAIKU)
    api.always(Reply.text(ANSWER * 100).paced(0.05, at_once=8), model=OPUS)
    with gateway.http.stream(
        "POST",
        "/v1/messages",
        json=asked(stream=True, max_tokens=4_000, **fields),
        headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"},
    ) as response:
        call = response.headers["x-cheapdeep-call-id"]
        next(response.iter_bytes())
    until(lambda: api.streams and not api.streams[-1].is_open)
    assert api.streams[-1].sent < 100
    facts = f"/v1/cheapdeep/calls/{call}"
    until(lambda: gateway.http.get(facts, headers={"x-api-key": KEY}).status_code == 200)


@pytest.mark.thorough
def test_a_caller_that_goes_away_ends_any_other_request_upstream_too(tmp_path):
    has_ended = threading.Event()

    def talk(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(STREAM)
        assert connection.recv(1) == b""
        has_ended.set()

    with talking(talk) as server, serving(server.url, f"sqlite:///{tmp_path}/store.db") as gateway:
        with gateway.http.stream("POST", "/v1/of_tomorrow", json=asked(), headers=HEADERS) as response:
            next(response.iter_bytes())
        assert has_ended.wait(PATIENCE_S)


@pytest.mark.thorough
def test_a_caller_that_goes_away_within_its_request_is_no_fault_of_the_api(gateway, api, caplog):
    url = httpx2.URL(gateway.url)
    head = b"POST /v1/files HTTP/1.1\r\nhost: g\r\nx-api-key: k\r\ncontent-length: 90000\r\n\r\n"
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head + b"a" * 40_000)
    assert gateway.http.get("/v1/models", headers=HEADERS).status_code == 200
    assert not [record for record in caplog.records if "did not answer" in record.getMessage()]


@pytest.mark.thorough
def test_an_api_that_cannot_be_reached_gives_an_error_in_its_form(tmp_path, gateway, api):
    with serving("http://127.0.0.1:1", f"sqlite:///{tmp_path}/other.db") as other:
        for response in (other.ask(), other.ask(stream=True), other.http.get("/v1/models")):
            assert (response.status_code, response.json()["error"]["type"]) == (502, "api_error")


@pytest.mark.thorough
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_nobody_has_cancelled_gets_an_answer(gateway, api, monkeypatch, stream):
    async def cancelled(*_given, **_more):
        raise asyncio.CancelledError

    monkeypatch.setattr(Upstream, "send", cancelled)
    response = gateway.ask(stream=stream, tools=TOOLS)
    assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout_error")


@pytest.mark.thorough
def test_paths_beside_messages_are_forwarded(gateway, api):
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    assert gateway.http.get("/v1/models?limit=3", headers=headers).json()["data"]
    body = {"model": OPUS, "messages": [{"role": "user", "content": "hi"}]}
    assert gateway.post(body, path="/v1/messages/count_tokens").json()["input_tokens"] > 0
    assert gateway.http.get("/v1/none", headers=headers).json()["error"]["type"] == "not_found_error"


@pytest.mark.thorough
def test_the_pages_of_its_own(gateway, api):
    gateway.ask()
    assert [gateway.http.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    assert gateway.http.head("/").status_code == 200
    assert gateway.http.get("/other").json()["error"]["type"] == "not_found_error"


@pytest.mark.thorough
def test_the_trace_of_the_caller_goes_on(tmp_path, api, watched):
    trace = "0af7651916cd43dd8448eb211c80319c"
    with serving(api.url, f"sqlite:///{tmp_path}/store.db", telemetry=watched.telemetry) as gateway:
        for stream in (False, True):
            gateway.ask(stream=stream, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        gateway.ask()
    routes = watched.named("cheapdeep.route")
    assert [format(span.context.trace_id, "032x") == trace for span in routes] == [True, True, False]
    assert routes[0].parent.span_id == 0xB7AD6B7169203331


@pytest.mark.thorough
def test_a_caller_may_keep_its_answers_from_being_graded(tmp_path, api):
    url = f"sqlite:///{tmp_path}/store.db"
    api.always(Reply.triage(0.95, ANSWER))
    with serving(api.url, url, sample_rate=1.0) as gateway:
        for number in range(4):
            headers = {"x_cheapdeep_grading": "off"} if number % 2 else {}
            gateway.ask(f"Question {number}?", headers=headers)
    store = Store(url)
    with store.reading() as connection:
        turns = connection.execute(select(table_of(Candidate).c.turns)).scalars().all()
    store.close()
    assert sorted(turn["text"] for each in turns for turn in each) == ["Question 0?", "Question 2?"]
