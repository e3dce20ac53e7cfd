"""Frameworks that are given a router in the place of a client: each call is routed, or it is said that it is not."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cheapdeep_ops.testing import Reply

SCRIPT = Path(__file__).with_name("frameworks_over_a_router.py")
TICKET = '{"subject": "Order"}'
ROUTED, WARNED = "routed", "warned"

pytestmark = pytest.mark.thorough


@pytest.fixture
def ask(api):
    python = os.environ.get("FRAMEWORKS_PYTHON")
    if not python:
        pytest.skip("the frameworks are not installed: FRAMEWORKS_PYTHON names the Python of an environment with them")

    def ask(way):
        command = [python, "-W", "ignore", str(SCRIPT), way, api.url]
        known = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask


@pytest.mark.parametrize(
    ("way", "text", "how"),
    [
        ("instructor", TICKET, ROUTED),
        ("instructor, asyncio", TICKET, ROUTED),
        ("pydantic-ai", "It is on its way.", WARNED),
        ("pydantic-ai, streamed", "It is on its way.", WARNED),
        ("langchain-anthropic", "It is on its way.", WARNED),
        ("langchain-anthropic, asyncio", "It is on its way.", WARNED),
        ("langchain-anthropic, streamed", "It is on its way.", WARNED),
    ],
)
def test_a_call_through_a_framework_is_routed_or_warned_of(api, ask, way, text, how):
    api.always(lambda request: Reply.triage(0.95, text) if request.is_triage else Reply.text(text))
    given = ask(way)
    assert given["answer"] == ("Order" if text == TICKET else text)
    assert (ROUTED if given["decisions"] else WARNED) == how
    assert len(given["warnings"]) == (how == WARNED)
