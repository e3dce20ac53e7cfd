"""What the table of `drift.py` must show, on some of the recorded streams."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "recorded"


@pytest.fixture(scope="module")
def bench():
    if not RECORDED.is_dir():
        pytest.skip("needs ../shared/data")
    spec = importlib.util.spec_from_file_location("drift_bench", Path(__file__).with_name("drift.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_recorded_shifts_are_found_not_before_and_let_go_after(bench):
    known = bench.recorded(RECORDED)
    rows = [bench.measure(known, shift, runs=3) for shift in bench.shifts(known)]
    runs = sum(row.runs for row in rows)
    assert runs >= 60
    assert sum(row.early for row in rows) <= 0.04 * runs < sum(row.plain_early for row in rows)
    assert sum(row.missed for row in rows) <= 0.04 * runs
    assert sum(row.let_go_early for row in rows) <= 0.05 * runs
    assert sum(row.never_let_go for row in rows) <= 0.05 * runs
