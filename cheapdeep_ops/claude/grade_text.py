"""Reads the text of a grader's reply: other forms of a grade are accepted, a doubtful grade is not.

Models without structured outputs put their object into a code fence, write "Correct" for "correct", or greet first.
None of that changes what they mean. A second object, or a word around the object that may mean something, does.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from cheapdeep_ops.values import Grade
from cheapdeep_ops.verdict import is_small_talk

_FIELDS: Final = frozenset({"reason", "verdict"})
_JUDGES: Final = re.compile(r"correct|unsure|right|true|false|error|fault|verdict\s+is|grade\s+is", re.IGNORECASE)
"""Words around the object that may contradict it."""

_FENCE: Final = re.compile(r"```\w*")
_ANSWER: Final = re.compile(r"\banswers?\b", re.IGNORECASE)
_DECODER: Final = json.JSONDecoder(object_pairs_hook=tuple)
"""Its pairs show a field that occurs twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeText:
    """The grade that a text states, and its verdict as the text spells it."""

    grade: Grade
    spelled: str
    reason: str = field(repr=False)


def read_grade_text(text: str) -> GradeText | None:
    """The only grade that `text` states; None if it states none, or can be read in two ways."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        pairs, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    around = (text[:start], text[end:])
    if not all(map(_means_nothing, around)):
        return None
    return _grade_in(pairs)


def _means_nothing(text: str) -> bool:
    # A triage reply that speaks of its answer may take it back; a grader just names what it has read.
    is_one_line = "\n" not in _FENCE.sub("", text).strip()  # a dialogue is more than a greeting
    return is_one_line and is_small_talk(_ANSWER.sub("text", text)) and not _JUDGES.search(text)


def _grade_in(pairs: tuple[tuple[str, Any], ...]) -> GradeText | None:
    fields = {_closed(name): value for name, value in pairs}
    is_exact = fields.keys() == _FIELDS and len(pairs) == len(_FIELDS)
    if not is_exact or not all(isinstance(value, str) for value in fields.values()):
        return None
    spelled = fields["verdict"]
    if _closed(spelled) not in set(Grade):
        return None
    return GradeText(grade=Grade(_closed(spelled)), spelled=_encodable(spelled), reason=_encodable(fields["reason"]))


def _closed(word: str) -> str:
    """A word of a closed set, whatever its case and the spaces around it."""
    # ASCII only: the lower case of some other letters is ASCII, such as that of the Kelvin sign.
    return word.strip(" \t\r\n").lower() if word.isascii() else word


def _encodable(text: str) -> str:
    # A database stores neither NUL characters nor lone surrogates.
    return text.replace("\0", "").encode("utf-8", "replace").decode()
