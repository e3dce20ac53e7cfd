"""The values in the fields of a recording: confidences, truth, tokens and text, as people and programs write them."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from cheapdeep_ops.errors import RecordingError

_TRUE: Final = frozenset({"true", "t", "yes", "y", "correct", "right"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "incorrect", "wrong"})
_SMALLEST_PERCENTAGE: Final = 2
"""From here on, a number in the place of a share is probably a percentage."""

_LARGEST_PERCENTAGE: Final = 100
_MOST_TOKENS: Final = 1_000_000_000
_LONGEST_SHOWN: Final = 60
"""Characters of a wrong value that its error shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """Reads the fields of one file; each error names the place, the column and the value, and says what to write."""

    has_percentages: bool
    """Whether the column of confidences has percentages without a sign."""
    has_decimal_comma: bool
    """Whether a comma may stand for the decimal point, because it does not separate fields."""

    def confidence(self, place: str, column: str, text: str) -> float | None:
        """A confidence from 0 to 1; None for a blank field. `93%` is 0.93."""
        written = text.strip()
        if not written:
            return None
        percent = written.endswith("%") or self.has_percentages
        number = self.number(written.removesuffix("%"))
        if number is None or not 0 <= number <= (_LARGEST_PERCENTAGE if percent else 1):
            must = "from 0 to 100 percent" if percent else "from 0 to 1"
            advice = "" if percent else _advice_for(number)
            raise RecordingError(f"{place}: {column} is {_shown(text)}; it must be {must}, or blank{advice}")
        # From the decimal digits, because a float divided by 100 may miss the threshold; zero gets no sign.
        return float(number.scaleb(-2) if percent else number) + 0.0

    def truth(self, place: str, column: str, text: str) -> bool | None:
        """Whether an answer is right; None for a blank field."""
        written = text.strip().casefold()
        if not written:
            return None
        if written in _TRUE or written in _FALSE:
            return written in _TRUE
        number = self.number(written)
        if number is None or number not in (0, 1):
            raise RecordingError(
                f"{place}: {column} is {_shown(text)}; it must be 0, 1 or blank (or false, true, no, yes)"
            )
        return number == 1

    def count(self, place: str, column: str, text: str) -> int | None:
        """A number of tokens; None for a blank field."""
        if not text.strip():
            return None
        number = self.number(text)
        if number is None or not 0 <= number <= _MOST_TOKENS or number != int(number):
            raise RecordingError(
                f"{place}: {column} is {_shown(text)}; it must be a whole number of tokens such as 1024, or blank"
            )
        return int(number)

    def text(self, place: str, column: str, text: str) -> str:
        """Text as it is. Raises RecordingError if it has a NUL character, which cannot be stored."""
        if "\0" in text:
            raise RecordingError(f"{place}: {column} has a NUL character: {_shown(text)}; delete it")
        return text

    def number(self, text: str) -> Decimal | None:
        """A finite number; None if the text is none."""
        plain = text.replace(",", ".", 1) if self.has_decimal_comma and "." not in text else text
        # Python would read digits that are separated by an underscore.
        if "_" in plain:
            return None
        try:
            number = Decimal(plain.strip())
        except InvalidOperation:
            return None
        return number if number.is_finite() else None


def _advice_for(number: Decimal | None) -> str:
    """What to do about a number that is probably a percentage; empty for another one."""
    if number is None or not _SMALLEST_PERCENTAGE <= number <= _LARGEST_PERCENTAGE:
        return ""
    return f"; if it is a percentage, write {number}%, or name the column cheap_confidence_pct"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}..."
