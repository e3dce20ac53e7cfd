"""What the table of `effect.py` must show, on a part of its runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import effect as bench

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("name", ["both 15%", "both 24% to 4% in 300 grades"])
def test_a_raise_without_effect_is_not_said_to_have_one(name):
    (case,) = [each for each in bench.CASES if each.name == name]
    row = bench.measure(case, runs=300, grades=1_500)
    assert row.wrong <= 0.05 * row.runs


def test_a_raise_that_helps_is_said_to_soon():
    (case,) = [each for each in bench.CASES if each.name == "5% and 30% wrong"]
    row = bench.measure(case, runs=100, grades=600)
    assert (len(row.until_helps), row.worse) == (100, 0)
