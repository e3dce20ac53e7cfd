"""What a reader takes for an ASCII character: lookalikes, compatibility forms, and characters that show nothing.

Sources for lookalikes: https://www.unicode.org/reports/tr39/; for invisible characters:
https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point; for compatibility forms (NFKD):
https://www.unicode.org/reports/tr15/.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Final

from cheapdeep_ops.copies.work import Work

UNSEEN: Final = (
    "\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff"
    "\u3164\ufe00-\ufe0f\uffa0\ufeff\ufff9-\ufffb"
)
"""Characters that show nothing, as a part of a character class; those beyond the first plane are left out."""

_UNSEEN_BEYOND: Final = "\U000e0000-\U000e0fff"
_UNSEEN: Final = re.compile(f"[{UNSEEN}{_UNSEEN_BEYOND}]+")
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
_PLAIN: Final = str.maketrans({char: plain for plain, chars in _LOOKALIKES.items() for char in chars})
_BLOCKS: Final = (
    (0x80, 0x590), (0x1D00, 0x1DC0), (0x1E00, 0x2190), (0x2200, 0x2300), (0x2440, 0x2500),
    (0x2A00, 0x2B00), (0x2C60, 0x2C80), (0x3000, 0x3040), (0x3200, 0x3400), (0xA640, 0xA800), (0xAB30, 0xAB70),
    (0xFB00, 0xFB30), (0xFE10, 0xFE70), (0xFF00, 0xFFF0),
)  # fmt: skip
"""The code blocks of the first plane in which characters look like ASCII. A test compares them with all of Unicode."""

_BEYOND: Final = re.compile(
    "[^\0-\U0001077f\U000107c0-\U0001ccd5\U0001ccfa-\U0001d3ff\U0001d800-\U0001f0ff\U0001f1ae-\U0001fbef"
    "\U0001fbfa-\U000dffff\U000e1000-\U0010ffff]"
)
"""Characters beyond the first plane that look like ASCII, or like nothing."""

_BEYOND_WORK: Final = 16


def seen(text: str) -> str:
    """`text` as the eye sees it: in NFKD, without invisible characters, with ASCII for lookalikes."""
    # Character by character: sorting a run of marks takes time quadratic in its length.
    return text if text.isascii() else "".join(map(_seen_character, text))


def seen_in_ascii(text: str) -> str:
    """What is seen of `text`, with NUL for each character that does not look like ASCII."""
    return "".join([char if char.isascii() else "\0" for char in seen(text)])


@lru_cache(4_096)
def _seen_character(char: str) -> str:
    return _as_seen(char)


def _as_seen(char: str) -> str:
    return _UNSEEN.sub("", unicodedata.normalize("NFKD", char)).translate(_PLAIN)


def is_in_first_plane(text: str) -> bool:
    """Whether `text` has no character beyond the first plane that looks like ASCII or like nothing."""
    # The two lengths take a fifth of the time.
    return (
        text.isascii()
        or len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text)
        or _BEYOND.search(text) is None
    )


def in_first_plane(text: str, work: Work) -> str:
    """`text` with what looks like ASCII beyond the first plane replaced by what is seen."""
    # The charsets of `re` are ten times as fast without those characters.

    def replaced(match: re.Match[str]) -> str:
        work.spend(_BEYOND_WORK)
        return _seen_character(match[0])

    return text if is_in_first_plane(text) else _BEYOND.sub(replaced, text)


@cache
def _looks() -> dict[str, str]:
    """What is seen of each character of the first plane that is no ASCII and looks as if it were, in small letters."""
    # Made when the first text needs it, because it takes some milliseconds.
    chars = (chr(code) for start, end in _BLOCKS for code in range(start, end))
    found = {char: _as_seen(char).lower() for char in chars}
    return {char: look for char, look in found.items() if look != char and re.search("[!-~]| $", look)}


def like(wanted: str) -> str:
    """All characters of the first plane that look like one of `wanted`, as a character class."""
    plain = {*wanted, *wanted.upper()}
    return f"[{''.join(map(re.escape, sorted(plain | {char for char, look in _looks().items() if look in plain})))}]"


def disguised(wanted: str) -> str:
    """All characters beyond ASCII that look like one or more of `wanted`, as a part of a character class."""
    return "".join(sorted(char for char, look in _looks().items() if not look.strip(wanted)))


@cache
def short_like(letter: str) -> str:
    """The letter, its lookalikes that UTF-8 has in one or two bytes without marks, and its fullwidth form."""
    # A text of a given size has the most places to look at if it consists of these.
    return f"{letter}{letter.upper()}{_LOOKALIKES.get(letter, '')}{chr(ord(letter) + 0xFEE0)}"


def beginning_like(wanted: str) -> str:
    """All characters whose look begins with one of `wanted`, as a character class."""
    chars = {char for char, look in _looks().items() if look[:1] in wanted}
    return f"[{''.join(map(re.escape, sorted({*wanted} | chars)))}]"


def consisting_of(wanted: str) -> str:
    """All characters that look like white space or some of `wanted`, or that show nothing, as a character class."""
    chars = {char for char, look in _looks().items() if not look.strip(f" {wanted}")}
    return rf"[\s{UNSEEN}{''.join(map(re.escape, sorted({*wanted} | chars)))}]"


def ligatures(words: Iterable[str]) -> dict[str, str]:
    """The characters that look like two or more letters of one of `words`, with those letters."""
    several = {char: look for char, look in _looks().items() if len(look) > 1}
    return {char: look for char, look in several.items() if any(look in word for word in words)}
