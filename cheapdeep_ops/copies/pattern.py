"""Finds an object by its keys, in any spelling, and compares its values."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from functools import cached_property
from typing import Final

from cheapdeep_ops.copies.disguises import (
    UNSEEN,
    beginning_like,
    consisting_of,
    is_in_first_plane,
    ligatures,
    like,
    seen,
    short_like,
)
from cheapdeep_ops.copies.escapes import CONTROLS, MARKS, prepare_escapes, seen_without_escapes, without_escapes
from cheapdeep_ops.copies.work import TooMuchWorkError, Work

_QUOTES: Final = "\"'`"
_BEFORE_A_KEY: Final = frozenset(f"{_QUOTES}{{,")
_RAREST: Final = "zqxjkfwvbpygumdhltrscnioae"
"""Letters by how rare they and their lookalikes are; a search begins with the rarest letter of a key."""

_SPACES: Final = " \t\r\n\v\f\xa0\\nrtbf"
"""White space, with what is left of escaped white space."""

_NUMBER: Final = re.compile(r"""[\snrtbf]*["']?([-+.0-9eE]*)""")
_STRING: Final = re.compile(r"""[\snrtbf]*(["']?)""")
_REACH: Final = 32
"""How many characters before a key are looked at."""

_WINDOW: Final = 64
"""How many characters of a value are read first."""

_WORD_WORK, _ASCII_KEY_WORK, _KEY_WORK, _VALUE_WORK, _CHARACTER_WORK = 4, 40, 160, 40, 4

Value = float | str | None


class Spelling(Enum):
    """Whether a text spells an object with all keys of a pattern."""

    NONE = auto()
    SPELLED = auto()
    UNCLEAR = auto()
    """To find out would take too much work."""


class VerdictPattern:
    """Detects an object by its keys, at any depth, escaped or cut off.

    The time is linear in the length of the text, and the work has a bound (`Work`). What cannot be cleared within it
    counts as found.
    """

    def __init__(self, *keys: str) -> None:
        """Detect objects with `keys`, each of them one plain word in small letters; the rarest word first."""
        # Patterns and not a JSON decoder: a copy may be cut off or in another dialect, where a decoder stops.
        self._keys = keys
        self._plain = {key: re.compile(rf"""{key}[\s\\"'`nrtbf]*+:""") for key in keys}

    def spelling_in(self, text: str) -> Spelling:
        """Whether `text` has all keys in the place of keys, in any dialect of JSON."""
        if text.isascii() and "\\" not in text and "&" not in text:  # a short way for most texts
            if self._is_missing(text):
                return Spelling.NONE
        elif self._is_clear(text):
            return Spelling.NONE
        work = Work(text)
        try:
            if ("\\" in text or "&" in text) and text.isascii() and self._is_missing(seen_without_escapes(text, work)):
                return Spelling.NONE
            flat = self._flat(text, work)
            return Spelling.SPELLED if flat and self._has_keys(flat, work) else Spelling.NONE
        except TooMuchWorkError:
            return Spelling.UNCLEAR

    def is_spelled_in(self, text: str) -> bool:
        """Whether `text` spells the keys, or may do so."""
        return self.spelling_in(text) is not Spelling.NONE

    def stands_in(self, text: str, values: Mapping[str, Value]) -> bool:
        """Whether `text` has all keys with exactly these values: plain, disguised, or inside a string.

        True also if that is unclear.
        """
        if not text or any(value is None for value in values.values()):
            return False
        if (spelling := self.spelling_in(text)) is not Spelling.SPELLED:
            return spelling is Spelling.UNCLEAR
        work = Work(text)
        try:
            flat = self._flat(text, work)
            # Both, because a number may go on with an escape: read literally, it ends there.
            readings = dict.fromkeys((flat, text))
            return all(self._has(readings, key, value, work) for key, value in values.items())
        except TooMuchWorkError:
            return True

    def prepare(self) -> None:
        """Make the patterns for texts that are not ASCII, so that no call has to wait some milliseconds for them."""
        _ = self._disguised, self._rare_ends, self._first
        prepare_escapes()

    def _flat(self, text: str, work: Work) -> str:
        """`text` without escapes, in the first plane; empty if a key is missing in it in any disguise."""
        text = without_escapes(text, work)
        if text.isascii():
            return "" if self._is_missing(text) else text
        for char, letters in self._ligatures.items():
            text = text.replace(char, letters)
        for letters, rare_end in self._rare_ends:
            work.spend(sum(map(text.count, letters)) // 2)
            if not rare_end.search(text):
                return ""
        return text

    def _is_clear(self, text: str) -> bool:
        """Whether one search shows that `text` has neither escapes nor the first key; the short way for most texts."""
        if text.isascii() or "\\" in text or "&" in text or not is_in_first_plane(text):
            return False
        # A search takes as long at each rare letter as for ten other characters.
        return sum(map(text.count, self._rare_ends[0][0])) <= len(text) // 8 and not self._first.search(text)

    def _is_missing(self, text: str | None) -> bool:
        """Whether the ASCII text lacks a key; False if there is no text."""
        return text is not None and not all(map(text.lower().__contains__, self._keys))

    @cached_property
    def _first(self) -> "re.Pattern[str]":
        """The end of the first key in any disguise, or a character that would have to be replaced before."""
        _, rare_end = self._rare_ends[0]
        others = f"[{''.join([*MARKS, *self._ligatures])}]"
        # One class begins it, because `re` searches for that quickly.
        first, rest = rare_end.pattern.split("]", 1)
        return re.compile(f"{first}{others[1:]}(?:(?<={others})|{rest})")

    @cached_property
    def _ligatures(self) -> dict[str, str]:
        return ligatures(self._keys)

    @cached_property
    def _rare_ends(self) -> list[tuple[str, "re.Pattern[str]"]]:
        """The rarest letter of each key with its short lookalikes, and a pattern for the key from there on."""
        rarest = {key: min(key, key=_RAREST.index) for key in self._keys}
        return [
            (short_like(letter), re.compile(_in_disguise(key[key.index(letter) :]))) for key, letter in rarest.items()
        ]

    @cached_property
    def _disguised(self) -> dict[str, "re.Pattern[str]"]:
        """The keys with what may follow them up to the colon, in any disguise."""
        end = f"{consisting_of(f'{_QUOTES}nrtbf')}*+{beginning_like(':')}"
        return {key: re.compile(_in_disguise(key) + end) for key in self._keys}

    def _has_keys(self, text: str, work: Work) -> bool:
        return all(any(True for _ in self._places(text, key, work)) for key in self._keys)

    def _places(self, text: str, key: str, work: Work) -> Iterator[int]:
        """Where a value of `key` begins in `text`, after its colon."""
        is_ascii = text.isascii()
        if is_ascii:
            text = text.lower()
            work.spend(_WORD_WORK * text.count(key))
        else:
            work.spend(sum(map(text.count, short_like(key[0]))) // 2)
        for match in (self._plain if is_ascii else self._disguised)[key].finditer(text):
            work.spend(_ASCII_KEY_WORK if is_ascii else _KEY_WORK)
            start = max(match.start() - _REACH, 0)
            before = seen(text[start : match.start()]).rstrip(_SPACES)
            if before[-1:] in _BEFORE_A_KEY if before else start > 0:
                yield match.end()

    def _has(self, readings: Mapping[str, None], key: str, value: Value, work: Work) -> bool:
        if isinstance(value, str):
            wanted = _as_compared(without_escapes(value, work))
            return any(
                _is_string(text, place, wanted, work) for text in readings for place in self._places(text, key, work)
            )
        return any(
            _is_number(text, place, value, work, is_cut=len(readings) > 1)
            for text in readings
            for place in self._places(text, key, work)
        )


def _in_disguise(word: str) -> str:
    """A pattern for a word whose letters may be any that look alike, with invisible characters between them."""
    return f"[{UNSEEN}]*+".join(map(like, word))


def _as_compared(text: str) -> str:
    return seen(text).translate(CONTROLS)


def _windows(text: str, place: int, work: Work) -> Iterator[tuple[str, bool]]:
    """The text from `place` on, in growing parts, and whether it ends there."""
    size = _WINDOW
    while True:
        part = text[place : place + size]
        work.spend(_VALUE_WORK + (len(part) >> 4 if part.isascii() else _CHARACTER_WORK * len(part)))
        yield part, place + size >= len(text)
        size *= 4


def _is_number(text: str, place: int, value: object, work: Work, *, is_cut: bool) -> bool:
    """Whether the number at `place` is `value`, read literally or as it is seen; with `is_cut`, or begins with it."""
    for part, is_end in _windows(text, place, work):
        readings = (part, seen(part))
        matches = [match for reading in readings if (match := _NUMBER.match(reading))]
        if is_end or all(match.end() < len(match.string) for match in matches):
            return any(_number(token) == value for match in matches for token in _tokens(match[1], is_cut=is_cut))
    return False  # pragma: no cover - the last part ends the text


def _tokens(token: str, *, is_cut: bool) -> Iterator[str]:
    """A number, and its beginnings if an escape may have ended it."""
    yield token
    yield from (token[:end] for end in range(1, min(len(token), _WINDOW)) if is_cut)


def _number(token: str) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _is_string(text: str, place: int, wanted: str, work: Work) -> bool:
    """Whether the string at `place` is `wanted`, both without escapes and as they are seen."""
    for part, is_end in _windows(text, place, work):
        reading = _as_compared(part)
        opened = _STRING.match(reading)
        body = reading[opened.end() :] if opened else ""
        if body and not (opened and opened[1]):
            return False
        if len(body) > len(wanted):
            return body.startswith(wanted) and body[len(wanted)] in _QUOTES
        if is_end or not wanted.startswith(body):
            return False
    return False  # pragma: no cover - the last part ends the text
