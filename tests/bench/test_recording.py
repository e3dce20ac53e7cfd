"""A small part of `recording.py`: that nothing is lost and memory stays flat, not how long it takes."""

import importlib.util
import sys
import tracemalloc
from pathlib import Path

import pytest

from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder

pytestmark = pytest.mark.thorough
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("recording_bench", Path(__file__).with_name("recording.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("is_kept", [False, True])
def test_everything_that_is_put_is_stored(bench, store_url, is_kept):
    reading = bench.measure(store_url, 2_000, seconds=1.5, is_kept=is_kept)
    assert reading.stored == reading.put > 1_000
    assert reading.dropped == 0


def test_memory_does_not_grow_with_the_calls(bench, store_url):
    recorder = Recorder(Settings(store_url=store_url, sample_rate=0), clock=lambda: NOW, background=False)
    taken = []
    tracemalloc.start()
    for second in range(60):
        for number in range(200):
            recorder.put(bench.decision(number, NOW + second))
        recorder.drain(NOW + second)
        taken.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    recorder.close()
    # Ten seconds are open at a time, and the caches of all names are full by then.
    assert max(taken[40:]) < 1.05 * max(taken[20:40])
