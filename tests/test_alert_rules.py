"""The alert rules for Prometheus and the example for Alertmanager, by the tools that they are made for."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.telemetry import names

Json = dict[str, Any]

ALERTS = packaged("alerts")
RULES_FILE = ALERTS / "prometheus.rules.yml"
RULES: list[Json] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text("utf-8"))["groups"] for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ALARMS = [rule for rule in RULES if "alert" in rule]
UNIT_TESTS = sorted((ALERTS / "tests").glob("*.test.yml"))
FLEET = {value for name, value in vars(names).items() if name.startswith("FLEET_")}
PACKAGES = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}

each_alarm = pytest.mark.parametrize(
    "alarm", ALARMS, ids=lambda alarm: f"{alarm['alert']}-{alarm['labels']['severity']}"
)
RECORDED_NAME = re.compile(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+")


def _run(name: str, *arguments: str | Path) -> str:
    """What a tool says; it must be content."""
    tool = shutil.which(name)
    if tool is None:
        pytest.skip(f"{name} is not installed (Debian package {PACKAGES[name]})")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _texts() -> Iterator[str]:
    """Every query, in rules, in annotations and in unit tests."""
    for rule in RULES:
        yield rule["expr"]
        yield from rule.get("annotations", {}).values()
    for file in UNIT_TESTS:
        yield json.dumps(yaml.safe_load(file.read_text("utf-8")))


# What it is made of


def test_every_metric_has_a_name_of_ours_and_every_recorded_one_is_recorded():
    texts = list(_texts())
    recorded = {name for text in texts for name in RECORDED_NAME.findall(text)}
    assert recorded <= RECORDED
    rest = [RECORDED_NAME.sub("", text) for text in texts]
    used = {name.removesuffix("_total") for text in rest for name in re.findall(r"cheapdeep_[a-z_]+", text)}
    assert used <= FLEET
    assert {names.FLEET_EVIDENCE, names.FLEET_EVIDENCE_LIMIT, names.FLEET_ALERT} <= used


def test_recorded_names_say_level_metric_and_operation():
    assert all(
        re.fullmatch(r"(fleet|scope|rule_scope):cheapdeep_[a-z_]+:[a-z]+(_[a-z]+)?(\d+[mh])?", name)
        for name in RECORDED
    )


@each_alarm
def test_every_alert_says_how_grave_it_is_what_it_is_and_where_to_read_on(alarm):
    assert alarm["alert"].startswith("Cheapdeep")
    assert alarm["labels"]["severity"] in {"page", "ticket"}
    notes = alarm["annotations"]
    assert notes["summary"]
    assert notes["description"].endswith((".", "{{ end }}"))
    assert notes["runbook"] == f"alerts/README.md#{alarm['alert'].lower()}"


@each_alarm
def test_every_alert_has_been_seen_to_fire_with_rule_and_scope_and_to_be_silent(alarm):
    key = (alarm["alert"], alarm["labels"]["severity"])
    cases = [case for file in UNIT_TESTS for case in yaml.safe_load(file.read_text("utf-8"))["tests"]]
    checks = [check for case in cases for check in case.get("alert_rule_test", ()) if check["alertname"] == key[0]]
    fired = [each["exp_labels"] for check in checks for each in check["exp_alerts"]]
    assert [labels for labels in fired if labels["severity"] == key[1]]
    assert all({"rule", "scope"} <= labels.keys() for labels in fired)
    quiet = [each for case in cases for each in case.get("promql_expr_test", ()) if not each["exp_samples"]]
    assert [check for check in checks if not check["exp_alerts"]] or [each for each in quiet if key[0] in each["expr"]]


def _carries(alarm: Json, rule: str) -> bool:
    """Whether an alert tells what a rule of the guard has found."""
    if "rule" in alarm["labels"]:
        return alarm["labels"]["rule"] == rule
    matchers = re.findall(r'rule(=~|!~|=)"([^"]+)"', alarm["expr"])
    return all((re.fullmatch(pattern, rule) is None) == (kind == "!~") for kind, pattern in matchers)


@pytest.mark.parametrize("rule", read_rulebook().rules, ids=lambda rule: rule.alert)
def test_every_rule_of_the_guard_is_told_as_gravely_as_in_slack(rule):
    repeats = {("CheapdeepThresholdRaisedLong", "ticket"), ("CheapdeepEscalationHigh", "ticket")}
    told = {(alarm["alert"], alarm["labels"]["severity"]) for alarm in ALARMS if _carries(alarm, rule.alert)} - repeats
    assert {severity for _, severity in told} == {rule.labels["severity"]}


# By promtool


def test_promtool_accepts_the_rules():
    assert f"{len(RULES)} rules found" in _run("promtool", "check", "rules", RULES_FILE)


@pytest.mark.thorough
@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.name.removesuffix(".test.yml"))
def test_alerts_fire_hold_and_resolve(file):
    assert "SUCCESS" in _run("promtool", "test", "rules", file)


# The example for Alertmanager


def test_amtool_accepts_the_example():
    assert "SUCCESS" in _run("amtool", "check-config", ALERTS / "alertmanager.yml")


@pytest.mark.parametrize(("severity", "receiver"), [("page", "page"), ("ticket", "ticket")])
def test_pages_and_tickets_go_to_their_receivers(severity, receiver):
    asked = ["config", "routes", "test", f"--config.file={ALERTS / 'alertmanager.yml'}", f"severity={severity}"]
    assert _run("amtool", *asked).splitlines()[0] == receiver


EXAMPLE: Json = yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))


def test_messages_are_grouped_by_rule_and_scope():
    assert EXAMPLE["route"]["group_by"] == ["rule", "scope"]


def _matches(matchers: list[str], labels: Json) -> bool:
    for matcher in matchers:
        name, kind, pattern = re.fullmatch(r'(\w+) (=~|!~|!=|=) "([^"]+)"', matcher).groups()
        is_same = re.fullmatch(pattern if "~" in kind else re.escape(pattern), labels.get(name, "")) is not None
        if is_same == (kind[0] == "!"):
            return False
    return True


def _labels(name: str, severity: str = "page", rule: str = "EscalationStorm", scope: str = "support") -> Json:
    return {"alertname": name, "severity": severity, "rule": rule, "scope": scope}


def _inhibits(source: Json, target: Json) -> bool:
    return any(
        _matches(rule["source_matchers"], source)
        and _matches(rule["target_matchers"], target)
        and all(source[name] == target[name] for name in rule.get("equal", ()))
        for rule in EXAMPLE["inhibit_rules"]
    )


STORM, HIGH = _labels("CheapdeepEscalationStorm"), _labels("CheapdeepEscalationHigh")
FALSE = _labels("CheapdeepFalseConfidence", rule="FalseConfidenceClimbing")
GUARD = _labels("CheapdeepGuardDown", rule="GuardDown", scope="*")
STALLED = _labels("CheapdeepGuardStalled", rule="SchedulerStalled", scope="*")
GRADER = _labels("CheapdeepGraderDown", rule="GraderFailing", scope="*")


@pytest.mark.parametrize(
    ("source", "target", "mutes"),
    [
        (GUARD, STORM, True),
        (GUARD, FALSE, True),
        (GUARD, GRADER, True),
        (STALLED, FALSE, True),
        (GUARD, STALLED, False),
        (STALLED, GUARD, False),
        (GUARD, _labels("OtherServiceDown"), False),
        (GRADER, FALSE, True),
        (GRADER, _labels("CheapdeepThresholdRaisedLong", "ticket", rule="FalseConfidenceTooHigh"), True),
        (GRADER, _labels("CheapdeepInertGate", "ticket", rule="InertGate"), True),
        (GRADER, STORM, False),
        (GRADER, GRADER, False),
        (STORM, _labels("CheapdeepEscalationHigh", "ticket"), True),
        (STORM, _labels("CheapdeepEscalationHigh", "ticket", scope="billing"), False),
        (STORM, HIGH, False),
        (HIGH, _labels("CheapdeepEscalationHigh", scope="*"), True),
        (_labels("CheapdeepEscalationHigh", scope="*"), HIGH, False),
        (HIGH, _labels("CheapdeepCostsMoreThanAllDeep", "ticket", scope="*"), False),
        (FALSE, STORM, False),
    ],
)  # fmt: skip
def test_an_alert_mutes_what_rests_on_it_and_nothing_else(source, target, mutes):
    assert _inhibits(source, target) is mutes


@pytest.mark.parametrize("receiver", EXAMPLE["receivers"], ids=lambda receiver: receiver["name"])
def test_slack_is_reached_by_a_file_and_told_of_the_end_and_no_name_is_a_mention(receiver):
    (slack,) = receiver["slack_configs"]
    assert "api_url" not in slack
    assert slack["api_url_file"].startswith("/")
    assert slack["send_resolved"] is True
    escaped = 'reReplaceAll "&" "&amp;" | reReplaceAll "<" "&lt;" | reReplaceAll ">" "&gt;"'
    for field in ("title", "fallback", "text"):
        said = re.findall(r"\{\{-? (\.(?:GroupLabels|Annotations)[^}]+?) -?\}\}", slack[field])
        assert all(each.endswith(escaped) or each == ".Annotations.runbook" for each in said), field
        assert len(said) >= 2
