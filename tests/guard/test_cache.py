"""The cache of grades, and what several rules read from it."""

from random import Random

import pytest

from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.confidence_separation import reader
from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.false_confidence.evidence import GradeEvidence
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.interface import ReaderContext
from cheapdeep_ops.store import detectors, grades
from cheapdeep_ops.store.detectors import DetectorState, StoredDetector
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

from .conftest import START

GRADER = GraderVersion(model="claude-opus-4-7", prompt="p1")


def test_grades_are_read_again_only_when_the_route_has_new_ones(monkeypatch):
    reads, counts = [], {"support": 1}

    def newest(_connection, route, _grader, **_limits):
        reads.append(route)
        return [f"grade {counts[route]}"]

    monkeypatch.setattr(grades, "newest", newest)
    monkeypatch.setattr(grades, "counts", lambda _connection: dict(counts))
    cache = GradeCache(GRADER)
    for count in (1, 1, 2, 2):
        counts["support"] = count
        cache.refresh(None)
        assert cache.newest(None, "support", 9) == [f"grade {count}"]
    assert reads == ["support", "support"]


def drawn(random, number):
    """A grade of a call of the last twenty days, which may be graded late."""
    called_at = START - random.uniform(0, 20) * DAY_S
    return {
        "call_id": f"call-{number}", "grader_model": GRADER.model, "grader_prompt": GRADER.prompt, "failure": "",
        "verdict": random.choice(["correct", "correct", "incorrect", "unsure"]), "reason": "", "at": START,
        "called_at": called_at, "route": random.choice(["support", "faq", "faq", "faq"]), "input_class": "",
        "shipped": True, "confidence": random.choice([0.8, 0.9]), "policy_version": 0, "inclusion": 0.5, "cost_nusd": 0,
        "tier": random.choice([0, 0, 0, 1]), "steered": random.random() < 0.2, "second": random.random() < 0.1,
    }  # fmt: skip


@pytest.fixture
def store(make_town):
    """The store of a town with 400 grades, not in the order of their calls."""
    store, random = make_town().store, Random("grades")
    rows = [drawn(random, number) for number in range(400)]
    store.transact(lambda connection: [grades.add(connection, row) for row in rows])
    return store


def context_of(connection, settings, cache, *, now=START, rules=()):
    return ReaderContext(
        connection=connection, settings=settings, rules=rules, alerts=AlertSet({}, signals={}), cache=cache,
        is_pinned=lambda _scope: False, now=now, started_at=START,
    )  # fmt: skip


def quality(max_grades, *, name="Climbing"):
    return QualityRule.model_validate(
        {"alert": name, "signal": "false_confident_rate", "limit": 0.1, "min_grades": 5, "max_grades": max_grades,
         "actions": ["notify"], "for": "0s", "keep_firing_for": "0s"}
    )  # fmt: skip


def unread_of(connection, settings, rule):
    evidence = GradeEvidence(context_of(connection, settings, GradeCache(GRADER)), [rule])
    since = START - rule.max_age
    return {
        scope: [each for each in unread if each.called_at > since]
        for scope, unread in evidence._tests[rule.alert].unread.items()
    }


@pytest.mark.parametrize("grade_id", [0, 150, 400])
def test_what_a_test_has_not_used_is_the_same_from_the_latest_grades_as_from_a_query(store, settings, grade_id):
    used = [
        StoredDetector(rule="Climbing", scope=scope, kept=DetectorState(grade_id=grade_id))
        for scope in ("support", "faq", ALL_ROUTES)
        if grade_id
    ]
    with store.reading() as connection:
        few, many = quality(10), quality(10_000)
        store.transact(lambda writing: detectors.write(writing, GRADER, used, now=START) if used else None)
        asked, found = (unread_of(connection, settings, rule) for rule in (few, many))
    assert [(scope, each.id) for scope in asked for each in asked[scope]] == [
        (scope, each.id) for scope in asked for each in found[scope]
    ]
    assert asked.keys() == found.keys() == {"support", "faq", ALL_ROUTES}
    assert bool(asked["faq"]) == (grade_id < 400)


@pytest.mark.thorough
@pytest.mark.parametrize("max_grades", [3, 40, 10_000])
@pytest.mark.parametrize("later", [0.0, 3 * DAY_S])
@pytest.mark.parametrize("read", [10, 10_000])
def test_the_rule_on_confidence_sees_the_same_whoever_reads_the_grades(store, settings, max_grades, later, read):
    rule = GateRule.model_validate(
        {"alert": "InertGate", "signal": "confidence_separation", "max_grades": max_grades, "actions": ["notify"],
         "for": "0s", "keep_firing_for": "0s"}
    )  # fmt: skip
    cache = GradeCache(GRADER)
    with store.reading() as connection:
        GradeEvidence(context_of(connection, settings, cache), [quality(read)])
        shared, alone = (
            reader._readings(rule, context_of(connection, settings, each, now=START + later))
            for each in (cache, GradeCache(GRADER))
        )
        version = grades.counts(connection)["faq"]
    assert (cache.complete("faq", version=version, max_age=rule.max_age) is not None) == (read == 10_000)
    assert cache.complete("faq", version=version + 1, max_age=rule.max_age) is None
    assert shared == alone
    assert min(len(reading.grades) for reading in shared.values()) > 2
