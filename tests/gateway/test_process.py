"""A gateway process: how it ends, what it leaks, and what it counts."""

import asyncio
import signal
import time
from pathlib import Path

import httpx2
import pytest

from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.call_tables import Total
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.testing import Reply
from tests.gateway.processes import GatewayProcess, gateway
from tests.gateways import HAIKU, OPUS, asked, events_of
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
ANSWER = "In the settings. " * 40
STREAMS, AT_ONCE = 90, 30


def counted(folder: Path) -> dict[str, int]:
    """The calls in the store, and how many of them failed."""
    store, total = Store(f"sqlite:///{folder}/store.db"), table_of(Total)
    try:
        with store.reading() as connection:
            rows = [row._mapping for row in connection.execute(total.select())]
    finally:
        store.close()
    names = ("calls", "shipped", "bypassed", "escalated")
    return {name: sum(row[name] for row in rows) for name in names}


def open_files(process: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


def until(holds) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_at_its_end_streams_finish_new_calls_are_refused_and_all_is_counted(api, tmp_path):
    api.always(Reply.triage(0.95, ANSWER).paced(0.02, at_once=8), model=HAIKU)
    with gateway(tmp_path, api.url) as process, httpx2.Client(base_url=process.url, timeout=PATIENCE_S) as http:
        assert http.post("/v1/messages", json=asked(max_tokens=2_000), headers=HEADERS).status_code == 200
        body = asked(stream=True, max_tokens=2_000)
        with http.stream("POST", "/v1/messages", json=body, headers=HEADERS) as response:
            chunks = response.iter_raw()
            first = next(chunks)
            process.process.send_signal(signal.SIGTERM)
            until(lambda: is_refused(process.url))
            content = first + b"".join(chunks)
        assert events_of(content)[-1][0] == "message_stop"
        assert process.process.wait(PATIENCE_S) == 0
    assert counted(tmp_path) == {"calls": 2, "shipped": 2, "bypassed": 0, "escalated": 0}


def is_refused(url: str) -> bool:
    try:
        httpx2.get(f"{url}/healthz")
    except httpx2.TransportError:
        return True
    return False


def test_a_response_that_takes_too_long_at_the_end_breaks_off_and_is_counted(api, tmp_path):
    api.always(Reply.text(ANSWER * 10).paced(0.5, at_once=8), model=OPUS)
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    with (
        gateway(tmp_path, api.url, CHEAPDEEP_GATEWAY_STOP_WITHIN_S="1") as process,
        httpx2.Client(base_url=process.url, timeout=PATIENCE_S) as http,
        http.stream(
            "POST", "/v1/messages", json=asked(stream=True, tools=tools, max_tokens=4_000), headers=HEADERS
        ) as response,
    ):
        chunks = response.iter_raw()
        next(chunks)
        process.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx2.TransportError):
            b"".join(chunks)
        assert process.process.wait(PATIENCE_S) == 0
    assert counted(tmp_path)["calls"] == 1


def test_many_streams_of_which_a_third_is_dropped_leak_nothing_and_are_counted_once(api, tmp_path):
    api.always(Reply.triage(0.95, ANSWER).paced(0.002, at_once=4), model=HAIKU)
    api.always(Reply.text(ANSWER).paced(0.002, at_once=4), model=OPUS)
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    with gateway(tmp_path, api.url) as process:
        before = open_files(process)

        async def call(http: httpx2.AsyncClient, number: int) -> None:
            # Every other one is forwarded, and every third one is dropped midway.
            fields = {"tools": tools} if number % 2 else {}
            body = asked(f"Question {number}?", stream=True, max_tokens=2_000, **fields)
            async with http.stream("POST", "/v1/messages", json=body, headers=HEADERS) as response:
                assert response.status_code == 200
                if number % 3:
                    assert events_of(await response.aread())[-1][0] == "message_stop"
                else:
                    await anext(response.aiter_raw())

        async def all_calls() -> None:
            limits = httpx2.Limits(max_connections=AT_ONCE)
            async with httpx2.AsyncClient(base_url=process.url, timeout=PATIENCE_S, limits=limits) as http:
                await asyncio.gather(*(call(http, number) for number in range(STREAMS)))

        asyncio.run(all_calls())
        until(lambda: not any(stream.is_open for stream in api.streams))
        # Connections to the API stay open for the next calls, one for each that ran at a time.
        until(lambda: open_files(process) <= before + AT_ONCE + 5)
        until(lambda: counted(tmp_path)["calls"] == STREAMS)
        assert process.end() == 0
        assert "error" not in process.log.lower(), process.log
        assert process.process.returncode == 0
    totals = counted(tmp_path)
    assert (totals["calls"], totals["bypassed"]) == (STREAMS, STREAMS // 2)


def test_its_metrics_are_those_of_its_own_process(api, gateway_url):
    httpx2.post(f"{gateway_url}/v1/messages", json=asked(), headers=HEADERS)
    assert "cheapdeep_calls_total{" in httpx2.get(f"{gateway_url}/metrics").text
