"""What the table of `covering.py` must show, on a part of its weeks."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import covering as bench

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.02), (0.05, 0.15)])
def test_intervals_cover_the_truth_although_grades_were_steered(before, after):
    row = bench.measure(before, after, weeks=250)
    assert row.covered >= 0.92 * row.weeks  # 94% of a thousand weeks; three standard errors of 250 less


def test_corrected_intervals_cover_the_truth_where_those_of_the_judge_do_not():
    row = bench.measure_corrected(0.02, 0.05, bench.ERRING, weeks=60)
    assert row.covered >= 0.9 * row.weeks
    assert row.uncorrected < 0.75 * row.weeks
