"""The command `backtest`, on a small file and on a store that the real recorder and guard have filled."""

import json
from dataclasses import replace
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.commands import backtest
from cheapdeep_ops.guard.actions.thresholds import pin
from cheapdeep_ops.guard.backtest.counterfactual import TriageCounts, of_stored
from cheapdeep_ops.guard.backtest.threshold_cost import PeriodCost, estimated_cost, paid_cost, spent_in
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.statistics.intervals import wilson
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades, incidents, recording
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.store.recording import Heartbeat
from tests.guard import conftest as guards
from tests.stores import migrated

LINES = [  # confidence, cheap, deep
    *["0.95,1,1"] * 60, *["0.95,0,1"] * 4, *["0.85,1,1"] * 20, *["0.85,0,1"] * 10, *["0.6,0,0"] * 4, *[",,1"] * 2,
]  # fmt: skip


@pytest.fixture(autouse=True)
def url(monkeypatch, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", url)
    return url


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join(["cheap_confidence,cheap_correct,deep_correct", *LINES, ""]))
    return path


@pytest.fixture
def store(url):
    store = migrated(url)
    yield store
    store.close()


@pytest.fixture
def town(store, url, monkeypatch):
    """A town whose clock is that of the command."""
    town = guards.Town(store, Settings(store_url=url), guards.town_rules(), guards.Inbox())
    monkeypatch.setattr(backtest, "time", town.clock)
    yield town
    town.recorder.close()


def run(capsys, *arguments):
    status = main(["backtest", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def run_json(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def grade_row(number, *, confidence, verdict, at, **changes):
    judge = grader_version(Settings())
    return {
        "call_id": f"g{number}", "grader_model": judge.model, "grader_prompt": judge.prompt, "verdict": verdict,
        "failure": "", "reason": "", "at": at, "called_at": at, "route": "support", "input_class": "",
        "shipped": True, "confidence": confidence, "policy_version": 0, "inclusion": 0.5, "output_tokens": 1,
        "cost_nusd": 0, **changes,
    }  # fmt: skip


def test_a_file_tells_what_every_threshold_would_have_done(capsys, file):
    found = run_json(capsys, file, "--threshold", 0.9, "--threshold", 0.5, "--threshold", 0.8)
    low, middle, high = found["thresholds"]
    assert [each["threshold"] for each in found["thresholds"]] == [0.5, 0.8, 0.9]
    assert [each["escalation_rate"] for each in found["thresholds"]] == [0.02, 0.06, 0.36]
    assert high["escalation_interval"] == pytest.approx(wilson(36, 100, 0.95))
    assert (low["false_confident_rate"], low["graded"]) == (18 / 98, 98)
    assert middle["false_confident_interval"] == pytest.approx(wilson(14, 94, 0.95))
    assert (high["false_confident_rate"], high["graded"]) == (4 / 64, 64)
    assert (high["cascade_accuracy"], high["compared"]) == ((60 + 30 + 2) / 100, 100)
    assert all(each["data"] for each in found["thresholds"])
    assert (found["n"], found["source"], found["alerts"]) == (100, str(file), [])


@pytest.mark.thorough
def test_a_file_tells_what_confidence_is_worth_over_all_of_its_range(capsys, file):
    found = run_json(capsys, file)["confidence"]
    assert [(each["low"], each["graded"]) for each in found["bins"]] == [(0.6, 4), (0.85, 30), (0.95, 64)]
    assert (found["graded"], found["wrong"]) == (98, 18)
    gaps = [abs(each["claims"] - each["is_right"]) * each["share"] for each in found["bins"]]
    assert found["expected_calibration_error"] == pytest.approx(sum(gaps))
    assert found["auroc_interval"][0] < found["auroc"] < found["auroc_interval"][1]
    assert "Is confidence worth anything?" in run(capsys, file)[1]


def test_a_file_is_priced_from_what_the_replay_has_played(capsys, file):
    found = run_json(capsys, file, "--threshold", 0.5, "--threshold", 0.8, "--threshold", 0.9)
    low, base, high = found["thresholds"]
    paid = found["paid"]
    assert (paid["calls"], paid["unpriced_calls"], paid["base_threshold"], paid["why"]) == (100, 0, 0.8, "")
    assert paid["estimate_at_base_usd"] == base["cost_usd"] == pytest.approx(paid["cost_usd"], rel=0.1)
    assert low["cost_usd"] < base["cost_usd"] < high["cost_usd"]
    assert base["cost_per_call_usd"] == base["cost_usd"] / 100
    # 34 more escalations of 100 calls cost 34% of what all would have at the deep tier alone.
    assert low["saving"] - high["saving"] == pytest.approx(0.34)
    assert "placeholder" in base["cost_basis"]


def test_a_saving_of_a_file_is_shown_only_if_it_rests_on_the_files_tokens(capsys, tmp_path):
    bare, real = tmp_path / "bare.csv", tmp_path / "real.csv"
    header = "cheap_confidence,cheap_correct"
    bare.write_text(header + "\n" + "0.9,1\n0.5,0\n" * 20)
    tokens = "input_tokens,output_tokens,deep_input_tokens,deep_output_tokens"
    real.write_text(f"{header},{tokens}\n" + "0.9,1,700,200,600,260\n0.5,0,700,20,600,260\n" * 20)
    shown = {path: run(capsys, path, "--threshold", 0.8)[1] for path in (bare, real)}
    rows = {path: next(line for line in text.splitlines() if line.startswith("0.8 ")) for path, text in shown.items()}
    assert rows[bare].split("\u2502")[-2].strip() == "unknown"
    assert rows[real].split("\u2502")[-2].strip() == f"{(1 - (0.0017 + 0.0008 + 0.0095) / 0.019) * 100:.1f}%"
    assert "from tokens of the file" in shown[real]


CALM_RULES = """
rules:
  - alert: RecorderDropping
    signal: recorder_dropping
    for: 0s
    keep_firing_for: 0s
    actions: [notify]
"""


@pytest.mark.thorough
def test_rules_to_try_are_played_through_the_whole_product(capsys, tmp_path):
    lines = ["0.95,1,1"] * 300 + ["0.3,0,1"] * 900
    (tmp_path / "storm.csv").write_text("\n".join(["cheap_confidence,cheap_correct,deep_correct", *lines]))
    found = run_json(capsys, tmp_path / "storm.csv", "--threshold", 0.8)
    assert "EscalationStorm" in {turn["rule"] for turn in found["alerts"]}
    assert found["alerts_at_threshold"] == 0.8
    (tmp_path / "calm.yaml").write_text(CALM_RULES)
    found = run_json(capsys, tmp_path / "storm.csv", "--threshold", 0.8, "--rules", tmp_path / "calm.yaml")
    assert found["alerts"] == found["policy_changes"] == []


@pytest.mark.thorough
def test_where_nothing_that_would_ship_is_known_to_be_right_the_rate_is_unknown(capsys, file):
    (only,) = run_json(capsys, file, "--threshold", 1)["thresholds"]
    assert only["escalation_rate"] == 1
    assert only["false_confident_rate"] is only["false_confident_interval"] is None
    assert "known" in only["why"]


def test_the_store_tells_of_thresholds_from_the_base_up(capsys, store, town):
    town.run(10, [0.95] * 6 + [0.85] * 2 + [0.5, None])
    at, ids = town.clock() - 5, count()
    rows = [(0.95, "correct")] * 27 + [(0.95, "incorrect")] * 3 + [(0.85, "incorrect")] * 10
    for confidence, verdict in rows:
        row = grade_row(next(ids), confidence=confidence, verdict=verdict, at=at)
        store.transact(lambda connection, row=row: grades.add(connection, row))
    hindsight = grade_row(next(ids), confidence=0.95, verdict="incorrect", at=at, steered=True)
    store.transact(lambda connection: grades.add(connection, hindsight))

    found = run_json(capsys, "--threshold", 0.7, "--threshold", 0.8, "--threshold", 0.9, "--threshold", 0.99)
    below, base, high, highest = found["thresholds"]
    assert (found["n"], found["source"]) == (100, "store")
    assert below["data"] is False
    assert below["escalation_rate"] is below["false_confident_rate"] is None
    assert "below the base threshold" in below["why"]
    assert (base["escalation_rate"], base["false_confident_rate"], base["graded"]) == (0.2, 13 / 40, 40)
    assert (high["escalation_rate"], high["graded"]) == (0.4, 30)
    assert high["false_confident_rate"] == pytest.approx(0.1)
    assert high["false_confident_interval"] == pytest.approx(wilson(3, 30, 0.95))
    assert (highest["escalation_rate"], highest["false_confident_rate"]) == (1, None)
    assert "no grade" in highest["why"]
    assert found["period"]["is_whole"] is False
    assert found["period"]["since"] == pytest.approx(town.clock() - 10, abs=1)
    assert run_json(capsys, "--route", "elsewhere", "--threshold", 0.8)["n"] == 0


def test_the_store_prices_a_threshold_from_what_was_paid(capsys, town):
    town.run(10, [0.95] * 6 + [0.85] * 2 + [0.5, None])
    found = run_json(capsys, "--threshold", 0.7, "--threshold", 0.8, "--threshold", 0.9, "--threshold", 1)
    below, base, high, highest = found["thresholds"]
    assert base["cost_usd"] == pytest.approx(found["paid"]["cost_usd"])
    assert base["cost_usd"] == pytest.approx(100 * 0.0004 + 20 * 0.004)
    assert base["cost_per_call_usd"] == pytest.approx(0.0012)
    assert base["saving"] == pytest.approx(0.7)
    assert high["cost_usd"] == pytest.approx(100 * 0.0004 + 40 * 0.004)
    assert highest["saving"] == pytest.approx(-0.1)
    assert below["cost_usd"] is below["cost_per_call_usd"] is below["saving"] is None
    assert below["cost_basis"].startswith("unknown")
    _, says, _ = run(capsys)
    assert "Paid: $0.120000 for 100 calls; $0.120000 by the estimate at 0.8" in says
    assert "Cost at 0.7: unknown: the escalation rate is unknown" in says
    assert "Cost at 0.8, 0.9, 0.95: estimate" in says


@pytest.mark.thorough
def test_what_was_paid_while_raised_is_beside_no_estimate(capsys, store, town):
    town.do(pin, threshold=0.9, route="support", author="ann", why="a try")
    town.run(10, [0.95, 0.85])
    found = run_json(capsys, "--threshold", 0.8, "--threshold", 0.9)
    assert [each["cost_usd"] for each in found["thresholds"]] == pytest.approx([0.008, 0.048])
    assert found["paid"]["cost_usd"] == pytest.approx(0.048)
    assert found["paid"]["estimate_at_base_usd"] is None
    assert found["paid"]["why"] == "10 calls had another outcome than at the base threshold"
    assert "10 calls had another outcome" in run(capsys)[1]


def day_of_seconds(store, now):
    """A day of two routes in seconds, with storms of several strengths, short and long ones."""
    random, rows = Random(7), []
    storms = [(3, 900, 0.6), (7, 200, 0.9), (11, 3_000, 0.45), (15, 60, 0.9), (19, 1_500, 0.5)]
    for at in range(int(now) - 86_400, int(now), 2):
        hour, second = divmod(at - int(now) + 86_400, 3_600)
        rate = next((rate for begin, lasts, rate in storms if hour == begin and second < lasts), 0.15)
        for route, calls in (("support", 3), ("faq", 1)):
            hits = sum(random.random() < (rate if route == "support" else 0.2) for _ in range(calls))
            rows.append({
                "route": route, "input_class": "", "process": "p", "at": at, "calls": calls, "triaged": calls,
                "escalated": hits, "base_escalated": hits, "shipped": calls - hits,
                "confidence": {"50": hits, "90": calls - hits}, "base_reasons": {"low_confidence": hits},
                "cost_nusd": calls * 10**6, "triage_cost_nusd": calls * 10**5, "baseline_nusd": calls * 10**7,
            })  # fmt: skip
    beat = Heartbeat(process="p", kind="router", started_at=0, seen_at=now, base_threshold=0.8, closed_before=int(now))
    store.transact(recording.prepare_counters(buckets=rows, totals=[]))
    store.transact(recording.prepare_beat(beat))


@pytest.mark.thorough
def test_a_day_in_minutes_says_what_the_same_day_in_seconds_says(capsys, store, monkeypatch):
    now = 20_000 * 86_400.0 + 86_400
    monkeypatch.setattr(backtest, "time", lambda: now)
    day_of_seconds(store, now)
    seconds = run_json(capsys, "--threshold", 0.8, "--threshold", 0.9)
    retention = Retention(store, Settings())
    while retention.step(now):
        pass
    minutes = run_json(capsys, "--threshold", 0.8, "--threshold", 0.9)
    assert [seconds["period"].pop("alerts_resolution_s"), minutes["period"].pop("alerts_resolution_s")] == [1, 60]
    assert "Alerts (from counts of each minute): " in run(capsys)[1]
    # Thresholds, counts and costs are equal; the alerts are the same ones, each at most two minutes later or earlier.
    alerts = [each.pop("alerts") for each in (seconds, minutes)]
    assert seconds == minutes
    kinds = [[(each["rule"], each["scope"], each["state"]) for each in some] for some in alerts]
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) >= 8
    delays = [there["at"] - here["at"] for here, there in zip(*alerts, strict=True)]
    assert max(map(abs, delays)) <= 120, delays


@given(
    escalated=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    triaged=st.integers(0, 1000),
    others=st.integers(0, 1000),
    triage_usd=st.floats(0, 10),
    baseline_usd=st.floats(0.01, 100),
)
def test_more_escalations_never_cost_less(escalated, triaged, others, triage_usd, baseline_usd):
    spent = PeriodCost(
        calls=triaged + others, triaged=triaged, moved=0, unpriced=0, cost_usd=1.0, triage_usd=triage_usd,
        baseline_usd=baseline_usd, prices="",
    )  # fmt: skip
    low, high = (estimated_cost(spent, rate)["cost_usd"] for rate in sorted(escalated))
    if not spent.calls:
        assert low is high is None
        return
    assert low <= high + 1e-12
    assert triage_usd - 1e-9 <= low
    assert high <= triage_usd + baseline_usd + 1e-9
    assert estimated_cost(spent, 1.0)["saving"] == pytest.approx(-triage_usd / baseline_usd)


def test_one_unpriced_call_leaves_the_cost_of_all_others_known_and_says_so():
    counts = {"calls": 4_792, "triaged": 4_792, "escalated": 1_000, "base_escalated": 1_000}
    costs = {"cost_nusd": 4_791 * 10**6, "triage_cost_nusd": 4_791 * 10**5, "baseline_nusd": 4_791 * 10**7}
    sums = Sums(**counts, **costs, unpriced=1, unpriced_triaged=1)
    spent = spent_in(sums, prices="as listed")
    found, paid = estimated_cost(spent, 0.5), paid_cost(spent, at_base=1.0)
    assert found["cost_usd"] == pytest.approx(4_791 * (0.0001 + 0.5 * 0.01))
    assert found["cost_per_call_usd"] == pytest.approx(0.0001 + 0.5 * 0.01)
    assert found["saving"] == pytest.approx(1 - (0.0001 + 0.5 * 0.01) / 0.01)
    assert found["cost_basis"].endswith(" over 4,791 of 4,792 calls; as listed")
    assert (paid["cost_usd"], paid["cost_per_call_usd"]) == (pytest.approx(4.791), pytest.approx(0.001))
    assert (paid["calls"], paid["unpriced_calls"], paid["saving"], paid["why"]) == (4_792, 1, pytest.approx(0.9), "")


@given(triaged=st.integers(1, 50), others=st.integers(0, 50), rate=st.floats(0, 1), data=st.data())
def test_unpriced_calls_change_no_mean_of_the_priced_ones(triaged, others, rate, data):
    def spent(calls, triaged, **unpriced):
        return PeriodCost(calls=calls, triaged=triaged, moved=0, cost_usd=7.0, triage_usd=2.0, baseline_usd=20.0,
                          prices="", **unpriced)  # fmt: skip

    more = data.draw(st.integers(1, triaged + others))
    of_triaged = data.draw(st.integers(0, more))
    plain = spent(triaged + others, triaged, unpriced=0)
    beside = spent(triaged + others + more, triaged + of_triaged, unpriced=more, unpriced_triaged=of_triaged)
    names = ("cost_usd", "cost_per_call_usd", "saving")
    for told in (lambda period: estimated_cost(period, rate), lambda period: paid_cost(period, at_base=1.0)):
        assert [told(beside)[name] for name in names] == pytest.approx([told(plain)[name] for name in names])


def test_fewer_priced_calls_than_half_leave_the_cost_unknown_and_say_why():
    sums = Sums(calls=10, triaged=8, unpriced=6, cost_nusd=10, baseline_nusd=100)
    found = estimated_cost(spent_in(sums, prices=""), 0.5)
    assert found["cost_usd"] is found["saving"] is None
    assert found["cost_basis"] == "unknown: 6 of 10 calls are unpriced"
    assert paid_cost(spent_in(sums, prices=""), at_base=None)["why"] == "6 of 10 calls are unpriced"


def test_a_backtest_of_the_store_says_over_how_many_calls_its_costs_are(capsys, town):
    town.run(10, [0.95] * 6 + [0.85] * 2 + [0.5, None])
    town.recorder.put(replace(town.decisions[-1], started_at=town.clock(), cost_usd=None))
    town.clock.advance(1)
    town.look()
    found = run_json(capsys, "--threshold", 0.8)
    assert found["thresholds"][0]["cost_per_call_usd"] == pytest.approx(0.0004 + 21 / 101 * 0.004)
    assert (found["paid"]["cost_usd"], found["paid"]["unpriced_calls"]) == (pytest.approx(0.12), 1)
    assert "Paid: $0.120000 over 100 of 101 calls" in run(capsys)[1]


def test_grades_weigh_by_the_inverse_of_their_chance():
    counted = TriageCounts(triaged=100, confidence={"90": 100}, base_reasons={})
    found = of_stored(counted, [(0.9, True, 0.5), (0.9, False, 0.1)], 0.8, base=0.8)
    assert found["false_confident_rate"] == pytest.approx(2 / 12)


def test_what_hundredths_cannot_tell_is_said():
    counted = TriageCounts(triaged=100, confidence={"29": 10, "85": 20, "90": 60}, base_reasons={"no_answer": 15})
    assert of_stored(counted, [], 0.29, base=0.2)["escalation_rate"] == 0.15
    found = of_stored(counted, [], 0.855, base=0.8)
    assert found["escalation_rate"] == 0.45
    assert "hundredths" in found["why"]
    assert "5 unusable replies" in found["why"]


@pytest.mark.thorough
def test_the_storm_rule_run_again_says_when_the_guard_did(capsys, store, town):
    town.run(300, [0.95] * 2)
    town.run(240, [0.5, 0.5])
    town.run(900, [0.95] * 2)
    town.recorder.drain(town.clock())
    with store.reading() as connection:
        told = [each for each in incidents.incidents(connection) if each["rule"] == "EscalationStorm"]
    found = run_json(capsys, "--last", "2h")["alerts"]
    assert [turn["state"] for turn in found] == ["firing", "resolved"]
    assert {turn["scope"] for turn in found} == {"support"}
    assert [turn["at"] for turn in found] == pytest.approx([told[0]["started_at"], told[0]["resolved_at"]], abs=5)


def put_grades(store, *stretches, end, route="support"):
    """Grades one every ten seconds until `end`; each stretch is (how many, every how manieth is wrong, or 0)."""
    verdicts = [
        "incorrect" if every and number % every == 0 else "correct" for n, every in stretches for number in range(n)
    ]
    begin = end - 10 * len(verdicts)

    def put(connection):
        for number, verdict in enumerate(verdicts):
            at = begin + 10 * number
            grades.add(connection, grade_row(f"{route}{number}", confidence=0.95, verdict=verdict, at=at, route=route))

    store.transact(put)
    return begin


@pytest.mark.thorough
def test_the_quality_rules_run_again_over_the_grades(capsys, store, town):
    town.run(10, [0.95])
    begin = put_grades(store, (300, 50), (100, 2), (300, 0), end=town.clock() - 60)
    found = run_json(capsys, "--last", "4h")
    turns = [turn for turn in found["alerts"] if turn["rule"] == "FalseConfidenceClimbing"]
    assert [(turn["scope"], turn["state"]) for turn in turns] == [("support", "firing"), ("support", "resolved")]
    assert begin + 3_000 < turns[0]["at"] < begin + 4_000 < turns[1]["at"]
    assert found["grades_read"] == 700
    assert found["rules_without_data"] == []
    assert "FalseConfidenceClimbing" not in found["rules_not_run"]
    assert "FalseConfidenceTooHigh" in found["rules_not_run"]
    # What began before the period is known when it begins.
    since = turns[1]["at"] - 5
    late = run_json(capsys, "--last", f"{town.clock() - since:.0f}s")["alerts"]
    assert [turn["state"] for turn in late] == ["resolved"]
    assert run_json(capsys, "--route", "elsewhere")["grades_read"] == 0


def test_too_few_grades_are_no_good_news(capsys, store, town):
    town.run(10, [0.95])
    put_grades(store, (100, 1), end=town.clock() - 60)
    found = run_json(capsys)
    assert (found["alerts"], found["grades_read"]) == ([], 100)
    assert found["rules_without_data"] == ["FalseConfidenceClimbing"]
    assert "Rules with too few grades (100) to decide: FalseConfidenceClimbing" in run(capsys)[1]


def test_a_limit_for_false_confidence_can_be_tried(capsys, monkeypatch, store, town):
    town.run(10, [0.95])
    put_grades(store, (200, 4), end=town.clock() - 60)
    for limit, fires in ((0.1, True), (0.3, False)):
        monkeypatch.setenv("CHEAPDEEP_MAX_FALSE_CONFIDENT_RATE", str(limit))
        assert ("FalseConfidenceTooHigh" in {turn["rule"] for turn in run_json(capsys)["alerts"]}) is fires


@pytest.mark.thorough
def test_progress_goes_to_standard_error_alone(capsys, town):
    town.run(60, [0.95])
    status, out, err = run(capsys, "--json")
    assert status == 0
    assert json.loads(out)["n"] == 60
    assert "11 of 11 evaluations of EscalationStorm" in err or "12 of 12 evaluations of EscalationStorm" in err


def test_tiers_in_between_are_spoken_of(capsys, monkeypatch, town):
    town.run(10, [0.95])
    assert "in between" not in run_json(capsys)["thresholds"][-1]["cost_basis"]
    monkeypatch.setenv("CHEAPDEEP_TIERS", "claude-haiku-4-5,claude-sonnet-4-5,claude-opus-4-7")
    assert "tiers in between answer no call" in run_json(capsys)["thresholds"][-1]["cost_basis"]


@pytest.mark.thorough
def test_another_limit_would_have_kept_quiet(capsys, tmp_path, town):
    town.run(120, [0.95])
    town.run(240, [0.5, 0.5, 0.95])
    found = run_json(capsys)
    assert found["alerts"]
    assert "EscalationStorm" not in found["rules_not_run"]
    assert "SchedulerStalled" in found["rules_not_run"]
    rules = read_rulebook().model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    rules["rules"] = [
        {**rule, "signal": "base_escalation_rate", "limit": 0.9}
        for rule in rules["rules"]
        if rule["alert"] == "EscalationStorm"
    ]
    (tmp_path / "calm.yaml").write_text(json.dumps(rules))
    assert run_json(capsys, "--rules", tmp_path / "calm.yaml")["alerts"] == []


@pytest.mark.thorough
def test_there_are_words_for_people(capsys, file, town):
    town.run(60, [0.95, 0.5])
    for arguments, says in (((file,), str(file.name)), ((), "The store has data only since")):
        status, out, _ = run(capsys, *arguments, "--threshold", 0.7, "--threshold", 0.9)
        assert status == 0
        assert says in out
        assert "0.7" in out
        assert "Alerts:" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("/nowhere.csv",), "/nowhere.csv"),
        (("--threshold", "1.2"), "--threshold"),
        (("--threshold", "nan"), "--threshold"),
        (("--where", "a=b"), "--where"),
        (("--last", "5 parsecs"), "not a duration"),
        (("--last", "0s"), "longer than 0"),
        (("--route", " "), "--route"),
        (("FILE", "--last", "1h"), "--last"),
        (("FILE", "--route", "a"), "--route"),
        (("FILE", "--where", "domain=x"), "no column domain"),
        (("FILE", "--rules", "FILE"), "outcomes.csv"),
    ],
)
def test_wrong_usage_is_said_in_words_and_exits_with_2(capsys, file, store, arguments, says):
    status, _, err = run(capsys, *(file if each == "FILE" else each for each in arguments))
    assert status == 2
    assert says in err


def test_a_store_that_is_not_there_is_said(capsys):
    status, _, err = run(capsys)
    assert status == 1
    assert "there is no store" in err
