"""What the table of `judge_drift.py` must show, on a small part of it."""

import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import judge_drift

from cheapdeep_ops.guard.rules.grader_drift.detection import LABELS, DriftTest
from cheapdeep_ops.values import Grade

pytestmark = pytest.mark.thorough


class Regraded(NamedTuple):
    id: int
    call_id: str
    at: float
    label: Grade
    verdict: Grade


def real_first_alarm(before, after, *, change, most):
    """The package's own test on what `first_alarm` reads, in the order in which it reads it."""
    verdicts = [(label, before.differs(label, number)) for label in (0, 1) for number in range(judge_drift.ENOUGH)]
    for number in range(most):
        grader = after if number >= change else before
        verdicts.append((number % 2, grader.differs(number % 2, judge_drift.ENOUGH + number // 2)))
    test = DriftTest()
    for number, (label, differs) in enumerate(verdicts, 1):
        said = LABELS[1 - label] if differs else LABELS[label]
        test = test.after(judge_drift.RULE, [Regraded(number, str(number), number, LABELS[label], said)])
        if test.detector.alarms(judge_drift.RULE.alpha):
            return number - 2 * judge_drift.ENOUGH
    return None


@pytest.mark.parametrize(("name", "before", "after"), judge_drift.CHANGES)
def test_the_bench_s_test_is_the_package_s(name, before, after):
    found = []
    for find in (judge_drift.first_alarm, real_first_alarm):
        random = Random(name)
        found.append(find(judge_drift.Grader(before, random), judge_drift.Grader(after, random), change=20, most=300))
    assert found[0] == found[1]


def test_a_grader_that_says_one_word_to_all_is_found_within_a_day_and_a_half_blind_one_within_a_week():
    changes = {name: (before, after) for name, before, after in judge_drift.CHANGES}
    for name, within in (("says correct to all", 20), ("says incorrect to all", 12), ("a coin", 60)):
        assert judge_drift.delay(name, *changes[name], runs=200).ninth <= within
    slow = judge_drift.delay("blinder", *changes["overlooks half instead of a fifth"], runs=200)
    assert slow.mean - 2 * slow.error <= 7 * 24
    assert slow.missed <= 0.02


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.02, 0.2), (0.1, 0.3)])
def test_a_grader_that_has_not_changed_is_accused_at_most_once_in_ten_thousand_gradings(rates, persistent):
    found = judge_drift.false_alarms(rates, persistent=persistent, runs=30)
    assert found.rate - 2 * found.error <= 1
