from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.guard.rules.self_monitoring.grader_health import GraderFacts, finding_of, state_of, trouble_of

NOW = 1_800_000_000.0
PATIENCE_S = 1_200.0

ABOVE, BELOW, NO_DATA = Level.ABOVE, Level.BELOW, Level.NO_DATA

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

FRESH = GraderFacts(
    is_off=False,
    paused_why="",
    failures_in_row=0,
    last_failure="",
    last_grade_at=None,
    waiting=0,
    oldest=None,
    patience_s=PATIENCE_S,
)
PAUSED = {"paused_why": "401 invalid x-api-key"}
FAILING = {"failures_in_row": 3, "last_failure": "malformed"}
LATE = {"waiting": 7, "oldest": NOW - PATIENCE_S - 1}
GRADED = {"last_grade_at": NOW - 60}

CASES = {
    "before anything was to be graded": ({}, "idle", NO_DATA, ""),
    "while the first samples wait": ({"waiting": 3, "oldest": NOW - 60}, "running", NO_DATA, ""),
    "while the first samples wait for as long as they may": (
        {"waiting": 3, "oldest": NOW - PATIENCE_S},
        "running",
        NO_DATA,
        "",
    ),
    "after a grade": (GRADED, "running", BELOW, ""),
    "after a grade of long ago, with nothing more to grade": (
        {"last_grade_at": NOW - 10**7},
        "running",
        BELOW,
        "",
    ),
    "after a grade, with samples that wait": ({**GRADED, "waiting": 3, "oldest": NOW - 60}, "running", BELOW, ""),
    "while a batch is missing, however many failures there were": (
        {**GRADED, **FAILING, "missing": "2 results of batch b"},
        "missing",
        ABOVE,
        "grading waits: the API does not find 2 results of batch b",
    ),
    "after two failures in a row": ({**GRADED, "failures_in_row": 2, "last_failure": "refusal"}, "running", BELOW, ""),
    "after two failures before any grade": ({"failures_in_row": 2, "last_failure": "refusal"}, "idle", NO_DATA, ""),
    "after three failures in a row": (
        {**GRADED, **FAILING},
        "failing",
        ABOVE,
        "3 gradings in a row failed, the last one: malformed",
    ),
    "after many failures before any grade": (
        {"failures_in_row": 12, "last_failure": "529 overloaded"},
        "failing",
        ABOVE,
        "12 gradings in a row failed, the last one: 529 overloaded",
    ),
    "when a sample waits too long": (
        {**GRADED, **LATE},
        "behind",
        ABOVE,
        "7 samples wait for a grade, the oldest for 20 min",
    ),
    "when a sample waits too long for the first grade": (
        LATE,
        "behind",
        ABOVE,
        "7 samples wait for a grade, the oldest for 20 min",
    ),
    "when paused": ({**GRADED, **PAUSED}, "paused", ABOVE, "the grader is paused: 401 invalid x-api-key"),
    "when paused before any grade": (PAUSED, "paused", ABOVE, "the grader is paused: 401 invalid x-api-key"),
    "when paused, failing and late, names the pause": (
        {**GRADED, **LATE, **FAILING, **PAUSED},
        "paused",
        ABOVE,
        "the grader is paused: 401 invalid x-api-key",
    ),
    "when failing and late, names the failures": (
        {**GRADED, **LATE, **FAILING},
        "failing",
        ABOVE,
        "3 gradings in a row failed, the last one: malformed",
    ),
    "when off": ({"is_off": True}, "off", BELOW, ""),
    "when off, whatever was before": (
        {"is_off": True, **GRADED, **LATE, **FAILING, **PAUSED},
        "off",
        BELOW,
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_grader(case):
    changes, state, level, why = CASES[case]
    facts = replace(FRESH, **changes)
    found, trouble = finding_of(facts, NOW), trouble_of(facts, NOW)
    assert (state_of(facts, NOW), found.level, trouble.why if trouble else "") == (state, level, why)
    assert found.signal == {
        "kind": state if trouble else "",
        "why": why or f"{state}: {facts.waiting} samples wait",
        "waiting": facts.waiting,
        "failures_in_row": facts.failures_in_row,
    }


def test_patience_ends_with_the_passing_of_time_alone():
    facts = replace(FRESH, **{**GRADED, "waiting": 1, "oldest": NOW})
    looks = [finding_of(facts, NOW + wait).level for wait in (0, PATIENCE_S, PATIENCE_S + 0.1)]
    assert looks == [BELOW, BELOW, ABOVE]


@steady
@given(
    st.builds(
        GraderFacts,
        is_off=st.booleans(),
        paused_why=st.sampled_from(["", "402 no credit"]),
        failures_in_row=st.integers(0, 10),
        last_failure=st.sampled_from(["malformed", "refusal"]),
        last_grade_at=st.none() | st.floats(0, NOW),
        waiting=st.integers(0, 10),
        oldest=st.none() | st.floats(0, NOW),
        patience_s=st.floats(1, 10**6),
    )
)
def test_trouble_never_looks_like_good_news(facts):
    trouble, state, found = trouble_of(facts, NOW), state_of(facts, NOW), finding_of(facts, NOW)
    assert (found.level is ABOVE) == bool(trouble) == (state in {"paused", "failing", "behind"})
    if found.level is BELOW:
        assert facts.is_off or facts.last_grade_at is not None
