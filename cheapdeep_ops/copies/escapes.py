r"""Undoes the escapes of a text at every level at once, in a few passes that run in C.

The result is not the text of any level: all backslashes are gone, so an escaped line feed is the letter `n`. Two texts
that are equal at some level are equal here too (after `CONTROLS`), so a search for copies misses none.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

from cheapdeep_ops.copies.disguises import UNSEEN, disguised, in_first_plane, like, seen_in_ascii
from cheapdeep_ops.copies.work import TooMuchWorkError, Work

CONTROLS: Final = str.maketrans("\n\r\t\b\f", "nrtbf")
"""What is left of an escaped control character, for the character itself."""

MARKS: Final = {"\uff3c": "\\", "\ufe68": "\\", "\uff06": "&", "\ufe60": "&"}
"""Lookalikes that begin an escape or an entity."""

_DEPTH: Final = 5
"""How often escapes are undone that other escapes have spelled."""

_ENTITY: Final = re.compile(r"(&#?[0-9A-Za-z]{1,32};)")
_BARE_CODE: Final = re.compile("(u[0-9a-f]{4})")
"""A code whose backslash is gone, in small letters."""

_HALF: Final = re.compile("ud[89a-f]")
"""A half of a surrogate pair, as a bare code."""

_CODE, _NO_CODE = "\x01", "\x02"
r"""Stand for `\u` while other backslashes are removed: with four hexadecimal digits behind it, and without."""

_FOUR: Final = re.compile(f"{_CODE}[0-9a-fA-F]{{4}}")
_DANGLING: Final = re.compile(f"{_CODE}(?![0-9a-fA-F]{{4}})")
_COMPLETED: Final = re.compile(f"{_NO_CODE}[0-9a-fA-F]{{4}}")
_AND_WORK: Final = 3
_EACH_WORK: Final = 6
_RARE, _RARE_LETTER, _FEW = 40, 16, 64
"""Few escapes: at most one in 40 characters, 64 different ones, and one letter in 16 that may begin one."""

_CHARACTERS_A_PASS: Final = 64
"""The characters of a pass in C that count as one unit of work."""


def prepare_escapes() -> None:
    """Make the patterns that some texts need."""
    for pattern in (_disguised_letter, _disguised_digits, _decoded_letter, _disguised_entity):
        pattern()


def seen_without_escapes(text: str, work: Work) -> str | None:
    """What is seen of an ASCII text with few escapes once they are undone, in small letters; None if it has many."""
    # Imported here, because its table of entities takes 2 ms to load and most texts have none.
    from html import unescape  # noqa: PLC0415

    ampersands, had_backslashes = text.count("&"), "\\" in text
    if (text.count("u") + text.count("U")) * _RARE_LETTER > len(text) or ampersands * _RARE > len(text):
        return None
    escapes = ampersands + (text.count("\\u") if had_backslashes else 0)
    if escapes * _RARE > len(text):
        return None
    work.spend(_EACH_WORK * escapes)
    if had_backslashes:
        # Bytes are faster where there are many.
        text = text.encode().translate(None, b"\\").decode()
    text = (_each_seen(_ENTITY, unescape, text) if ampersands else text).lower()
    if had_backslashes and not _HALF.search(text):
        text = _each_seen(_BARE_CODE, lambda code: chr(int(code[1:], 16)), text).lower()
    # What was undone may have spelled another escape.
    is_unclear = "\\" in text or (had_backslashes and _BARE_CODE.search(text)) or ("&" in text and _ENTITY.search(text))
    return None if is_unclear else text


def _each_seen(escape: "re.Pattern[str]", undo: Callable[[str], str], text: str) -> str:
    """`text` with what is seen of each escape; unchanged if too many of them differ."""
    parts = escape.split(text)
    found = {*parts[1::2]}
    if len(found) > _FEW:
        return text
    looks = {each: seen_in_ascii(undo(each)) for each in found}
    parts[1::2] = map(looks.__getitem__, parts[1::2])
    return "".join(parts)


def without_escapes(text: str, work: Work) -> str:
    """`text` without escapes and entities. Raises TooMuchWorkError if it has too many, or disguised ones."""
    for level in range(_DEPTH):
        before = text
        if not text.isascii():
            text = in_first_plane(text, work)
            for mark, plain in MARKS.items():
                text = text.replace(mark, plain)
        if "&" in text:
            text = _without_entities(text, work)
        if had_backslashes := "\\" in text:
            text = _without_backslashes(text, work)
        if text == before or not _has_more(text, may_have_entities=had_backslashes):
            break
        work.spend(len(text) // (2 if level else 4))
    else:
        raise TooMuchWorkError
    if "&" in text and not text.isascii():
        work.spend(_AND_WORK * text.count("&"))
        if _disguised_entity().search(text):
            raise TooMuchWorkError
    return text


def _has_more(text: str, *, may_have_entities: bool) -> bool:
    """Whether undoing some escapes has spelled others."""
    has_marks = not text.isascii() and any(mark in text for mark in MARKS)
    return has_marks or "\\" in text or (may_have_entities and any(_entities(text)))


def _without_entities(text: str, work: Work) -> str:
    # Another entity may begin with what one stood for: &amp;#99;
    for _ in range(_DEPTH):
        work.spend(_AND_WORK * text.count("&"))
        if not (entities := _entities(text)):
            return text
        for entity, char in entities.items():
            work.spend(1 + len(text) // _CHARACTERS_A_PASS)
            text = text.replace(entity, char)
        text = in_first_plane(text, work)
    raise TooMuchWorkError


def _entities(text: str) -> dict[str, str]:
    """The entities in `text`, each once, with their characters."""
    if "&" not in text or not (names := set(_ENTITY.findall(text))):
        return {}
    # Imported here, because its table of entities takes 2 ms to load and most texts have none.
    from html import unescape  # noqa: PLC0415

    return {name: char for name in sorted(names) if (char := unescape(name)) != name}


def _without_backslashes(text: str, work: Work) -> str:
    backslashes = text.count("\\")
    work.spend(backslashes // 2 if text.isascii() else 2 * backslashes)
    if backslashes == text.count("\\u"):
        work.spend(backslashes // 2)
        with suppress(UnicodeDecodeError):
            return _decoded(text, work)
    text = text.replace(_CODE, "").replace(_NO_CODE, "").replace("\\u", _CODE).replace("\\U", _CODE)
    is_nested = f"\\{_CODE}" in text or not text.isascii()
    if (is_nested and _CODED.search(text)) or (not text.isascii() and _disguised_letter().search(text)):
        raise TooMuchWorkError
    # Bytes are faster where there are many, and as fast elsewhere.
    text = text.encode().translate(None, b"\\").decode() if text.isascii() else text.replace("\\", "")
    return _without_codes(text, work, is_nested=is_nested) if _CODE in text else text


def _without_codes(text: str, work: Work, *, is_nested: bool) -> str:
    """`text` with the character of each code of four hexadecimal digits."""
    work.spend(text.count(_CODE))
    if not _FOUR.search(text):  # as in most texts: C:\users, \underline
        text = text.replace(_CODE, _NO_CODE)
    else:
        try:
            text = _decoded(text.replace(_CODE, "\\u"), work)
        except UnicodeDecodeError:  # some of them are codes, and some are not
            work.spend(4 * text.count(_CODE))
            text = _decoded(_DANGLING.sub(_NO_CODE, text).replace(_CODE, "\\u"), work)
    if _NO_CODE in text:
        if not text.isascii() and _disguised_digits().search(text):
            raise TooMuchWorkError
        text = text.replace(_NO_CODE, "\\u" if "\\" in text or _COMPLETED.search(text) else "u")
    if is_nested and not text.isascii() and _decoded_letter().search(text):
        raise TooMuchWorkError
    return text


def _decoded(coded: str, work: Work) -> str:
    text = coded.encode("raw_unicode_escape").decode("raw_unicode_escape")
    if "\\ud" in coded or "\\uD" in coded:  # joins the halves of surrogate pairs
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return in_first_plane(text, work)


# Escapes and entities that are written in disguise themselves. No usual text has them: they are found, not undone.

_HEX: Final = "0123456789abcdef"
_GAP: Final = f"[{UNSEEN}]*+"
_PLAIN_DIGITS: Final = f"(?:[0-9a-fA-F]{_GAP})"
_CODED: Final = re.compile(rf"\\{_GAP}{_CODE}(?:00(?:[57]5|5[cC])|[dD](?:[bB]4[0-3]|835|83[cC]{_CODE}[dD][dD]44))")
r"""A backslash before the code of `u`, of a backslash, or of a letter or nothing beyond the first plane."""


def _digits(*, more: str = "") -> str:
    """Four digits, or less with a disguised one, or with one of `more`, behind them."""
    return rf"{_GAP}(?:{_PLAIN_DIGITS}{{4}}|{_PLAIN_DIGITS}{{0,3}}[{disguised(_HEX)}{more}])"


@cache
def _disguised_letter() -> "re.Pattern[str]":
    digits = _digits(more=rf"{_CODE}\\&")
    return re.compile(rf"\\{_GAP}{like('u')}{digits}")


@cache
def _disguised_digits() -> "re.Pattern[str]":
    return re.compile(_NO_CODE + _digits())


@cache
def _decoded_letter() -> "re.Pattern[str]":
    return re.compile(f"[{disguised('u')}{UNSEEN}]{_GAP}[uU]?{_digits()}")


@cache
def _disguised_entity() -> "re.Pattern[str]":
    letters = f"[0-9A-Za-z{disguised('0123456789abcdefghijklmnopqrstuvwxyz')}]"
    name = rf"{_GAP}(?:{like('#')}{_GAP})?(?:{letters}{_GAP}){{1,32}}"
    return re.compile(rf"&{name}{like(';')}")
