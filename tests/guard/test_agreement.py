from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.statistics.agreement import (
    ENOUGH_CORRECT,
    ENOUGH_INCORRECT,
    GraderAgreement,
    LabelledGrades,
    kappa_of,
)
from cheapdeep_ops.guard.statistics.intervals import Estimate


def labelled(*, right_right=0, right_wrong=0, wrong_right=0, wrong_wrong=0, inclusion=0.01):
    """Labels by what the judge said, then what people say."""
    counts = {
        (False, False): right_right,
        (False, True): right_wrong,
        (True, False): wrong_right,
        (True, True): wrong_wrong,
    }
    return [
        LabelledGrades(judged_wrong=judged, is_wrong=wrong, inclusion=inclusion)
        for (judged, wrong), count in counts.items()
        for _ in range(count)
    ]


def estimate(rate, n=1_000):
    return Estimate(rate=rate, n=n, count=n)


def agreement(judged_wrong=0.1, **counts):
    return GraderAgreement.of(labelled(**counts), estimate(judged_wrong), Random(0))


def test_a_judge_whom_people_always_agree_with_needs_no_correction():
    agreed = agreement(right_right=100, wrong_wrong=50)
    assert (agreed.kappa.rate, agreed.tpr.rate, agreed.fpr.rate) == (1.0, 1.0, 0.0)
    found = agreed.corrected(estimate(0.04))
    assert found.rate == pytest.approx(0.04)
    assert found.low < 0.04 < found.high


def test_true_and_false_positive_rates_are_those_of_all_grades_and_not_of_the_labels():
    # 9 of 10 answers are judged right, 5 of 100 of those are wrong; of those judged wrong 40 of 50 are.
    agreed = agreement(right_right=95, right_wrong=5, wrong_right=10, wrong_wrong=40)
    wrong = 0.1 * 0.8 + 0.9 * 0.05
    assert agreed.tpr.rate == pytest.approx(0.08 / wrong)
    assert agreed.fpr.rate == pytest.approx(0.02 / (1 - wrong))
    # Of the very grades that the labels are of, the corrected rate is what people find, weighted.
    assert agreed.corrected(estimate(0.1)).rate == pytest.approx(wrong)
    # Rogan and Gladen: (rate - fpr) / (tpr - fpr).
    told = agreed.tpr.rate - agreed.fpr.rate
    assert agreed.corrected(estimate(0.2)).rate == pytest.approx((0.2 - agreed.fpr.rate) / told)


def test_kappa_is_that_of_the_plain_table():
    # 100 answers: 80 both right, 10 both wrong, 4 and 6 apart. Agreed 0.9; by chance 0.86 * 0.84 + 0.14 * 0.16.
    said = {
        ("correct", "correct"): 80,
        ("incorrect", "incorrect"): 10,
        ("incorrect", "correct"): 4,
        ("correct", "incorrect"): 6,
    }
    by_chance = 0.86 * 0.84 + 0.14 * 0.16
    found = kappa_of(said, Random(0))
    assert found.rate == pytest.approx((0.9 - by_chance) / (1 - by_chance))
    assert 0 < found.low < found.rate < found.high < 1


def test_nothing_is_known_without_labels_of_both_kinds():
    for counts in ({}, {"right_right": 50}, {"wrong_wrong": 50}):
        agreed = agreement(**counts)
        assert (agreed.kappa.rate, agreed.tpr.rate) == (None, None)
        assert (agreed.kappa.low, agreed.kappa.high) == (-1, 1)
        assert (agreed.tpr.low, agreed.tpr.high) == (0, 1)
        assert agreed.corrected(estimate(0.1)).rate is None
        assert not agreed.suffices
    assert GraderAgreement.of(labelled(right_right=50, wrong_wrong=50), None, Random(0)).tpr.rate is None


def test_labels_suffice_from_enough_of_each_kind_on():
    enough = {"right_right": ENOUGH_CORRECT, "wrong_wrong": ENOUGH_INCORRECT}
    assert agreement(**enough).suffices
    for kind, least in enough.items():
        assert not agreement(**{**enough, kind: least - 1}).suffices


def test_a_judge_who_tells_nothing_corrects_nothing():
    agreed = agreement(judged_wrong=0.5, right_right=50, right_wrong=50, wrong_right=50, wrong_wrong=50)
    assert agreed.kappa.rate == pytest.approx(0)
    assert not agreed.suffices
    found = agreed.corrected(estimate(0.5))
    assert found.high - found.low > 0.9


def test_no_wrong_answer_found_among_few_leaves_much_open():
    few = agreement(judged_wrong=0.03, right_right=30, wrong_wrong=20).corrected(estimate(0.03))
    many = agreement(judged_wrong=0.03, right_right=600, wrong_wrong=20).corrected(estimate(0.03))
    assert few.high > 0.06 > many.high > 0.03
    assert few.rate == many.rate == pytest.approx(0.03)


def test_a_rate_that_no_such_judge_could_find_is_not_corrected():
    blaming = agreement(judged_wrong=0.4, right_right=60, wrong_right=30, wrong_wrong=20)
    assert blaming.fpr.low > 0.1
    found = blaming.corrected(estimate(0.01, n=3_000))
    assert (found.rate, found.low, found.high) == (None, 0.0, 1.0)


@pytest.mark.thorough
@given(
    counts=st.lists(st.integers(0, 60), min_size=4, max_size=4),
    judged_wrong=st.floats(0.001, 0.999),
    rate=st.floats(0, 1),
    n=st.integers(1, 5_000),
)
@settings(max_examples=30)
def test_every_figure_lies_in_its_interval_and_that_in_its_range(counts, judged_wrong, rate, n):
    names = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
    agreed = agreement(judged_wrong, **dict(zip(names, counts, strict=True)))
    for found, lowest in (
        (agreed.kappa, -1),
        (agreed.tpr, 0),
        (agreed.fpr, 0),
        (agreed.corrected(estimate(rate, n)), 0),
    ):
        assert lowest <= found.low < found.high <= 1
        assert found.rate is None or found.low <= found.rate <= found.high
    assert agreed.labels == sum(counts)


@pytest.mark.thorough
def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = Counter()
    for week in range(100):
        random = Random(week)
        truth, tpr, fpr, n = 0.05, 0.85, 0.03, 600
        wrong = [random.random() < truth for _ in range(n)]
        judged = [random.random() < (tpr if each else fpr) for each in wrong]
        of_kind = {
            kind: [each for each, said in zip(wrong, judged, strict=True) if said is kind] for kind in (False, True)
        }
        labels = [
            LabelledGrades(judged_wrong=kind, is_wrong=each, inclusion=0.01)
            for kind, most in ((False, 200), (True, 50))
            for each in of_kind[kind][:most]
        ]
        found = estimate(sum(judged) / n, n)
        corrected = GraderAgreement.of(labels, found, Random(0)).corrected(found)
        covered["corrected"] += corrected.low <= truth <= corrected.high
        low, high = found.interval()
        covered["as judged"] += low <= truth <= high
    assert covered["corrected"] >= 92  # 95 of 100, less two standard errors at 94%
    assert covered["as judged"] < 60  # the judge says 7.1% where 5% are wrong
