"""Quality rules run again over recorded grades, against what the real guard did with the same ones."""

from random import Random

import pytest

from cheapdeep_ops.guard.actions.baselines import relearn
from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay, moments_in
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.history import GradeHistory, LearnedBaselines, as_of
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.hold import HeldTimes
from cheapdeep_ops.store import grades, incidents
from cheapdeep_ops.store.grades import Baseline, DecidedGrade
from cheapdeep_ops.values import ALL_ROUTES

from .conftest import START

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
EVERY_S = 5.0
RULES = {rule.alert: rule for rule in read_rulebook().rules if isinstance(rule, QualityRule)}
CLIMBING, TOO_HIGH = RULES["FalseConfidenceClimbing"], RULES["FalseConfidenceTooHigh"]


def known(school):
    with school.store.reading() as connection:
        return grades.known_after(connection, grader_version(school.settings), grade_id=0, route=None, limit=1_000_000)


def stored(school):
    with school.store.reading() as connection:
        return grades.baselines(connection, grader_version(school.settings))


def again(school, rule=CLIMBING, *, every_s=EVERY_S, limit=None, learned=None):
    learned = learned or as_of(stored(school), START)
    return turns(known(school), school.clock(), rule, every_s=every_s, limit=limit, learned=learned)


def turns(found, until, rule=CLIMBING, *, every_s=EVERY_S, limit=None, learned=None, since=START, held=()):
    learned = learned or LearnedBaselines()
    run = RuleReplay(rule, GradeHistory(rule, found, limit=limit, learned=learned, held=HeldTimes(spans=held)))
    for _ in run.run(moments_in(since, until, every_s)):
        pass
    return [(turn["scope"], turn["state"], turn["at"]) for turn in run.transitions]


def real(school, rule=CLIMBING):
    with school.store.reading() as connection:
        told = [each for each in incidents.incidents(connection, limit=1_000) if each["rule"] == rule.alert]
    ends = [(each["scope"], "resolved", each["resolved_at"]) for each in told if each["resolved_at"]]
    return sorted([(each["scope"], "firing", each["started_at"]) for each in told] + ends, key=lambda turn: turn[2])


def assert_same(found, told, *, within=EVERY_S):
    """The same turns, but for the moment of looking: a guard of another phase looks up to one evaluation later."""
    assert [turn[:2] for turn in found] == [turn[:2] for turn in told]
    assert [turn[2] for turn in found] == pytest.approx([turn[2] for turn in told], abs=within)


@pytest.mark.thorough
@on_sqlite
def test_a_climb_and_its_end_are_found_where_the_guard_found_them(school):
    school.teach(400, 0.04)
    school.teach(200, 0.4, seed=1)
    school.teach(400, 0.04, seed=2)
    school.teach(300, 0.5, seed=3)
    told = real(school)
    assert [turn[1] for turn in told] == ["firing", "resolved", "firing"]
    assert_same(again(school), told)


@on_sqlite
@pytest.mark.thorough
def test_several_routes_and_all_together_turn_as_they_did(school):
    routes = [f"r{number}" for number in range(6)]
    for number, route in enumerate(routes):
        school.teach(210, 0.02, seed=number, route=route)
    for turn in range(6):
        for number, route in enumerate(routes):
            school.teach(40, 0.13, seed=100 + 10 * turn + number, route=route)
    for turn in range(2):
        for number, route in enumerate(routes):
            school.teach(60, 0.01, seed=300 + 10 * turn + number, route=route)
    told = real(school)
    assert (ALL_ROUTES, "firing") in [turn[:2] for turn in told]
    # A baseline's steps fall on other evaluations than the guard's, which moves a joint test that is near its limit.
    assert_same(sorted(again(school)), sorted(told), within=60)


@pytest.mark.thorough
@on_sqlite
def test_what_a_person_had_learned_anew_is_learned_anew_again(school):
    school.teach(300, 0.02)
    school.teach(300, 0.3, seed=1)
    school.do(relearn, route="support", author="ann", why="another kind")
    school.teach(300, 0.3, seed=2)
    school.teach(300, 0.3, seed=3)
    told = real(school)
    assert [turn[1] for turn in told] == ["firing", "resolved"]
    assert_same(again(school), told)


@pytest.mark.thorough
@on_sqlite
def test_a_limit_that_was_set_is_run_again_as_well(make_school):
    school = make_school(max_false_confident_rate=0.1)
    school.teach(150, 0.5)
    school.teach(500, 0.02, seed=1)
    told = real(school, TOO_HIGH)
    assert [turn[1] for turn in told] == ["firing", "resolved"]
    assert_same(again(school, TOO_HIGH, limit=0.1), told)
    assert again(school, TOO_HIGH, limit=0.6) == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(each, marks=pytest.mark.thorough) for each in (1, 2))])
@on_sqlite
@pytest.mark.thorough
def test_drawn_pasts_turn_as_they_did(school, seed):
    random = Random(seed)
    for number in range(14):
        rate = 0.04 if number < 4 else random.choice([0.02, 0.05, 0.4])
        school.teach(100, rate, seed=10 * seed + number, route=random.choice(["support", "faq"]))
    told = real(school)
    assert told
    assert_same(again(school), told)


def series(*stretches, route="support", seed=0, start=START):
    random, found = Random(seed), []
    for number, rate in enumerate(rate for n, rate in stretches for _ in range(n)):
        found.append(
            DecidedGrade(
                id=number + 1, at=start + 10 * number + 60, route=route, called_at=start + 10 * number,
                incorrect=random.random() < rate, inclusion=1.0, shipped=True, input_class="",
            )
        )  # fmt: skip
    return found


def test_before_normal_is_known_nothing_is_and_that_is_said():
    past = GradeHistory(CLIMBING, series((150, 0.9)), limit=None, learned=LearnedBaselines())
    for _ in RuleReplay(CLIMBING, past).run(moments_in(START, START + 5_000, EVERY_S)):
        pass
    assert (past.grades_read, past.is_known) == (150, False)


def test_normal_that_was_learned_before_is_held_and_else_learned_from_the_first_grades():
    found, until = series((300, 0.3)), START + 5_000
    assert turns(found, until) == []
    normal = Baseline(scope="support", since=0.0, rate=0.02, n=200.0, grades=200, until=START - 9, learned_at=START - 9)
    (fired,) = turns(found, until, learned=as_of({"support": normal}, START))
    assert fired[:2] == ("support", "firing")
    early = series((200, 0.02), start=START - 9_000)
    (learned,) = turns(found, until, learned=LearnedBaselines(first={"support": early}))
    # The first grades have another number of wrong ones, by chance.
    assert learned[:2] == fired[:2]
    assert abs(learned[2] - fired[2]) <= 600


def test_of_baselines_only_what_was_known_then_is_taken():
    kept = Baseline(scope="a", since=0.0, rate=0.1, n=200.0, grades=200, until=5.0, learned_at=10.0)
    late = Baseline(scope="b", since=0.0, rate=0.1, n=200.0, grades=200, until=90.0, learned_at=150.0)
    new = Baseline(scope="c", since=120.0, rate=0.1, n=200.0, grades=200, until=140.0, learned_at=150.0, author="ann")
    found = as_of({"a": kept, "b": late, "c": new}, 100.0)
    assert found.known == {"a": kept, "b": Baseline(scope="b", since=0.0)}
    assert found.relearned == {"c": Baseline(scope="c", since=120.0, author="ann")}


def test_it_costs_no_more_to_look_often():
    found = series((300, 0.02), (200, 0.5))
    often, seldom = (turns(found, START + 6_000, every_s=every_s) for every_s in (1.0, 10.0))
    assert [turn[:2] for turn in often] == [turn[:2] for turn in seldom] == [("support", "firing")]
    assert 0 <= seldom[0][2] - often[0][2] <= 10


def test_grades_that_were_made_while_the_grader_had_changed_do_not_count():
    found, until = series((300, 0.02), (100, 0.9), (100, 0.02)), START + 6_000
    held = [(found[300].at - 1, found[400].at - 1)]
    assert [turn[1] for turn in turns(found, until)][:1] == ["firing"]
    assert turns(found, until, held=held) == []


def test_a_normal_is_learned_from_grades_of_one_grader():
    found, until = series((150, 0.02), (20, 0.02), (250, 0.3)), START + 6_000
    held = [(found[150].at - 1, found[170].at - 1)]
    # With those from before the hold, normal would be some 10%, and 30% a climb.
    assert [turn[1] for turn in turns(found, until)][:1] == ["firing"]
    assert turns(found, until, held=held) == []
