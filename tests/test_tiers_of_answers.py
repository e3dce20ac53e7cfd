"""Which tier gave an answer: from calls over HTTP, through the store, to grades, rules and the receipt."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import select

from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.output import console
from cheapdeep_ops.cli.render.terminal import show_decision
from cheapdeep_ops.guard.grading.grade_writer import GradeAttempt, GradeWriter
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.rules.false_confidence.explanation import climb_cause, names_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, counters, grades
from cheapdeep_ops.store.tables.grade_tables import Candidate
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.telemetry.evaluations import GradeTelemetry
from cheapdeep_ops.testing import Reply
from cheapdeep_ops.values import Grade, GradeResult
from tests.stores import migrated

HAIKU, SONNET, OPUS = TIERS = ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7")
CALLS = [(0.9, None), (0.3, 0.95), (0.3, 0.5), (None, 0.85)]
"""What Haiku and Sonnet state; None: Haiku fails, or Sonnet is not asked."""


@pytest.fixture
def settings(store_url, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    monkeypatch.setenv("CHEAPDEEP_TIERS", ",".join(TIERS))
    return Settings(store_url=store_url, tiers=TIERS, sample_rate=1.0, sampling="uniform", breaker_failures=50)


@pytest.fixture
def store(settings):
    store = migrated(settings.store_url)
    yield store
    store.close()


@pytest.fixture
def decisions(api, open_shell, settings, store):
    shell = open_shell(router={"settings": settings})
    made = []
    for haiku, sonnet in CALLS:
        api.clear()
        api.enqueue(Reply.error(529) if haiku is None else Reply.triage(haiku, "Haiku's."), model=HAIKU)
        api.enqueue(Reply.triage(sonnet, "Sonnet's.") if sonnet else Reply.error(500), model=SONNET)
        api.enqueue(Reply.text("Opus's."), model=OPUS)
        made.append(shell.ask().decision)
    shell.close()
    return made


def kept(store):
    columns = table_of(Candidate).c
    names = (columns.tier, columns.model, columns.confidence, columns.shipped, columns.answer)
    with store.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(select(*names)))


def grade_all(store, settings, now, *, wrong_tier):
    """Grade all kept answers; those of one tier are wrong."""
    candidates.choose(store, otherwise=1.0, now=now)
    with store.reading() as connection:
        samples = candidates.due(connection, now=now, limit=100)
    results = {tier: GradeResult(grade=Grade.INCORRECT if tier == wrong_tier else Grade.CORRECT) for tier in range(3)}
    attempts = [GradeAttempt(sample=each, outcome=results[each.tier]) for each in samples]
    GradeWriter(store, settings=settings, telemetry=GradeTelemetry()).write(attempts, grader_version(settings), now)


def test_each_shipped_answer_is_a_candidate_of_its_own_tier(store, decisions):
    assert [decision.tier for decision in decisions] == [0, 1, 2, 1]
    assert kept(store) == [
        (0, HAIKU, 0.9, True, "Haiku's."),
        (1, SONNET, 0.85, True, "Sonnet's."),
        (1, SONNET, 0.95, True, "Sonnet's."),
    ]


def test_a_person_sees_what_each_tier_stated(capsys, decisions):
    show_decision(console(), "Sonnet's.", decisions[1])
    text = capsys.readouterr().out
    assert f"{HAIKU} 0.3, escalate, $0.0" in text
    assert f"; {SONNET} 0.95, ship, $0.0" in text
    show_decision(console(), "Haiku's.", decisions[0])
    assert "tiers" not in capsys.readouterr().out


def test_the_counters_tell_all_answers_and_the_first_tiers_confidence(store, settings, decisions):
    with store.reading() as connection:
        sums = counters.summed(connection, since=0, until=2**40)
        (by_route,) = counters.by_route(connection, since=0, until=2**40).values()
    assert (sums.triaged, sums.base_escalated, sums.later_answers) == (4, 3, 2)
    assert sums.answers == by_route.answers == 3
    assert sums.confidence == {"90": 1, "30": 2}
    found = receipt(store, settings, since=0, until=2**40)
    assert (found["funnel"]["answers"], found["funnel"]["waiting"], found["funnel"]["not_sampled"]) == (3, 3, 0)
    assert found["base_escalation_rate"] == 0.75


def test_false_confidence_is_told_by_tier_and_what_confidence_is_worth_of_the_first_alone(
    capsys, store, settings, decisions
):
    grade_all(store, settings, decisions[-1].started_at + 1, wrong_tier=1)
    found = receipt(store, settings, since=0, until=2**40)
    by_tier = [(each["tier"], each["model"], each["false_confident_rate"], each["graded"])
               for each in found["false_confidence_by_tier"]]  # fmt: skip
    assert by_tier == [(0, HAIKU, 0.0, 1), (1, SONNET, 1.0, 2)]
    assert (found["graded"], found["false_confident_rate"]) == (3, pytest.approx(2 / 3))
    assert (found["confidence"]["*"]["graded"], found["confidence"]["*"]["wrong"]) == (1, 0)
    assert main(["report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["false_confidence_by_tier"][1]["graded"] == 2
    assert main(["report"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{SONNET} 100.0% (" in text


def test_a_climb_names_the_tier_whose_answers_are_wrong(store, settings, decisions):
    grade_all(store, settings, decisions[-1].started_at + 1, wrong_tier=1)
    with store.reading() as connection:
        read = grades.attributed(connection, "default", grader_version(settings), since=0, until=2**40, limit=100)
    assert sorted((each.tier, each.model, each.incorrect) for each in read) == [
        (0, HAIKU, False), (1, SONNET, True), (1, SONNET, True),
    ]  # fmt: skip
    before = [grade for grade in read if not grade.incorrect] * 100 + [
        replace(grade, incorrect=False) for grade in read if grade.incorrect
    ] * 50
    cause = climb_cause(before, read * 30, names_of(base=0.8, raised=0.9, with_policy=False))
    assert [(part.dimension, part.element) for part in cause.contributors] == [("model", SONNET)]
