"""What the table of `advising.py` must show, on a part of its resamples."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "recorded"


@pytest.fixture(scope="module")
def rows():
    if not RECORDED.is_dir():
        pytest.skip("needs ../shared/data")
    spec = importlib.util.spec_from_file_location("advising_bench", Path(__file__).with_name("advising.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield list(module.table(RECORDED, runs=40, drawn=500))
    del sys.modules[spec.name]


def test_a_limit_is_broken_no_more_often_than_was_said(rows):
    assert sum(row.recommended for row in rows) > 100
    assert sum(row.broken for row in rows) <= 0.05 * sum(row.runs for row in rows)
    assert max(row.broken / row.runs for row in rows) <= 0.15  # 5%, and three standard errors of 40 runs


def test_where_confidence_tells_nothing_it_is_said(rows):
    uninformative = [row for row in rows if row.name.endswith("lsat-ar") and "haiku" in row.name]
    assert sum(row.silent for row in uninformative) > 0.5 * sum(row.runs for row in uninformative)
    assert sum(row.recommended for row in uninformative) == 0
