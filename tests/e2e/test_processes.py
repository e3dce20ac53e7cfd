"""Guard and router in processes of their own, over real HTTP, as a team runs them."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from cheapdeep_ops.testing import SimulatedAnthropic, SimulatedSlack
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.storm_rules import STORM_RULES

pytestmark = pytest.mark.thorough

QUALITY_RULES = """
rules:
  - alert: FalseConfidenceClimbing
    signal: false_confident_rate
    limit: normal
    normal_grades: 100
    min_grades: 30
    max_grades: 240
    for: 0s
    keep_firing_for: 0s
    actions: [notify, raise_threshold]
"""


class Caller:
    """The router's process, and the decisions that it has printed."""

    def __init__(self, environment, route):
        command = [sys.executable, str(Path(__file__).with_name("caller.py")), route]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.decisions = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.decisions.append(json.loads(line))

    def traffic(self, *names):
        self.process.stdin.write(" ".join(names) + "\n")
        self.process.stdin.flush()

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.traffic("end")
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


class Database:
    """The store, read from outside with nothing of ours."""

    def __init__(self, url):
        self._url = make_url(url)

    def rows(self, query):
        with contextlib.closing(self._connect()) as connection:
            return [dict(row) for row in connection.execute(query).fetchall()]

    def _connect(self):
        if self._url.get_backend_name() == "sqlite":
            connection = sqlite3.connect(f"file:{self._url.database}?mode=ro", uri=True)
            connection.row_factory = sqlite3.Row
            return connection
        where = {"host": self._url.query["host"], "dbname": self._url.database, "user": self._url.username}
        return psycopg.connect(**where, options="-csearch_path=cheapdeep", row_factory=dict_row)

    def counted(self):
        """The sums of all calls, and their first and last second.

        Once a minute, a guard folds whole minutes: their seconds are then no longer in `bucket`, but in `rollup`.
        """
        columns = "at, calls, escalated"
        folded = f"SELECT {columns} FROM rollup WHERE width_s = 1 AND route <> '*'"
        sums = "min(at) AS first, max(at) AS last, sum(calls) AS calls, sum(escalated) AS escalated"
        (found,) = self.rows(f"SELECT {sums} FROM (SELECT {columns} FROM bucket UNION ALL {folded}) AS seconds")
        return found

    def changes(self):
        found = self.rows("SELECT * FROM policy_change ORDER BY version")
        return [{**each, "signal": as_object(each["signal"])} for each in found]


def as_object(value):
    """JSON as one driver gives it and the other does not."""
    return json.loads(value) if isinstance(value, str) else value


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {PATIENCE_S:g} s for {what}")


@pytest.fixture
def api():
    with SimulatedAnthropic() as api:
        yield api


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def environment(tmp_path, api, slack):
    (tmp_path / "rules.yaml").write_text(STORM_RULES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
    return {
        **kept,
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "simulated",
        "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "CHEAPDEEP_RULES_FILE": str(tmp_path / "rules.yaml"),
        "CHEAPDEEP_EVALUATE_EVERY_S": "0.5",
        "CHEAPDEEP_FLUSH_EVERY_S": "0.5",
        "CHEAPDEEP_SLACK_BOT_TOKEN": slack.token,
        "CHEAPDEEP_SLACK_CHANNEL": "C0STORMS",
        "CHEAPDEEP_SLACK_BASE_URL": slack.url,
        "CHEAPDEEP_PORT": str(free_port()),
        "CHEAPDEEP_API_TOKENS": "s3same",
    }


def get(environment, path, *, method="GET", body=None, token=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    url = f"http://127.0.0.1:{environment['CHEAPDEEP_PORT']}{path}"
    request = urllib.request.Request(url, method=method, data=body and json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


@contextlib.contextmanager
def guard(environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "cheapdeep_ops", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: is_ready(environment), "the guard to be ready")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors


def is_ready(environment):
    with contextlib.suppress(OSError):
        return "ok" in get(environment, "/readyz")
    return False


@contextlib.contextmanager
def caller(environment, route="support"):
    process = Caller(environment, route)
    try:
        yield process
    finally:
        process.end()


def test_a_storm_reaches_slack_and_every_router_and_is_over_when_it_is_over(environment, slack):
    database = Database(environment["CHEAPDEEP_STORE_URL"])
    with guard(environment), caller(environment) as service:
        until(lambda: len(service.decisions) > 200, "calm traffic")
        assert database.changes() == []

        service.traffic("legal")
        told = slack.wait_for(lambda message: "EscalationStorm firing" in message.text, PATIENCE_S)
        (raised,) = database.changes()
        assert (raised["act"], raised["scope"], raised["cause"]) == ("raise", "support", "EscalationStorm")
        assert raised["signal"]["recent_low"] > 0.35
        until(lambda: len(since(service.decisions, raised)) > 50, "decisions after the raise")

        service.traffic("faq")
        until(lambda: "resolved" in told_now(slack, told).text, "the resolved message")
        (_, released) = database.changes()
        assert (released["act"], released["cause"]) == ("release", "EscalationStorm")
        until(lambda: len(since(service.decisions, released)) > 50, "decisions after the release")

        metrics = get(environment, "/metrics")
        status = json.loads(get(environment, "/api/v1/status"))
    assert_obeyed(service.decisions, raised, released)
    assert len(slack.posts) == 1
    assert f'cheapdeep_policy_version{{scope="support"}} {released["version"]}.0' in metrics
    assert status["watchers"]["routers"] == 1
    counted, escalated = database.counted(), sum(each["escalated"] for each in service.decisions)
    assert (counted["calls"], counted["escalated"]) == (len(service.decisions), escalated)


def told_now(slack, told):
    return next(message for message in slack.messages if message.ts == told.ts)


def since(decisions, change):
    """Decisions that began a second or more after the first one that knew of a change; all of them must know of it."""
    first = min((each["begun_at"] for each in decisions if each["version"] == change["version"]), default=float("inf"))
    return [each for each in decisions if each["begun_at"] >= first + 1]


def assert_obeyed(decisions, raised, released):
    during = [each for each in since(decisions, raised) if each["begun_at"] < released["at"]]
    after = since(decisions, released)
    assert len(during) > 40
    assert len(after) > 40
    assert {each["threshold"] for each in during} == {0.9}
    assert {each["version"] for each in during} == {raised["version"]}
    assert {each["threshold"] for each in after} == {0.8}
    assert {each["version"] for each in after} == {released["version"]}


def test_false_confidence_that_climbs_is_graded_told_raised_and_let_go_on_graded_evidence(
    environment, slack, tmp_path, either_url
):
    (tmp_path / "rules.yaml").write_text(QUALITY_RULES)
    environment["CHEAPDEEP_STORE_URL"] = either_url
    quality = {**environment, "CHEAPDEEP_SAMPLE_RATE": "1", "CHEAPDEEP_GRADE_EVERY_S": "0.5"}
    database = Database(environment["CHEAPDEEP_STORE_URL"])
    with guard(quality), caller(quality) as service:
        until(lambda: database.rows("SELECT * FROM normal WHERE rate IS NOT NULL"), "what is normal to be learned")
        assert database.changes() == []

        service.traffic("outdated", "outdated", "faq")
        told = slack.wait_for(lambda message: "FalseConfidenceClimbing firing" in message.text, PATIENCE_S)
        (raised,) = database.changes()
        assert (raised["act"], raised["scope"], raised["cause"]) == ("raise", "support", "FalseConfidenceClimbing")
        signal = raised["signal"]
        assert signal["n"] >= 30
        assert signal["low"] > signal["normal_rate"]
        until(lambda: len(since(service.decisions, raised)) > 50, "decisions after the raise")
        assert len(database.changes()) == 1, "nothing but graded evidence may end it"

        service.traffic("faq")
        until(lambda: "resolved" in told_now(slack, told).text, "the resolved message")
        (_, released) = database.changes()
        assert (released["act"], released["cause"]) == ("release", "FalseConfidenceClimbing")
        until(lambda: len(since(service.decisions, released)) > 50, "decisions after the release")
        report = json.loads(get(quality, "/api/v1/report?last_s=600"))
    assert_obeyed(service.decisions, raised, released)
    assert len(slack.posts) == 1
    evidence = database.rows(
        f"SELECT verdict, shipped FROM grade WHERE called_at >= {raised['at']} AND at <= {released['at']}"
    )
    assert len(evidence) >= 60
    assert {bool(row["shipped"]) for row in evidence} == {False, True}, "shipped and withheld answers alike"
    assert released["signal"]["high"] < released["signal"]["limit"]
    assert report["graded"] > 100
    assert report["grader"]["state"] == "running"


def test_a_person_pins_over_http_with_a_token_and_the_router_obeys(environment):
    with guard(environment), caller(environment) as service:
        until(lambda: service.decisions, "traffic")
        order = {"threshold": 0.6, "route": "support", "author": "ann", "why": "trial"}
        for token in (None, "wrong"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(environment, "/api/v1/policy/pin", method="PUT", body=order, token=token)
            assert refused.value.code == 401
            refused.value.close()
        policy = json.loads(get(environment, "/api/v1/policy/pin", method="PUT", body=order, token="s3same"))
        pinned_at = time.time()
        assert policy["scopes"]["support"]["threshold"] == 0.6
        until(lambda: time.time() > pinned_at + 3, "decisions after the pin")
    late = [each for each in service.decisions if each["begun_at"] > pinned_at + 2]
    assert late
    assert {each["threshold"] for each in late} == {0.6}


def test_a_guard_that_is_stopped_in_the_middle_of_an_outage_tells_slack_after_its_restart(environment, slack):
    database = Database(environment["CHEAPDEEP_STORE_URL"])
    with caller(environment) as service:
        service.traffic("legal")
        with slack.outage():
            with guard(environment):
                until(database.changes, "the raise")
            assert slack.messages == []
        with guard(environment):
            slack.wait_for(lambda message: "firing" in message.text, PATIENCE_S)
    assert len(database.changes()) == 1


def test_a_router_that_is_killed_loses_at_most_one_flush_interval(environment):
    with caller(environment) as service:
        until(lambda: len(service.decisions) > 120, "traffic")
        service.process.kill()
        killed_at = time.time()
    rows = Database(environment["CHEAPDEEP_STORE_URL"]).rows("SELECT sum(calls) AS calls FROM bucket")
    # Flushes come every 0.5 s here; a tenth more for a write that is under way, and a call is told before it is put.
    kept_at_least = sum(each["begun_at"] < killed_at - 0.6 - 0.2 for each in service.decisions)
    assert kept_at_least > 60
    assert kept_at_least <= rows[0]["calls"]
