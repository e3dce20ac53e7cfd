"""What the table of `covering.py` must show, on a part of its weeks."""

import sys
from pathlib import Path
from random import Random
from statistics import mean, variance

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import covering as bench

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.02), (0.05, 0.15)])
def test_intervals_cover_the_truth_although_grades_were_steered(before, after):
    row = bench.measure(before, after, weeks=250)
    assert row.covered >= 0.92 * row.weeks  # 94% of a thousand weeks; three standard errors of 250 less


@pytest.mark.parametrize("name", ["raised and good, a calm one bad", "bursts that a full queue thins"])
def test_intervals_cover_the_truth_of_routes_that_were_graded_unequally(name):
    row = bench.measure_routes(name, weeks=1_000)
    assert row.covered >= 0.92 * row.weeks  # 94%, and three standard errors of a thousand weeks less
    assert row.at_kish_n < 0.9 * row.weeks


def test_binomial_numbers_have_the_mean_and_variance_that_they_should_have():
    random, n, rate = Random(1), 5_000, 0.07
    drawn = [bench.binomial(n, rate, random) for _ in range(4_000)]
    assert mean(drawn) == pytest.approx(n * rate, rel=0.005)
    assert variance(drawn) == pytest.approx(n * rate * (1 - rate), rel=0.07)


def test_corrected_intervals_cover_the_truth_where_those_of_the_judge_do_not():
    row = bench.measure_corrected(0.02, 0.05, bench.ERRING, weeks=60)
    assert row.covered >= 0.9 * row.weeks
    assert row.uncorrected < 0.75 * row.weeks
