"""A recommended threshold holds its limit as often as it says."""

import random

import pytest

from cheapdeep_ops.guard.backtest.recommend import p_value, recommended
from cheapdeep_ops.guard.statistics.intervals import Proportion

GRID = (0.8, 0.85, 0.9, 0.95)


def test_p_value_is_the_exact_binomial_tail() -> None:
    assert p_value(Proportion(hits=0, n=10), 0.05) == pytest.approx(0.95**10)
    assert p_value(Proportion(hits=0, n=0), 0.05) == 1


def test_the_cheapest_threshold_that_holds_is_chosen() -> None:
    grades = [(0.82, True)] * 100 + [(0.9, False)] * 300
    found = recommended(grades, thresholds=GRID, limit=0.05, certainty=0.95)
    assert (found.threshold, found.shipped) == (0.85, Proportion(hits=0, n=300))


def test_few_grades_recommend_nothing() -> None:
    assert recommended([(0.9, False)] * 20, thresholds=GRID, limit=0.05, certainty=0.95).threshold is None


def test_a_limit_that_no_threshold_holds_is_seldom_said_to_hold() -> None:
    rng = random.Random(7)
    broken = 0
    for _ in range(300):
        grades = [(rng.choice(GRID), rng.random() < 0.055) for _ in range(200)]
        broken += recommended(grades, thresholds=GRID, limit=0.05, certainty=0.95).threshold is not None
    assert broken <= 25  # 15 on average at the very most, and three standard errors
