"""Recorded outcomes: what a cheap model said of its own answers, and what was true of them."""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cheapdeep_ops.errors import RecordingError

_NEEDED: Final = ("cheap_confidence", "cheap_correct")
_KNOWN: Final = (*_NEEDED, "deep_correct", "domain", "question")
_TRUTH: Final = {"1": True, "0": False, "": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One row: `number` counts the rows that were chosen, from 0; None is what the file leaves blank.

    A confidence that is None stands for a reply that nobody could read.
    """

    number: int
    confidence: float | None
    cheap_correct: bool | None
    deep_correct: bool | None
    domain: str
    question: str


def read_recording(path: Path, where: Mapping[str, str]) -> list[Recorded]:
    """The rows of a CSV file in which each column of `where` has its value, in the file's order.

    Raises RecordingError, naming file, line and column, for what is no such file.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        chosen = list(_chosen(path, rows, where))
    except csv.Error as error:
        raise RecordingError(f"{path}, line {rows.reader.line_num}: {error}") from None
    if not chosen:
        raise RecordingError(f"{path} has no row{' with ' + _conditions(where) if where else ''}")
    return chosen


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecordingError(f"{path}, line {line}: not UTF-8 ({error.reason})") from None


def _chosen(path: Path, rows: "csv.DictReader[str]", where: Mapping[str, str]) -> Iterator[Recorded]:
    columns = rows.fieldnames or ()
    missing = [name for name in (*_NEEDED, *where) if name not in columns]
    if missing:
        raise RecordingError(f"{path} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    if twice := [name for name in dict.fromkeys((*_KNOWN, *where)) if columns.count(name) > 1]:
        raise RecordingError(f"{path} has more than one column {', '.join(twice)}")
    picked = (place_and_row for place_and_row in _whole(path, rows) if _fits(place_and_row[1], where))
    for number, (place, row) in enumerate(picked):
        yield _recorded(place, number, row)


def _whole(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each row with the place where it ends; one with more or fewer fields than the header is none."""
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        if None in row or None in row.values():
            raise RecordingError(f"{place}: {'more' if None in row else 'fewer'} fields than the header has")
        yield place, row


def _fits(row: Mapping[str, str], where: Mapping[str, str]) -> bool:
    return all(row[name] == value for name, value in where.items())


def _recorded(place: str, number: int, row: Mapping[str, str]) -> Recorded:
    return Recorded(
        number=number,
        confidence=_confidence(place, row["cheap_confidence"]),
        cheap_correct=_truth(place, "cheap_correct", row["cheap_correct"]),
        deep_correct=_truth(place, "deep_correct", row.get("deep_correct", "")),
        domain=row.get("domain", ""),
        question=row.get("question", ""),
    )


def _confidence(place: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise RecordingError(f"{place}: cheap_confidence is {text!r}; it must be from 0 to 1, or blank")
    return value


def _truth(place: str, column: str, text: str) -> bool | None:
    if text.strip() not in _TRUTH:
        raise RecordingError(f"{place}: {column} is {text!r}; it must be 0, 1 or blank")
    return _TRUTH[text.strip()]


def _conditions(where: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in where.items())
