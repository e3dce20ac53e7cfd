"""What the table of `detection.py` must show, on a small part of it."""

import math
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import detection

pytestmark = pytest.mark.thorough


def row(letter, before, after, **how):
    (found,) = [each for each in detection.variants(before, after) if each.name.startswith(f"({letter})")]
    return detection.measure(found, before, after, **{"runs": 60, "calm": 1_000_000, "calm_runs": 4, **how})


@pytest.mark.parametrize("seed", range(3))
def test_the_bench_runs_the_detector_of_the_package(seed):
    def stream():
        return detection.Stream(0.03, 0.10, 5_000, Random(seed))

    quick = detection.of_detector(detection.steered(stream(), 0.03, most=math.inf), 0.03)
    assert quick == detection.real_detector(detection.steered(stream(), 0.03, most=math.inf), 0.03)


def test_ours_finds_a_climb_long_before_the_optimal_test_on_a_uniform_sample():
    ours, known = row("c", 0.03, 0.10, runs=400), row("b", 0.03, 0.10, runs=30)
    assert ours.answers + ours.error < known.answers / 2
    assert ours.answers - ours.error <= 3_000


def test_late_grades_cost_no_more_than_prompt_ones():
    late = row("e", 0.03, 0.10, runs=1, calm=4_000_000)
    assert 0.008 <= late.graded_share <= 0.0125


def test_in_hindsight_the_newest_are_taken_and_none_twice():
    stream = detection.Stream(0.03, 0.03, math.inf, Random(0))
    past = detection.Past(stream)
    past.use(9_000, 9_500)
    first, second, third = past.take(10_000, 80), past.take(10_000, 80), past.take(10_300, 80)
    taken = first + second
    assert taken == sorted(set(taken), reverse=True)
    assert all(not 9_000 < each < 9_500 for each in taken)
    assert max(third) <= 10_300
    assert not set(third) & set(taken)
    assert third[0] > 10_000 > first[0]


def test_in_calm_the_budget_is_kept_and_hardly_anything_is_found():
    ours, plain = row("c", 0.03, 0.10, runs=1, calm=4_000_000), row("a", 0.03, 0.10, runs=1)
    assert 0.008 <= ours.graded_share <= 0.0125
    assert ours.false_alarms <= 1
    assert plain.false_alarms >= 3


def test_an_exact_interval_of_a_count():
    assert detection.poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert detection.poisson_interval(4) == pytest.approx((1.0899, 10.2416), abs=1e-3)
