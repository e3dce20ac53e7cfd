"""That the reader of replies neither changes nor loses answers: a small part of `answers.py`, and much of it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def bench():
    """The bench beside this file: a script, not a module of a package."""
    spec = importlib.util.spec_from_file_location("answers_bench", Path(__file__).with_name("answers.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("count", "most_escalated", "most_changed"),
    [(3_000, 0.015, 0.03), pytest.param(80_000, 0.005, 0.01, marks=pytest.mark.thorough)],
)
def test_answers_ship_as_they_were_meant_or_escalate(bench, count, most_escalated, most_changed):
    counts = bench.measure(count, 1, keep=3)
    assert sum(each.answers for each in counts.values()) == count
    assert {kind for _, kind in counts} == set(bench.KINDS)
    for (writer, kind), each in counts.items():
        assert (each.controls, each.uneven) == (0, 0), (writer, kind)
        if writer == "careful":
            assert (each.changed, each.begun) == (0, 0), (kind, each.examples)
            assert each.escalated <= most_escalated * each.answers, (kind, each.examples)
    latex = counts["careless", "latex"]
    assert latex.changed <= most_changed * latex.answers, latex.examples


def test_the_writers_write_what_json_readers_read(bench):

    for writer, _, answer, reply, _ in bench.cases(2_000, 2, list(bench.KINDS)):
        if writer == "careful":
            assert json.loads(reply[reply.index("{") : reply.rindex("}") + 1])["answer"] == answer
