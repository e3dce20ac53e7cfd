"""Applies rules to a text slice by slice, so that no step holds up other threads for long.

A search in C keeps Python's other threads from running (the global interpreter lock) until it returns. So each search
begins its matches in one slice, and sees LONGEST characters more: slices overlap by the longest candidate. That gives
the matches of one search over the whole text. Candidates without a limit of their own end at LONGEST characters, and
what follows up to the end of the line goes with them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Final, TypeAlias

Measure: TypeAlias = Callable[[str], int]
"""Returns how many characters at the start of a candidate are to be replaced; 0 if it is something else."""

SLICE: Final = 6_144
"""How many characters one search begins its matches in."""

LONGEST: Final = 4_096
"""The characters of the longest candidate. Keys in blocks have a search of their own for their end."""

FLAGS: Final = re.ASCII | re.VERBOSE
_PASSES: Final = 8
_WITHHELD: Final = "[secret]"
_EQUAL_TO_ASCII: Final = (("\u0130", "i"), ("\u0131", "i"), ("\u017f", "s"), ("\u212a", "k"))
"""What `re.IGNORECASE` takes for a letter of ASCII: capital I with a dot, small I without one, long S, Kelvin."""

_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")
"""A decimal digit of another script than ours."""


class Folded:
    """A text in lower case, with "?" for each character beyond ASCII; every character keeps its place."""

    def __init__(self, text: str) -> None:
        # `casefold` lengthens some texts; `lower` keeps the small I without a dot and the long S.
        for char, letter in _EQUAL_TO_ASCII:
            text = text.replace(char, letter)
        self._text = text.encode("ascii", "replace").lower().decode("ascii")
        self._places: dict[tuple[str, ...], list[int]] = {}

    def places(self, prefixes: tuple[str, ...]) -> list[int]:
        """Where one of `prefixes` begins, in ascending order; remembered, because rules share their prefixes."""
        places = self._places.get(prefixes)
        if places is None:
            # Merged and not sorted: `merge` lets other threads run.
            places = list(merge(*(self._places_of(prefix) for prefix in prefixes if prefix in self._text)))
            self._places[prefixes] = places
        return places

    def _places_of(self, prefix: str) -> Iterator[int]:
        place = self._text.find(prefix)
        while place >= 0:
            yield place
            place = self._text.find(prefix, place + 1)


@dataclass(frozen=True, slots=True)
class SecretRule:
    """One kind of data: the group `it` of its pattern is the candidate. A match without `it` is text that must stay.

    `prefixes` and `prefilter` save time and change no result. Every match begins with one of the `prefixes`, written as
    in `Folded`, so the pattern is tried there only. Where `prefilter` matches nothing, the rule replaces nothing.
    `end` returns where a candidate ends, if its pattern matches only its beginning.
    """

    kind: str
    pattern: re.Pattern[str]
    measure: Measure = len
    prefixes: tuple[str, ...] = ()
    prefilter: re.Pattern[str] | None = None
    end: Callable[[str, re.Match[str]], int] | None = None

    def matches(self, text: str, folded: Folded, size: int = SLICE) -> Iterator[re.Match[str]]:
        """The matches of `pattern` in `text`; it may give none if the rule replaces nothing."""
        if self.prefixes:
            return self._matches_at(folded.places(self.prefixes), text)
        is_tried = self.prefilter is None or any(True for _ in found(self.prefilter, text, size))
        return found(self.pattern, text, size) if is_tried else iter(())

    def _matches_at(self, places: list[int], text: str) -> Iterator[re.Match[str]]:
        done = 0
        for place in places:
            if place >= done and (match := self.pattern.match(text, place, place + LONGEST)):
                yield match
                done = match.end()

    def length(self, text: str, match: re.Match[str]) -> int:
        """How many characters from the candidate's start on are to be replaced; 0 for none."""
        start, end = match.span("it")
        length = self.measure(match["it"])
        if length and self.end is not None:
            return self.end(text, match) - start
        if length and end == match.start() + LONGEST < len(text):
            line_end = text.find("\n", end)
            return (line_end if line_end >= 0 else len(text)) - start
        return length


def found(pattern: re.Pattern[str], text: str, size: int = SLICE) -> Iterator[re.Match[str]]:
    """The matches of `pattern` in `text` from left to right, each at most LONGEST characters long.

    Each search begins its matches in a slice of `size` characters, which changes no match.
    """
    place = 0
    while place < len(text):
        end = place + size
        match = pattern.search(text, place, end + LONGEST)
        start = end if match is None else match.start()
        if match is not None and start < end and start + LONGEST < len(text):
            match = pattern.match(text, start, start + LONGEST)
        if start >= end:
            place = end
        elif match is None:
            place = start + 1
        else:
            yield match
            place = max(match.end(), start + 1)


def settled(text: str, rules: Sequence[SecretRule], size: int = SLICE) -> str:
    """`text` after as many passes of `rules` as change it.

    If the rules find data in digits of another script, all such digits become those of ASCII.
    """
    redacted = _settled(text, rules, size)
    if text.isascii() or not any(True for _ in found(_OTHER_DIGIT, redacted, size)):
        return redacted
    plain = "".join(map(_plain_digit, redacted))
    replaced = _settled(plain, rules, size)
    return redacted if replaced == plain else replaced


def _plain_digit(char: str) -> str:
    return str(unicodedata.decimal(char)) if _OTHER_DIGIT.match(char) else char


def _settled(text: str, rules: Sequence[SecretRule], size: int) -> str:
    # A replacement may uncover a candidate that was attached to it, so one pass is not enough.
    for _ in range(_PASSES):
        redacted = one_pass(text, rules, size)
        if redacted == text:
            return text
        text = redacted
    return _WITHHELD


def one_pass(text: str, rules: Sequence[SecretRule], size: int = SLICE) -> str:
    """`text` after each of `rules` has replaced its candidates."""
    folded = Folded(text)
    for rule in rules:
        redacted = replace(text, folded, rule, size)
        if redacted is not text:
            text, folded = redacted, Folded(redacted)
    return text


def replace(text: str, folded: Folded, rule: SecretRule, size: int = SLICE) -> str:
    """`text` with the rule's candidates replaced from left to right; candidates may overlap."""
    pieces: list[str] = []
    done = 0
    for match in rule.matches(text, folded, size):
        start = match.start("it")
        length = rule.length(text, match) if start >= done else 0
        if length:
            pieces += (text[done:start], f"[{rule.kind}]")
            done = start + length
    return "".join([*pieces, text[done:]]) if pieces else text
