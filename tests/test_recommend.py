"""The command `recommend`, on a small file and on a store."""

import json
import time
from random import Random

import pytest
from sqlalchemy import insert

from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.backtest.direct_classes import CLASS_COUNTERS, direct_classes
from cheapdeep_ops.guard.backtest.recommend import ErrorSharing, evenly_sampled, recommended, separates, why_none
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.tables.call_tables import Bucket
from cheapdeep_ops.store.tables.row import table_of
from tests.stores import migrated

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
    store = migrated(url)
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


@pytest.mark.parametrize("sharing", ErrorSharing)
@pytest.mark.parametrize("thresholds", [1, 2, 3, 11])
def test_the_permitted_error_is_shared_out_and_no_more(sharing, thresholds):
    shares = sharing.shares(thresholds)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_a_threshold_that_holds_passes_its_part_of_the_error_on():
    # 59 right answers refute a limit of 5% at an error of 5%, and at no smaller one.
    grades = [(0.95, False)] * 59 + [(0.85, False)] * 1
    wanted = {"thresholds": [0.8, 0.9], "limit": 0.05, "certainty": 0.95}
    assert recommended(grades, **wanted, test=ErrorSharing.SEQUENCE).threshold == 0.8
    assert recommended(grades, **wanted, test=ErrorSharing.GRID).threshold is None
    # 72 are enough for half of the error; the lower threshold then has all of it.
    grades = [(0.95, False)] * 75 + [(0.85, True)] + [(0.85, False)] * 20
    assert recommended(grades, **wanted, test=ErrorSharing.GRID).threshold == 0.8


def test_a_sequence_stops_at_the_first_threshold_that_does_not_hold():
    grades = [(0.95, True)] * 3 + [(0.85, False)] * 400
    wanted = {"thresholds": [0.8, 0.9], "limit": 0.05, "certainty": 0.95}
    assert recommended(grades, **wanted, test=ErrorSharing.SEQUENCE).threshold is None
    assert recommended(grades, **wanted, test=ErrorSharing.GRID).threshold == 0.8


@pytest.mark.parametrize("sharing", ErrorSharing)
def test_a_limit_is_broken_in_few_samples_where_every_threshold_is_just_above_it(sharing):
    random = Random(sharing.value)
    wanted = {"thresholds": [0.8, 0.85, 0.9, 0.95], "limit": 0.1, "certainty": 0.9, "test": sharing}
    broken = 0
    for _ in range(400):
        sample = [(random.choice((0.8, 0.86, 0.91, 0.96)), random.random() < 0.1001) for _ in range(100)]
        broken += recommended(sample, **wanted).threshold is not None
    assert broken <= 0.1 * 400 + 3 * (400 * 0.1 * 0.9) ** 0.5


def costs(**changes):
    counts = dict.fromkeys(CLASS_COUNTERS, 0)
    return {**counts, **changes}


def class_with(triaged, escalated, *, triage=1_000_000, deep=5_000_000):
    """A class whose triage and deep calls have these prices in billionths of a dollar."""
    return costs(
        calls=triaged, triaged=triaged, escalated=escalated, base_escalated=escalated,
        triage_cost_nusd=triaged * triage, cost_nusd=triaged * triage + escalated * deep, baseline_nusd=triaged * deep,
    )  # fmt: skip


def test_a_class_is_named_only_if_it_surely_escalates_beyond_its_break_even():
    found = direct_classes(
        {
            ("a", "hard"): class_with(1_000, 950),
            ("a", "easy"): class_with(1_000, 300),
            ("a", "unclear"): class_with(100, 82),
            ("a", "rare"): class_with(20, 20),
            ("b", "always"): class_with(500, 500),
        }
    )
    assert [(each.route, each.input_class) for each in found] == [("a", "hard"), ("b", "always")]
    hard, always = found
    assert [hard.break_even, always.break_even] == pytest.approx([0.8, 0.8])
    assert hard.saved_usd == pytest.approx(0.001 - 0.05 * 0.005)
    assert always.saved_usd == pytest.approx(0.001)


def test_a_class_of_shadow_mode_is_judged_by_what_routing_would_have_cost():
    # The deep tier answered all of them, and 5% would have shipped.
    shadowed = costs(
        calls=1_000, triaged=1_000, escalated=1_000, base_escalated=950, shadowed=1_000,
        triage_cost_nusd=10**9, cost_nusd=6 * 10**9, baseline_nusd=5 * 10**9,
        shadow_cost_nusd=10**9 + 950 * 5_000_000, shadow_baseline_nusd=5 * 10**9,
    )  # fmt: skip
    easy = {**shadowed, "base_escalated": 200, "shadow_cost_nusd": 10**9 + 200 * 5_000_000}
    (found,) = direct_classes({("a", "hard"): shadowed, ("a", "easy"): easy})
    assert (found.input_class, found.break_even) == ("hard", pytest.approx(0.8))


def test_a_class_that_costs_less_without_triage_is_shown(capsys, url):
    store = migrated(url)
    row = {"route": "support", "input_class": "contract", "process": "p", "at": int(time.time()) - 60}
    store.transact(
        lambda connection: connection.execute(insert(table_of(Bucket)).values(**row, **class_with(400, 398)))
    )
    store.close()
    (found,) = advice(capsys, "--limit", 0.05)["direct_classes"]
    assert (found["input_class"], found["triaged"], found["break_even_rate"]) == ("contract", 400, pytest.approx(0.8))
    assert "Cheaper sent straight to the deep tier" in run(capsys, "--limit", 0.05)[1]
