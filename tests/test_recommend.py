"""The command `recommend`, on a small file and on a store."""

import json
import time
from random import Random

import pytest

from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.backtest.recommend import evenly_sampled, separates, why_none
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

GRID = {"thresholds": [0.8, 0.9], "certainty": 0.95}


@pytest.fixture(autouse=True)
def url(monkeypatch, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", url)
    return url


def run(capsys, *arguments):
    status = main(["recommend", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def file_of(tmp_path, *rows):
    path = tmp_path / "outcomes.csv"
    lines = [f"{confidence},{correct}" for confidence, correct, times in rows for _ in range(times)]
    path.write_text("\n".join(["cheap_confidence,cheap_correct", *lines, ""]))
    return path


def advice(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_the_lowest_threshold_that_surely_holds_the_limit_is_recommended(capsys, tmp_path):
    file = file_of(tmp_path, (0.95, 1, 990), (0.95, 0, 10), (0.7, 1, 300), (0.7, 0, 200), ("", 1, 7))
    found = advice(capsys, "--limit", 0.05, "--file", file)
    assert found["threshold"] == 0.75
    assert (found["why"], found["graded"], found["n"]) == ("holds", 1_000, 1_500)
    assert found["false_confident_rate"] == pytest.approx(0.01)
    assert found["escalation_rate"] == pytest.approx(507 / 1507)
    assert found["separates"] is True
    assert "5.0% of cases" in found["guarantee"]


def test_too_few_grades_are_said_to_be_too_few_and_how_many_more_it_takes(capsys, tmp_path):
    file = file_of(tmp_path, (0.95, 1, 40), (0.95, 0, 1))
    found = advice(capsys, "--limit", 0.05, "--file", file)
    assert found["threshold"] is None
    assert found["why"].startswith("not enough grades: about ")
    more = int(found["why"].split()[4])
    file = file_of(tmp_path, (0.95, 1, 40 + 2 * more), (0.95, 0, 1 + more // 20))
    assert advice(capsys, "--limit", 0.05, "--file", file)["threshold"] is not None


def test_confidence_that_tells_nothing_is_said_to(capsys, tmp_path):
    rows = [(confidence, correct, 200) for confidence in (0.85, 0.9, 0.95) for correct in (0, 1)]
    found = advice(capsys, "--limit", 0.2, "--file", file_of(tmp_path, *rows))
    assert (found["threshold"], found["why"]) == (None, "confidence does not separate here")
    assert found["auroc"] == pytest.approx(0.5)


def test_from_the_store_nothing_below_base_is_tried_and_hindsight_is_left_out(capsys, url):
    store = Store(url)
    migrate(store)
    judge = grader_version(Settings())
    now = time.time()

    def row(number, verdict, **changes):
        return {
            "call_id": f"call-{number}", "grader_model": judge.model, "grader_prompt": judge.prompt,
            "verdict": verdict, "failure": "", "reason": "", "at": now, "called_at": now - 60, "route": "support",
            "input_class": "", "shipped": True, "confidence": 0.95, "policy_version": 0, "inclusion": 0.5,
            "batch": False, "cost_nusd": None, **changes,
        }  # fmt: skip

    def fill(connection):
        for number in range(300):
            grades.add(connection, row(number, "correct"))
        for number in range(300, 400):
            grades.add(connection, row(number, "incorrect", steered=True))

    store.transact(fill)
    store.close()
    found = advice(capsys, "--limit", 0.05)
    assert (found["threshold"], found["graded"]) == (0.8, 300)
    assert min(each["threshold"] for each in found["thresholds"]) == 0.8
    assert run(capsys, "--limit", 0.05)[0] == 0


@pytest.mark.parametrize(
    "wrong", [["--limit", "2"], ["--limit", "0.1", "--certainty", "1"], ["--limit", "0.1", "--where", "a=b"], []]
)
def test_wrong_input_is_a_usage_error(capsys, wrong):
    assert run(capsys, *wrong)[0] == 2


def test_grades_of_unequal_chance_are_thinned_to_equal_ones():
    random = Random(1)
    many = evenly_sampled([(0.9, True, 0.2)] * 2_000 + [(0.9, False, 0.01)] * 100, random)
    assert sum(not wrong for _, wrong in many) == 100
    assert 70 <= sum(wrong for _, wrong in many) <= 130
    assert evenly_sampled([], random) == []


def test_why_there_is_none():
    assert why_none([], limit=0.1, **GRID) == "no grades"
    bad = [(0.95, True)] * 60 + [(0.95, False)] * 60 + [(0.85, True)] * 100 + [(0.85, False)] * 20
    assert separates(bad) is True
    assert why_none(bad, limit=0.1, **GRID) == "at every threshold more answers are wrong than the limit allows"
