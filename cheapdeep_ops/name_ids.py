"""Replaces ids inside the names that callers give to routes and input classes."""

import re
from typing import Final

ID: Final = "{id}"
_LETTERS_AND_DIGITS: Final = re.compile(r"[0-9A-Za-z]{8,}")
_SWITCH: Final = re.compile(r"(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z])(?=[0-9])")
_HEX: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
"""Source: https://github.com/ulid/spec, "Encoding"."""

_LONG_HEX: Final = 16
_FEWEST_SWITCHES: Final = 4
"""So many changes between letters and digits make a long token an id; words have fewer."""

_ALONE: Final = r"/:=#?&|,;\s"
"""The characters between the parts of a name, where a number alone is an id. A hyphen is not: `model-3-5` is a word."""

_WHOLE: Final = re.compile(
    rf"[^{_ALONE}@]+@[^{_ALONE}@]+\.[A-Za-z]{{2,}}"  # e-mail addresses
    r"|(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"  # UUIDs, RFC 9562
    r"|(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])"  # dates: a name for each day grows without end too
)
_NUMBERS: Final = re.compile(rf"(?<![^{_ALONE}])[0-9]+(?![^{_ALONE}])|[0-9]{{5,}}")


def without_ids(name: str) -> str:
    """`name` with each id as `{id}`: `user/7/chat` becomes `user/{id}/chat`.

    Ids are UUIDs, ULIDs, e-mail addresses, dates, long hexadecimal or mixed tokens, numbers of five digits or more, and
    numbers that are a part of their own. Words with a digit stay: `gpt-4`, `v2`, `q3-report`. A second call changes
    nothing.
    """
    # A replaced id can make its neighbour the end of a token, so this goes on until nothing is left.
    while (replaced := _NUMBERS.sub(ID, _LETTERS_AND_DIGITS.sub(_token, _WHOLE.sub(ID, name)))) != name:
        name = replaced
    return name


def _token(found: re.Match[str]) -> str:
    """`{id}` for a token of letters and digits that no person would give as a name; else the token."""
    token = found.group()
    switches = len(_SWITCH.findall(token))
    is_hex = bool(_HEX.fullmatch(token)) and switches >= (1 if len(token) >= _LONG_HEX else 2)
    is_mixed = len(token) >= _LONG_HEX and switches >= _FEWEST_SWITCHES
    return ID if is_hex or is_mixed or (switches and _ULID.fullmatch(token)) else token
