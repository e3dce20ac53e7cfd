"""Characters that numbers and names are written with."""

from typing import Final

SPACES: Final = r"\ \u00a0\u2009\u202f"  # French uses the narrow ones in numbers
HYPHENS: Final = r"\-\u2010\u2011\u2013"
GAPS: Final = SPACES + HYPHENS
MONEY: Final = r"$\u20ac\u00a3"


def has_digit(text: str) -> bool:
    """Whether `text` has a digit of ASCII."""
    return not text.isalpha() and any("0" <= char <= "9" for char in text)


def digits_of(text: str) -> str:
    """The digits of ASCII in `text`."""
    return "".join(char for char in text if "0" <= char <= "9")
