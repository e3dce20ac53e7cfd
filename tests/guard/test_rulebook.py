import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.guard.rules.model import Action
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.settings import Settings

STORM = """
rules:
  - alert: EscalationStorm
    signal: base_escalation_rate
    limit: max_escalation_rate
    windows: {long: 5m, short: 1m}
    min_calls: 100
    for: 10s
    keep_firing_for: 2m
    actions: [notify, raise_threshold]
"""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    return tmp_path / "my-rules.yaml"


def fault_of(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RulesError) as raised:
        read_rulebook(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_the_packaged_rules_do_what_the_design_says():
    rules = {rule.alert: rule for rule in read_rulebook().rules}
    storm, wrong = rules["EscalationStorm"], rules["FalseConfidenceClimbing"]
    assert (storm.signal, storm.limit) == ("base_escalation_rate", "max_escalation_rate")
    assert (wrong.signal, wrong.limit, wrong.normal_grades) == ("false_confident_rate", "normal", 200)
    assert rules["FalseConfidenceTooHigh"].limit == "max_false_confident_rate"
    assert all({Action.NOTIFY, Action.RAISE_THRESHOLD} <= rule.actions for rule in (storm, wrong))
    assert all(rules[name].actions == {Action.NOTIFY} for name in ("RaiseUndecided", "GraderFailing"))
    assert storm.min_seconds >= 3
    assert storm.windows.short < storm.windows.long


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("min_calls", "min_call"), ("keep_firing_for", "keep_firing"), ("windows", "window"), ("rules", "rule")],
)
def test_a_misspelt_key_is_answered_with_the_one_that_was_meant(rules_file, key, wrong):
    message = fault_of(rules_file, STORM.replace(f"{key}:", f"{wrong}:"))
    assert f"{wrong}: Extra inputs are not permitted; did you mean {key}" in message


def test_the_packaged_rules_are_read_from_the_repository_where_there_is_one():
    packaged = yaml.safe_load((Path(__file__).parents[2] / "alerts" / "rules.yaml").read_text(encoding="utf-8"))
    assert [rule["alert"] for rule in packaged["rules"]] == [rule.alert for rule in read_rulebook().rules]


def test_a_file_of_ones_own_is_read_with_its_durations(rules_file):
    rules_file.write_text(STORM)
    (rule,) = read_rulebook(rules_file).rules
    assert (rule.windows.long, rule.windows.short, rule.pending_for, rule.keep_firing_for) == (300, 60, 10, 120)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("min_calls", "min_call", ["EscalationStorm", "min_call:", "min_calls"]),
        ("long: 5m", "long: soon", ["EscalationStorm", "windows, long", "'soon' is not a duration"]),
        ("for: 10s", "for: 10", []),
        ("for: 10s", "for: '10'", ["EscalationStorm", "for", "'10' is not a duration"]),
        ("for: 10s", "for: yes", ["EscalationStorm", "for"]),
        ("for: 10s", "for: -1", ["EscalationStorm", "for"]),
        ("for: 10s", "for: .inf", ["EscalationStorm", "for", "finite"]),
        ("for: 10s", "for: [10s]", ["EscalationStorm", "for"]),
        ("keep_firing_for: 2m", "keep_firing_for: 2 minutes", ["EscalationStorm", "keep_firing_for"]),
        ("keep_firing_for: 2m", "keep_firing_for: off", ["EscalationStorm", "keep_firing_for"]),
        ("    keep_firing_for: 2m\n", "", ["EscalationStorm", "keep_firing_for", "required"]),
        ("windows: {long: 5m, short: 1m}", "windows: 5m", ["EscalationStorm", "windows"]),
        ("short: 1m}", "short: 1m, middle: 2m}", ["EscalationStorm", "windows, middle"]),
        ("min_calls: 100", "min_calls: many", ["EscalationStorm", "min_calls"]),
        ("min_calls: 100", "min_calls: 1.5", ["EscalationStorm", "min_calls"]),
        ("min_calls: 100", "min_calls: true", ["EscalationStorm", "min_calls"]),
        ("min_calls: 100", "min_calls: 9223372036854775808", ["EscalationStorm", "min_calls", "1000000000"]),
        ("[notify, raise_threshold]", "[notify, panic]", ["EscalationStorm", "actions", "raise_threshold"]),
        ("[notify, raise_threshold]", "notify", ["EscalationStorm", "actions"]),
        ("limit: max_escalation_rate", "limit: 35", ["EscalationStorm", "limit"]),
        ("alert: EscalationStorm", "alert: [Storm]", ["Storm", "alert"]),
        ("alert: EscalationStorm", "name: EscalationStorm", ["number 1", "alert", "name"]),
        ("- alert: EscalationStorm", "- 7\n  - alert: EscalationStorm", ["number 1"]),
        ("rules:", "groups:", ["rules", "groups"]),
        ("rules:", "version: 1\nrules:", ["version"]),
    ],
)
def test_a_fault_names_file_rule_and_key(rules_file, old, new, named):
    assert STORM.count(old) == 1
    content = STORM.replace(old, new)
    if not named:
        rules_file.write_text(content)
        assert read_rulebook(rules_file).rules
        return
    fault = fault_of(rules_file, content)
    assert all(name in fault for name in named), fault


def test_all_faults_are_told_at_once(rules_file):
    fault = fault_of(rules_file, STORM.replace("5m", "soon").replace("2m", "late").replace("100", "many"))
    assert all(name in fault for name in ("soon", "late", "min_calls"))


def test_two_rules_of_the_same_name_are_named(rules_file):
    fault = fault_of(rules_file, STORM + STORM.replace("rules:", "").lstrip("\n"))
    assert "EscalationStorm" in fault
    assert "more than one" in fault


@pytest.mark.parametrize("content", ["", "[]", "7", "rules", "rules: 7", "rules:", "rules: {a: 1}"])
def test_a_file_without_a_list_of_rules_is_refused(rules_file, content):
    assert "rules" in fault_of(rules_file, content).removeprefix(str(rules_file))


@pytest.mark.parametrize("content", ["rules: [", "rules:\n\t- a", "a: b: c", "!!python/object:os.system {}", b"\x00"])
def test_what_is_not_yaml_is_refused(rules_file, content):
    assert "not YAML" in fault_of(rules_file, content)


def test_what_is_not_text_is_refused(rules_file):
    assert "cannot read" in fault_of(rules_file, b"\xff\xfe\xfa")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RulesError, match="cannot read") as raised:
            read_rulebook(path)
        assert str(path) in str(raised.value)


def test_the_published_schema_is_the_one_of_the_code_and_takes_the_packaged_rules():
    published = json.loads(packaged("alerts/rules.schema.json").read_text())
    assert published == Rulebook.model_json_schema(), "write Rulebook.model_json_schema() to alerts/rules.schema.json"
    jsonschema.validate(yaml.safe_load(packaged("alerts/rules.yaml").read_text()), published)


def test_a_limit_may_be_a_rate_of_its_own():
    rule = read_rulebook().rules[0]
    assert rule.limit_in(Settings()) == 0.35
    assert rule.model_copy(update={"limit": 0.2}).limit_in(Settings()) == 0.2


def test_a_key_that_occurs_twice_is_refused(rules_file):
    message = fault_of(rules_file, STORM.replace("min_calls: 100", "min_calls: 100\n    min_calls: 5"))
    assert "found the key 'min_calls' twice" in message
    assert "line 3" in message
    assert "found the key 'rules' twice" in fault_of(rules_file, STORM + STORM)


@pytest.mark.parametrize("content", ["rules: []", "rules: ", "rules: {}"])
def test_no_rules_are_refused(rules_file, content):
    assert "rules: " in fault_of(rules_file, content)


def test_an_empty_list_says_what_it_would_mean(rules_file):
    assert "needs at least one rule; without rules nothing is watched" in fault_of(rules_file, "rules: []")


@pytest.mark.parametrize("content", ["rules: " + "[" * 20_000, "rules: " + "{a: " * 20_000, "- " * 20_000])
def test_deep_nesting_is_said_in_words(rules_file, content):
    assert "is nested too deeply" in fault_of(rules_file, content)
