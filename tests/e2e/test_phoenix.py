"""A routed call and its grade as Arize Phoenix shows them: a receiver of spans that we did not write."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.e2e.test_processes import until
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = pytest.mark.thorough

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
ROUTE, GRADE = "cheapdeep.route", "cheapdeep.grade"
QUIET = {
    "PHOENIX_HOST": "127.0.0.1",
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",  # it would bring a shell
}
LISTENS = """
import psutil, sys
found = psutil.Process(int(sys.argv[1])).net_connections("inet")
print(*(each.laddr.ip for each in found if each.status == "LISTEN"))
"""
COSTS = "{projects{edges{node{spans(first: 100){edges{node{spanId costSummary{total{cost}}}}}}}}}"
ASKED = {"input_tokens": 300, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5}
DEEP = {"input_tokens": 70, "output_tokens": 8, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 9}


class Phoenix:
    """Phoenix while it runs, asked over HTTP."""

    def __init__(self, python, process, url):
        self._python, self.process, self.url = python, process, url
        self._open = build_opener(ProxyHandler({})).open

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body else None
        with self._open(Request(self.url + path, data, {"Content-Type": "application/json"}), timeout=60) as answer:
            return answer.read()

    def is_ready(self):
        with contextlib.suppress(URLError, OSError):
            self.ask("/healthz")
            return True
        return self.process.poll() is not None

    def listens_on(self):
        """The addresses that its process listens on."""
        command = [self._python, "-c", LISTENS, str(self.process.pid)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.split()

    def spans(self):
        """All spans by trace, each trace in the order in which its spans began."""
        traces = {}
        found = json.loads(self.ask("/v1/projects/default/spans?limit=1000"))["data"]
        for span in sorted(found, key=lambda span: span["start_time"]):
            traces.setdefault(span["context"]["trace_id"], []).append(span)
        return traces

    def costs(self):
        """What Phoenix itself, by prices of its own, finds that a span has cost (US dollars)."""
        (project,) = json.loads(self.ask("/graphql", {"query": COSTS}))["data"]["projects"]["edges"]
        nodes = [edge["node"] for edge in project["node"]["spans"]["edges"]]
        return {node["spanId"]: node["costSummary"]["total"]["cost"] for node in nodes if node["costSummary"]}


@pytest.fixture
def phoenix(tmp_path):
    python = os.environ.get("PHOENIX_PYTHON")
    if python is None:
        pytest.skip("Phoenix is not installed: PHOENIX_PYTHON names the Python of an environment that has it")
    port, folder = free_port(), tmp_path / "phoenix"
    folder.mkdir()
    ports = {"PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_WORKING_DIR": str(folder)}
    command = [python, str(Path(__file__).with_name("phoenix_on_loopback.py"))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**bare(), **QUIET, **ports}, stdout=log, stderr=log)
        try:
            found = Phoenix(python, process, f"http://127.0.0.1:{port}")
            until(found.is_ready, "Phoenix to be ready")
            assert process.poll() is None, (folder / "log").read_text()
            yield found
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def bare():
    """The environment without what would lead the programs elsewhere."""
    ours = ("CHEAPDEEP_", "OTEL_", "PHOENIX_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def environment(phoenix, tmp_path):
    with SimulatedAnthropic() as api:
        api.enqueue(
            Reply.triage(0.95, "It is.", usage=ASKED),
            Reply.triage(0.2, None, usage=ASKED),
            Reply.text("It is not.", usage=DEEP),
        )
        yield {
            **bare(),
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "simulated",
            "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db",
            "CHEAPDEEP_SAMPLE_RATE": "1",
            "CHEAPDEEP_GRADE_EVERY_S": "0.5",
            "CHEAPDEEP_EVALUATE_EVERY_S": "0.5",
            "CHEAPDEEP_PORT": "0",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{phoenix.url}/v1/traces",  # Phoenix takes neither metrics nor logs
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }


def asked(environment):
    """The decision about one question, which a router in a process of its own takes."""
    command = [sys.executable, "-m", "cheapdeep_ops", "ask", "--json", "Is this clause valid?"]
    done = subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True, text=True)
    assert done.stderr == ""
    return json.loads(done.stdout)["decision"]


@contextlib.contextmanager
def guard(environment):
    command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_phoenix_shows_a_routed_call_as_one_trace_with_its_models_tokens_cost_and_grade(phoenix, environment):
    assert set(phoenix.listens_on()) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    shipped, escalated = asked(environment), asked(environment)
    assert (shipped["escalated"], escalated["escalated"]) == (False, True)
    until(lambda: sum(map(len, phoenix.spans().values())) >= 5, "the spans of two calls")
    traces = phoenix.spans()
    assert sorted(map(len, traces.values())) == [2, 3]
    by_call = {trace[0]["attributes"]["cheapdeep.call.id"]: trace for trace in traces.values()}
    is_trace_of(by_call[shipped["call_id"]], shipped, {HAIKU: ASKED})
    is_trace_of(by_call[escalated["call_id"]], escalated, {HAIKU: ASKED, OPUS: DEEP})
    finds_the_costs_itself(phoenix, [span for trace in traces.values() for span in trace])

    with guard(environment):
        until(lambda: sum(map(len, phoenix.spans().values())) == 6, "the grade")
    route, _, grade = phoenix.spans()[by_call[shipped["call_id"]][0]["context"]["trace_id"]]
    assert (grade["name"], grade["parent_id"]) == (GRADE, route["context"]["span_id"])
    said = grade["attributes"]
    assert said["gen_ai.evaluation.name"] == "cheapdeep.correctness"
    assert said["gen_ai.evaluation.score.label"] in ("correct", "incorrect", "unsure")
    assert said["cheapdeep.call.id"] == shipped["call_id"]
    assert not [name for name in said if name.startswith("llm.")], "no model call, and no tokens to add up"
    assert b"clause" not in phoenix.ask("/v1/projects/default/spans?limit=1000")


def is_trace_of(trace, decision, usages):
    """A route span without parent, and below it a span for each model call, as the API has served them."""
    route, *chats = trace
    assert (route["name"], route["parent_id"]) == (ROUTE, None)
    assert [chat["name"] for chat in chats] == [f"chat {model}" for model in usages]
    for chat, (model, usage) in zip(chats, usages.items(), strict=True):
        assert (chat["span_kind"], chat["parent_id"]) == ("LLM", route["context"]["span_id"])
        assert chat["attributes"]["llm.model_name"] == model
        assert tokens(chat) == served(usage)
    told = route["attributes"]
    assert (told["cheapdeep.model"], told.get("cheapdeep.reason")) == (decision["model"], decision["reason"])
    assert told["cheapdeep.cost.usd"] == decision["cost_usd"]
    assert sum(chat["attributes"]["cheapdeep.cost.usd"] for chat in chats) == pytest.approx(decision["cost_usd"])


def tokens(chat):
    prefix = "llm.token_count."
    return {name.removeprefix(prefix): value for name, value in chat["attributes"].items() if name.startswith(prefix)}


def served(usage):
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    prompt = usage["input_tokens"] + read + written
    return {
        "prompt": prompt,
        "prompt_details.cache_read": read,
        "prompt_details.cache_write": written,
        "completion": usage["output_tokens"],
        "total": prompt + usage["output_tokens"],
    }


def finds_the_costs_itself(phoenix, spans):
    """Phoenix has prices of its own: by them each model call costs what we say, and nothing else costs anything."""
    chats = [span for span in spans if span["span_kind"] == "LLM"]
    ours = {chat["context"]["span_id"]: chat["attributes"]["cheapdeep.cost.usd"] for chat in chats}
    until(lambda: len(phoenix.costs()) >= len(ours), "Phoenix's own costs")
    assert phoenix.costs() == pytest.approx(ours)
