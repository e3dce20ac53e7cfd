"""A reader of copies that is slow and easy to follow: it undoes one level of escapes at a time, over the whole text.

`cheapdeep_ops.copies` has to find all that it finds.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

_DEPTH: Final = 5
"""The number of nested levels of strings that are unescaped; each level doubles the backslashes."""

_SHORT_RUN: Final = 12
"""Runs of escapes up to this length are cached, because few different ones occur."""

_ESCAPED_LETTER: Final = re.compile(r"\\(?:u00([46][1-9a-f]|[57][0-9a])|.)", re.IGNORECASE | re.DOTALL)
_ESCAPES: Final = re.compile(r'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))+')
_ENTITY: Final = re.compile(r"&#?[0-9A-Za-z]{1,32};")
_UNSEEN: Final = re.compile(
    "[\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]+"
)
_LOOKALIKES: Final = {
    '"': "\u201c\u201d\u201e\u201f\u00ab\u00bb",
    "'": "\u2018\u2019\u201a\u201b\u2039\u203a\u2032",
    ":": "\u2236\ua789",
    "a": "\u0430\u0410\u03b1\u0391\u0251",
    "c": "\u0441\u0421\u03f2",
    "d": "\u0501",
    "e": "\u0435\u0415\u0395",
    "f": "\u0584",
    "i": "\u0456\u0406\u03b9\u0399\u0131",
    "n": "\u0578\u039d",
    "o": "\u043e\u041e\u03bf\u039f\u0585",
    "r": "\u0433",
    "s": "\u0455\u0405",
    "t": "\u0422\u03a4",
    "v": "\u0475\u03bd",
    "w": "\u051d\u0461",
}
_REPLACED: Final = tuple((char, plain) for plain, chars in _LOOKALIKES.items() for char in chars)
_PLAIN: Final = str.maketrans(dict(_REPLACED))
_LENIENT: Final = json.JSONDecoder(strict=False)
_NUMBER: Final = r"""\s*["']?([-+.0-9eE]+)"""
_STRING: Final = r"""\s*("(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')"""

Readings = tuple[str, ...]
Value = float | str | None


class VerdictPattern:
    """Detects an object by its keys, at any depth, escaped or cut off; the time is linear in the length of the text."""

    def __init__(self, *keys: str) -> None:
        """Detect objects with `keys`, each of them one plain word."""
        # Patterns and not a JSON decoder: a copy may be cut off or in another dialect, where a decoder stops.
        starts = {key: rf"""(?:["'`]\s*{key}\s*\\*["'`]|[{{,]\s*{key})\s*:""" for key in keys}
        self._keys = [re.compile(start, re.IGNORECASE) for start in starts.values()]
        self._numbers = {key: re.compile(start + _NUMBER, re.IGNORECASE) for key, start in starts.items()}
        self._strings = {key: re.compile(start + _STRING, re.IGNORECASE | re.DOTALL) for key, start in starts.items()}

    def is_spelled_in(self, text: str) -> bool:
        """Whether `text` has all keys in the place of keys, in any dialect of JSON."""
        return self._names_keys(text) and any(map(self._has_keys, _readings(text)))

    def stands_in(self, text: str, values: Mapping[str, Value]) -> bool:
        """Whether `text` has all keys with exactly these values: plain, disguised, or inside a string."""
        readings = _readings(text) if self._names_keys(text) else ()
        if not any(map(self._has_keys, readings)):
            return False
        return all(self._has(readings, key, value) for key, value in values.items())

    def _names_keys(self, text: str) -> bool:
        """Whether all key words occur at all."""
        # A cheap filter: nearly every text fails it, in a twentieth of the time of the patterns.
        if text.isascii() and "\\" not in text and "&" not in text:  # it has no escapes to undo
            lowered = text.lower()
            return all(key in lowered for key in self._strings)
        return any(all(key in level.casefold() for key in self._strings) for level in _levels(text, _ascii_part))

    def _has_keys(self, text: str) -> bool:
        return all(key.search(text) for key in self._keys)

    def _has(self, readings: Readings, key: str, value: Value) -> bool:
        if value is None:
            return False
        if not isinstance(value, str):
            return value in set(map(_number, _matches(self._numbers[key], readings)))
        strings = {string for token in _matches(self._strings[key], readings) if (string := _string(token)) is not None}
        return value in strings or _as_seen(value) in map(_as_seen, strings)


def _matches(pattern: re.Pattern[str], readings: Readings) -> set[str]:
    return {token for reading in readings for token in pattern.findall(reading)}


def _number(token: str) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _string(token: str) -> str | None:
    if token.startswith("'"):
        return _unescaped(token[1:-1].replace("\\'", "'"))
    try:
        return str(_LENIENT.decode(token))
    except ValueError:
        return None


def _readings(text: str) -> Readings:
    """All readings of `text`: literal and as the eye sees it, each at every level of unescaping."""
    return tuple(dict.fromkeys((*_levels(text, str), *_levels(text, _as_seen))))


def _levels(text: str, look: Callable[[str], str]) -> list[str]:
    """`text` with its letters unescaped, then again after each level of strings is unescaped."""
    levels = [_with_plain_letters(look(text))]
    while len(levels) < _DEPTH and "\\" in levels[-1]:
        inner = look(_unescaped(levels[-1]))
        if inner == levels[-1]:
            break
        levels.append(_with_plain_letters(inner))
    return levels


def _with_plain_letters(text: str) -> str:
    return _ESCAPED_LETTER.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[0], text)


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda match: _read_escapes(match[0]), text)


def _read_escapes(run: str) -> str:
    return _read_short_escapes(run) if len(run) <= _SHORT_RUN else str(json.loads(f'"{run}"'))


@lru_cache(1024)
def _read_short_escapes(run: str) -> str:
    return str(json.loads(f'"{run}"'))


def _as_seen(text: str) -> str:
    text = _without_entities(text)
    # ASCII text has no lookalikes: most texts skip the slow normalization.
    return text if text.isascii() else _UNSEEN.sub("", _decomposed(text)).translate(_PLAIN)


def _ascii_part(text: str) -> str:
    """`text` as the eye sees it, without the characters that are not ASCII."""
    text = _without_entities(text)
    if text.isascii():
        return text
    text = _decomposed(text)
    for char, plain in _REPLACED:
        text = text.replace(char, plain)
    return text.encode("ascii", "ignore").decode()


def _decomposed(text: str) -> str:
    """`text` in NFKD, with combining marks in their original order."""
    # Character by character: sorting a run of marks takes time quadratic in its length.
    others = {char for char in set(text) if not char.isascii()}
    return text.translate({ord(char): unicodedata.normalize("NFKD", char) for char in others})


def _without_entities(text: str) -> str:
    if "&" not in text:
        return text
    # Imported here, because its table of entities takes 2 ms to load and most texts have none.
    from html import unescape  # noqa: PLC0415

    return _ENTITY.sub(lambda match: unescape(match[0]), text)
