"""Other packages' instrumentations of the SDK: they record a router's model calls as they record a client's.

Each runs alone, in a process of its own, by the Python of an environment that has them.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import cheapdeep_ops

pytestmark = pytest.mark.thorough

ROOT = Path(cheapdeep_ops.__file__).parents[1]
ROUTE = "cheapdeep.route"
TRACERS = ("sdk", "traceloop", "genai", "openinference", "logfire", "logfire_classes", "logfire_router", "sentry")
OTHERS = ("none", "sentry_errors", "posthog")
CASES = 72
CHANGING = (
    "id",
    "duration",
    "latency",
    "time_to",
    "timestamp",
    "first_chunk",
    "code.",
    "thread.",
    "json_schema",
    "finger",
)
"""Parts of the names of attributes that differ between equal calls."""

OF_ONE_CALL = re.compile(r"took [0-9.]+s|(msg|req)_\w+|\b[0-9a-f]{32}\b")
OF_ONE_SENDER = {"extra_headers", "timeout", "stream", "output_format", "user-agent"}


@pytest.fixture(scope="module")
def python():
    found = os.environ.get("INSTRUMENTED_PYTHON")
    if found is None:
        pytest.skip("no instrumentation is installed: INSTRUMENTED_PYTHON names the Python of an environment with them")
    return found


def compared(python, tool):
    """What the tool recorded of each case, for the router and for the client."""
    unwanted = ("CHEAPDEEP_", "ANTHROPIC_", "OTEL_", "SENTRY_", "LOGFIRE_", "POSTHOG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    command = [python, str(Path(__file__).with_name("instrumented.py")), tool]
    ended = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) == CASES
    return found


def test_a_router_refuses_trio(python):
    script = str(Path(__file__).with_name("on_trio.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([python, script], env=environment, capture_output=True, text=True, timeout=300, check=True)
    *refusals, sent = ended.stdout.splitlines()
    assert len(refusals) == 4
    assert all("needs asyncio, but trio runs here" in each for each in refusals)
    assert sent == "1 sent"  # by the bare client


def parts(spans):
    """Our spans by name, and all others as they must be for the client too."""
    ours = sorted(span["name"] for span in spans if span["scope"] == "cheapdeep_ops")
    return ours, sorted(map(written, (span for span in spans if span["scope"] != "cheapdeep_ops")))


def written(span):
    attributes = {
        name: plain(value)
        for name, value in span["attributes"].items()
        if not any(part in name.lower() for part in CHANGING)
    }
    return json.dumps([span["name"], span["kind"], span["status"], attributes], sort_keys=True)


def plain(value):
    """A value without what only one call or one sender has; JSON in a text is read, because its order may differ."""
    if isinstance(value, str):
        return plain(json.loads(value)) if is_json(value) else OF_ONE_CALL.sub("", value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in OF_ONE_SENDER}
    return [plain(each) for each in value] if isinstance(value, list) else value


def is_json(text):
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


@pytest.mark.parametrize("tool", TRACERS)
def test_a_tracer_records_each_model_call_once_and_below_the_route(python, tool):
    for case, found in compared(python, tool).items():
        ours, theirs = parts(found["routed"])
        assert ours == [ROUTE], case
        if case.split()[1] == "left":  # how much is read before the caller leaves is not the same
            assert len(theirs) == len(parts(found["bare"])[1]), case
        else:
            assert theirs == parts(found["bare"])[1], case
            if "error" not in case:  # OpenLLMetry loses the span of a helper whose request fails
                assert len(theirs) >= len(found["models"]), case
        parent = "request" if tool == "sentry" else ROUTE
        assert {span["parent"] for span in found["routed"] if span["scope"] != "cheapdeep_ops"} <= {parent}, case


@pytest.mark.parametrize("tool", OTHERS)
def test_our_spans_stay_where_nobody_else_makes_some(python, tool):
    for case, found in compared(python, tool).items():
        ours, theirs = parts(found["routed"])
        assert ours == sorted([ROUTE, *(f"chat {model}" for model in found["models"])]), case
        assert len(theirs) == len(parts(found["bare"])[1]), case
        if case.split()[1] != "left":
            assert theirs == parts(found["bare"])[1], case
            assert bool(theirs) is (tool == "posthog"), case
