"""A guard, one that restarts, and a backtest find a storm at one moment, because they read one period alike."""

from random import Random

import pytest
from sqlalchemy import insert

from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import learned_until
from cheapdeep_ops.guard.rules.interface import RecordedPast
from cheapdeep_ops.guard.rules.kinds import kind_of
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.tables.call_tables import Bucket
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import ALL_ROUTES
from tests.guard.conftest import START, town_rules

(RULE,) = (rule for rule in town_rules().rules if isinstance(rule, StormRule))
STEADY_MINUTES, VARIED_MINUTES, STORM_MINUTES = 80, 20, 8
CALLS = 5


@pytest.fixture
def engine():
    return "sqlite"


def seconds(seed):
    """The counts of a route whose minutes begin to vary, and then of a storm."""
    random = Random(seed)
    rates = [0.2] * STEADY_MINUTES
    rates += [random.choice([0.05, 0.4]) for _ in range(VARIED_MINUTES)]
    rates += [random.choice([0.4, 0.6]) for _ in range(STORM_MINUTES)]
    for at in range(60 * len(rates)):
        hits = sum(random.random() < rates[at // 60] for _ in range(CALLS))
        yield Bucket(
            route="support", input_class="", process="p", at=int(START) + at, calls=CALLS, triaged=CALLS,
            escalated=hits, base_escalated=hits,
        ).model_dump()  # fmt: skip


def storms_of_guard(town, rows, moments, *, restarts):
    """The storms that a guard finds, which evaluates at these moments, while the seconds come in."""
    town.guard = town.another_guard(Rulebook(rules=(RULE,)))
    fed = 0
    for number, now in enumerate(moments):
        town.clock.advance(now - town.clock())
        due = [row for row in rows[fed:] if row["at"] < int(now)]
        town.store.transact(lambda connection, due=due: connection.execute(insert(table_of(Bucket)), due))
        fed += len(due)
        if restarts and number % 7 == 6:
            town.guard.close()
            town.guard = town.another_guard(Rulebook(rules=(RULE,)))
        town.guard.step(now)
    with town.store.reading() as connection:
        spans = incidents.spans(connection, rules=[RULE.alert])
    return [(state, at) for span in spans for state, at in zip(("firing", "resolved"), span, strict=True) if at]


def storms_of_backtest(town, moments):
    """The storms that a backtest finds, which evaluates at these moments."""
    past = RecordedPast(
        store=town.store, settings=town.settings, grader=grader_version(town.settings), since=moments[0],
        counted=moments[0], until=moments[-1], route=ALL_ROUTES,
    )  # fmt: skip
    run = RuleReplay(RULE, kind_of(RULE).replay(RULE, past).history)
    list(run.run(moments))
    return [(turn["state"], turn["at"]) for turn in run.transitions]


@pytest.mark.thorough
@pytest.mark.parametrize(("restarts", "phase"), [(False, 140.5), (True, 140.5), (False, 421.25)])
def test_a_guard_one_that_restarts_and_a_backtest_find_a_storm_at_one_moment(town, restarts, phase):
    rows = list(seconds(4))
    begin = START + 60 * (STEADY_MINUTES + VARIED_MINUTES) - phase
    moments = [begin + 10 * number for number in range(int((rows[-1]["at"] - begin) / 10))]
    live = storms_of_guard(town, rows, moments, restarts=restarts)
    assert [state for state, _ in live][:1] == ["firing"]
    earlier = [begin - 10 * number for number in range(33, 0, -1)]
    assert storms_of_backtest(town, earlier + moments) == live


def test_the_minutes_that_variance_is_learned_from_depend_on_the_time_alone():
    untils = [learned_until(RULE, START + at) for at in range(0, 3_600, 7)]
    assert untils == sorted(untils)
    assert len(set(untils)) == 7
    assert all(until % 600 == 0 and 300 <= START + 7 * number - until < 960 for number, until in enumerate(untils))
