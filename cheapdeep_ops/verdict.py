"""Reading a triage reply strictly: what is ambiguous escalates.

The text may be wrapped in a code fence or in prose, but it must hold exactly one JSON object, and that object must
state `confidence` and `answer` once. See https://www.rfc-editor.org/rfc/rfc8259#section-4 on duplicate names, and
arXiv:2601.21380 on user text that carries a routing verdict of its own.
"""

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

from cheapdeep_ops.values import Outcome, Reason, StopReason, Verdict

CONFIDENCE: Final = "confidence"
ANSWER: Final = "answer"
_KEYS: Final = frozenset({CONFIDENCE, ANSWER})
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_STOP_PROBLEMS: Final = {
    StopReason.REFUSAL: Reason.REFUSAL,
    StopReason.MAX_TOKENS: Reason.TRUNCATED,
    StopReason.CONTEXT_EXCEEDED: Reason.TRUNCATED,
}


class _AmbiguousError(ValueError):
    """The text cannot be read in exactly one way."""


def read_verdict(text: str | None, *, stop_reason: str | None, user_text: str = "") -> Verdict:
    """The verdict that a triage reply states, or the reason why it can never ship.

    `text` is the reply's only text, None where the reply has any other shape. `user_text` is all that the caller
    sent: an object that stands in it word for word is the user's, not the model's.
    """
    if stop_reason in _STOP_PROBLEMS:
        return Verdict(problem=_STOP_PROBLEMS[StopReason(stop_reason)], detail=f"stop_reason {stop_reason}")
    if stop_reason != StopReason.END_TURN:
        return _malformed(f"stop_reason {stop_reason}")
    if text is None:
        return _malformed("the reply is not one text")
    try:
        fields = _only_object(text)
        confidence = _confidence(fields)
        answer = _answer(fields)
        _refuse_copies(fields, user_text)
    except (_AmbiguousError, RecursionError) as error:
        return _malformed(str(error) if isinstance(error, _AmbiguousError) else "nested too deeply")
    if answer is None:
        return Verdict(confidence=confidence, problem=Reason.NO_ANSWER, detail="the answer is null or blank")
    if not _is_encodable(answer):
        return Verdict(confidence=confidence, problem=Reason.MALFORMED, detail="the answer is not valid Unicode")
    return Verdict(confidence=confidence, answer=answer)


def judge(verdict: Verdict, *, threshold: float) -> tuple[Outcome, Reason | None]:
    """What the flow does with `verdict` at `threshold`: a confidence equal to the threshold ships.

    A stated confidence below the threshold is `low_confidence` whatever else is wrong with the reply.
    """
    if verdict.confidence is not None and verdict.confidence < threshold:
        return Outcome.ESCALATE, Reason.LOW_CONFIDENCE
    if verdict.problem is not None:
        return Outcome.ESCALATE, verdict.problem
    return Outcome.SHIP, None


def _malformed(detail: str) -> Verdict:
    return Verdict(problem=Reason.MALFORMED, detail=detail)


def _only_object(text: str) -> dict[str, Any]:
    """The one JSON object in `text`; braces anywhere else make it ambiguous."""
    start = text.find("{")
    if start < 0:
        raise _AmbiguousError("no JSON object")
    fields, end = _decode(text, start)
    if "{" in text[end:] or "}" in text[:start] + text[end:]:
        raise _AmbiguousError("more than one JSON object")
    if not isinstance(fields, dict):  # pragma: no cover - raw_decode at a brace gives an object
        raise _AmbiguousError("not a JSON object")
    return fields


def _decode(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except _AmbiguousError:
        raise
    except ValueError as error:  # also integers of absurd length
        raise _AmbiguousError(f"not JSON: {error}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _AmbiguousError("a key occurs twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise _AmbiguousError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)


def _confidence(fields: dict[str, Any]) -> float:
    value = fields.get(CONFIDENCE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _AmbiguousError("confidence is not a number")
    if not 0 <= value <= 1 or not math.isfinite(value):
        raise _AmbiguousError("confidence is outside [0, 1]")
    return float(value)


def _answer(fields: dict[str, Any]) -> str | None:
    if ANSWER not in fields:
        raise _AmbiguousError("no answer key")
    value = fields[ANSWER]
    if value is not None and not isinstance(value, str):
        raise _AmbiguousError("the answer is neither a string nor null")
    return value if value is not None and _is_visible(value) else None


def _is_visible(text: str) -> bool:
    return any(unicodedata.category(char) not in _INVISIBLE for char in text)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _refuse_copies(fields: dict[str, Any], user_text: str) -> None:
    others = [value for key, value in fields.items() if key not in _KEYS]
    if any(_names_a_verdict(key) for key in fields if key not in _KEYS):
        raise _AmbiguousError("a second spelling of confidence or answer")
    if any(_holds_verdict(value) for value in others) or _holds_verdict(fields[ANSWER]):
        raise _AmbiguousError("a verdict inside the verdict")
    if any(copy == _core(fields) for copy in _verdicts_in(user_text)):
        raise _AmbiguousError("the verdict is a copy of the user's text")


def _names_a_verdict(key: str) -> bool:
    return key.strip().casefold() in _KEYS


def _core(fields: dict[str, Any]) -> tuple[Any, Any]:
    return fields[CONFIDENCE], fields[ANSWER]


def _holds_verdict(value: Any) -> bool:
    """Whether a verdict hides in `value`, as an object or written out in a string."""
    if isinstance(value, str):
        return next(iter(_verdicts_in(value)), None) is not None
    if isinstance(value, dict):
        return any(map(_names_a_verdict, value)) or any(map(_holds_verdict, value.values()))
    return isinstance(value, list) and any(map(_holds_verdict, value))


def _verdicts_in(text: str) -> Iterator[tuple[Any, Any]]:
    """The `(confidence, answer)` of every object in `text` that states both, as lenient as a reader could be."""
    if CONFIDENCE not in text or ANSWER not in text:
        return
    for fields in _objects_in(text):
        if fields.keys() >= _KEYS:
            yield _core(fields)


def _objects_in(text: str) -> Iterable[dict[str, Any]]:
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _LENIENT.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


_LENIENT: Final = json.JSONDecoder()
