"""Read recorded outcomes: a cheap model's confidence in its answers, and whether they were correct."""

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
class RecordedCall:
    """One row of a recording; None where the file is blank.

    `number` counts the selected rows from 0. A confidence of None stands for an unusable triage reply.
    """

    number: int
    confidence: float | None
    cheap_correct: bool | None
    deep_correct: bool | None
    domain: str
    question: str


def read_recording(path: Path, where: Mapping[str, str]) -> list[RecordedCall]:
    """The rows of a CSV file whose columns have the values of `where`, in the file's order.

    Raises RecordingError, with file, line and column, for an invalid file or one without such rows.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        selected = list(_selected(path, rows, where))
    except csv.Error as error:
        raise RecordingError(f"{path}, line {rows.reader.line_num}: {error}") from None
    if not selected:
        raise RecordingError(f"{path} has no row{' with ' + _conditions(where) if where else ''}")
    return selected


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecordingError(f"{path}, line {line}: not UTF-8 ({error.reason})") from None


def _selected(path: Path, rows: "csv.DictReader[str]", where: Mapping[str, str]) -> Iterator[RecordedCall]:
    columns = rows.fieldnames or ()
    missing = [name for name in (*_NEEDED, *where) if name not in columns]
    if missing:
        raise RecordingError(f"{path} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    # csv.DictReader would silently use the last of two columns with one name.
    if duplicates := [name for name in dict.fromkeys((*_KNOWN, *where)) if columns.count(name) > 1]:
        raise RecordingError(f"{path} has more than one column {', '.join(duplicates)}")
    matching = ((place, row) for place, row in _checked(path, rows) if _matches(row, where))
    for number, (place, row) in enumerate(matching):
        yield _recorded(place, number, row)


def _checked(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each row with the place where it ends. Raises RecordingError for too many or too few fields."""
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        if None in row or None in row.values():
            raise RecordingError(f"{place}: {'more' if None in row else 'fewer'} fields than the header has")
        yield place, row


def _matches(row: Mapping[str, str], where: Mapping[str, str]) -> bool:
    return all(row[name] == value for name, value in where.items())


def _recorded(place: str, number: int, row: Mapping[str, str]) -> RecordedCall:
    return RecordedCall(
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
    # NaN fails this comparison too.
    if not 0 <= value <= 1:
        raise RecordingError(f"{place}: cheap_confidence is {text!r}; it must be from 0 to 1, or blank")
    return value


def _truth(place: str, column: str, text: str) -> bool | None:
    if text.strip() not in _TRUTH:
        raise RecordingError(f"{place}: {column} is {text!r}; it must be 0, 1 or blank")
    return _TRUTH[text.strip()]


def _conditions(where: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in where.items())
