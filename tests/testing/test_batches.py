import json
import math
from dataclasses import replace

import anthropic
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from cheapdeep_ops.testing import CLASSES, FrozenClock, Reply, SimulatedAnthropic
from cheapdeep_ops.testing.messages_api.batches import Batch, Batches, page

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
NOW = "2026-01-01T00:00:00.000000+00:00"
HEADERS = {"authorization": "Bearer any", "anthropic-version": "2026-10-21"}


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def slow_api(clock):
    with SimulatedAnthropic(batch_delay_s=60.0, clock=clock) as api:
        yield api


@pytest.fixture
def batches(slow_api):
    """The SDK's batches, on a server where each takes a minute."""
    with anthropic.Anthropic(base_url=slow_api.url, api_key="any", max_retries=0, open_telemetry=False) as client:
        yield client.messages.batches


def request(custom_id="a", text="hello", *, model=HAIKU, max_tokens=256, **more):
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "params": {"model": model, "max_tokens": max_tokens, "messages": messages, **more},
    }


def ended(client, *requests):
    return client.messages.batches.retrieve(client.messages.batches.create(requests=requests).id)


def results(client, *requests):
    batch = ended(client, *requests)
    return {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}


def post(api, body):
    return httpx2.post(f"{api.url}/v1/messages/batches", content=json.dumps(body).encode(), headers=HEADERS)


# The course of a batch


def test_batch_has_the_shape_of_the_api(slow_api):
    created = post(slow_api, {"requests": [request("a"), request("b")]})
    assert created.headers["retry-after"] == "10"
    assert created.json() == {
        "id": created.json()["id"],
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "ended_at": None,
        "created_at": NOW,
        "expires_at": "2026-01-02T00:00:00.000000+00:00",
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
    }
    assert created.json()["id"].startswith("msgbatch_01")


def test_batch_ends_when_the_clock_has_moved_on(slow_api, batches, clock):
    created = batches.create(requests=[request("a"), request("b", model="claude-nine")])
    assert isinstance(created, MessageBatch)
    clock.advance(59)
    assert batches.retrieve(created.id) == created
    clock.advance(40)
    batch = batches.retrieve(created.id)
    assert (batch.processing_status, batch.ended_at.isoformat()) == ("ended", "2026-01-01T00:01:00+00:00")
    assert batch.results_url == f"{slow_api.url}/v1/messages/batches/{created.id}/results"
    counts = batch.request_counts
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 1, 1)


def test_without_a_delay_a_batch_has_ended_at_the_first_look(client):
    created = client.messages.batches.create(requests=[request()])
    assert created.processing_status == "in_progress"
    assert client.messages.batches.retrieve(created.id).processing_status == "ended"


def test_results_before_the_end_are_not_found(slow_api, batches):
    batch = batches.create(requests=[request()])
    with pytest.raises(anthropic.AnthropicError, match="Has it finished processing"):
        batches.results(batch.id)
    response = httpx2.get(f"{slow_api.url}/v1/messages/batches/{batch.id}/results", headers=HEADERS)
    assert response.status_code == 404
    assert response.json()["error"] == {
        "type": "not_found_error",
        "message": f"Message Batch {batch.id} has no available results.",
    }


def test_unknown_batch(client):
    with pytest.raises(anthropic.NotFoundError, match="Message Batch msgbatch_1 not found"):
        client.messages.batches.retrieve("msgbatch_1")
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.cancel("msgbatch_1")


def test_canceled_batch_answers_nothing(slow_api, batches, clock):
    slow_api.enqueue(Reply.text("kept"))
    created = batches.create(requests=[request("a"), request("b")])
    clock.advance(10)
    canceling = batches.cancel(created.id)
    assert (canceling.processing_status, canceling.request_counts.processing) == ("canceling", 2)
    assert canceling.cancel_initiated_at.isoformat() == "2026-01-01T00:00:10+00:00"
    batch = batches.retrieve(created.id)
    assert (batch.processing_status, batch.request_counts.canceled) == ("ended", 2)
    assert batch.ended_at == batch.cancel_initiated_at
    assert [line.result.type for line in batches.results(created.id)] == ["canceled", "canceled"]
    assert slow_api.enqueued == 1


def test_canceling_twice_or_too_late_changes_nothing(batches, clock):
    first, second = (batches.create(requests=[request()]).id for _ in range(2))
    clock.advance(60)
    batch = batches.cancel(first)
    assert (batch.processing_status, batch.cancel_initiated_at) == ("ended", None)
    assert batches.cancel(second).request_counts.succeeded == 1


def test_batch_that_takes_a_day_expires(clock):
    with (
        SimulatedAnthropic(batch_delay_s=math.inf, clock=clock) as api,
        anthropic.Anthropic(base_url=api.url, api_key="k") as client,
    ):
        created = client.messages.batches.create(requests=[request()])
        clock.advance(24 * 3_600)
        batch = client.messages.batches.retrieve(created.id)
        assert (batch.processing_status, batch.ended_at) == ("ended", batch.expires_at)
        assert [line.result.type for line in client.messages.batches.results(created.id)] == ["expired"]


@pytest.mark.parametrize("delay", [-1.0, math.nan])
def test_delay_is_checked(delay):
    with pytest.raises(ValueError, match="batch_delay_s must be 0 or more"):
        SimulatedAnthropic(batch_delay_s=delay)


# What becomes of the requests


def test_line_holds_the_answer_of_a_message_request(api, client):
    prompt = CLASSES[0].prompt(1)
    whole = client.messages.create(model=HAIKU, max_tokens=256, messages=[{"role": "user", "content": prompt}])
    line = results(client, request("a", prompt))["a"]
    assert line.type == "succeeded"
    assert line.message.content == whole.content
    assert line.message.model == "claude-haiku-4-5-20251001"
    assert line.message.usage.service_tier == "batch"
    assert line.message.usage == whole.usage.model_copy(update={"service_tier": "batch"})
    assert api.was_correct(line.message.content[0].text) is not None


def test_results_are_not_in_the_order_of_the_requests(client):
    names = [f"r{n}" for n in range(5)]
    batch = ended(client, *(request(name, name) for name in names))
    first, again = ([line.custom_id for line in client.messages.batches.results(batch.id)] for _ in range(2))
    assert first == again
    assert sorted(first) == names != first


def test_results_are_json_lines_with_the_fields_of_the_api(api, client):
    batch = ended(client, request("a"), request("b"))
    response = httpx2.get(batch.results_url, headers=HEADERS)
    assert response.headers["content-type"] == "application/x-jsonl"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [set(line) for line in lines] == [{"custom_id", "result"}] * 2
    assert [set(line["result"]) for line in lines] == [{"type", "message"}] * 2
    assert len({line["result"]["message"]["id"] for line in lines}) == 2


def test_requests_are_recorded_when_they_are_answered(slow_api, batches, clock):
    created = batches.create(requests=[request("a", "one"), request("b", "two")])
    assert [seen.path for seen in slow_api.requests] == ["/v1/messages/batches"]
    clock.advance(60)
    batches.retrieve(created.id)
    seen = [one for one in slow_api.requests if one.path == "/v1/messages"]
    assert [(one.question, one.model, one.method, one.at) for one in seen] == [
        ("one", HAIKU, "POST", clock()),
        ("two", HAIKU, "POST", clock()),
    ]
    assert "authorization" not in seen[0].headers
    batches.retrieve(created.id)
    assert sum(one.path == "/v1/messages" for one in slow_api.requests) == 2


def test_scripted_replies_are_taken_in_the_order_of_the_requests(api, client):
    api.enqueue(Reply.text("for opus", usage={"input_tokens": 7, "cache_read_input_tokens": 5}), model=OPUS)
    api.enqueue(Reply.error(529), Reply.refusal("bio"))
    api.always(lambda request: Reply.text(request.question.upper()))
    found = results(client, request("a"), request("b"), request("c", model=OPUS), request("d", "words"))
    assert found["a"].type == "errored"
    assert found["a"].error.type == "error"
    assert (found["a"].error.error.type, found["a"].error.error.message) == ("overloaded_error", "Overloaded")
    assert found["a"].error.request_id.startswith("workerreq_")
    assert (found["b"].type, found["b"].message.stop_reason) == ("succeeded", "refusal")
    usage = found["c"].message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.service_tier) == (7, 5, "batch")
    assert found["d"].message.content[0].text == "WORDS"


def test_batches_are_answered_in_the_order_of_their_creation(api, client):
    first, second = (client.messages.batches.create(requests=[request()]).id for _ in range(2))
    api.enqueue(Reply.text("one"), Reply.text("two"))
    for batch_id, text in ((second, "two"), (first, "one")):
        client.messages.batches.retrieve(batch_id)
        (line,) = client.messages.batches.results(batch_id)
        assert line.result.message.content[0].text == text


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({}, "invalid_request_error", "model: Field required"),
        (request(model="claude-nine")["params"], "not_found_error", "model: claude-nine"),
        (request(max_tokens=0)["params"], "invalid_request_error", "max_tokens: must be greater than or equal to 1"),
        (
            request(stream=True)["params"],
            "invalid_request_error",
            '"stream=True" is not supported in the Message Batches API',
        ),
        (
            request(thinking={"type": "adaptive"})["params"],
            "invalid_request_error",
            "adaptive thinking is not supported on this model",
        ),
    ],
)
def test_params_are_checked_when_the_batch_ends(api, client, params, kind, message):
    api.enqueue(Reply.text("kept"))
    (line,) = results(client, {"custom_id": "a", "params": params}).values()
    assert line.type == "errored"
    assert (line.error.error.type, line.error.error.message, line.error.request_id) == (kind, message, None)
    assert api.enqueued == 1


def test_recorded_bodies_become_results(api, client):
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "words"}, "request_id": "req_1"}
    message = {"type": "message", "id": "msg_recorded", "content": []}
    api.enqueue(Reply.body(error, status=429), Reply.body(message), Reply.body(b"event: ping\ndata: {}\n\n"))
    found = results(client, *map(request, "abc"))
    assert found["a"].to_dict() == {"type": "errored", "error": error}
    assert found["b"].to_dict() == {"type": "succeeded", "message": message}
    assert (found["c"].type, found["c"].error.error.type) == ("errored", "api_error")


# What is refused at once


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "The request body is not valid JSON"),
        ({}, "requests: Field required"),
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        ({"requests": ["a"]}, "requests.0: Input should be an object"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        *(
            (
                {"requests": [request(), request(bad)]},
                "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
            )
            for bad in ("", "a b", "a\n", "ä", "a" * 65)
        ),
        (
            {"requests": [request("b"), request("a"), request("a")]},
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: a",
        ),
    ],
)
def test_batch_that_is_refused(api, body, message):
    response = post(api, body)
    assert response.status_code == 400
    assert response.json()["error"] == {"type": "invalid_request_error", "message": message}


def test_missing_key_and_missing_version(api):
    url = f"{api.url}/v1/messages/batches"
    assert httpx2.get(url).status_code == httpx2.post(url, json={}).status_code == 401
    response = httpx2.post(url, json={}, headers={"x-api-key": "k"})
    assert response.json()["error"]["message"] == "anthropic-version: header is required"


# Lists, and what is kept


def test_list_has_the_newest_first_in_pages(client):
    made = [client.messages.batches.create(requests=[request()]).id for _ in range(5)]
    newest_first = made[::-1]
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == newest_first
    listed = client.messages.batches.list(limit=2, before_id=newest_first[3])
    assert [batch.id for batch in listed.data] == newest_first[1:3]
    assert (listed.has_more, listed.first_id, listed.last_id) == (True, newest_first[1], newest_first[2])
    assert {batch.processing_status for batch in listed.data} == {"ended"}


def test_cursors_at_the_ends_and_unknown_ones():
    three = [Batch(id=name, created_at=0.0, delay_s=0.0, headers={}) for name in "cba"]
    assert page(three, limit=3) == (three, False)
    assert page(three, limit=2, after_id="c") == (three[1:], False)
    assert page(three, limit=2, before_id="a") == (three[:2], False)
    assert page(three, limit=2, after_id="x") == page(three, limit=2, before_id="x") == ([], False)


def test_empty_list(client):
    listed = client.messages.batches.list()
    assert (listed.data, listed.has_more, listed.first_id, listed.last_id) == ([], False, None, None)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "9" * 5_000])
def test_limit_of_a_list_is_checked(api, limit):
    response = httpx2.get(f"{api.url}/v1/messages/batches", params={"limit": limit}, headers=HEADERS)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


def test_only_the_newest_are_kept():
    batch, kept = Batch(id="0", created_at=0.0, delay_s=0.0, headers={}), Batches(2)
    for name in "123":
        kept.add(replace(batch, id=name))
    kept.put(replace(batch, id="1"))
    assert [one.id for one in kept.newest_first()] == ["3", "2"]


def test_clear_forgets_batches_also_while_they_are_answered(api, client):
    created = client.messages.batches.create(requests=[request()])
    api.always(lambda _: api.clear())
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(created.id)
    assert client.messages.batches.list().data == []


async def test_async_client(api):
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="k", open_telemetry=False) as client:
        created = await client.messages.batches.create(requests=[request("a"), request("b")])
        await client.messages.batches.retrieve(created.id)
        lines = [line async for line in await client.messages.batches.results(created.id)]
    assert {line.custom_id: line.result.type for line in lines} == {"a": "succeeded", "b": "succeeded"}
