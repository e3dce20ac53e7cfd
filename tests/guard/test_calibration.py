"""Confidence separates right from wrong, or does not."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.guard.statistics.calibration import as_facts, expected_error, reliability, separation


def test_ties_count_half() -> None:
    found = separation([(0.9, False), (0.9, True)] * 50)
    assert found is not None
    assert found[0] == pytest.approx(0.5)
    assert found[1] < 0.5 < found[2]


def test_confidence_that_separates_is_seen() -> None:
    assert separation([(0.95, False), (0.85, True)] * 50) == (1, 1, 1)


def test_one_class_alone_says_nothing() -> None:
    assert separation([(0.9, False)]) is None


ROUNDING = 1e-12
GRADE = st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from([0.005, 0.01, 0.2, 1.0]))


@given(grades=st.lists(GRADE, min_size=1, max_size=80))
def test_bins_hold_every_grade_once_and_what_they_say_lies_in_range(grades):
    bins = reliability(grades)
    assert sum(each.right.count for each in bins) == len(grades)
    assert math.fsum(each.share for each in bins) == pytest.approx(1)
    for each in bins:
        assert each.low - ROUNDING <= each.confidence <= each.high + ROUNDING
        assert -1 <= each.gap <= 1
    error = expected_error(bins, Random(0))
    assert error is not None
    assert 0 <= error[1] <= error[0] <= error[2] <= 1


def test_a_confidence_on_an_edge_belongs_to_the_bin_that_begins_there():
    (found,) = reliability([(0.9, False, 1.0)])
    assert (found.low, found.high) == (0.9, 0.95)
    (found,) = reliability([(1.0, False, 1.0)])
    assert (found.low, found.high) == (0.99, 1.0)


def test_grades_weigh_by_the_chance_that_they_had():
    (found,) = reliability([(0.92, True, 0.2), (0.93, False, 0.01)])
    assert found.right.rate == pytest.approx(100 / 105)
    assert found.confidence == pytest.approx((0.92 * 5 + 0.93 * 100) / 105)


def test_the_calibration_error_is_the_distance_between_claimed_and_so():
    # 0.95 claimed and 75 of 100 right; 0.85 claimed and 85 of 100 right.
    grades = [(0.95, n >= 75, 1.0) for n in range(100)] + [(0.85, n >= 85, 1.0) for n in range(100)]
    error, low, high = expected_error(reliability(grades), Random(0))
    assert error == pytest.approx((0.2 + 0.0) / 2)
    assert 0.05 < low < error < high < 0.2
    assert expected_error([], Random(0)) is None


def test_the_interval_of_the_calibration_error_covers_it():
    covered = 0
    for run in range(100):
        random = Random(run)
        grades = [(0.9, random.random() >= 0.8, 1.0) for _ in range(300)]
        _, low, high = expected_error(reliability(grades), Random(0))
        covered += low <= 0.1 <= high
    assert covered >= 91


def test_nothing_known_is_none():
    facts = as_facts([], Random(0))
    assert (facts["graded"], facts["auroc"], facts["expected_calibration_error"], facts["claims"]) == (
        0,
        None,
        None,
        None,
    )
    assert facts["bins"] == []
