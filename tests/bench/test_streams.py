"""A small part of `streams.py`: that the figures it prints hold, not how long it takes."""

import asyncio
import importlib.util
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("streams_bench", Path(__file__).with_name("streams.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_deep_tier_is_asked_within_two_events_of_the_confidences_delimiter(bench):
    assert max(asyncio.run(bench.events_beyond_the_delimiter(3, pace_s=0.2))) <= 2


def test_nothing_is_left_of_many_streams_a_third_of_them_left_midway(bench):
    threads = threading.active_count()
    left = asyncio.run(bench.many(20, 3, pace_s=0.03))
    assert left.recorded == left.calls > 20
    assert left.left_midway > 3
    assert (left.spans_open, left.tasks, left.connections, left.upstream) == (0, 0, 0, 0)
    assert threading.active_count() == threads
