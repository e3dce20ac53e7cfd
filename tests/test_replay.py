import csv
import json
import logging
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from cheapdeep_ops import Settings
from cheapdeep_ops.cli import main
from cheapdeep_ops.demo import csv_file
from cheapdeep_ops.demo.recording import RecordedCall, RecordedTokens, read_recording
from cheapdeep_ops.demo.replay import Replay, ReplayOptions, Simulators
from cheapdeep_ops.errors import RecordingError, RulesError
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.testing import SimulatedGrader
from tests.corpus import pair_rows, stream_rows, write_csv

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "recorded"
HAIKU = "lifeeval_claude3haiku_to_sonnet4.csv"
CHEAP_MODELS = {
    HAIKU: ("claude-3-haiku-20240307",),
    "lifeeval_other_pairs.csv": (
        "Meta-Llama-3.1-8B-Instruct", "gemini-2.5-flash", "gpt-4o", "deepseek-v3", "claude-3-haiku-20240307",
    ),
}  # fmt: skip
"""LifeEval's files: NoamMichael/Comparing-Confidence-in-LLMs, 560aae7."""

THOROUGH = bool(os.environ.get("REPLAY_THOROUGH"))
"""Whether everything is replayed that there is: some minutes more."""

KEYS = {
    "calls", "shipped", "escalated", "escalation_rate", "reasons", "graded", "false_confident_rate",
    "false_confident_interval", "true_false_confident_rate", "cascade_accuracy", "cost_usd", "baseline_cost_usd",
    "policy_changes", "alerts", "cost_per_call_usd", "saving", "cost_basis",
}  # fmt: skip

CLIMBING = "FalseConfidenceClimbing"
Row = Mapping[str, Any]


@pytest.fixture(autouse=True)
def _handlers():
    """The command line sets logging up for its process, which is also that of the tests."""
    yield
    logging.getLogger().handlers = [each for each in logging.getLogger().handlers if "Capture" in type(each).__name__]


@pytest.fixture(scope="module")
def stage():
    with Simulators() as stage:
        yield stage


def at_hand(name: str) -> Path:
    path = RECORDED / name
    if not path.exists():
        pytest.skip("the recorded pairs are not at hand: they are not part of this repository")
    return path


def csv_rows(path: Path, where: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a file, read without the reader of the package."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


def sure(*, wrong: Iterable[int], n: int, confidence: float = 0.9, deep: bool | None = True) -> list[RecordedCall]:
    """Rows that ship, of which those numbered `wrong` are wrong."""
    missed = set(wrong)
    return [
        RecordedCall(
            number=number,
            confidence=confidence,
            cheap_correct=number not in missed,
            deep_correct=deep,
            domain="quiz",
            question="",
        )
        for number in range(n)
    ]


def renumbered(rows: Iterable[RecordedCall]) -> list[RecordedCall]:
    return [replace(row, number=number) for number, row in enumerate(rows)]


def played(
    stage: Simulators,
    rows: Sequence[RecordedCall],
    *,
    seed: int = 0,
    rate: float = 10.0,
    judge: SimulatedGrader | None = None,
    **settings: Any,
) -> dict[str, Any]:
    options = ReplayOptions(rate=rate, seed=seed, grader=judge or SimulatedGrader())
    with Replay(rows, settings=Settings(**settings), options=options, simulators=stage) as replay:
        for _ in replay.run():
            pass
        return replay.report()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `cheapdeep-ops replay`."""
    status = main(["replay", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    found: dict[str, Any] = json.loads(out)
    return found


def thresholds(n: int, changes: Sequence[Row], base: float) -> list[float]:
    """The threshold that was in force for each of `n` rows: that of its scope or of all, whichever is higher."""
    in_force, found, waiting = {"*": base}, [], list(changes)
    for number in range(n):
        while waiting and waiting[0]["at_call"] <= number:
            change = waiting.pop(0)
            in_force[change["scope"]] = change["to"] if change["applied"] else change["from"]
        found.append(max(in_force.values()))
    return found


def told_by_the_file(rows: Sequence[Row], changes: Sequence[Row], *, base: float = 0.8) -> dict[str, Any]:
    """What a replay must report, worked out from the rows alone and from when the threshold changed."""
    reasons: Counter[str] = Counter()
    shipped, compared = [], []
    for row, threshold in zip(rows, thresholds(len(rows), changes, base), strict=True):
        stated = str(row["cheap_confidence"]).strip()
        confidence = float(stated) if stated else None
        if confidence is None:
            reasons["malformed"] += 1
        elif confidence < base:
            reasons["low_confidence"] += 1
        elif confidence < threshold:
            reasons["raised_threshold"] += 1
        ships = confidence is not None and confidence >= threshold
        answer = str(row["cheap_correct" if ships else "deep_correct"])
        shipped += [answer] if ships else []
        compared += [answer] if answer and str(row["deep_correct"]) else []
    known = [answer for answer in shipped if answer]
    return {
        "calls": len(rows),
        "shipped": len(shipped),
        "escalated": len(rows) - len(shipped),
        "reasons": dict(sorted(reasons.items())),
        "true_false_confident_rate": known.count("0") / len(known) if known else None,
        "cascade_accuracy": compared.count("1") / len(compared) if compared else None,
    }


def assert_told_by_the_file(report: Row, rows: Sequence[Row], **more: Any) -> None:
    expected = told_by_the_file(rows, report["policy_changes"], **more)
    assert {key: report[key] for key in expected} == expected
    assert_sums(report)


def assert_sums(report: Row) -> None:
    """What must add up in any report."""
    assert report["shipped"] + report["escalated"] == report["calls"]
    assert sum(report["reasons"].values()) == report["escalated"]
    assert report["escalation_rate"] == report["escalated"] / report["calls"]
    assert report["withheld"] == report["reasons"].get("raised_threshold", 0)
    funnel = report["funnel"]
    fates = ("not_sampled", "skipped", "waiting", "graded", "failed", "expired")
    assert sum(funnel[fate] for fate in fates) == funnel["answers"] == report["shipped"] + report["withheld"]
    assert sum(report["grades"].values()) == funnel["graded"] + funnel["failed"]
    decided = report["grades"]["correct"] + report["grades"]["incorrect"]
    assert report["graded"] + report["withheld_graded"] == decided
    assert (report["grader_cost_usd"] > 0) is (funnel["graded"] > 0)
    assert report["cost_per_call_usd"] == pytest.approx(report["cost_usd"] / report["calls"])
    assert report["saving"] == pytest.approx(1 - report["cost_usd"] / report["baseline_cost_usd"])


def turns(report: Row, rule: str) -> list[tuple[str, int]]:
    return [(each["state"], each["at_call"]) for each in report["alerts"] if each["rule"] == rule]


# Costs


def priced(
    n: int, *, seed: int = 0, cheap_blank: Iterable[int] = (), deep_blank: Iterable[int] = ()
) -> list[RecordedCall]:
    """Rows with tokens at random, of which those with these numbers lack the tokens of a reply."""
    draw, no_cheap, no_deep = random.Random(seed), set(cheap_blank), set(deep_blank)
    rows = [replace(row, confidence=draw.choice([0.9, 0.5, None])) for row in sure(wrong=(), n=n)]

    def tokens(number: int) -> RecordedTokens:
        cheap = (None, None) if number in no_cheap else (draw.randrange(9_000), draw.randrange(5_000))
        deep = (None, None) if number in no_deep else (draw.randrange(9_000), draw.randrange(5_000))
        return RecordedTokens(cheap_input=cheap[0], cheap_output=cheap[1], deep_input=deep[0], deep_output=deep[1])

    return [replace(row, tokens=tokens(row.number)) for row in rows]


def costs_by_hand(rows: Iterable[RecordedCall]) -> tuple[float, float]:
    """What routing these rows at 0.8 costs by their tokens, and what the deep tier alone costs: list prices."""
    routed = alone = 0.0
    for row in rows:
        (cheap_in, cheap_out), (deep_in, deep_out) = row.tokens.cheap, row.tokens.deep
        deep = (deep_in * 5 + deep_out * 25) / 1e6
        routed += (cheap_in * 1 + cheap_out * 5) / 1e6 + (0.0 if row.confidence == 0.9 else deep)
        alone += deep
    return routed, alone


def test_token_columns_make_costs_real(stage):
    rows = priced(60)
    report = played(stage, rows, mode="observe")
    routed, alone = costs_by_hand(rows)
    assert report["cost_usd"] == pytest.approx(routed)
    assert report["baseline_cost_usd"] == pytest.approx(alone)
    assert report["saving"] == pytest.approx(1 - routed / alone)
    assert report["cost_basis"] == "tokens of the file"
    assert_sums(report)


def test_a_few_calls_without_tokens_are_left_out_of_the_costs_and_that_is_said(stage):
    rows = priced(60, cheap_blank=(3, 17), deep_blank=(20,))
    rows[20] = replace(rows[20], confidence=0.5)  # it escalates, so that it needs the deep model's tokens
    report = played(stage, rows, mode="observe")
    routed, alone = costs_by_hand(row for row in rows if row.tokens.cheap and row.tokens.deep)
    assert (report["cost_usd"], report["baseline_cost_usd"]) == (pytest.approx(routed), pytest.approx(alone))
    assert report["cost_per_call_usd"] == pytest.approx(routed / 57)
    assert report["cost_basis"] == "tokens of the file, which 57 of 60 calls have"


def test_a_shipped_call_needs_no_tokens_of_the_deep_model_and_its_baseline_is_estimated(stage):
    rows = [replace(row, confidence=0.9) for row in priced(20, deep_blank=range(20))]
    report = played(stage, rows)
    assert report["cost_basis"] == "tokens of the file"
    routed = sum((row.tokens.cheap[0] + 5 * row.tokens.cheap[1]) / 1e6 for row in rows)
    assert report["cost_usd"] == pytest.approx(routed)
    assert report["baseline_cost_usd"] > routed


@pytest.mark.parametrize("missing", ["cheap_blank", "deep_blank"])
def test_without_the_tokens_of_many_calls_costs_rest_on_placeholders(stage, missing):
    report = played(stage, priced(30, **{missing: range(0, 30, 2)}))
    assert re.fullmatch(r"placeholder lengths, because only \d+ of 30 calls have the tokens .*", report["cost_basis"])
    assert_sums(report)


@pytest.mark.thorough
def test_a_saving_is_printed_only_where_it_rests_on_tokens(capsys, tmp_path):
    header = "cheap_confidence,cheap_correct"
    bare = tmp_path / "bare.csv"
    bare.write_text(f"{header}\n" + "0.9,true\n0.5,1.0\n" * 10)
    real = tmp_path / "real.csv"
    real.write_text(
        f"{header},input_tokens,output_tokens,deep_input_tokens,deep_output_tokens\n"
        + "0.9,true,700,200,600,260\n0.5,1.0,700,20,600,260\n" * 10
    )
    facts = {}
    for path in (bare, real):
        _, out, _ = run(capsys, path)
        facts[path] = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert facts[bare]["saving"] == "unknown: it depends on the length of questions and answers"
    assert facts[bare]["cost"].startswith("unknown; in the replay $")
    assert "placeholder lengths, because no call has the tokens of its replies (input_tokens, " in facts[bare]["cost"]
    assert facts[real]["saving"] == f"{(1 - (0.0017 + 0.0008 + 0.0095) / 0.019) * 100:.1f}%"
    assert facts[real]["cost"].endswith("; by tokens of the file")
    assert run_json(capsys, bare)["cost_basis"].startswith("placeholder lengths")


# Counts


def test_counts_are_what_a_made_up_file_says(capsys, tmp_path):
    rows = pair_rows(n=400)
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows), "--sample-rate", 0.2)
    assert_told_by_the_file(report, rows)
    assert {"malformed", "low_confidence"} <= set(report["reasons"])
    assert 0 < report["graded"] < report["shipped"]


def test_counts_of_picked_rows_are_what_the_file_says_of_them(capsys, tmp_path):
    rows = pair_rows(n=600)
    where = ("--where", "domain=boolq", "--where", "cheap_parse_ok=1")
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows), *where)
    picked = [row for row in rows if row["domain"] == "boolq" and row["cheap_parse_ok"] == 1]
    assert_told_by_the_file(report, picked)
    assert "malformed" not in report["reasons"]


def test_a_change_of_threshold_is_told_with_the_very_call_that_it_begins_with(stage):
    low = sure(wrong=(), n=80, confidence=0.3)
    between = sure(wrong=range(20), n=120, confidence=0.85)
    report = played(stage, renumbered([*between[:60], *low, *between[60:]]))
    (change,) = [each for each in report["policy_changes"] if each["act"] == "raise"]
    assert (change["from"], change["to"], change["cause"]) == (0.8, 0.9, "EscalationStorm")
    assert change["at_call"] % 50 == 1  # rules run every 5 s, and a call that begins then comes before them
    assert report["reasons"] == {"low_confidence": 80, "raised_threshold": 200 - max(change["at_call"], 140)}
    assert turns(report, "EscalationStorm") == [("firing", change["at_call"])]


@pytest.mark.thorough
def test_counts_follow_the_threshold_up_and_down_again(stage, tmp_path):
    storm = [{**row, "cheap_confidence": 0.5} for row in stream_rows(("law", 150, 0.2), seed=1)]
    rows = [*stream_rows(("quiz", 100, 0.1)), *storm, *stream_rows(("quiz", 350, 0.1), seed=2)]
    path = write_csv(tmp_path / "pairs.csv", rows)
    report = played(stage, read_recording(path, {}), rate=1.0, sample_rate=0)
    assert [(each["from"], each["to"]) for each in report["policy_changes"]] == [(0.8, 0.9), (0.9, 0.8)]
    assert report["reasons"]["raised_threshold"] > 0
    assert_told_by_the_file(report, rows)


@pytest.mark.shared
def test_all_recorded_files_are_replayed_here():
    at_hand(HAIKU)
    assert {path.name for path in RECORDED.glob("*.csv")} == set(CHEAP_MODELS)
    for name, models in CHEAP_MODELS.items():
        assert {row["cheap_model"] for row in csv_rows(RECORDED / name, {})} == set(models)


@pytest.mark.shared
@pytest.mark.thorough
@pytest.mark.parametrize("domain", ["sat-en", *(["lsat-ar", "sciq", "boolq"] if THOROUGH else [])])
@pytest.mark.parametrize(("name", "model"), [(name, each) for name in CHEAP_MODELS for each in CHEAP_MODELS[name]])
def test_counts_are_what_a_recorded_file_says_of_each_model(capsys, name, model, domain):
    where = {"cheap_model": model, "domain": domain}
    path = at_hand(name)
    conditions = [part for column, value in where.items() for part in ("--where", f"{column}={value}")]
    report = run_json(capsys, path, *conditions)
    assert_told_by_the_file(report, csv_rows(path, where))
    assert report["calls"] == {"lsat-ar": 230, "sat-en": 206, "sciq": 1_000, "boolq": 3_270}[domain]


@pytest.mark.shared
@pytest.mark.thorough
def test_counts_are_what_a_whole_recorded_file_says(capsys):
    path = at_hand(HAIKU)
    report = run_json(capsys, path)
    assert_told_by_the_file(report, csv_rows(path, {}))
    assert report["calls"] == 4_706
    assert report["sample_rate"] == 0.01


# Determinism


@pytest.mark.thorough
def test_the_same_file_gives_the_same_document_in_other_processes(tmp_path):
    storm = [{**row, "cheap_confidence": 0.5} for row in stream_rows(("law", 120, 0.2))]
    path = write_csv(tmp_path / "pairs.csv", [*storm, *stream_rows(("quiz", 60, 0.3))])
    command = [sys.executable, "-m", "cheapdeep_ops", "replay", str(path), "--json", "--sample-rate", "0.5"]
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    processes = [
        subprocess.Popen(command, env=each, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for each in environments
    ]
    found = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert found[0][0] == found[1][0]
    report = json.loads(found[0][0])
    assert report["policy_changes"]
    assert report["graded"] > 10


@pytest.mark.thorough
def test_the_same_replay_gives_the_same_report_on_any_stage(stage, capsys, tmp_path):
    storm = [{**row, "cheap_confidence": 0.5} for row in stream_rows(("law", 120, 0.2))]
    path = write_csv(tmp_path / "pairs.csv", [*storm, *stream_rows(("quiz", 60, 0.3))])
    rows = read_recording(path, {})
    first = played(stage, rows, sample_rate=0.5)
    assert first["policy_changes"]
    assert played(stage, rows, sample_rate=0.5) == first
    assert run_json(capsys, path, "--sample-rate", 0.5) == json.loads(json.dumps(first))


def test_how_long_calls_really_take_changes_nothing(stage):
    rows, rate = sure(wrong=(), n=8), 1 / 0.999
    stage.api.latency_s = 0.02  # real time that would carry each call over into the next second
    try:
        with Replay(
            rows, settings=Settings(), options=ReplayOptions(rate=rate, grader=SimulatedGrader()), simulators=stage
        ) as replay:
            for _ in replay.run():
                pass
            with replay._environment.store.reading() as connection:
                counted = connection.execute(text("SELECT at, calls FROM bucket ORDER BY at")).all()
    finally:
        stage.api.latency_s = 0.0
    assert counted == sorted(Counter(1_790_000_000 + int(number * 0.999) for number in range(8)).items())


def test_another_seed_draws_another_sample_of_the_same_calls(stage):
    rows = sure(wrong=range(0, 80, 4), n=80)
    first, second = (played(stage, rows, seed=seed, sample_rate=0.5, rate=100.0) for seed in (1, 2))
    told = ("calls", "shipped", "cost_usd", "true_false_confident_rate", "cascade_accuracy")
    assert [first[key] for key in told] == [second[key] for key in told]
    assert (first["graded"], first["false_confident_rate"]) != (second["graded"], second["false_confident_rate"])


# The shown rate and the true one


def assert_mostly_covered(stage: Simulators, rows: Sequence[RecordedCall], seeds: Iterable[int]) -> None:
    """Each chunk of 25 seeds may miss once, which makes four in a hundred at most."""
    missed = []
    for seed in seeds:
        report = played(stage, rows, seed=seed, sample_rate=0.4, rate=100.0)
        low, high = report["false_confident_interval"]
        assert high - low < 0.8
        if not low <= report["true_false_confident_rate"] <= high:
            missed.append(seed)
    assert len(missed) <= 1


@pytest.mark.thorough
@pytest.mark.parametrize("first", [0, 25])
def test_the_shown_interval_holds_the_true_rate(stage, first):
    assert_mostly_covered(stage, sure(wrong=range(0, 40, 5), n=40), range(first, first + 25))


@pytest.mark.shared
@pytest.mark.thorough
@pytest.mark.parametrize("first", [0, 25, 50, 75] if THOROUGH else [0])
def test_the_shown_interval_holds_the_true_rate_of_recorded_rows(stage, first):
    rows = read_recording(at_hand(HAIKU), {"domain": "boolq"})
    assert_mostly_covered(stage, rows[:200] if THOROUGH else rows[:50], range(first, first + 25))


def test_with_all_answers_graded_the_shown_rate_is_the_true_one(stage):
    report = played(stage, sure(wrong=range(13), n=100), sample_rate=1.0)
    assert report["graded"] == 100
    assert report["false_confident_rate"] == report["true_false_confident_rate"] == 0.13


@pytest.mark.thorough
def test_what_grading_costs_does_not_depend_on_when_it_is_done(stage):
    rows = sure(wrong=(), n=65)
    during, afterwards = (played(stage, rows, sample_rate=1.0, rate=rate) for rate in (1.0, 100.0))
    assert during["graded"] == afterwards["graded"] == 65
    assert during["grader_cost_usd"] == pytest.approx(afterwards["grader_cost_usd"], abs=1e-9)
    assert during["grader_cost_usd"] > 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("tpr", "tnr", "shown"), [(1.0, 1.0, 0.25), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 0.75)]
)
def test_a_judge_that_always_errs_in_one_way_shifts_the_rate_by_that(capsys, tmp_path, tpr, tnr, shown):
    rows = [{"cheap_confidence": 0.9, "cheap_correct": int(number % 4 != 0)} for number in range(40)]
    options = ("--sample-rate", 1, "--judge-tpr", tpr, "--judge-tnr", tnr)
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows), *options)
    assert report["true_false_confident_rate"] == 0.25
    assert report["false_confident_rate"] == shown


@pytest.mark.thorough
def test_a_judge_that_errs_sometimes_shifts_the_rate_as_arithmetic_says(stage):
    report = played(stage, sure(wrong=range(100), n=200), sample_rate=1.0, judge=SimulatedGrader(tpr=0.7, tnr=0.9))
    found, expected = report["false_confident_rate"] * 200, 100 * 0.7 + 100 * (1 - 0.9)
    spread = (100 * 0.7 * 0.3 + 100 * 0.9 * 0.1) ** 0.5
    assert abs(found - expected) < 3 * spread
    assert report["true_false_confident_rate"] == 0.5
    assert report["judge_correction"] == "uncorrected"


# Order


def in_order(path: Path) -> list[RecordedCall]:
    """sciq, then as many of boolq, then lsat-ar: 5%, 24% and 74% of what ships at 0.8 is wrong."""
    parts = [read_recording(path, {"domain": domain})[:1_000] for domain in ("sciq", "boolq", "lsat-ar")]
    return renumbered(row for part in parts for row in part)


@pytest.mark.shared
@pytest.mark.thorough
@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
def test_false_confidence_that_climbs_in_recorded_rows_raises_after_it_did_and_not_before(stage, sample_rate):
    path = at_hand(HAIKU)
    rows = in_order(path)
    report = played(stage, rows if THOROUGH or sample_rate < 1 else rows[:1_300], sample_rate=sample_rate)
    raised = [each for each in report["policy_changes"] if each["cause"] == CLIMBING]
    assert [(each["from"], each["to"], each["act"]) for each in raised] == [(0.8, 0.9, "raise")]
    assert 1_000 < raised[0]["at_call"] <= 1_300
    assert turns(report, CLIMBING) == [("firing", raised[0]["at_call"])]
    written = [row for domain in ("sciq", "boolq", "lsat-ar") for row in csv_rows(path, {"domain": domain})[:1_000]]
    assert_told_by_the_file(report, written[: report["calls"]])


@pytest.mark.thorough
def test_false_confidence_that_climbs_raises_after_it_did_and_not_before(stage, tmp_path):
    rows = stream_rows(("sciq", 400, 0.05), ("boolq", 200, 0.24), ("lsat-ar", 60, 0.74))
    path = write_csv(tmp_path / "pairs.csv", rows)
    report = played(stage, read_recording(path, {}), sample_rate=1.0)
    raised = [each for each in report["policy_changes"] if each["cause"] == CLIMBING]
    assert [(each["from"], each["to"], each["act"]) for each in raised] == [(0.8, 0.9, "raise")]
    assert 400 < raised[0]["at_call"] < 660
    assert report["reasons"]["raised_threshold"] > 0
    assert_told_by_the_file(report, rows)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(each, marks=pytest.mark.thorough) for each in range(1, 20 if THOROUGH else 2))]
)
def test_a_steady_stream_does_not_raise(stage, seed):
    rng = random.Random(seed)
    rows = sure(wrong=[number for number in range(620) if rng.random() < 0.24], n=620)
    report = played(stage, rows, seed=seed, sample_rate=1.0)
    assert report["graded"] == 620
    assert (report["alerts"], report["policy_changes"]) == ([], [])


@pytest.mark.shared
@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(20 if THOROUGH else 1))
def test_recorded_rows_of_one_domain_do_not_raise_in_any_order(stage, seed):
    rows = read_recording(at_hand(HAIKU), {"domain": "boolq"})
    shuffled = random.Random(seed).sample(rows, 660) if seed else rows[:660]
    report = played(stage, renumbered(shuffled), seed=seed, sample_rate=1.0)
    assert report["graded"] >= 590
    assert turns(report, CLIMBING) == []
    assert report["policy_changes"] == []


# What a file may hold


def test_unreadable_replies_escalate_and_blanks_are_not_wrong(stage):
    def row(confidence: float | None, cheap: bool | None, deep: bool | None) -> RecordedCall:  # noqa: FBT001
        return RecordedCall(
            number=0, confidence=confidence, cheap_correct=cheap, deep_correct=deep, domain="", question=""
        )

    rows = [
        row(0.9, True, True), row(0.9, None, True), row(0.9, False, None), row(None, None, True), row(0.1, True, None),
        row(0.1, True, False),
    ]  # fmt: skip
    report = played(stage, renumbered(rows), sample_rate=1.0)
    assert report["reasons"] == {"low_confidence": 2, "malformed": 1}
    assert report["true_false_confident_rate"] == 0.5
    assert report["cascade_accuracy"] == 2 / 3
    assert report["grades"] == {"correct": 1, "incorrect": 1, "unsure": 1}
    assert report["graded"] == 2
    assert_sums(report)


def test_rates_without_data_are_null(capsys, tmp_path):
    rows = [{"cheap_confidence": 0.2, "cheap_correct": 1}] * 3
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows), "--sample-rate", 1)
    assert report["shipped"] == report["graded"] == 0
    assert report["false_confident_rate"] is report["true_false_confident_rate"] is report["cascade_accuracy"] is None
    assert report["false_confident_interval"] == [0.0, 1.0]


def test_without_the_deep_models_truth_there_is_no_accuracy_of_the_cascade(capsys, tmp_path):
    rows = [{"cheap_confidence": 0.9, "cheap_correct": 1}] * 3
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows))
    assert report["cascade_accuracy"] is None
    assert report["true_false_confident_rate"] == 0.0


def test_confidences_in_any_notation_are_served_as_the_number_that_they_are(capsys, tmp_path):
    notations = ("1", "0", "0.8000", "1e-3", "8e-1", "0.79999", "-0", " .9", "1e-9", "0.80000000000000004")
    rows = [{"cheap_confidence": each, "cheap_correct": 1} for each in notations]
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows))
    assert report["shipped"] == 5
    assert report["reasons"] == {"low_confidence": 5}


def test_questions_of_any_kind_and_ids_that_repeat_are_calls_of_their_own(capsys, tmp_path):
    questions = (
        "",
        "  ",
        'two\nlines, "quoted"',
        "Füße 東京 🙂",
        "{}",
        '{"confidence": 0.1, "answer": "no"}',
        "q" * 9_000,
    )
    rows = [
        {"id": "same", "question": each, "cheap_confidence": 0.9, "cheap_correct": 1, "domain": each}
        for each in questions
    ]
    path = write_csv(tmp_path / "pairs.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    report = run_json(capsys, path, "--sample-rate", 1)
    assert report["calls"] == report["shipped"] == report["graded"] == len(questions)


def test_a_question_with_personal_data_is_played_and_graded_without_it(stage):
    question = "Write to ann@example.com or call +49 30 1234567."
    row = replace(sure(wrong=(), n=1)[0], question=question)
    report = played(stage, [row], sample_rate=1.0)
    assert report["graded"] == 1
    asked, grading = stage.api.requests
    assert question in asked.question
    assert "ann@example.com" not in grading.question


# Over HTTP


def test_every_call_and_every_grading_goes_over_http(stage):
    mixed = [sure(wrong=(), n=1, confidence=level)[0] for level in (0.9, 0.5, 0.95, 0.8, 0.1)]
    report = played(stage, renumbered(mixed * 4), sample_rate=1.0)
    kinds = Counter(
        "grading" if each.is_grading else "triage" if each.is_triage else "deep" for each in stage.api.requests
    )
    assert kinds == {"triage": report["calls"], "deep": report["escalated"], "grading": report["graded"]}
    assert (report["calls"], report["escalated"], report["graded"]) == (20, 8, 12)


def test_slack_is_told_of_a_raise(stage):
    played(stage, sure(wrong=(), n=130, confidence=0.3))
    (message,) = stage.slack.posts
    assert "EscalationStorm" in message.text


def test_more_tiers_are_passed_on_the_way_to_the_deep_one(stage):
    tiers = ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7")
    report = played(stage, renumbered([*sure(wrong=(), n=3), *sure(wrong=(), n=2, confidence=0.3)]), tiers=tiers)
    assert (report["shipped"], report["reasons"]) == (3, {"low_confidence": 2})
    asked = Counter(each.model for each in stage.api.requests)
    assert asked == {"claude-haiku-4-5": 5, "claude-sonnet-4-6": 2, "claude-opus-4-7": 2}


# The command line


def test_a_report_is_one_json_document_and_progress_goes_elsewhere(capsys, tmp_path):
    path = write_csv(tmp_path / "pairs.csv", pair_rows(n=40))
    status, out, err = run(capsys, path, "--json")
    assert status == 0
    assert set(json.loads(out)) >= KEYS
    assert err.splitlines()[-1] == "40 of 40 calls replayed"


def test_people_get_the_same_in_words(capsys, tmp_path):
    rows = [{"cheap_confidence": 0.9, "cheap_correct": int(number > 4)} for number in range(20)]
    status, out, _ = run(capsys, write_csv(tmp_path / "pairs.csv", rows), "--sample-rate", 1)
    assert status == 0
    assert "20" in out
    assert "25.0%" in out
    assert not out.lstrip().startswith("{")


@pytest.mark.thorough
def test_progress_is_told_as_it_comes(capsys, tmp_path):
    path = write_csv(tmp_path / "pairs.csv", [{"cheap_confidence": 0.9, "cheap_correct": 1}] * 450)
    _, _, err = run(capsys, path, "--json", "--sample-rate", 0, "--rate", 1000)
    assert err.splitlines() == [f"{done} of 450 calls replayed" for done in (200, 400, 450)]


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("", (), "pairs.csv has no column cheap_confidence, cheap_correct; it has none"),
        ("cheap_confidence,cheap_correct\n", (), "pairs.csv has no row"),
        ("cheap_confidence\n1\n", (), "pairs.csv has no column cheap_correct"),
        ("cheap_confidence,cheap_correct\nhigh,1\n", (), "pairs.csv, line 2: cheap_confidence is 'high'"),
        ("cheap_confidence,cheap_correct\n1,1\n1,maybe\n", (), "pairs.csv, line 3: cheap_correct is 'maybe'"),
        ("cheap_confidence,cheap_correct\n1,1\n", ("--where", "a=b"), "pairs.csv has no column a"),
        ("cheap_confidence,cheap_correct\n1,1\n", ("--where", "cheap_correct=0"), "no row with cheap_correct=0"),
        (b"cheap_confidence,cheap_correct\n\xff,1\n", (), "pairs.csv, line 2: not UTF-8"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_line_and_exits_with_2(capsys, tmp_path, content, arguments, says):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    status, out, err = run(capsys, path, *arguments, "--json")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--where", "domain"), "'domain' is not of the form COLUMN=VALUE"),
        (("--where", "=boolq"), "is not of the form COLUMN=VALUE"),
        (("--where", "domain=a", "--where", "domain=b"), "a column may be named only once"),
        (("--rate", "0"), "--rate"),
        (("--rate", "0.009"), "--rate"),
        (("--rate", "-1"), "--rate"),
        (("--rate", "nan"), "--rate"),
        (("--rate", "10001"), "--rate"),
        (("--sample-rate", "1.5"), "--sample-rate"),
        (("--judge-tpr", "2"), "--judge-tpr"),
        (("--judge-tnr", "-0.1"), "--judge-tnr"),
        (("--seed", "one"), "--seed"),
    ],
)
def test_wrong_options_are_named_and_exit_with_2(capsys, tmp_path, arguments, says):
    path = write_csv(tmp_path / "pairs.csv", [{"cheap_confidence": 1, "cheap_correct": 1}])
    status, out, err = run(capsys, path, *arguments)
    assert (status, out) == (2, "")
    assert says in err


@pytest.mark.parametrize("name", ["", "nowhere.csv"])
def test_a_folder_or_a_file_that_is_not_there_exits_with_2(capsys, tmp_path, name):
    status, out, err = run(capsys, tmp_path / name)
    assert (status, out) == (2, "")
    assert str(tmp_path) in err


@pytest.mark.parametrize("line", [b"\0", b"1,1\n", b"x"], ids=["zeros", "rows", "one line"])
def test_a_pipe_without_end_is_given_up_at_the_bound(capsys, monkeypatch, tmp_path, line):
    monkeypatch.setattr(csv_file, "MOST_BYTES", 2**20)
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write():
        with suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
            pipe.write(b"cheap_confidence,cheap_correct\n")
            while True:
                pipe.write(line * 4_096)

    writer = Thread(target=write)
    writer.start()
    status, out, err = run(capsys, path, "--json")
    writer.join()
    assert (status, out) == (2, "")
    assert f"{path} has more than 1 MB or has no end; replay it in parts" in err


def test_a_device_without_end_is_given_up_at_the_bound(monkeypatch):
    monkeypatch.setattr(csv_file, "MOST_BYTES", 2**20)
    with pytest.raises(RecordingError, match="/dev/zero has more than 1 MB or has no end"):
        csv_file.read_csv(Path("/dev/zero"), bool)


# Settings


@pytest.mark.thorough
def test_in_observe_mode_changes_are_told_and_not_made(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_MODE", "observe")
    rows = [*stream_rows(("law", 120, 0.1)), *stream_rows(("quiz", 60, 0.1))]
    rows = [{**row, "cheap_confidence": 0.5 if row["domain"] == "law" else 0.85} for row in rows]
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows))
    assert [(each["to"], each["applied"]) for each in report["policy_changes"]] == [(0.9, False)]
    assert report["reasons"] == {"low_confidence": 120}
    assert_told_by_the_file(report, rows)


def test_rules_of_ones_own_are_obeyed(capsys, monkeypatch, tmp_path):
    document = yaml.safe_load((packaged("alerts") / "rules.yaml").read_text(encoding="utf-8"))
    (storm,) = [rule for rule in document["rules"] if rule["alert"] == "EscalationStorm"]
    own = {**storm, "alert": "Mine", "min_calls": 20, "confidence": 0.9, "actions": ["notify"]}
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": [own]}), encoding="utf-8")
    monkeypatch.setenv("CHEAPDEEP_RULES_FILE", str(path))
    rows = [{"cheap_confidence": 0.5, "cheap_correct": 1}] * 130
    report = run_json(capsys, write_csv(tmp_path / "pairs.csv", rows))
    assert [(each["rule"], each["state"]) for each in report["alerts"]] == [("Mine", "firing")]
    assert report["policy_changes"] == []


def test_rules_that_cannot_be_read_leave_nothing_running(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: 5", encoding="utf-8")
    before = set(tmp_path.iterdir())
    with Simulators() as own:
        with pytest.raises(RulesError):
            played(own, sure(wrong=(), n=1), rules_file=rules)
        assert played(own, sure(wrong=(), n=1))["calls"] == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.thorough
def test_thresholds_and_sample_rate_come_from_the_environment(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_BASE_THRESHOLD", "0.6")
    monkeypatch.setenv("CHEAPDEEP_SAMPLE_RATE", "1")
    rows = pair_rows(n=60)
    path = write_csv(tmp_path / "pairs.csv", rows)
    report = run_json(capsys, path)
    assert_told_by_the_file(report, rows, base=0.6)
    assert report["sample_rate"] == 1.0
    assert run_json(capsys, path, "--sample-rate", 0)["graded"] == 0


@pytest.mark.thorough
def test_a_replay_touches_neither_the_teams_store_nor_its_slack(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("CHEAPDEEP_SLACK_WEBHOOK_URL", "http://127.0.0.1:9/never")
    monkeypatch.setenv("CHEAPDEEP_RECORD", "false")
    monkeypatch.setenv("CHEAPDEEP_MAX_GRADER_USD_PER_DAY", "0")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    rows = [{"cheap_confidence": level, "cheap_correct": 1} for level in [0.3] * 120 + [0.95] * 10]
    path = write_csv(tmp_path / "pairs.csv", rows)
    report = run_json(capsys, path, "--sample-rate", 1)
    assert [each["rule"] for each in report["alerts"]] == ["EscalationStorm"]
    assert report["graded"] == 10
    assert list(tmp_path.iterdir()) == [path]
