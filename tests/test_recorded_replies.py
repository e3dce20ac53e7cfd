import json
import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cheapdeep_ops.values import Outcome, Reason, Verdict
from cheapdeep_ops.verdict import decide, read_verdict
from tests.corpus import END_TURN, pair_rows, recorded_rows, write_csv, write_jsonl

SHARED = Path(__file__).parents[2] / "shared" / "data" / "recorded"
RAW_OUTPUTS = SHARED / "raw_claude_json_outputs.jsonl"
PAIRS = SHARED / "lifeeval_claude3haiku_to_sonnet4.csv"
OUR_KEYS = {f'"{name}"': f'"{name.lower()}"' for name in ("Reasoning", "Answer", "Confidence")}

Row = Mapping[str, Any]


@pytest.fixture(params=["synthetic", pytest.param("recorded", marks=pytest.mark.shared)])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> list[Row]:
    if request.param == "synthetic":
        path = write_jsonl(tmp_path / "raw.jsonl", recorded_rows())
    elif RAW_OUTPUTS.exists():
        path = RAW_OUTPUTS
    else:
        pytest.skip("the recorded outputs are not at hand: they are not part of this repository")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_our_keys(raw: str) -> str:
    for theirs, ours in OUR_KEYS.items():
        raw = raw.replace(theirs, ours)
    return raw


def verdict_of(row: Row) -> Verdict:
    return read_verdict(in_our_keys(row["raw"]), stop_reason=END_TURN)


def parsed(row: Row) -> Any:
    try:
        return json.loads(in_our_keys(row["raw"]))
    except ValueError:
        return None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def states_a_verdict(row: Row) -> bool:
    """Whether the whole text is one JSON object with a number in [0, 1] and a text."""
    fields = parsed(row)
    return (
        isinstance(fields, dict)
        and is_number(fields.get("confidence"))
        and 0 <= fields["confidence"] <= 1
        and isinstance(fields.get("answer"), str)
    )


def kind_of(row: Row) -> str:
    """What a row is, told without our reader."""
    fields = parsed(row)
    if fields is None:
        return "prose only" if "{" not in row["raw"] else _broken_kind(in_our_keys(row["raw"]))
    if states_a_verdict(row):
        return "verdict" if row["authors_parser_ok"] else "verdict, answer outside the set"
    if not is_number(fields.get("confidence")):
        return "no numeric confidence"
    return f"answer is {type(fields.get('answer')).__name__}"


def _broken_kind(raw: str) -> str:
    start, end = raw.index("{"), raw.rfind("}") + 1
    if end <= start:
        return "cut off"
    try:
        json.loads(raw[start:end])
    except ValueError:
        pass
    else:
        return "text around"
    value = raw.rpartition('"answer":')[2].lstrip()
    if value.startswith(("True", "False", "None")):
        return "Python literal"
    if value[:1].isalpha() and not value.startswith(("true", "false", "null")):
        return "unquoted word"
    try:
        json.loads(raw[start:end], strict=False)
    except ValueError:
        return "otherwise malformed"
    return "raw control character"


def test_rows_that_state_a_verdict_are_read_as_it_stands(rows):
    stating = [row for row in rows if row["strict_json"] and states_a_verdict(row)]
    assert stating
    for row in stating:
        fields, verdict = parsed(row), verdict_of(row)
        assert verdict == Verdict(confidence=fields["confidence"], answer=fields["answer"])
        if row["confidence"] is not None:
            assert verdict.confidence == row["confidence"]
        for threshold in (0.8, 0.9):
            ships = decide(verdict, threshold=threshold)[0] is Outcome.SHIP
            assert ships == (fields["confidence"] >= threshold)


def test_all_other_rows_have_a_named_reason_at_every_threshold(rows):
    others = [row for row in rows if not states_a_verdict(row) and kind_of(row) != "text around"]
    assert others
    for row in others:
        for threshold in (0.0, 0.5, 0.8, 0.9, 1.0):
            outcome, reason = decide(verdict_of(row), threshold=threshold)
            assert outcome is Outcome.ESCALATE
            assert isinstance(reason, Reason)


def test_rows_with_text_around_ship_only_what_their_one_object_says(rows):
    for row in (row for row in rows if kind_of(row) == "text around"):
        verdict, raw = verdict_of(row), in_our_keys(row["raw"])
        fields = json.loads(raw[raw.index("{") : raw.rindex("}") + 1])
        if verdict.problem is None:
            assert (verdict.confidence, verdict.answer) == (fields["confidence"], fields["answer"])


def test_rows_are_strict_json_as_their_file_says(rows):
    assert [row["strict_json"] for row in rows] == [parsed(row) is not None for row in rows]


def test_the_synthetic_rows_have_every_kind_that_was_recorded():
    kinds = {kind_of(row) for row in recorded_rows()}
    assert kinds >= {
        "verdict", "verdict, answer outside the set", "no numeric confidence", "answer is bool", "prose only",
        "text around", "Python literal", "unquoted word", "raw control character", "otherwise malformed", "cut off",
    }  # fmt: skip


@pytest.mark.parametrize("path", [pytest.param(PAIRS, marks=pytest.mark.shared)])
def test_the_synthetic_pairs_have_the_columns_of_the_recorded_ones(path, tmp_path):
    if not path.exists():
        pytest.skip("the recorded pairs are not at hand: they are not part of this repository")
    synthetic = write_csv(tmp_path / "pairs.csv", pair_rows(n=5))
    headers = [file.read_text(encoding="utf-8").splitlines()[0] for file in (path, synthetic)]
    assert headers[0] == headers[1]


def test_the_confusion_table_adds_up(rows):
    table = Counter(
        (kind_of(row), row["strict_json"], row["authors_parser_ok"], *(_told(row, at) for at in (0.8, 0.9)))
        for row in rows
    )
    lines = [f"\n{'kind':32}{'strict':8}{'theirs':8}{'ours at 0.8':16}{'ours at 0.9':16}{'rows':>5}"]
    for (kind, strict, theirs, *ours), count in sorted(table.items(), key=str):
        lines.append(f"{kind:32}{strict!s:8}{theirs!s:8}{ours[0]:16}{ours[1]:16}{count:5}")
    sys.stdout.write("\n".join([*lines, ""]))
    assert table.total() == len(rows)
    shipped = [kind for kind, _, _, *ours in table if "ship" in ours]
    assert set(shipped) <= {"verdict", "verdict, answer outside the set", "text around"}


def _told(row: Row, threshold: float) -> str:
    outcome, reason = decide(verdict_of(row), threshold=threshold)
    return reason or outcome
