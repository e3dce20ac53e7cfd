"""The table of kinds: each has its names and its words to itself, and an unknown kind looks like none of them."""

from collections import Counter

import pytest

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.notify.messages import details, digest_message, headline, history
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.kinds import KINDS, kind_of
from cheapdeep_ops.resources import packaged

SIGNALS = [signal for kind in KINDS for signal in kind.signals]
UNKNOWN = {
    "kind": "started", "about": "phase_of_the_moon", "rule": "FullMoon", "scope": "support", "severity": "page",
    "summary": "The moon is full", "runbook": "", "keep_firing_for_s": 60.0, "incident_id": 7, "at": 1_800_000_000.0,
    "signal": {"phase": 0.5}, "threshold": "threshold unchanged at 0.8",
}  # fmt: skip
OF_ANOTHER_KIND = ("escalat", "wrong", "Resolves when", "confiden")


def test_every_kind_has_its_names_to_itself_and_the_packaged_rules_use_all_of_them():
    assert max(Counter(SIGNALS).values()) == 1
    assert {rule.signal for rule in read_rulebook().rules} == set(SIGNALS)
    assert all(isinstance(rule, kind_of(rule).rule) for rule in read_rulebook().rules)


@pytest.mark.parametrize(
    "signal", kind_of(next(r for r in read_rulebook().rules if r.alert == "SchemaChanged")).signals
)
def test_every_part_of_the_system_has_words_for_its_trouble_and_for_its_end(signal):
    payload = {**UNKNOWN, "about": signal, "signal": {"why": "it is broken", "kind": "x"}}
    begun, ended = headline(payload), headline({**payload, "kind": "resolved"})
    assert begun != ended
    assert "does not know" not in begun + ended


def test_an_unknown_kind_in_the_rules_file_is_an_error_that_names_the_kinds(tmp_path):
    path, content = tmp_path / "rules.yaml", packaged("alerts/rules.yaml").read_text()
    path.write_text(content.replace("signal: base_escalation_rate\n", "signal: phase_of_the_moon\n"))
    with pytest.raises(
        RulesError, match="rule EscalationStorm: signal 'phase_of_the_moon' is no kind of rule"
    ) as raised:
        read_rulebook(path)
    assert all(signal in str(raised.value) for signal in SIGNALS)


def test_a_rule_without_a_kind_is_an_error(tmp_path):
    path, content = tmp_path / "rules.yaml", packaged("alerts/rules.yaml").read_text()
    path.write_text(content.replace("    signal: base_escalation_rate\n", ""))
    with pytest.raises(RulesError, match="rule EscalationStorm: signal is missing; the kinds of rules are"):
        read_rulebook(path)


@pytest.mark.parametrize("kind", ["started", "changed", "acknowledged", "resolved"])
def test_a_message_of_an_unknown_kind_says_so_and_shows_what_all_kinds_share(kind):
    payload = {**UNKNOWN, "kind": kind}
    said = "a rule of the kind phase_of_the_moon in route support, which this version of cheapdeep-ops does not know"
    assert headline(payload).startswith("FullMoon ")
    assert headline(payload).endswith(said)
    assert said in history(payload)[0]
    assert "What was done: threshold unchanged at 0.8" in details(payload)
    assert not any(word in line for line in details(payload) for word in OF_ANOTHER_KIND)


def test_a_message_that_names_no_kind_is_not_taken_for_a_storm():
    storm = {name: value for name, value in UNKNOWN.items() if name != "about"}
    assert "which this version of cheapdeep-ops does not know" in headline(storm)
    assert not any(word in line for line in details(storm) for word in OF_ANOTHER_KIND)


def test_a_digest_with_an_unknown_kind_still_says_the_others():
    known = {**UNKNOWN, "about": "schema_changed", "rule": "SchemaChanged", "signal": {"why": "it is another one"}}
    lines = details(digest_message([UNKNOWN, known], since=0.0, at=1.0))
    assert "does not know" in lines[0]
    assert lines[1] == "Incident 7: SchemaChanged firing: it is another one"
