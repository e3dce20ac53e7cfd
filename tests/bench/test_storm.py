"""A small part of `storm.py`: that the figures it prints hold, not how long it takes."""

import importlib.util
import sys
from pathlib import Path
from statistics import fmean

import pytest

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("storm_bench", Path(__file__).with_name("storm.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_storm_of_twelve_calls_a_minute_is_called_within_180_calls(bench):
    delays = [bench.delay(0.2, seed) for seed in range(40)]
    assert fmean(each.rule_calls for each in delays) <= 150
    assert sum(each.rule_calls > 180 for each in delays) <= 5


def test_a_storm_at_ten_calls_a_second_is_called_within_twenty_seconds(bench):
    took = [bench.delay(10, seed).rule_s for seed in range(60)]
    assert fmean(took) <= 17
    assert sum(each > 20 for each in took) <= 12


@pytest.mark.parametrize("calls", [1, 10, 100])
def test_a_storm_is_called_in_little_more_than_it_takes_to_know_and_long_before_the_average_is_over(bench, calls):
    delays = [bench.delay(calls, seed) for seed in range(60)]
    mean = fmean(each.rule_s for each in delays)
    assert mean <= bench.allowed_s(calls)
    assert mean < fmean(each.plain_s for each in delays) * 0.75


def test_the_information_limit_is_about_112_calls(bench):
    assert bench.information_limit() == pytest.approx(112.3, abs=0.1)


@pytest.mark.parametrize("case", ["steady 25%, 10 calls/s", "27..33% over the day", "30%, minutes sd 5 points"])
def test_at_most_one_false_alarm_in_a_month(bench, case):
    rate, calls, sd = bench.CASES[case]
    assert bench.false_alarms(rate, calls, days=10, seed=1, sd=sd) <= 1


def test_without_dispersion_minutes_that_vary_would_be_storms(bench, monkeypatch):
    rate, calls, sd = bench.CASES["30%, minutes sd 5 points"]
    monkeypatch.setattr(bench.Variation, "of", lambda *_: 1.0)
    assert bench.false_alarms(rate, calls, days=2, seed=1, sd=sd) > 5


def test_the_quick_look_at_a_month_finds_what_is_there(bench):
    assert bench.false_alarms(lambda at: 0.5 if 9_000 <= at < 9_900 else 0.15, bench.ten, days=1, seed=1) == 1


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390)]
)
def test_the_interval_of_a_count_is_garwoods(bench, count, low, high):
    assert bench.poisson_interval(count, 1.0) == pytest.approx((low, high), abs=1e-3)
