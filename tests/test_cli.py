import json
import logging
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from time import time

import pytest
import typer
import yaml
from rich.console import Console

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.cli import common, main
from cheapdeep_ops.cli.commands import doctor
from cheapdeep_ops.cli.render.terminal import show_reach
from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.reports.detection_delay import SamplingShares, reach_of
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.detection import learned
from cheapdeep_ops.guard.statistics.intervals import Estimate
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.store import anchors, incidents, outcomes, policies, processes
from cheapdeep_ops.store.outcomes import CallFacts, ReportedOutcome
from cheapdeep_ops.store.schema import HEAD
from cheapdeep_ops.testing import Reply, SimulatedAnthropic, SimulatedSlack
from tests.endpoint import listening
from tests.stores import migrated

ROOT = typer.main.get_command(common.app)
COMMANDS = sys.modules["cheapdeep_ops.cli.main"]  # the package has a function of the module's name


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{tmp_path}/store.db")
    yield
    logging.getLogger().handlers = [each for each in logging.getLogger().handlers if "Capture" in type(each).__name__]


@pytest.fixture
def store(tmp_path):
    store = migrated(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


@pytest.fixture
def api(monkeypatch):
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        yield api


def run(capsys, *arguments):
    """Exit status, standard output, standard error."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def run_json(capsys, *arguments):
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nosuch",), "nosuch"),
        (("threshold", "set", "2", "--why", "x"), "less than or equal to 1"),
        (("threshold", "set", "0.9"), "--why"),
        (("report", "--last", "5 parsecs"), "not a duration"),
        (("report", "--last", "99999999999d"), "at most 36500d"),
        (("report", "--last", "9" * 400 + "d"), "at most 36500d"),
        (("threshold", "set", "0.9", "--why", "a\udcff"), "--why"),
        (("threshold", "set", "0.9", "--why", " "), "--why"),
        (("threshold", "set", "0.9", "--why", "x", "--route", "a\udcff"), "--route"),
        (("threshold", "set", "0.9", "--why", "x", "--route", ""), "--route"),
        (("threshold", "release", "--route", " "), "--route"),
        (("threshold", "release", "--why", ""), "--why"),
        (("ask",), "TEXT"),
        (("ask", "a\udcff"), "text"),
        (("ask", "hi", "--route", ""), "--route"),
        (("dashboards", "export", __file__), "is a file"),
    ],
)
def test_wrong_usage_is_said_in_words_and_exits_with_2(capsys, arguments, says):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert says.lower() in err.lower()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CHEAPDEEP_TIRES", "x", "unknown settings CHEAPDEEP_TIRES"),
        ("CHEAPDEEP_PORT", "99999999", "less than or equal to 65535"),
        ("CHEAPDEEP_BASE_THRESHOLD", "eighty", "CHEAPDEEP_BASE_THRESHOLD = 'eighty'"),
        ("CHEAPDEEP_RULES_FILE", "/nowhere/rules.yaml", "/nowhere/rules.yaml"),
        ("CHEAPDEEP_PRICE_OVERRIDES", "[" * 100_000, "a JSON list of prices"),
    ],
)
def test_wrong_settings_name_key_value_and_range(capsys, monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    status, out, err = run(capsys, "serve" if name == "CHEAPDEEP_RULES_FILE" else "status")
    assert status == 2
    assert says in out + err


def test_help_is_given_without_a_command(capsys):
    status, out, err = run(capsys)
    assert status in (0, 2)
    assert "demo" in out + err


def commands_of(group, words=()):
    for name, command in group.commands.items():
        nested = getattr(command, "commands", None)
        if not nested or command.invoke_without_command:
            yield (*words, name), command
        if nested:
            yield from commands_of(command, (*words, name))


def test_help_groups_the_commands_and_each_has_an_example_that_is_understood(capsys, monkeypatch, tmp_path):
    _, out, _ = run(capsys, "--help")
    sections = re.findall(r"^(\w+):$", out, re.MULTILINE)
    assert sections == ["Options", "Run", "Look", "Act", "Try", "Manage"]
    assert set(re.findall(r"^  (\w+)  ", out.partition("Run:")[2], re.MULTILINE)) == set(ROOT.commands)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outcomes.csv").touch()
    for words, command in commands_of(ROOT):
        example = shlex.split(command.epilog.removeprefix("Example: cheapdeep-ops "))
        assert tuple(example[: len(words)]) == words
        command.make_context(words[-1], example[len(words) :])


@pytest.mark.parametrize("command", ["status", "report", "threshold show", "incidents", "watch"])
def test_a_store_that_is_not_there_is_said_and_not_made(capsys, tmp_path, command):
    status, _, err = run(capsys, *command.split())
    assert status == 1
    assert "there is no store" in err
    assert not (tmp_path / "store.db").exists()


@pytest.mark.parametrize("command", ["status", "report", "threshold show"])
def test_reports_are_one_json_document(capsys, store, command):
    assert isinstance(run_json(capsys, *command.split()), dict)


@pytest.mark.parametrize("command", ["status", "report", "threshold show", "doctor"])
def test_reports_have_words_for_people(capsys, store, command):
    _, out, _ = run(capsys, *command.split())
    assert len(out.splitlines()) >= 1


def test_an_empty_receipt_knows_that_it_knows_nothing(capsys, store):
    found = run_json(capsys, "report")
    assert found["calls"] == 0
    assert found["escalation_rate"] is None
    assert found["saving"] is None
    assert found["false_confident_rate"] is None
    assert "unknown" in run(capsys, "report")[1]


def test_ask_prints_the_answer_and_the_decision(capsys, api):
    found = run_json(capsys, "ask", "How do I reset my password?", "--route", "support")
    assert found["text"].startswith("Answer")
    assert found["decision"]["route"] == "support"
    _, out, _ = run(capsys, "ask", "How do I reset my password?")
    assert "answered by" in out
    receipt = run_json(capsys, "report")
    assert receipt["calls"] == 2
    assert "n 2" in run(capsys, "report")[1]


def test_ask_without_a_key_says_so(capsys, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("CHEAPDEEP_RECORD", "false")
    status, _, err = run(capsys, "ask", "hello")
    assert status == 2
    assert "authentication" in err


def test_ask_reports_the_errors_of_the_api(capsys, api, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_TIERS", "claude-haiku-4-5,claude-nonsense")
    api.always(None)
    status, _, err = run(capsys, "ask", "legal ticket 1 legal ticket 7")
    assert status in (0, 1)
    if status:
        assert "claude-nonsense" in err


def test_what_the_sdk_refuses_to_send_is_one_line(capsys, api, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_TIERS", "claude-opus-4-7")
    status, _, err = run(capsys, "ask", "hi", "--max-tokens", "99999999")
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", [KeyError("uid not found"), OSError("no user"), "a\udcff", " "])
def test_an_author_without_a_name_is_known_by_number(capsys, monkeypatch, store, name):
    def getuser():
        if isinstance(name, Exception):
            raise name
        return name

    monkeypatch.setattr(common, "getuser", getuser)
    assert run(capsys, "threshold", "set", "0.85", "--why", "trial")[0] == 0
    with store.reading() as connection:
        (change,) = policies.history(connection)
    assert change["author"] == f"uid:{os.getuid()}"


def started(code, *arguments, **changes):
    """A process of its own that runs `code`; its standard output goes to `stdout`."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | changes
    return subprocess.run([sys.executable, "-c", code, *arguments], check=False, **given)


AS_MODULE = "import runpy; runpy.run_module('cheapdeep_ops', run_name='__main__')"


@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.thorough)])
@pytest.mark.thorough
def test_a_terminal_without_a_character_gets_its_escape(store, as_json):
    options = ["--json"] if as_json else []
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = started(AS_MODULE, "threshold", "set", "0.85", "--why", "é", "--route", "café", *options, env=environ)
    assert (done.returncode, done.stderr) == (0, b"")
    if as_json:
        assert "café" in json.loads(done.stdout)["scopes"]
    else:
        assert b"caf\\xe9" in done.stdout


@pytest.mark.parametrize("options", [[], pytest.param(["--json"], marks=pytest.mark.thorough)])
@pytest.mark.thorough
def test_a_full_disk_is_one_line_and_a_failure(store, options):
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = started(AS_MODULE, "threshold", "show", *options, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.thorough
def test_a_reader_who_has_left_is_not_told(store):
    reading, writing = os.pipe()
    os.close(reading)
    done = started(AS_MODULE, "threshold", "show", "--json", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


IMPATIENT = """
import sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
from cheapdeep_ops.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [("rich", "demo"), ("cheapdeep_ops.demo.show", "demo"), ("cheapdeep_ops.guard.service", "serve")],
)
def test_an_interrupt_while_all_is_loading_is_quiet(module, command):
    done = started(IMPATIENT, module, command)
    assert (done.returncode, done.stderr) == (130, b"")


def test_an_interrupt_outside_a_command_is_quiet_too(capsys, monkeypatch):
    def interrupted(*, args):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS, "app", interrupted)
    assert run(capsys, "status") == (130, "", "")


def test_secrets_in_the_query_of_the_stores_url_are_not_shown(capsys, monkeypatch):
    for query in ("password=QSECRET", "sslPassword=QSECRET&x=1", "api_key=a&api_key=QSECRET", "auth_token=QSECRET"):
        monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"postgresql://127.0.0.1:1/d?{query}&connect_timeout=1")
        for command in ("status", "migrate", "doctor"):
            status, out, err = run(capsys, command)
            assert status == 1
            assert "QSECRET" not in out + err


def test_a_store_url_with_a_port_that_is_no_number_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", "postgresql://u:SECRET@h:port/d")
    status, _, err = run(capsys, "status")
    assert status == 1
    assert "postgresql://user@host/name" in err
    assert "SECRET" not in err


def test_a_threshold_is_pinned_shown_and_released(capsys, store):
    pinned = run_json(capsys, "threshold", "set", "0.85", "--route", "support", "--why", "trial")
    assert pinned["scopes"]["support"] == {
        "threshold": 0.85, "version": 1, "pin": 0.85, "pinned_by": common.author(), "pinned_until": None, "causes": [],
    }  # fmt: skip
    assert f"pinned by {common.author()}" in run(capsys, "threshold", "show")[1]
    lasting = run_json(capsys, "threshold", "set", "0.9", "--route", "support", "--why", "trial", "--for", "4h")
    assert lasting["scopes"]["support"]["pinned_until"] == pytest.approx(time() + 4 * 3_600, abs=600)
    assert f"pinned by {common.author()} until " in run(capsys, "status")[1]
    assert run(capsys, "threshold", "set", "0.9", "--why", "trial", "--for", "31d")[0] == 2
    assert run_json(capsys, "threshold", "release", "--route", "support")["scopes"]["support"]["threshold"] == 0.8
    status, _, err = run(capsys, "threshold", "release", "--route", "support")
    assert status == 1
    assert "not pinned" in err


def test_a_misspelt_route_is_refused_and_a_new_one_is_pinned_with_a_word(capsys, store, api, tmp_path):
    with Router(settings=Settings(store_url=f"sqlite:///{tmp_path}/store.db"), route="support") as router:
        router.ask("Hello")
    asked = ("threshold", "set", "0.85", "--why", "trial", "--route")
    status, _, err = run(capsys, *asked, "suport")
    assert (status, err.count("\n")) == (1, 1)
    assert "did you mean support?" in err
    assert "--new-route" in err
    status, out, _ = run(capsys, *asked, "suport", "--new-route")
    assert (status, out.splitlines()[-1]) == (0, "note: no call has named the route suport yet")
    assert run_json(capsys, *asked, "returns")["note"] == "no call has named the route returns yet"
    assert "note" not in run(capsys, *asked, "support")[1]


def test_status_shows_the_number_that_acknowledging_takes(capsys, store):
    opened = {"rule": "EscalationStorm", "scope": "support", "at": 1.0}
    incident = store.transact(lambda connection: incidents.open_incident(connection, **opened))
    alert = {
        "rule": "EscalationStorm", "scope": "support", "state": "firing", "level": "above", "since": 1.0,
        "incident_id": incident, "signal": {}, "updated_at": 1.0, "below_since": None,
    }  # fmt: skip
    pending = {**alert, "rule": "RouterSilent", "state": "pending", "incident_id": None}
    store.transact(lambda connection: incidents.save_alerts(connection, [alert, pending]))
    _, out, _ = run(capsys, "status")
    assert f"act:  cheapdeep-ops alert ack {incident} --why TEXT" in out
    _, out, _ = run(capsys, "status", "--all")
    rows = {
        line.split("\u2502")[1].strip(): line.split("\u2502")[0].strip()
        for line in out.splitlines()
        if "\u2502" in line
    }
    assert (rows["EscalationStorm"], rows["RouterSilent"]) == (str(incident), "")
    assert f"To acknowledge incident {incident}: cheapdeep-ops alert ack {incident} --why TEXT" in out
    assert run(capsys, "alert", "ack", rows["EscalationStorm"], "--why", "on it")[0] == 0
    _, out, _ = run(capsys, "incidents")
    assert "Incidents: 1 open, 0 past" in out
    assert run_json(capsys, "incidents", "show", str(incident))["rule"] == "EscalationStorm"
    _, out, _ = run(capsys, "incidents", "show", str(incident))
    assert out.startswith(f"Incident {incident}: EscalationStorm, route support, open for ")
    assert re.search(r"^  \S+ \S+  acknowledged by ", out, re.MULTILINE)
    assert run(capsys, "incidents", "show", "99")[::2] == (1, "error: there is no incident 99\n")


def test_migrate_makes_the_store_and_says_where(capsys, tmp_path):
    assert run_json(capsys, "migrate")["revision"] == HEAD
    assert (tmp_path / "store.db").exists()


def test_doctor_says_what_to_mend_and_fails(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "CHEAPDEEP_SLACK_BOT_TOKEN" in out
    assert "ANTHROPIC_API_KEY" in out


@pytest.mark.parametrize(
    ("tiers", "ok", "says"),
    [
        (
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-opus-4-7@default"),
            True,
            "-> claude-opus-4-7@default",
        ),
        (("claude-haiku-9", "claude-opus-4-7"), False, "no price is known for claude-haiku-9"),
        (("claude-haiku-4-5-fast", "claude-opus-4-7"), False, "no price is known for claude-haiku-4-5-fast"),
        (
            ("claude-haiku-latest", "claude-opus-4-7"),
            True,
            "; claude-haiku-latest is not known yet, and is asked as Haiku 5.5 (known since 2026-11-29)",
        ),
        (("poem-1", "claude-opus-4-1"), True, "; unknown which parameters poem-1, claude-opus-4-1 refuses"),
    ],
)
def test_doctor_says_what_is_known_of_the_tiers(tiers, ok, says):
    kinds = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), 1.0)
    own = [{"model": model, **kinds} for model in ("claude-haiku-latest", "poem-1")]
    found = {each.name: each for each in doctor.examine(Settings(tiers=tiers, price_overrides=own))}["models"]
    assert (found.ok, says in found.found) == (ok, True), found


@pytest.mark.parametrize(
    ("expiry", "mode", "ok", "says"),
    [
        ("2999-01-31T00:00:00Z", 0o600, True, "has 1 tokens"),
        ("2020-01-31T00:00:00Z", 0o600, False, "expired: ann; remove them with cheapdeep-ops keys revoke"),
        ("2999-01-31T00:00:00Z", 0o644, False, "can be read by other users: chmod 600"),
        ("2999-01-31", 0o600, False, "line 5: expiry: needs a date and time"),
        (None, 0o600, False, "does not exist; cheapdeep-ops keys make creates it"),
    ],
)
def test_doctor_looks_at_the_file_of_tokens(tmp_path, expiry, mode, ok, says):
    path = tmp_path / "tokens.toml"
    if expiry is not None:
        lines = ("[[token]]", 'name = "ann"', 'role = "read"', f'hash = "sha256:{"ab" * 32}"', f"expiry = {expiry}")
        path.write_text("\n".join(lines))
        path.chmod(mode)
    found = doctor._run("tokens", doctor._tokens, Settings(api_tokens_file=path))
    assert (found.ok, says in found.found) == (ok, True), found


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://user:SECRET@127.0.0.1:1", "http://127.0.0.1:1 does not answer"),
        ("http://user:SEC/SECRET@h", "http://host:port"),
        ("user:SECRET@h:4318", "http://host:port"),
        ("http://h:999999", "http://host:port"),
        ("http://[::1", "http://host:port"),
        ("http://a..b", "http://host:port"),
    ],
)
def test_doctor_names_an_endpoint_that_is_wrong_without_its_password(capsys, monkeypatch, store, endpoint, says):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    status, out, _ = run(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["checks"] if each["name"] == "OTLP"]
    assert (status, found["ok"]) == (1, False)
    assert says in found["found"]
    assert "SECRET" not in out


def test_a_check_of_the_doctors_that_breaks_is_a_finding(capsys, monkeypatch, store):
    def broken(_settings):
        raise RuntimeError("beyond all expectation")

    monkeypatch.setattr(doctor, "_CHECKS", (("odd", broken),))
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "FAIL  odd: the check failed: RuntimeError: beyond all expectation" in out


def test_doctor_finds_nothing_where_nothing_is_wrong(capsys, api, monkeypatch, store):
    beat = {
        "process": "g", "kind": "guard", "started_at": 1.0, "seen_at": time(),
        "base_threshold": 0.8, "policy_version": 0, "dropped": 0,
    }  # fmt: skip
    store.transact(lambda connection: processes.beat(connection, processes.Heartbeat(**beat)))
    # A day ahead, so that a slow machine does not make it late.
    store.transact(lambda connection: processes.mark_evaluated(connection, "g", at=time() + 86_400))
    with SimulatedSlack() as slack:
        monkeypatch.setenv("CHEAPDEEP_SLACK_BOT_TOKEN", slack.token)
        monkeypatch.setenv("CHEAPDEEP_SLACK_CHANNEL", "C1")
        monkeypatch.setenv("CHEAPDEEP_SLACK_BASE_URL", slack.url)
        status, out, _ = run(capsys, "doctor", "--json")
    assert [each["name"] for each in json.loads(out)["checks"] if not each["ok"]] == []
    assert status == 0


@pytest.mark.parametrize(
    "came_back",
    [
        ('```json\n{"reason": "A week has seven.", "verdict": "Correct"}\n```', True, "correct ($0.0"),
        ('{"reason": "So.", "verdict": "incorrect"}', False, "it grades a right answer as incorrect ($0.0"),
        ("I would say [b]yes[/b].", False, "its reply is no grade (malformed, $0.0"),
    ],
)
def test_doctor_asks_the_grader_one_question_where_that_is_wanted(capsys, api, monkeypatch, store, came_back):
    reply, ok, said = came_back
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    api.always(Reply.text(reply))
    run(capsys, "doctor", "--json")
    assert not [each for each in api.requests if each.is_grading]
    _, out, _ = run(capsys, "doctor", "--ask-grader", "--json")
    (check,) = [each for each in json.loads(out)["checks"] if each["name"] == "grader claude-opus-4-7"]
    assert (check["ok"], said in check["found"]) == (ok, True), check
    assert len([each for each in api.requests if each.is_grading]) == 1


@pytest.mark.parametrize(
    ("tiers", "order"),
    [
        ("claude-opus-4-7,claude-haiku-4-5", "claude-haiku-4-5,claude-opus-4-7"),
        (
            "claude-haiku-4-5,claude-opus-4-7,claude-sonnet-4-6",
            "claude-haiku-4-5,claude-sonnet-4-6,claude-opus-4-7",
        ),
    ],
)
def test_doctor_says_when_the_tiers_are_in_the_wrong_order(tiers, order):
    wrong, right = (doctor._run("models", doctor._models, Settings(tiers=each)) for each in (tiers, order))
    assert (wrong.ok, right.ok) == (False, True)
    assert "wrong order, because claude-opus-4-7 costs more than " in wrong.found
    assert wrong.found.endswith(f"set CHEAPDEEP_TIERS={order}")


def test_doctor_leaves_tiers_of_one_price_and_a_single_tier_alone():
    for tiers in ("claude-opus-4-6,claude-opus-4-7", "claude-opus-4-7,claude-opus-4-6", "claude-opus-4-7"):
        assert doctor._run("models", doctor._models, Settings(tiers=tiers)).ok


def test_doctor_sees_a_clock_that_is_wrong_and_a_router_with_another_base(capsys, store):
    for kind, ahead_s, base in (("guard", 0.0, 0.8), ("router", 900.0, 0.7)):
        beat = {
            "process": kind, "kind": kind, "started_at": 1.0, "seen_at": time(), "host": "web-1",
            "clock_ahead_s": ahead_s,
            "base_threshold": base, "policy_version": 0, "dropped": 0,
        }  # fmt: skip
        store.transact(lambda connection, beat=beat: processes.beat(connection, processes.Heartbeat(**beat)))
    _, out, _ = run(capsys, "doctor")
    assert "web-1 is 15 min ahead of the store's time" in out
    assert "base threshold [0.7]" in out


@pytest.mark.parametrize("way", ["bot", "webhook"])
def test_a_test_alert_arrives(capsys, monkeypatch, way):
    with SimulatedSlack() as slack:
        if way == "bot":
            monkeypatch.setenv("CHEAPDEEP_SLACK_BOT_TOKEN", slack.token)
            monkeypatch.setenv("CHEAPDEEP_SLACK_CHANNEL", "C1")
            monkeypatch.setenv("CHEAPDEEP_SLACK_BASE_URL", slack.url)
        else:
            monkeypatch.setenv("CHEAPDEEP_SLACK_WEBHOOK_URL", slack.webhook_url)
        assert run_json(capsys, "alert", "test")["delivered"]
        assert "Test alert" in slack.messages[0].text


def test_silences_are_made_shown_and_ended(capsys, store):
    assert run(capsys, "alert", "silences")[1] == "no rule is silenced\n"
    asked = ("--rule", "EscalationStorm", "--route", "support", "--for", "2h", "--why", "deploying [b]")
    (made,) = run_json(capsys, "alert", "silence", *asked)
    assert (made["route"], made["until"] - made["since"], made["why"]) == ("support", 7_200, "deploying [b]")
    _, out, _ = run(capsys, "alert", "silences")
    assert out.startswith(f"silence {made['id']}: EscalationStorm of support until 20")
    assert out.endswith("deploying [b]\n")
    assert "EscalationStorm of support" in run(capsys, "status")[1]
    assert run_json(capsys, "alert", "unsilence", str(made["id"])) == []
    status, _, err = run(capsys, "alert", "unsilence", str(made["id"]))
    assert (status, err) == (1, f"error: there is no active silence {made['id']}\n")


NOW = 1_800_000_000.0


class OutOfReach:
    """A sender that Slack refuses."""

    def accepts(self, payload):
        return True

    def send(self, payload, place):
        raise DeliveryError("Slack answered [b]is_archived[/b]", unreachable=True)


def test_messages_that_do_not_arrive_are_shown_retried_and_given_up(capsys, store):
    assert run(capsys, "alert", "pending")[1] == "every message has arrived\n"

    def said(connection):
        incident = incidents.open_incident(connection, rule="EscalationStorm", scope="support", at=NOW)
        incidents.enqueue(connection, incident_id=incident, kind="started", payload={"kind": "started"}, at=NOW)

    store.transact(said)
    Notifier(store, {"slack": OutOfReach()}).deliver(NOW)
    _, out, _ = run(capsys, "alert", "pending")
    assert out.startswith("message 1 to slack, started of incident 1 (EscalationStorm support), since 2027-01-15")
    assert out.endswith("1 attempts: Slack answered [b]is_archived[/b]\n")
    (waits,) = run_json(capsys, "alert", "retry", "1")
    assert (waits["state"], waits["error"]) == ("waiting", "Slack answered [b]is_archived[/b]")
    assert run(capsys, "alert", "drop", "1")[0] == 2
    assert run_json(capsys, "alert", "drop", "1", "--why", "the channel is gone") == []
    status, _, err = run(capsys, "alert", "drop", "1", "--why", "again")
    assert (status, err) == (1, "error: there is no undelivered message 1\n")


@pytest.mark.parametrize("lasts", ["0s", "31d", "soon"])
def test_a_silence_lasts_thirty_days_at_most(capsys, store, lasts):
    status, _, err = run(capsys, "alert", "silence", "--rule", "EscalationStorm", "--for", lasts, "--why", "x")
    assert status == 2
    assert "--for" in err


def test_on_the_store_itself_every_command_is_allowed_and_is_the_users(capsys, monkeypatch, store):
    monkeypatch.setenv("CHEAPDEEP_HOST", "0.0.0.0")
    monkeypatch.setenv("CHEAPDEEP_API_TOKENS", "s3same")
    monkeypatch.setattr(common, "getuser", lambda: "ann")
    assert run_json(capsys, "review")["labels"] == 0
    assert run(capsys, "threshold", "set", "0.85", "--why", "trial")[0] == 0
    with store.reading() as connection:
        assert policies.history(connection)[0]["author"] == "ann"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("review", "--label", f"{'x' * 501}=correct"), 1, "error: labels.0.call_id: "),
        (("alert", "ack", "0", "--why", "x"), 1, "error: incident_id: Input should be greater than or equal to 1"),
        (("alert", "silence", "--rule", "X", "--for", "1h", "--why", "x"), 2, "gone.yaml"),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_the_application_refuses_is_one_line(capsys, monkeypatch, arguments, status, says):
    monkeypatch.setenv("CHEAPDEEP_RULES_FILE", "gone.yaml")
    found, _, err = run(capsys, *arguments)
    assert (found, err.count("\n")) == (status, 1)
    assert says in err


def test_an_incident_is_acknowledged_and_one_that_is_not_there_is_not(capsys, store):
    opened = {"rule": "EscalationStorm", "scope": "support", "at": 1.0}
    incident = store.transact(lambda connection: incidents.open_incident(connection, **opened))
    found = run_json(capsys, "alert", "ack", str(incident), "--why", "on it")
    assert (found["rule"], found["acknowledged"]["why"]) == ("EscalationStorm", "on it")
    assert run(capsys, "alert", "ack", str(incident), "--why", "still")[0] == 0
    assert run(capsys, "alert", "ack", "99", "--why", "x")[0] == 1


def test_a_test_alert_that_slack_refuses_fails_with_its_reason(capsys, monkeypatch):
    with SimulatedSlack() as slack:
        monkeypatch.setenv("CHEAPDEEP_SLACK_BOT_TOKEN", "xoxb-wrong")
        monkeypatch.setenv("CHEAPDEEP_SLACK_CHANNEL", "C1")
        monkeypatch.setenv("CHEAPDEEP_SLACK_BASE_URL", slack.url)
        status, _, err = run(capsys, "alert", "test")
    assert status == 1
    assert "invalid_auth" in err


def test_a_test_alert_without_slack_says_what_to_set(capsys):
    status, _, err = run(capsys, "alert", "test")
    assert status == 2
    assert "CHEAPDEEP_SLACK_WEBHOOK_URL" in err


@pytest.fixture
def both(monkeypatch):
    """Slack and a webhook, and settings that name both."""
    with SimulatedSlack() as slack, listening() as endpoint:
        monkeypatch.setenv("CHEAPDEEP_SLACK_WEBHOOK_URL", slack.webhook_url)
        monkeypatch.setenv("CHEAPDEEP_WEBHOOK_URL", endpoint.url)
        monkeypatch.setenv("CHEAPDEEP_WEBHOOK_SECRET", "whsec")
        yield slack, endpoint


def test_a_test_alert_goes_to_every_receiver_and_says_what_came_of_each(capsys, both):
    slack, endpoint = both
    assert run(capsys, "alert", "test") == (0, "delivered to slack\ndelivered to webhook\n", "")
    assert (len(slack.messages), json.loads(endpoint.posts[0].body)["kind"]) == (1, "test")
    endpoint.status = 500
    status, out, err = run(capsys, "alert", "test", "--json")
    assert (status, err) == (1, "error: webhook: the webhook answered 500\n")
    found = json.loads(out)
    assert (found["delivered"], found["by"]) == (False, "WebhookSender")
    assert [(each["receiver"], each["delivered"]) for each in found["receivers"]] == [
        ("slack", True),
        ("webhook", False),
    ]
    one, other = (each.headers["X-Cheapdeep-Delivery"] for each in endpoint.posts)
    assert one != other


def test_a_receipt_for_slack_goes_nowhere_else(capsys, both, store):
    slack, endpoint = both
    assert run(capsys, "report", "--slack", "--last", "1h") == (0, "delivered to slack\n", "")
    assert (len(slack.messages), endpoint.requests) == (1, [])


def test_doctor_looks_at_every_receiver(capsys, both, monkeypatch):
    def checked():
        checks = json.loads(run(capsys, "doctor", "--json")[1])["checks"]
        return {each["name"]: (each["ok"], each["found"]) for each in checks if each["name"] in ("Slack", "webhook")}

    assert all(ok for ok, _ in checked().values())
    assert checked()["webhook"][1].startswith("127.0.0.1 answers (200)")
    monkeypatch.delenv("CHEAPDEEP_SLACK_WEBHOOK_URL")
    assert checked()["Slack"] == (True, "not set up")
    monkeypatch.setenv("CHEAPDEEP_WEBHOOK_URL", "http://127.0.0.1:1/")
    assert checked()["webhook"] == (False, "CHEAPDEEP_WEBHOOK_URL: the webhook is out of reach: ConnectError")
    monkeypatch.delenv("CHEAPDEEP_WEBHOOK_URL")
    monkeypatch.delenv("CHEAPDEEP_WEBHOOK_SECRET")
    assert (checked()["Slack"][0], checked()["webhook"]) == (False, (True, "not set up"))


def test_dashboards_are_exported(capsys, tmp_path):
    assert run(capsys, "dashboards", "export", str(tmp_path / "boards"))[0] == 0
    exported = {path.name: json.loads(path.read_text())["uid"] for path in (tmp_path / "boards").iterdir()}
    assert exported == {f"{name}.json": f"cheapdeep-{name}" for name in ("health", "money", "quality", "routing")}


def test_the_packaged_rules_are_yaml_that_a_person_can_copy(tmp_path, monkeypatch):
    copy = tmp_path / "rules.yaml"
    copy.write_text(packaged("alerts/rules.yaml").read_text())
    assert read_rulebook(copy) == read_rulebook()
    assert yaml.safe_load(copy.read_text())["rules"]


def test_the_version_is_told(capsys):
    status, out, _ = run(capsys, "--version")
    assert status == 0
    assert out.strip() == version("cheapdeep_ops")


def test_routes_that_differ_are_named_beside_the_threshold_of_all(capsys, store):
    run(capsys, "threshold", "set", "0.9", "--route", "legal", "--why", "trial")
    assert "threshold 0.8 (base 0.8, raised 0.9); legal 0.9" in run(capsys, "threshold", "show")[1]


# What grading has stored


@pytest.fixture
def graded(store, api):
    """A store in which a router has kept four answers, and a grader has graded them."""
    settings = Settings(sample_rate=1.0, grade_concurrency=1)
    with Router(settings=settings, new_id=map("call-{}".format, range(4)).__next__) as router:
        for number in range(4):
            api.enqueue(Reply.triage(0.95, f"Answer {number}."))
            router.ask("Is it open?", route="support", input_class="hours")
    verdicts = ("correct", "correct", "incorrect", "unsure")
    api.enqueue(*(Reply.text(json.dumps({"reason": "said so", "verdict": verdict})) for verdict in verdicts))
    grader = Grader(store, settings=settings, api=GraderApi())
    assert grader.run(time()) == 4
    grader.close()
    return store


def test_the_receipt_has_false_confidence_with_n_and_grading_apart(capsys, graded):
    found = run_json(capsys, "report")
    assert (found["graded"], found["false_confident_rate"]) == (3, pytest.approx(1 / 3))
    assert found["grades"] == {"correct": 2, "incorrect": 1, "unsure": 1}
    assert found["funnel"]["graded"] == found["funnel"]["answers"] == 4
    assert found["triage_input_tokens_per_call"] > 100
    assert found["saving_after_grading"] < found["saving"]
    _, out, _ = run(capsys, "report")
    for part in (
        "triage model          claude-haiku-4-5", "escalation model      claude-opus-4-7", "in + ", "out tokens",
        "33.3% of shipped answers", "n 3; uncorrected for the grader's errors; 1 unsure, 0 gradings failed",
        "of 4 confident answers 4 graded, 0 waiting", "with grading paid for", "unknown: no call escalated",
    ):  # fmt: skip
        assert part in out


def test_the_receipt_says_what_confidence_is_worth(capsys, graded):
    found = run_json(capsys, "report")["confidence"]
    assert set(found) == {"*", "support"}
    (held,) = found["support"]["bins"]
    assert (held["low"], held["high"], held["graded"], held["claims"]) == (0.95, 0.99, 3, pytest.approx(0.95))
    assert held["is_right"] == pytest.approx(2 / 3)
    assert found["*"]["expected_calibration_error"] == pytest.approx(0.95 - 2 / 3)
    assert found["*"]["auroc"] == 0.5
    out = run(capsys, "report")[1]
    (line,) = (line for line in out.splitlines() if line.startswith("0.95 to 0.99"))
    drawn = line.rpartition("│")[2]
    assert drawn.strip("- ") == drawn[drawn.index("#") : drawn.index("o") + 1]
    assert "route support: claims 95.0%, 66.7% are right; calibration error 28.3%" in out
    assert "answers that ship at base" in out


def test_an_empty_receipt_draws_nothing(capsys, store):
    assert run_json(capsys, "report")["confidence"] == {}
    assert "Is confidence worth" not in run(capsys, "report")[1]


def test_the_receipt_says_what_sampling_was_spent_on(capsys, graded):
    found = run_json(capsys, "report")["sampling"]
    assert (found["budget"], found["spent_share"]) == (0.01, 1.0)
    assert found["evenly"]["samples"] + found["suspected"]["samples"] + found["hindsight"]["samples"] == 4
    out = run(capsys, "report")[1]
    assert "100.0% of 4 confident answers (budget 1.0%)" in " ".join(out.split())
    for command in (("report",), ("status", "--all")):
        words = " ".join(run(capsys, *command)[1].split())
        assert "support: at 4 confident answers a day, unknown: the baseline is not learned yet" in words


def said_of_reach(**reach):
    console = Console(width=500)
    with console.capture() as captured:
        show_reach(console, {"faq": reach_of(sampling=SamplingShares(calm=0.005, hot=0.2), alpha=8e-6, **reach)})
    return " ".join(captured.get().split())


def test_how_soon_a_climb_is_seen_is_said_in_one_line():
    often = learned(Estimate(rate=0.03, n=2_000, count=2_000))
    said = said_of_reach(alarm=often, per_day=12_300.0)
    assert re.search(
        r"faq: at 12,300 confident answers a day, a climb from 3\.0% \(n 2,000\) "
        r"to 6\.0% is detected after about \S+ days; "
        r"smallest climb: to \d\.\d% within a day, to \d\.\d% within a week$",
        said,
    )
    few = said_of_reach(alarm=often, per_day=60.0)
    assert "to 15.0% is detected after" in few
    assert "within a day" not in few
    never = said_of_reach(alarm=learned(Estimate(rate=0.0, n=200, count=200)), per_day=500.0)
    assert "500 confident answers a day, smallest climb: to" in never
    assert "unknown: no confident answer" in said_of_reach(alarm=often, per_day=0.0)


def test_status_and_normal_tell_what_is_being_learned(capsys, graded):
    assert run_json(capsys, "normal", "show")["support"]["rate"] is None
    assert "being learned" in run(capsys, "normal", "show")[1]
    assert "running" in run(capsys, "status")[1]
    assert run_json(capsys, "status")["grader"]["waiting"] == 0


def test_what_is_normal_is_learned_anew_by_order_and_only_where_there_is_something(capsys, graded):
    assert run(capsys, "normal", "relearn", "--route", "support", "--why", "new product")[0] == 0
    status, _, err = run(capsys, "normal", "relearn", "--route", "nosuch", "--why", "x")
    assert status == 1
    assert "routes with grades: support" in err
    with graded.reading() as connection:
        row = connection.exec_driver_sql("SELECT scope, why, author FROM normal").one()
    assert tuple(row)[:2] == ("support", "new product")
    assert row[2]


def test_purge_forgets_content_by_call_and_by_age_and_keeps_the_verdicts(capsys, graded):
    def contents():
        with graded.reading() as connection:
            return connection.exec_driver_sql("SELECT count(answer), count(*) FROM candidate").one()

    assert run_json(capsys, "purge", "--call", "call-1") == {"purged": 1}
    assert run_json(capsys, "purge", "--call", "call-1") == {"purged": 0}
    assert tuple(contents()) == (3, 4)
    assert run_json(capsys, "purge", "--older-than", "1h") == {"purged": 0}
    assert run_json(capsys, "purge", "--older-than", "0s") == {"purged": 3}
    assert tuple(contents()) == (0, 4)
    assert run_json(capsys, "report")["graded"] == 3


def test_purge_forgets_kept_labelled_answers_too(capsys, graded):
    keep = partial(anchors.keep, call_ids=["call-0", "call-1"], now=time())
    assert graded.transact(keep) == 2
    assert "redacted text of 2 kept" in doctor._labelled_answers(Settings(keep_anchors=True))
    assert "CHEAPDEEP_KEEP_ANCHORS=true keeps" in doctor._labelled_answers(Settings())
    assert run_json(capsys, "purge", "--call", "call-1") == {"purged": 1}
    assert run_json(capsys, "purge", "--older-than", "0s") == {"purged": 3}
    with graded.reading() as connection:
        assert anchors.count(connection) == 0


@pytest.mark.thorough
def test_a_person_accepts_the_grader_as_it_is(capsys, graded):
    found = run_json(capsys, "normal", "accept", "--why", "new model")
    assert (found["model"], found["why"]) == ("claude-opus-4-7", "new model")
    assert found["author"]
    assert "claude-opus-4-7 is accepted as it is" in run(capsys, "normal", "accept", "--why", "new model")[1]


def test_what_users_say_is_shown_beside_and_not_in_the_grades(capsys, graded):
    told = ReportedOutcome(call_id="call-0", source="form", is_wrong=True, claimed=CallFacts())
    graded.transact(partial(outcomes.put, outcomes=[told], now=time()))
    line = "1 of 1 reports say wrong (100.0%); by route: support 1 of 1; no random sample"
    assert [line in run(capsys, command)[1] for command in ("report", "status")] == [True, True]
    assert run_json(capsys, "report")["graded"] == 3


@pytest.mark.parametrize("arguments", [(), ("--call", "x", "--older-than", "1h"), ("--older-than", "soon")])
def test_purge_wants_one_thing(capsys, store, arguments):
    assert run(capsys, "purge", *arguments)[0] == 2


@pytest.mark.thorough
def test_doctor_looks_at_the_grader(capsys, graded, monkeypatch):
    def found():
        return {each["name"]: each for each in json.loads(run(capsys, "doctor", "--json")[1])["checks"]}["grader"]

    assert found()["ok"]
    graded.transact(lambda connection: connection.exec_driver_sql("UPDATE grader SET paused_why = '401: no such key'"))
    assert "paused: 401: no such key" in found()["found"]
    monkeypatch.setenv("CHEAPDEEP_SAMPLE_RATE", "0")
    assert "off" in found()["found"]
    monkeypatch.setenv("CHEAPDEEP_SAMPLE_RATE", "0.01")
    monkeypatch.setenv("CHEAPDEEP_GRADER_MODEL", "claude-nonesuch")
    assert "no price" in found()["found"]


# People check the judge


def test_review_reports_and_never_asks_where_json_is_wanted(capsys, graded, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked"))
    found = run_json(capsys, "review")
    assert (found["labels"], found["suffices"], found["kappa"]) == (0, False, None)
    assert found["needed"] == {"judged_correct": 30, "judged_incorrect": 20}
    assert found["waiting"] == {"judged_correct": 2, "judged_incorrect": 1}
    (judge,) = found["judges"]
    assert (judge["model"], judge["graded"], judge["judged_wrong"]) == ("claude-opus-4-7", 3, pytest.approx(1 / 3))


def test_labels_are_given_by_call_and_the_last_word_counts(capsys, graded):
    found = run_json(capsys, "review", "--label", "call-0=correct", "--label", "call-2=correct", "--author", "ann")
    assert (found["judged_correct"], found["judged_incorrect"], found["authors"]) == (1, 1, {"ann": 2})
    assert found["tpr"] is None
    assert found["fpr"] == pytest.approx(1 / 3)
    found = run_json(capsys, "review", "--label", "call-2=incorrect", "--author", "ann")
    assert (found["labels"], found["kappa"], found["authors"]) == (2, 1.0, {"ann": 2})
    assert "1 + 1" in run(capsys, "review", "--label", "call-2=incorrect")[1]


@pytest.mark.thorough
@pytest.mark.parametrize("label", ["call-0", "call-0=maybe", "=correct", "call-0=Correct"])
def test_a_label_that_is_none_is_said_and_nothing_is_stored(capsys, graded, label):
    status, _, err = run(capsys, "review", "--label", "call-1=correct", "--label", label)
    assert status == 2
    assert "CALL_ID=VERDICT" in err
    assert run_json(capsys, "review")["labels"] == 0


def test_a_label_of_a_call_that_nobody_has_graded_is_refused(capsys, graded):
    status, _, err = run(capsys, "review", "--label", "nosuch=correct")
    assert status == 1
    assert "no grader has a verdict on the call nosuch" in err


def typing(monkeypatch, *keys):
    typed = iter(keys)

    def read(_prompt):
        for key in typed:
            return key
        raise EOFError

    monkeypatch.setattr("builtins.input", read)


def test_review_asks_about_answers_and_tells_the_judges_word_only_afterwards(capsys, graded, monkeypatch):
    typing(monkeypatch, "what?", "i", "s")
    status, out, _ = run(capsys, "review", "--limit", "5", "--author", "ann")
    assert status == 0
    assert out.count("ANSWER:\n  | Answer") == 3  # the third is shown, and then the person has gone
    shown = out.index("ANSWER:")
    assert "Is it open?" in out[:shown]
    assert out.index("the grader's verdict: ") > shown
    assert out.count("the grader's verdict: ") == 1
    found = run_json(capsys, "review")
    assert (found["labels"], found["authors"]) == (1, {"ann": 1})


def test_labels_of_brackets_are_shown_as_they_are_and_break_nothing(capsys, graded):
    with graded.reading() as connection:
        connection.exec_driver_sql("UPDATE grade SET route = '[/x] [eu] support'")
        connection.exec_driver_sql("UPDATE grade_total SET route = '[/x] [eu] support'")
        connection.commit()
    for command in ("status", "normal show", "review --route [/x]", "report"):
        assert run(capsys, *command.split())[0] == 0
    assert "[/x] [eu] support" in run(capsys, "normal", "show")[1]


def test_review_ends_where_nothing_is_left_or_enough_was_shown(capsys, graded, monkeypatch):
    typing(monkeypatch, *"ccccc")
    assert run(capsys, "review", "--limit", "2")[1].count("ANSWER") == 2
    assert "no answer is left to label" in run(capsys, "review")[1]
    assert run_json(capsys, "review")["labels"] == 3


def test_what_an_answer_says_cannot_move_the_terminal(capsys, graded, monkeypatch):
    typing(monkeypatch, "q")
    hostile = "\x1b[2Jgone\u202e[bold]x[/bold]\r\nthe grader's verdict\u3000correct:\tso"
    with graded.reading() as connection:
        connection.exec_driver_sql("UPDATE candidate SET answer = ?", (hostile,))
        connection.commit()
    out = run(capsys, "review")[1]
    assert "  | \\x1b[2Jgone\\x202e[bold]x[/bold]\\x0d\n  | the grader's verdict\u3000correct:   so" in out
    assert not {"\x1b", "\u202e", "\r"} & set(out)
