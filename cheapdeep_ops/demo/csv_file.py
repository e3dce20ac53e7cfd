"""Read CSV files as spreadsheets and scripts write them: their encoding, their delimiter, and fields of any length."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from cheapdeep_ops.errors import RecordingError

MOST_BYTES: Final = 256 * 2**20
"""The size of the largest file that is read: some million calls. A device or a pipe may have no end."""

_DELIMITERS: Final = (",", ";", "\t", "|")
_QUOTING: Final = "text in quotes ends with a quotation mark, and one inside it is written twice"
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)\r?\n")
"""The first line with which a spreadsheet names its delimiter."""

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins like it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks. A file without one is UTF-8, or UTF-16 if one of its first two bytes is zero."""


_OTHER_FORMATS: Final = (
    (b"PK\x03\x04", "a workbook or an archive"),
    (b"\xd0\xcf\x11\xe0", "a workbook"),
    (b"\x1f\x8b", "compressed"),
    (b"PAR1", "Parquet"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)
"""The first bytes of files of other formats that people keep such data in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRow:
    """One row: its place in the file, for messages, and its fields in the order of the columns."""

    place: str
    fields: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """A CSV file with a header; `columns` are the names in it."""

    path: Path
    columns: Sequence[str]
    delimiter: str
    text: str

    def rows(self) -> Iterator[CsvRow]:
        """The rows below the header, without blank lines.

        Raises RecordingError for invalid CSV, and for more or fewer fields than the header has.
        """
        records = _records(self.path, self.text, self.delimiter)
        next(records, None)
        for line, number, fields in records:
            # A field in quotes may have several lines; a spreadsheet shows the number of the row.
            place = f"{self.path}, line {line}{'' if line == number else f' (row {number})'}"
            yield CsvRow(place=place, fields=self._fitted(place, fields))

    def _fitted(self, place: str, fields: Sequence[str]) -> Sequence[str]:
        """As many fields as the header has; more may only be blank."""
        n = len(self.columns)
        if len(fields) < n or any(each.strip() for each in fields[n:]):
            problem = "fewer" if len(fields) < n else "more"
            raise RecordingError(
                f"{place}: {problem} fields than the header has ({len(fields)} and {n}); put quotes around text that "
                f"has a {self.delimiter!r} or a new line"
            )
        return fields[:n]


def read_csv(path: Path, is_known: Callable[[str], bool]) -> CsvFile:
    """The CSV file at `path`; `is_known` says whether the reader knows a column by this name.

    Raises RecordingError if the file cannot be read, or if its header is invalid.
    """
    text = _text(path)
    candidates: tuple[str, ...] = _DELIMITERS
    if named := _SEPARATOR_LINE.match(text):
        text, candidates = text[named.end() :], (named[1],)
    headers = {each: _header(text, each) for each in candidates}
    # The delimiter that gives most known names, then most names; of equal ones, the comma.
    delimiter = max(headers, key=lambda each: (sum(map(is_known, headers[each])), len(headers[each])))
    _, _, columns = next(_records(path, text, delimiter), (1, 1, ()))
    return CsvFile(path=path, columns=columns, delimiter=delimiter, text=text)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise RecordingError(f"{path} has more than {MOST_BYTES // 2**20} MB or has no end; replay it in parts")
    if found := next((name for start, name in _OTHER_FORMATS if content.startswith(start)), None):
        raise RecordingError(f"{path} is {found}, not CSV: save it as CSV, with the names of columns in its first line")
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise RecordingError(f"{path}, line {line}: not {name} ({error.reason}); save the file as UTF-8") from None


def _encoding(content: bytes) -> str:
    if marked := next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None):
        return marked
    if content[:1] == b"\0":
        return "utf-16-be"
    return "utf-16-le" if content[1:2] == b"\0" else "utf-8-sig"


def _header(text: str, delimiter: str) -> Sequence[str]:
    """The names in the header if it has this delimiter; none if it is then invalid."""
    try:
        return next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)), ())
    except csv.Error:
        return ()


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, int, Sequence[str]]]:
    """The header and the rows: the line where each ends, its number, and its fields. Blank lines are left out."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    for number in count(1):
        begun = lines.line_num + 1  # the last line says little if a quotation mark is missing
        try:
            with _fields_of(len(text)):
                fields = next(lines, None)
        except csv.Error as error:
            raise RecordingError(f"{path}, line {begun}: {error}; {_QUOTING}") from None
        if fields is None:
            return
        if len(fields) > 1 or any(each.strip() for each in fields):
            yield lines.line_num, number, fields


@contextmanager
def _fields_of(longest: int) -> Iterator[None]:
    """Inside, a field may have so many characters; Python's own limit is 131,072."""
    limit = csv.field_size_limit(max(longest, 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)
