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


@pytest.mark.parametrize("calls", [1, 10, 100])
def test_a_storm_is_called_in_little_more_than_it_takes_to_know_and_long_before_the_average_is_over(bench, calls):
    delays = [bench.delay(calls, seed) for seed in range(60)]
    mean = fmean(each.rule_s for each in delays)
    assert mean <= bench.allowed_s(calls)
    assert mean < fmean(each.plain_s for each in delays) * 0.6


def test_the_information_limit_is_about_112_calls(bench):
    assert bench.information_limit() == pytest.approx(112.3, abs=0.1)


@pytest.mark.parametrize(("rate", "calls"), [("steady", "ten"), ("rhythm", "traffic")])
def test_at_most_one_false_alarm_in_a_month(bench, rate, calls):
    assert bench.false_alarms(getattr(bench, rate), getattr(bench, calls), days=30, seed=1) <= 1


def test_the_quick_look_at_a_month_finds_what_is_there(bench):
    assert bench.false_alarms(lambda at: 0.5 if at == 3_600 else 0.15, bench.ten, days=1, seed=1) == 1


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390)]
)
def test_the_interval_of_a_count_is_garwoods(bench, count, low, high):
    assert bench.poisson_interval(count, 1.0) == pytest.approx((low, high), abs=1e-3)
