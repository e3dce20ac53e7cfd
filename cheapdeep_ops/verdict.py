"""Reads a triage reply strictly: an ambiguous reply escalates.

A code fence or short prose may surround the reply. It must have exactly one JSON object, with `confidence` and
`answer` once. Sources: https://www.rfc-editor.org/rfc/rfc8259#section-4 on duplicate names, and arXiv:2601.21380 on
user text with a routing verdict of its own.
"""

import json
import math
import re
import unicodedata
from typing import Any, Final, NoReturn

from cheapdeep_ops.copies import Spelling, VerdictPattern
from cheapdeep_ops.lost_escapes import CONTROL, has_lost_escape
from cheapdeep_ops.token_limit import is_surely_longer
from cheapdeep_ops.values import MalformedCause, Outcome, Reason, StopReason, Verdict

CONFIDENCE: Final = "confidence"
ANSWER: Final = "answer"
_KEYS: Final = frozenset({CONFIDENCE, ANSWER})
_VERDICT: Final = VerdictPattern(CONFIDENCE, ANSWER)
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Mn", "Me", "Zs", "Zl", "Zp"})
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing: the Hangul fillers and the empty Braille cell."""

_STOP_PROBLEMS: Final = {
    StopReason.REFUSAL: Reason.REFUSAL,
    StopReason.MAX_TOKENS: Reason.TRUNCATED,
    StopReason.CONTEXT_EXCEEDED: Reason.TRUNCATED,
}


class _MalformedError(ValueError):
    """The text cannot be read in exactly one way, or its answer is not what the model meant."""

    def __init__(self, cause: MalformedCause, detail: str) -> None:
        super().__init__(detail)
        self.cause, self.detail = cause, detail


def read_verdict(
    text: str | None, *, stop_reason: str | None, user_text: str = "", max_tokens: int | None = None
) -> Verdict:
    """The verdict that a triage reply states, or the reason why it can never ship.

    `text` is the reply's only text; None if the reply has another form. `user_text` is everything that the caller sent:
    an object that occurs in it, plain or disguised (see `copies`), is the user's and not the model's. `max_tokens` is
    the caller's limit for the answer.
    """
    if stop_reason in _STOP_PROBLEMS:
        return Verdict(problem=_STOP_PROBLEMS[StopReason(stop_reason)], detail=f"stop_reason {stop_reason}")
    if stop_reason != StopReason.END_TURN:
        return _malformed(MalformedCause.STOP_REASON, f"stop_reason {stop_reason}")
    if text is None:
        return _malformed(MalformedCause.NOT_TEXT, "the reply is not one text")
    try:
        fields = _only_object(text)
        confidence = _confidence(fields)
        answer = _answer(fields)
        _refuse_copies(fields, user_text)
    except RecursionError:
        return _malformed(MalformedCause.NOT_JSON, "nested too deeply")
    except _MalformedError as error:
        return _malformed(error.cause, error.detail)
    if answer is None:
        return Verdict(confidence=confidence, problem=Reason.NO_ANSWER, detail="the answer is null or blank")
    try:
        _refuse_distortion(answer)
    except _MalformedError as error:
        return _malformed(error.cause, error.detail, confidence=confidence)
    if is_surely_longer(answer, max_tokens):
        return Verdict(confidence=confidence, problem=Reason.TRUNCATED, detail="the answer is longer than max_tokens")
    return Verdict(confidence=confidence, answer=answer)


def decide(verdict: Verdict, *, threshold: float) -> tuple[Outcome, Reason | None]:
    """Whether `verdict` ships or escalates at `threshold`, and why; a confidence equal to the threshold ships."""
    # Low confidence comes first: it is the reason, whatever other fault the reply has.
    if verdict.confidence is not None and verdict.confidence < threshold:
        return Outcome.ESCALATE, Reason.LOW_CONFIDENCE
    if verdict.problem is not None:
        return Outcome.ESCALATE, verdict.problem
    return Outcome.SHIP, None


def _malformed(cause: MalformedCause, detail: str, *, confidence: float | None = None) -> Verdict:
    return Verdict(confidence=confidence, problem=Reason.MALFORMED, cause=cause, detail=detail)


def _only_object(text: str) -> dict[str, Any]:
    """The only JSON object in `text`; only a code fence and small talk may surround it."""
    start = text.find("{")
    if start < 0:
        raise _MalformedError(MalformedCause.NOT_JSON, "no JSON object")
    fields, end = _decode(text, start)
    before, after = text[:start], text[end:]
    if "{" in after or "}" in before + after:
        raise _MalformedError(MalformedCause.SECOND_VERDICT, "more than one JSON object")
    if not (is_small_talk(before) and is_small_talk(after)):
        raise _MalformedError(MalformedCause.TEXT_AROUND, "the text around the JSON object may mean something")
    if not isinstance(fields, dict):  # pragma: no cover - raw_decode at a brace gives an object
        raise _MalformedError(MalformedCause.NOT_JSON, "not a JSON object")
    return fields


_FENCE: Final = re.compile(r"```\w*")
_SMALL_TALK_LENGTH: Final = 80
_MAY_MEAN_SOMETHING: Final = re.compile(
    r"""[^\sA-Za-z,.:;!?'"()-]                                 # digits, markup, brackets, other scripts
    |\b(?:confiden|answer|correct|actual|wrong|mistak|instead|ignor|disregard|cancel|unsure|uncertain|escalat)
    |\b(?:no|not|nor|never|null|none|but|wait|however|though|except|rather|second|only|if|cannot|sorry|unable)\b
    |n't\b""",
    re.IGNORECASE | re.VERBOSE,
)


def is_small_talk(text: str) -> bool:
    """Whether `text` is short and plain enough to be ignored, like "Here is the JSON you asked for:".

    In doubt, it is not. Only models without structured outputs write text around the object.
    """
    if not text or text.isspace():
        return True
    # A reply that withdraws its verdict in prose must not ship.
    plain = _FENCE.sub(" ", text).strip().strip("\ufeff")
    return len(plain) <= _SMALL_TALK_LENGTH and not _MAY_MEAN_SOMETHING.search(plain)


def _decode(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except _MalformedError:
        raise
    except ValueError as error:  # Python raises it for integers with too many digits too
        raise _MalformedError(MalformedCause.NOT_JSON, f"not JSON: {error}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _MalformedError(MalformedCause.SECOND_VERDICT, "a key occurs twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise _MalformedError(MalformedCause.NOT_JSON, f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)


def _confidence(fields: dict[str, Any]) -> float:
    value = fields.get(CONFIDENCE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MalformedError(MalformedCause.NOT_A_VERDICT, "confidence is not a number")
    if not 0 <= value <= 1 or not math.isfinite(value):
        raise _MalformedError(MalformedCause.NOT_A_VERDICT, "confidence is outside [0, 1]")
    return float(value)


def _answer(fields: dict[str, Any]) -> str | None:
    if ANSWER not in fields:
        raise _MalformedError(MalformedCause.NOT_A_VERDICT, "no answer key")
    value = fields[ANSWER]
    if value is not None and not isinstance(value, str):
        raise _MalformedError(MalformedCause.NOT_A_VERDICT, "the answer is neither a string nor null")
    return value if value is not None and says_something(value) else None


_SAY_NOTHING: Final = frozenset({"null", "none", "...", "<string or null>"})
"""Words that models write instead of null; the last one is from the contract itself."""


_SURELY_VISIBLE: Final = 1_000
"""An answer whose first so many characters show nothing is taken for a blank one: each takes 0.2 us to look at."""


def says_something(text: str) -> bool:
    """Whether `text` is an answer: not blank, and not a word that models write instead of null."""
    begun = text.strip()[:_SURELY_VISIBLE]
    return begun.casefold() not in _SAY_NOTHING and any(map(_is_visible, begun))


def may_grow_to_nothing(text: str) -> bool:
    """Whether an answer that begins with `text` may still become a word for null."""
    begun = text.strip().casefold()
    return any(word.startswith(begun) for word in _SAY_NOTHING)


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in _INVISIBLE and char not in _BLANK_LETTERS


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # from a lone surrogate
        return False
    return True


_CONTROLS: Final = re.compile(f"[{CONTROL}]")


def _refuse_distortion(answer: str) -> None:
    """Raises _MalformedError if the answer cannot be what the model meant, whatever JSON says."""
    if answer.isprintable() and "\\" not in answer:  # one paragraph, of valid Unicode
        return
    if not _is_encodable(answer):
        raise _MalformedError(MalformedCause.NOT_UNICODE, "the answer is not valid Unicode")
    if _CONTROLS.search(answer):
        raise _MalformedError(MalformedCause.CONTROL_CHARACTER, "the answer has a control character")
    if has_lost_escape(answer):
        raise _MalformedError(MalformedCause.LOST_ESCAPE, "a level of escaping is missing in the answer")


def _refuse_copies(fields: dict[str, Any], user_text: str) -> None:
    # Other keys are allowed as long as they cannot be taken for one of the two.
    others = {key: value for key, value in fields.items() if key not in _KEYS}
    if not all(map(_is_harmless, others)):
        raise _MalformedError(MalformedCause.SECOND_VERDICT, "a key that may be another confidence or answer")
    if any(map(_holds_verdict, [*others.values(), fields[ANSWER]])):
        cause = MalformedCause.COPIED_VERDICT if states_verdict(user_text) else MalformedCause.SECOND_VERDICT
        raise _MalformedError(cause, "a verdict inside the verdict")
    if user_text and _VERDICT.stands_in(user_text, {CONFIDENCE: fields[CONFIDENCE], ANSWER: fields[ANSWER]}):
        raise _MalformedError(MalformedCause.COPIED_VERDICT, "the verdict is a copy of the user's text")


_RIVAL: Final = re.compile(r"confiden|answer|escalat|[^\x20-\x7e]", re.IGNORECASE)


def _is_harmless(key: str) -> bool:
    """Whether an extra key can be ignored: it is neither like the two keys nor a lookalike from another script."""
    return not _RIVAL.search(key)


def _holds_verdict(value: Any) -> bool:
    """Whether `value` has a verdict in it, as an object or inside a string."""
    if isinstance(value, str):
        return states_verdict(value)
    if isinstance(value, dict):
        return not all(map(_is_harmless, value)) or any(map(_holds_verdict, value.values()))
    return isinstance(value, list) and any(map(_holds_verdict, value))


def states_verdict(text: str) -> bool:
    """Whether the caller's `text` spells out a verdict of its own, with both keys, or may do so."""
    return bool(text) and _VERDICT.is_spelled_in(text)


def verdict_in(text: str) -> Spelling:
    """Whether the caller's `text` spells out a verdict of its own; unclear if to find out would take too much work."""
    return _VERDICT.spelling_in(text)


def prepare() -> None:
    """Make the patterns for texts that are not ASCII, so that no call waits some milliseconds for them."""
    _VERDICT.prepare()
