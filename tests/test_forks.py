"""A router that was used before a fork: every process has connections of its own."""

import asyncio
import contextlib
import os
import sqlite3
import sys

import pytest

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.testing import SimulatedAnthropic

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
CALLS = 20


def answers(router: Router, name: str) -> bool:
    """Whether each of some questions gets an answer of the cheap tier, and no two the same by mistake."""
    decisions = [router.ask(f"FAQ ticket {name} {number}").decision for number in range(CALLS)]
    return all(decision.reason != "triage_error" for decision in decisions)


async def aanswers(router: AsyncRouter, name: str) -> bool:
    """Likewise, several at a time, half of them streamed."""

    async def streamed(number: int) -> str:
        messages = [{"role": "user", "content": f"FAQ ticket {name} {number}"}]
        async with router.messages.stream(max_tokens=100, messages=messages) as stream:
            return await stream.get_final_text()

    half = CALLS // 2
    asked = [router.ask(f"FAQ ticket {name} {number}") for number in range(half)]
    routed, texts = await asyncio.gather(
        asyncio.gather(*asked), asyncio.gather(*(streamed(number) for number in range(half)))
    )
    same = [each.text for each in routed] == texts
    return same and all(each.decision.reason != "triage_error" for each in routed)


def test_a_router_that_was_used_before_a_fork_gets_its_own_connections(monkeypatch, tmp_path):
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        with Router(settings=Settings(store_url=f"sqlite:///{tmp_path}/store.db")) as router:
            assert answers(router, "before")
            children = []
            for number in range(3):
                child = os.fork()
                if child == 0:
                    ok = False
                    try:
                        ok = answers(router, f"child {number}")
                        router.close()
                    finally:
                        sys.stdout.flush()
                        os._exit(0 if ok else 1)
                children.append(child)
            assert answers(router, "parent")
            assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_a_router_for_asyncio_that_was_used_before_a_fork_gets_its_own_connections(monkeypatch, tmp_path):
    async def in_child(router: AsyncRouter, name: str) -> bool:
        async with router:
            return await aanswers(router, name)

    with SimulatedAnthropic() as api, asyncio.Runner() as runner:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        router = AsyncRouter(settings=Settings(store_url=f"sqlite:///{tmp_path}/store.db"))
        assert runner.run(aanswers(router, "before"))
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                ok = False
                try:
                    ok = asyncio.run(in_child(router, f"child {number}"))  # not in the loop of the parent
                finally:
                    sys.stdout.flush()
                    os._exit(0 if ok else 1)
            children.append(child)
        assert runner.run(aanswers(router, "parent"))
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
        runner.run(router.aclose())
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        counted = connection.execute("SELECT sum(calls) FROM total GROUP BY process ORDER BY 1").fetchall()
    assert counted == [(CALLS,), (CALLS,), (CALLS,), (2 * CALLS,)]


def test_what_was_set_on_a_router_holds_in_a_child():
    with SimulatedAnthropic() as api:
        router = Router(base_url=api.url, api_key="first", settings=Settings(record=False))
        router.api_key, router.timeout = "second", 5.0
        child = os.fork()
        if child == 0:
            ok = False
            try:
                ok = (router.api_key, router.timeout) == ("second", 5.0) and answers(router, "child")
            finally:
                os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        router.close()
