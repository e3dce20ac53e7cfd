"""Read recorded outcomes: a cheap model's confidence in its answers, and whether they were correct."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cheapdeep_ops.demo.csv_file import CsvFile, CsvRow, read_csv
from cheapdeep_ops.demo.recorded_values import RowReader
from cheapdeep_ops.errors import RecordingError

TOKENS: Final = ("input_tokens", "output_tokens", "deep_input_tokens", "deep_output_tokens")
"""The columns with the tokens of the cheap model's reply, and of the deep model's."""

_NEEDED: Final = ("cheap_confidence", "cheap_correct")
_VALUES: Final = (*_NEEDED, "deep_correct", *TOKENS)
_KNOWN: Final = (*_VALUES, "domain", "question")
_OTHER_NAMES: Final = {
    "confidence": "cheap_confidence", "correct": "cheap_correct", "cheap_input_tokens": "input_tokens",
    "cheap_output_tokens": "output_tokens",
}  # fmt: skip
"""Names that stand for a column if the file does not have it by its own name."""

_PERCENTAGES: Final = re.compile(r"((?:cheap_)?confidence)(?:_in)?_?\(?(?:%|pct|percent|percentage)\)?")
_NOT_LETTERS: Final = re.compile(r"[\s_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTokens:
    """The tokens of a recorded call's two replies; None where the file has none."""

    cheap_input: int | None = None
    cheap_output: int | None = None
    deep_input: int | None = None
    deep_output: int | None = None

    @property
    def cheap(self) -> tuple[int, int] | None:
        """The cheap model's tokens: of the prompt, and of the reply; None unless both are known."""
        return _both(self.cheap_input, self.cheap_output)

    @property
    def deep(self) -> tuple[int, int] | None:
        """The deep model's tokens: of the prompt, and of the reply; None unless both are known."""
        return _both(self.deep_input, self.deep_output)


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
    tokens: RecordedTokens = field(default_factory=RecordedTokens)


def read_recording(path: Path, where: Mapping[str, str]) -> list[RecordedCall]:
    """The rows of a CSV file whose columns have the values of `where`, in the file's order.

    Raises RecordingError, with file, line and column, for an invalid file or one without such rows.
    """
    names = {*_KNOWN, *_OTHER_NAMES, *map(_spelt, where)}
    file = read_csv(path, lambda column: _without_mark(_spelt(column)) in names)
    places = _places(file, where)
    selected = [row for row in _filled(file, places) if all(row.fields[places[name]] == where[name] for name in where)]
    if not selected:
        raise RecordingError(f"{path} has no row{' with ' + _conditions(where) if where else ''}")
    has_percentages = _is_percentage(file.columns[places["cheap_confidence"]])
    reader = RowReader(has_percentages=has_percentages, has_decimal_comma=file.delimiter != ",")
    if has_percentages:
        _check_percentages(selected, places["cheap_confidence"], reader)
    return [_recorded(number, row, places, reader) for number, row in enumerate(selected)]


def _both(first: int | None, second: int | None) -> tuple[int, int] | None:
    return None if first is None or second is None else (first, second)


def _places(file: CsvFile, where: Mapping[str, str]) -> dict[str, int]:
    """The index of each known column that the file has, and of each one in `where`."""
    places = _found(file, [*_KNOWN, *where])
    if missing := [name for name in (*_NEEDED, *where) if name not in places]:
        shown = ", ".join(file.columns) or "none"
        raise RecordingError(f"{file.path} has no column {', '.join(missing)}; it has {shown}")
    return places


def _found(file: CsvFile, names: Collection[str]) -> dict[str, int]:
    """The index of each of these columns that the file has: by its name, else by another spelling of it."""
    exact, loose = list(file.columns), [_known_name(column, file.columns) for column in file.columns]
    indexes = {
        name: [index for index, column in enumerate(exact) if column == name]
        or [index for index, column in enumerate(loose) if column == _spelt(name)]
        for name in names
    }
    # Of two columns with one name, either could be the right one.
    if twice := [name for name, found in indexes.items() if len(found) > 1]:
        raise RecordingError(f"{file.path} has more than one column {', '.join(twice)}")
    return {name: found[0] for name, found in indexes.items() if found}


def _known_name(column: str, columns: Sequence[str]) -> str:
    """The name of a column without case, spaces and the mark of percentages; another name for one that is missing."""
    name = _without_mark(_spelt(column))
    meant = _OTHER_NAMES.get(name, name)
    return name if meant in map(_without_mark, map(_spelt, columns)) else meant


def _spelt(column: str) -> str:
    return _NOT_LETTERS.sub("_", column.strip().casefold())


def _without_mark(name: str) -> str:
    marked = _PERCENTAGES.fullmatch(name)
    return marked[1] if marked else name


def _is_percentage(column: str) -> bool:
    return _PERCENTAGES.fullmatch(_spelt(column)) is not None


def _filled(file: CsvFile, places: Mapping[str, int]) -> Iterator[CsvRow]:
    """The rows of the file, without those that a spreadsheet leaves blank.

    Such a row can only be told in a file with ids, questions or the like: elsewhere it is an unusable reply.
    """
    has_names = len(file.columns) > len(places.keys() & set(_VALUES))
    return (row for row in file.rows() if not has_names or any(each.strip() for each in row.fields))


def _check_percentages(rows: Sequence[CsvRow], index: int, reader: RowReader) -> None:
    """Raise RecordingError if a column of percentages has shares from 0 to 1 only."""
    numbers = [(row, reader.number(row.fields[index])) for row in rows]
    shares = [(row, number) for row, number in numbers if number is not None and 0 < number < 1]
    if shares and all(number is None or number <= 1 for _, number in numbers):
        row, number = shares[0]
        raise RecordingError(
            f"{row.place}: {number} stands in a column of percentages, which has no value above 1; if these are shares "
            "from 0 to 1, name the column cheap_confidence"
        )


def _recorded(number: int, row: CsvRow, places: Mapping[str, int], reader: RowReader) -> RecordedCall:
    def text(column: str) -> str:
        return row.fields[places[column]] if column in places else ""

    def tokens(column: str) -> int | None:
        return reader.count(row.place, column, text(column))

    return RecordedCall(
        number=number,
        confidence=reader.confidence(row.place, "cheap_confidence", text("cheap_confidence")),
        cheap_correct=reader.truth(row.place, "cheap_correct", text("cheap_correct")),
        deep_correct=reader.truth(row.place, "deep_correct", text("deep_correct")),
        domain=reader.text(row.place, "domain", text("domain")),
        question=reader.text(row.place, "question", text("question")),
        tokens=RecordedTokens(
            cheap_input=tokens("input_tokens"),
            cheap_output=tokens("output_tokens"),
            deep_input=tokens("deep_input_tokens"),
            deep_output=tokens("deep_output_tokens"),
        ),
    )


def _conditions(where: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in where.items())
