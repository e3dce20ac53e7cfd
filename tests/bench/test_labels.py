"""A small part of `labels.py`: how many routes each place shows, and that every call is counted once."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
PROCESSES, LIVES = 2, 3


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("labels_bench", Path(__file__).with_name("labels.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def names_of(bench, kind):
    words = bench.words(bench.ROUTES, seed=1)
    return [
        [bench.ids(life, process) if kind == "ids" else words for life in range(LIVES)] for process in range(PROCESSES)
    ]


@pytest.mark.parametrize(("kind", "routes"), [("ids", 1), ("words", 201)])
def test_no_place_shows_more_than_the_limit_and_every_call_is_counted(bench, store_url, kind, routes):
    bench._make(store_url)
    made, meters = bench.live(store_url, names_of(bench, kind), apart=False)
    reading = bench.read(store_url, made, meters, now=bench.NOW + (LIVES - 1) * bench.APART_S + bench.SECONDS + 1.0)
    assert made == PROCESSES * LIVES * bench.SECONDS * bench.ROUTES
    assert reading.counted == reading.in_seconds == made
    assert reading.folded == (0 if kind == "ids" else made * 20 // 220)
    shown = (reading.receipt, reading.status, reading.metrics, reading.console)
    assert shown == (routes,) * 4
    assert reading.meters <= 201
    assert reading.page_mb < 3


def test_two_services_on_one_store_lose_none_of_their_busy_routes(bench, store_url):
    bench._make(store_url)
    assert bench.services(store_url, processes=1, count=40, rounds=5, apart=False) == (0, 0)
