"""Routers that share a recorder, and recorders that end when nobody holds their router any more."""

import asyncio
import gc
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.recorder import sharing
from cheapdeep_ops.recorder.candidate_queue import CandidateQueue
from cheapdeep_ops.recorder.trouble_log import TroubleLog
from cheapdeep_ops.values import Exchange

ENDS_WITHIN_S = 120
QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture
def settings(tmp_path):
    return Settings(store_url=f"sqlite:///{tmp_path}/store.db", flush_every_s=0.05)


@pytest.fixture
def no_linger(monkeypatch):
    monkeypatch.setattr(sharing, "_LINGER_S", 0.0)


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("cheapdeep-")}


def recorders():
    return [thread for thread in threads() if thread.name == "cheapdeep-recorder"]


def open_files(settings):
    path = settings.store_url.removeprefix("sqlite:///")
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in (str(link.readlink()) for link in links) if target.startswith(path)]


def await_the_end():
    """Wait until every thread of a recorder has ended."""
    gc.collect()
    for thread in threads():
        thread.join(ENDS_WITHIN_S)
    assert threads() == set()


def stored(settings):
    """Calls in the store, by route; each call is in one row of one process."""
    with closing(sqlite3.connect(settings.store_url.removeprefix("sqlite:///"))) as connection:
        return dict(connection.execute("SELECT route, sum(calls) FROM bucket GROUP BY route").fetchall())


def samples(settings):
    with closing(sqlite3.connect(settings.store_url.removeprefix("sqlite:///"))) as connection:
        return connection.execute("SELECT count(*) FROM candidate").fetchone()[0]


def made(settings, bare, **options):
    return Router(settings=settings, client=bare, **options)


@pytest.mark.thorough
def test_a_hundred_routers_share_one_recorder_and_leave_nothing_behind(settings, bare):
    for number in range(100):
        made(settings, bare, route=f"r{number}").ask("hello")
        assert len(recorders()) <= 1
    await_the_end()
    assert stored(settings) == {f"r{number}": 1 for number in range(100)}
    assert open_files(settings) == []


def test_a_hundred_routers_that_live_at_the_same_time_share_one_recorder(settings, bare, no_linger):
    routers = [made(settings, bare, route=f"r{number}") for number in range(100)]
    for router in routers:
        router.ask("hello")
    assert len(recorders()) == 1
    del router
    routers.clear()
    await_the_end()
    assert stored(settings) == {f"r{number}": 1 for number in range(100)}


def test_routers_of_asyncio_are_collected_too(settings, api, no_linger):
    async def ask_all():
        async with AsyncAnthropic(base_url=api.url, api_key="any") as client:
            routers = (AsyncRouter(settings=settings, client=client, route=f"r{number}") for number in range(40))
            await asyncio.gather(*(router.ask("hello") for router in routers))

    asyncio.run(ask_all())
    await_the_end()
    assert stored(settings) == {f"r{number}": 1 for number in range(40)}


@pytest.mark.thorough
def test_threads_that_make_routers_at_the_same_time_share_one_too(settings, bare, no_linger):
    def ask(number):
        for turn in range(5):
            made(settings, bare, route=f"r{number}.{turn}").ask("hello")
        gc.collect()

    with ThreadPoolExecutor(8) as pool:
        keeper = made(settings, bare)
        list(pool.map(ask, range(8)))
        assert len(recorders()) == 1
    keeper.close()
    await_the_end()
    assert stored(settings) == {f"r{number}.{turn}": 1 for number in range(8) for turn in range(5)}


def test_closing_one_router_stores_its_calls_and_goes_on_for_the_others(settings, bare):
    one, other = made(settings, bare, route="one"), made(settings, bare, route="other")
    one.ask("hello")
    one.close()
    assert stored(settings) == {"one": 1}
    one.close()
    other.ask("hello")
    other.close()
    assert stored(settings) == {"one": 1, "other": 1}
    assert threads() == set()
    assert open_files(settings) == []


def test_a_closed_router_counts_nothing_more_while_another_lives(settings, bare, caplog):
    one, other = made(settings, bare, route="one"), made(settings, bare, route="other")
    one.close()
    one._core.recorder.put(other.ask("hello").decision)
    other.close()
    assert stored(settings) == {"other": 1}
    assert "the recorder is closed" in caplog.text


@pytest.mark.thorough
def test_a_view_keeps_the_recorder_of_its_router(settings, bare, no_linger):
    view = made(settings, bare).with_options(timeout=5)
    gc.collect()
    assert not gone_within(view, 1)
    view.ask("hello")
    del view
    await_the_end()
    assert stored(settings) == {"default": 1}


def gone_within(_held, seconds):
    """Whether the recorder ends although something holds it."""
    (thread,) = recorders()
    thread.join(seconds)
    return not thread.is_alive()


@pytest.mark.thorough
@pytest.mark.parametrize("is_read", [True, False])
def test_an_open_stream_keeps_the_recorder_and_is_counted_once(settings, bare, no_linger, is_read):
    stream = made(settings, bare, route="stream").messages.create(max_tokens=64, messages=QUESTION, stream=True)
    first = next(iter(stream))
    gc.collect()
    assert first.type == "message_start"
    assert not gone_within(stream, 1)
    if is_read:
        assert [event.type for event in stream][-1] == "message_stop"
    # Without being read to its end, it is dropped together with its router.
    del stream, first
    await_the_end()
    assert stored(settings) == {"stream": 1}


def test_recorders_differ_where_what_they_do_differs(settings, bare, watched, tmp_path):
    def with_settings(**changes):
        return made(settings.model_copy(update=changes), bare)

    base = made(settings, bare)
    alike = [
        made(settings, bare, redact=str.upper),
        made(settings, bare, route="other"),
        with_settings(tiers=("claude-opus-4-7",)),
        with_settings(triage_timeout_s=5.0),
    ]
    assert {id(router._core.recorder.recorder) for router in (base, *alike)} == {id(base._core.recorder.recorder)}
    different = [
        with_settings(store_url=f"sqlite:///{tmp_path}/other.db"),
        with_settings(base_threshold=0.7),
        with_settings(raised_threshold=0.95),
        with_settings(flush_every_s=0.1),
        with_settings(sample_rate=0.5),
        with_settings(retain_content_days=0),
        made(settings, bare, telemetry=watched.telemetry),
    ]
    assert len({id(router._core.recorder.recorder) for router in (base, *different)}) == 1 + len(different)
    for router in (base, *alike, *different):
        router.close()


class Service:
    """A service whose hook belongs to it, as its router does: they form a circle."""

    def __init__(self, settings, bare):
        self.redacted = []
        self.router = made(settings, bare, redact=self.redact)

    def redact(self, text):
        self.redacted.append(text)
        return text


def test_each_router_keeps_its_own_hook_and_a_hook_keeps_no_router(settings, bare, no_linger):
    settings = settings.model_copy(update={"sample_rate": 1.0})
    services = [Service(settings, bare) for _ in range(3)]
    for number, service in enumerate(services):
        service.router.ask(f"question {number}")
        service.router.close()
        assert service.redacted[0] == f"question {number}"
        assert all("question" not in text or f" {number}" in text for text in service.redacted)
        # The recorder goes on for the other services, and has stored the sample all the same.
        assert samples(settings) == number + 1
    later = Service(settings, bare)
    later.router.ask("more")
    del later, service
    services.clear()
    await_the_end()


def test_an_answer_that_waits_is_redacted_at_once_when_its_router_is_closed(api, bare):
    shipped = made(Settings(record=False), bare).ask("hello").decision

    def slow(text):
        time.sleep(0.1)  # the thread then rests for nine times as long
        return text

    queue = CandidateQueue(share=1.0, redact=slow, background=True, troubles=TroubleLog())
    for _ in range(3):
        queue.offer(shipped, lambda: Exchange(turns=(), answer="yes"))
    queue.hurry()
    assert len(queue._rows) == 3
    queue.close()


def test_a_recorder_whose_last_router_is_collected_waits_for_the_next_router(settings, bare):
    made(settings, bare).ask("hello")
    gc.collect()
    (thread,) = recorders()
    thread.join(0.6)  # it looks three times a second
    router = made(settings, bare)
    assert recorders() == [thread]
    router.close()
    assert stored(settings) == {"default": 1}


@pytest.mark.thorough
def test_a_store_that_is_locked_meanwhile_gets_the_last_counts_too(settings, bare, no_linger, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.recorder.recorder._CLOSE_S", 0.1)
    router = made(settings, bare)
    with closing(sqlite3.connect(settings.store_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        router.ask("hello")
        del router
        gc.collect()
        (thread,) = recorders()
        thread.join(0.5)
        assert thread.is_alive()
        other.execute("COMMIT")
    await_the_end()
    assert stored(settings) == {"default": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_shares_recorders_of_its_own(settings, bare):
    routers = [made(settings, bare, route=f"r{number}") for number in range(3)]
    routers[0].ask("hello")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            routers[1].ask("hello")
            more = made(settings, bare, route="child")
            more.ask("hello")
            status = 0 if len(recorders()) == 1 else 2
            for router in (*routers, more):
                router.close()
            status = status or (0 if not threads() else 3)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    routers[2].ask("hello")
    for router in routers:
        router.close()
    assert stored(settings) == {"r0": 1, "r1": 1, "r2": 1, "child": 1}
    assert threads() == set()
