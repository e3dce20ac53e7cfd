"""A router that was used before a fork: every process has connections of its own."""

import os
import sys

import pytest

from cheapdeep_ops import Router, Settings
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
