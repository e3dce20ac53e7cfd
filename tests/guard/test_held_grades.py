"""While the grader has changed, its grades steer nothing: no suspicion, no share, no cause of a climb."""

import pytest

from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay, moments_in
from cheapdeep_ops.guard.grading.sampler import Sampler
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.false_confidence.explanation import read_climb
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.hold import held_times
from cheapdeep_ops.guard.rules.interface import RecordedPast
from cheapdeep_ops.guard.rules.kinds import kind_of
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.grades import Baseline
from cheapdeep_ops.units import DAY_S
from tests.guard.conftest import town_rules

pytestmark = pytest.mark.thorough


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def school(make_school):
    """It has a normal, and many kept answers of which few are graded."""
    school = make_school(sample_rate=0.01)
    school.learn(700, 0.05)
    return school


def begin_hold(school):
    school.clock.advance(1)  # what was graded before counts
    school.store.transact(
        lambda connection: incidents.open_incident(connection, rule="JudgeDrifted", scope="*", at=school.clock())
    )


def end_hold(school):
    school.store.transact(lambda connection: incidents.resolve_incident(connection, 1, at=school.clock()))


def keep(school, answers, *, grade):
    """Answers of which the router keeps what it keeps; the grader finds `grade` in each."""
    for number in range(answers):
        school.answer(0.95, grade)
        if number % 10 == 9:
            school.clock.advance(1)
    school.recorder.drain(school.clock())


def suspicion(school):
    sampler, rules = Sampler(school.settings, grader_version(school.settings)), town_rules().rules
    with school.store.reading() as connection:
        return sampler._suspicions(connection, held_times(connection, rules)).by_route.get("support")


def plans(school):
    sampler, rules = Sampler(school.settings, grader_version(school.settings)), town_rules().rules
    with school.store.reading() as connection:
        plan = sampler.plan(connection, school.clock(), rules=rules)
        return plan.shares, sampler.plan_retrospective(connection, school.clock(), rules=rules).retrospective


def test_grades_of_a_hold_are_no_suspicion_and_later_ones_are(school):
    calm = suspicion(school)
    assert not calm.is_raised
    begin_hold(school)
    school.learn(40, 1.0)
    assert suspicion(school) == calm
    school.clock.advance(10)
    end_hold(school)
    school.clock.advance(10)
    assert suspicion(school) == calm
    school.learn(40, 1.0)
    assert suspicion(school).is_raised


def test_a_suspicion_from_before_a_hold_asks_for_no_grades_during_it(school):
    keep(school, 400, grade="incorrect")
    school.learn(40, 1.0)
    shares, retrospective = plans(school)
    assert (suspicion(school).is_raised, "support" in retrospective) == (True, True)
    begin_hold(school)
    asked = school.bench.asked
    held_shares, retrospective = plans(school)
    assert not retrospective
    assert held_shares.get("support", 0.01) < shares["support"]
    school.guard.grade(school.clock())
    assert school.bench.asked - asked < 20, "what chance has chosen is graded, and no more"
    school.clock.advance(8 * DAY_S)
    assert suspicion(school).is_raised, "after its longest time a hold is over"


def test_a_cause_is_searched_in_grades_that_count(school):
    began = school.clock() + 1
    begin_hold(school)
    school.learn(40, 1.0)
    school.clock.advance(10)
    end_hold(school)
    school.clock.advance(10)
    counts_from = school.clock()
    school.learn(30, 0.5, cls="refund")
    normals = {"support": Baseline(scope="support", since=0.0)}
    with school.store.reading() as connection:
        climb = read_climb(
            connection, grader_version(school.settings), normals, over={}, began=began, until=school.clock() + 60,
            limit=800, held=held_times(connection, town_rules().rules),
        )  # fmt: skip
    assert {each.called_at >= counts_from for each in climb.now} == {True}
    assert len(climb.now) == 30


def found_again(school, rules):
    """Whether a backtest of the last hour with these rules finds a climb."""
    (rule,) = (each for each in rules if isinstance(each, QualityRule) and each.limit == "normal")
    now = school.clock()
    past = RecordedPast(
        store=school.store, settings=school.settings, grader=grader_version(school.settings), since=now - 3_600,
        counted=now - 3_600, until=now, route="*", rules=rules,
    )  # fmt: skip
    replayed = kind_of(rule).replay(rule, past)
    run = RuleReplay(rule, replayed.history)
    list(run.run(moments_in(replayed.begin, now, 5.0)))
    return [turn["state"] for turn in run.transitions]


def test_a_backtest_does_not_read_them_either(school):
    begin_hold(school)
    school.learn(100, 1.0)
    school.clock.advance(10)
    rules = town_rules().rules
    assert found_again(school, [rule for rule in rules if not rule.holds_grades_s]) == ["firing"]
    assert found_again(school, rules) == []
    assert school.threshold() == 0.8
