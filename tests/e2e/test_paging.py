"""From a router's calls to a page: the guard's metrics, a real Prometheus with our rules, Alertmanager, Slack."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from cheapdeep_ops.resources import packaged
from tests.e2e import test_processes as processes
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = pytest.mark.thorough

api, slack, environment = processes.api, processes.slack, processes.environment
ALERTS = packaged("alerts")
SECOND = "1s"
PAGE = "CheapdeepEscalationStorm"
SAID = re.compile(
    r"[\d.]+% of the triaged calls of scope support would escalate at the base threshold "
    r"\(95%: [\d.]+% to [\d.]+%, \d+ calls\)\."
)


def tool(*names):
    """The first of the names that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed (Debian package {names[0]})")
    return found


class Server:
    """A server in a process of its own, on loopback, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open = build_opener(ProxyHandler({})).open

    def ask(self, path, **params):
        with self._open(f"http://127.0.0.1:{self.port}{path}?{urlencode(params)}", timeout=30) as answer:
            return answer.read().decode()

    def is_ready(self):
        with contextlib.suppress(OSError):
            self.ask("/-/ready")
            return True
        return False

    def query(self, expr):
        return json.loads(self.ask("/api/v1/query", query=expr))["data"]["result"]

    def rules(self):
        groups = json.loads(self.ask("/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def is_firing(self, alert, scope):
        return bool(self.query(f'ALERTS{{alertname="{alert}",scope="{scope}",alertstate="firing"}}'))


@contextlib.contextmanager
def running(command, folder: Path, *flags) -> Iterator[Server]:
    """The server while it runs; ended by its own process id."""
    server, log = Server(free_port()), folder / "log"
    listen = f"--web.listen-address=127.0.0.1:{server.port}"
    with log.open("wb") as out, subprocess.Popen([command, *flags, listen], stdout=out, stderr=out) as process:
        try:
            processes.until(lambda: server.is_ready() or process.poll() is not None, f"{command} to be ready")
            assert process.poll() is None, log.read_text()
            yield server
        finally:
            process.kill()


@contextlib.contextmanager
def prometheus(folder: Path, guard_port: str, alertmanager_port: int | None = None) -> Iterator[Server]:
    """Our rules as they are, only looked at every second."""
    command = tool("prometheus")
    folder.mkdir()
    targets = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}] if alertmanager_port else []
    scrape = {"job_name": "cheapdeep", "static_configs": [{"targets": [f"127.0.0.1:{guard_port}"]}]}
    config = {
        "global": {"scrape_interval": SECOND, "scrape_timeout": SECOND, "evaluation_interval": SECOND},
        "rule_files": [str(ALERTS / "prometheus.rules.yml")],
        "scrape_configs": [scrape],
        "alerting": {"alertmanagers": targets},
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    flags = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}")
    with running(command, folder, *flags) as server:
        yield server


@contextlib.contextmanager
def alertmanager(folder: Path, webhook_url: str) -> Iterator[Server]:
    """The example as it is, only with another webhook and little patience."""
    command = tool("prometheus-alertmanager", "alertmanager")
    folder.mkdir()
    config = yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))
    (folder / "slack_url").write_text(webhook_url)
    for receiver in config["receivers"]:
        receiver["slack_configs"][0]["api_url_file"] = str(folder / "slack_url")
    for route in (config["route"], *config["route"]["routes"]):
        route.update(group_wait="100ms", group_interval=SECOND)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    flags = (f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}")
    with running(command, folder, *flags, "--cluster.listen-address=") as server:
        yield server


def test_every_rule_works_on_the_guards_own_metrics_and_a_storm_fires(environment, tmp_path):
    tool("prometheus")
    with (
        processes.guard(environment),
        processes.caller(environment) as service,
        prometheus(tmp_path / "prometheus", environment["CHEAPDEEP_PORT"]) as server,
    ):
        processes.until(lambda: server.query("scope:cheapdeep_base_escalation:low_increase3h"), "rates")
        assert not server.query('ALERTS{alertstate="firing"}')

        service.traffic("legal")
        processes.until(lambda: server.is_firing(PAGE, "support"), "the storm")
        assert_all_work(server)
        (ratio,) = server.query('max(rule_scope:cheapdeep_evidence:ratio{rule="EscalationStorm",scope="support"})')
        assert float(ratio["value"][1]) > 0
        (page,) = [each for rule in server.rules() if rule["name"] == PAGE for each in rule["alerts"]]
        assert SAID.search(page["annotations"]["description"])

        service.traffic("faq")
        processes.until(lambda: not server.is_firing(PAGE, "support"), "the end of the storm")


def assert_all_work(server):
    """No rule fails, every recording has data, and so has every figure that an alert asks for."""
    processes.until(lambda: all(rule["health"] != "unknown" for rule in server.rules()), "a first evaluation of all")
    rules = server.rules()
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    asked = {name for rule in rules for name in re.findall(r"\b(?:\w+:)?cheapdeep_\w+(?::\w+)?|\bup\b", rule["query"])}
    assert recorded
    # A busy machine may miss a scrape, and then has no data for a moment.
    processes.until(lambda: all(server.query(name) for name in recorded | asked), "data for every rule")


def test_alertmanager_tells_slack_of_the_storm_and_of_its_end(environment, slack, tmp_path):
    tool("prometheus")
    tool("prometheus-alertmanager", "alertmanager")
    with (
        processes.guard(environment),
        processes.caller(environment) as service,
        alertmanager(tmp_path / "alertmanager", slack.webhook_url) as receiver,
        prometheus(tmp_path / "prometheus", environment["CHEAPDEEP_PORT"], receiver.port) as server,
    ):
        processes.until(lambda: server.query("rule_scope:cheapdeep_alerts:max"), "a first look at the guard")
        assert [each for each in slack.messages if each.via == "webhook"] == []
        service.traffic("legal")
        text = told(slack, "EscalationStorm firing, support")
        assert "Too many calls leave the cheap tier." in text
        assert SAID.search(text)
        assert "alerts/README.md#cheapdeepescalationstorm" in text
        service.traffic("faq")
        assert told(slack, "EscalationStorm resolved, support")


def told(slack, title):
    """The text of the message with that title, once Alertmanager has sent it."""
    found = slack.wait_for(lambda message: title in {part.get("title") for part in message.attachments}, PATIENCE_S)
    return found.attachments[0]["text"]
