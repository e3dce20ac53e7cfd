"""A small part of `counting.py`: that all counts of 2,000 calls agree."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("counting_bench", Path(__file__).with_name("counting.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_callers_api_spans_metrics_and_store_count_the_same(bench):
    rows = bench.run(2_000)
    print(*bench.table(rows), sep="\n")
    assert [row.name for row in rows if not row.agrees] == []
    # Figures must not agree because all are zero.
    happened = {row.name for row in rows if any(row.figures)}
    assert {f"{bench.HAIKU} {status}" for status in bench.STATUSES} <= happened
    assert {
        f"reason {reason}" for reason in ("bypass", "low_confidence", "no_answer", "malformed", "refusal")
    } <= happened
    assert {"outcome ship", "outcome escalate", "outcome error"} <= happened


def test_a_row_agrees_if_all_sources_do_that_have_the_figure(bench):
    assert bench.Row("calls", (3, None, 3, 3, 3)).agrees
    assert not bench.Row("calls", (3, None, 3, 3, 2)).agrees
    assert bench.Row("cost", (None, None, 0.1, 0.1 + 1e-9, 0.1), tolerance=1e-6).agrees
