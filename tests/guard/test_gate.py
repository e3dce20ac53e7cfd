"""The gate is inert, or is not: from grades and calls, and as an alert of a route."""

from random import Random

import pytest

from cheapdeep_ops.guard.notify.messages import headline
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.guard.rules.confidence_separation.detection import SeparationReading, finding_of, kinds_in
from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.store import grades, incidents

from .conftest import START

(RULE,) = (rule for rule in read_rulebook().rules if isinstance(rule, GateRule))
ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def graded(right, wrong, *, apart=0.0, seed=0):
    """Grades whose confidences lie so far apart on average."""
    random = Random(seed)
    return [
        (random.uniform(0.8, 0.9) + (0 if is_wrong else apart), is_wrong)
        for is_wrong in [False] * right + [True] * wrong
    ]


HARDLY = [(0.9, False)] * 50 + [(0.8, False)] * 40 + [(0.9, True)] * 9 + [(0.8, True)] * 12
"""An AUROC of 0.56, of which too little is known."""


def level(*, firing=frozenset(), **look):
    return finding_of(RULE, SeparationReading(**look), firing=firing).level


def test_confidence_that_separates_nothing_is_inert_once_that_is_sure():
    assert level(grades=graded(900, 100)) is Level.ABOVE
    assert level(grades=graded(900, 100, apart=0.1)) is Level.BELOW
    assert level(grades=HARDLY) is Level.UNCLEAR


def test_few_grades_say_nothing():
    assert level(grades=graded(RULE.min_grades, RULE.min_wrong - 1)) is Level.NO_DATA
    assert level(grades=graded(RULE.min_grades - RULE.min_wrong - 1, RULE.min_wrong)) is Level.NO_DATA
    assert level() is Level.NO_DATA


@pytest.mark.parametrize(
    ("triaged", "escalated", "expected"),
    [
        (2_999, 0, Level.NO_DATA),
        (2_999, 1, Level.NO_DATA),
        (3_000, 0, Level.ABOVE),
        (3_000, 3_000, Level.ABOVE),
        (3_000, 1, Level.BELOW),
        (3_000, 2_999, Level.BELOW),
    ],
)
def test_calls_that_all_fare_the_same_are_inert(triaged, escalated, expected):
    assert level(triaged=triaged, escalated=escalated) is expected


def test_it_is_over_only_when_what_it_was_about_is_known_to_be():
    mended = {"triaged": 3_000, "escalated": 900}
    assert level(**mended, firing={"share"}) is Level.BELOW
    assert level(**mended, firing={"confidence"}) is Level.UNCLEAR
    assert level(**mended, grades=graded(900, 100, apart=0.1), firing={"confidence"}) is Level.BELOW
    assert level(firing={"share"}) is Level.NO_DATA
    assert level(triaged=500, escalated=3, firing={"share"}) is Level.BELOW, "one call with another outcome is enough"
    assert level(triaged=500, escalated=0, firing={"share"}) is Level.NO_DATA


def test_it_says_nothing_that_is_not_so_while_it_fires():
    def why(firing, **look):
        return finding_of(RULE, SeparationReading(**look), firing={firing}).signal["why"]

    assert why("share") == "no recent calls; before, all or none of them escalated"
    assert why("share", triaged=500) == "none of 500 calls escalated at base"
    assert why("confidence").startswith("too few grades")
    few = [(0.95, False)] * 48 + [(0.8, True)]
    assert why("confidence", grades=few) == "too few grades to show what confidence is worth (on 49 grades, 1 wrong)"


def test_what_it_is_about_is_kept_until_it_is_over():
    look = SeparationReading(grades=HARDLY, triaged=3_000, escalated=0)
    assert kinds_in(finding_of(RULE, look, firing={"confidence"}).signal["kind"]) == {"confidence", "share"}
    assert finding_of(RULE, SeparationReading(triaged=3_000, escalated=3), firing={"share"}).signal["kind"] == "share"
    assert finding_of(RULE, SeparationReading(triaged=3_000, escalated=3)).signal["kind"] == ""


def test_it_says_what_it_has_seen():
    said = finding_of(RULE, SeparationReading(grades=graded(900, 100), triaged=5_000, escalated=5_000)).signal
    assert said["why"].startswith("each of 5,000 calls escalated at base; confidence hardly separates wrong")
    assert "on 1,000 grades, 100 wrong" in said["why"]
    assert said["auroc_low"] < said["auroc"] < said["auroc_high"] < RULE.limit
    assert finding_of(RULE, SeparationReading(triaged=4_500)).signal["why"] == "none of 4,500 calls escalated at base"


# In a town


@pytest.fixture
def town(make_town):
    town = make_town()
    town.guard = town.another_guard(Rulebook(rules=(RULE,)))
    return town


def alert(town, route="support"):
    with town.store.reading() as connection:
        return {row["scope"]: row for row in incidents.alerts(connection)}.get(route)


def later(town, seconds=601):
    town.clock.advance(seconds)
    town.look()


def test_a_route_of_which_nothing_escalates_is_told_and_ends(town):
    town.run(60, [0.95] * 60)
    town.run(60, [0.95, 0.5], route="billing")
    assert alert(town) is None
    later(town)
    assert (alert(town)["state"], alert(town, "billing")) == ("firing", None)
    assert town.inbox.kinds == ["started"]
    assert headline(town.inbox.payloads[0]) == (
        "InertGate firing: route support: none of 3,600 calls escalated at base"
    )
    town.run(5, [0.5])
    later(town)
    assert alert(town)["state"] == "firing"  # for six hours
    for _ in range(6):
        town.run(5, [0.5, 0.95])
        later(town, 3_600)
    assert alert(town)["state"] == "inactive"
    assert town.inbox.kinds == ["started", "resolved"]
    assert headline(town.inbox.payloads[1]) == (
        "InertGate resolved: route support: some calls escalate at base, and some do not"
    )
    assert town.threshold() == 0.8


@ON_SQLITE
def test_no_data_neither_fires_nor_resolves(town):
    town.run(60, [0.95] * 60)
    later(town)
    later(town, 90_000)
    assert (alert(town)["state"], alert(town)["level"]) == ("firing", "no_data")
    assert town.inbox.kinds == ["started"]


def add_grades(town):
    """A thousand grades of which confidence separates nothing, all made at the start."""
    rows = [
        {"call_id": f"c{number}", "route": "support", "called_at": START - 100 + number / 100, "at": START,
         "verdict": "incorrect" if is_wrong else "correct", "confidence": confidence, "failure": "", "reason": "",
         "grader_model": town.settings.grader_model, "grader_prompt": town.guard._cache.grader.prompt,
         "input_class": "", "shipped": True, "policy_version": 0, "inclusion": 0.01, "cost_nusd": 0}
        for number, (confidence, is_wrong) in enumerate(graded(900, 100))
    ]  # fmt: skip
    town.store.transact(lambda connection: [grades.add(connection, row) for row in rows])


@ON_SQLITE
def test_confidence_that_separates_nothing_is_told_with_its_figures(town):
    add_grades(town)
    later(town)
    signal = alert(town)["signal"]
    assert (signal["kind"], signal["grades"], signal["wrong"]) == ("confidence", 1_000, 100)
    assert "AUROC" in headline(town.inbox.payloads[0])


@pytest.mark.thorough
@pytest.mark.parametrize("others", [{"grader_drift"}, {"grader_drift", "false_confident_rate"}])
@ON_SQLITE
def test_grades_of_a_grader_that_has_changed_say_nothing_of_confidence(town, others):
    rules = tuple(rule for rule in read_rulebook().rules if rule.signal in others)
    town.guard = town.another_guard(Rulebook(rules=(*rules, RULE)))
    town.guard.keep_leases(town.clock())
    town.store.transact(
        lambda connection: incidents.open_incident(connection, rule="JudgeDrifted", scope="*", at=START - 1)
    )
    add_grades(town)
    later(town)
    found = alert(town)
    assert found is None or (found["state"], found["signal"]["grades"]) == ("inactive", 0)


@ON_SQLITE
def test_it_looks_every_ten_minutes_only(town):
    town.run(60, [0.95] * 60)
    town.clock.advance(500)
    town.look()
    assert alert(town) is None
    town.clock.advance(100)
    town.look()
    assert alert(town)["state"] == "firing"
