"""What the table of `reach.py` must show, on a part of it."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import reach as bench

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("sampling", "runs"), [("uniform", 30), ("adaptive", 60), ("adaptive, a small route", 30)])
@pytest.mark.parametrize(("target", "factor"), [(0.03, 2.0), (0.03, 10 / 3), (0.05, 3.0), (0.1, 2.0), (0.15, 2.0)])
def test_what_is_said_is_what_the_detector_and_the_steering_do(sampling, runs, target, factor):
    row = bench.measure(sampling, target, factor, runs=runs, normal=target / 1.3)
    assert 1 / 1.5 < row.ratio < 1.5


@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
def test_smaller_climbs_take_longer(sampling):
    rows = [bench.measure(sampling, 0.04, factor, runs=25) for factor in (1.6, 2.5, 5.0)]
    assert all(before.mean > 1.5 * after.mean for before, after in pairwise(rows))
    assert all(before.said > 1.5 * after.said for before, after in pairwise(rows))


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_a_steered_sample_finds_a_climb_long_before_a_uniform_one(factor):
    uniform, adaptive = (bench.measure(name, 0.04, factor, runs=30) for name in ("uniform", "adaptive"))
    assert adaptive.mean < uniform.mean / 2
    assert adaptive.said < uniform.said / 2
