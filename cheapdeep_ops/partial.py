"""Reads a triage reply while it arrives, and decides before its end whether the answer ships or the call escalates.

Only a reply in the contract's order (`{"confidence": 0.93, "answer": "...`) is decided early. Any other reply is read
whole by `verdict`. An early decision agrees with the verdict on the whole reply, with one exception: after its answer
has begun, the reply may become malformed or too long. Then the answer ends before the fault, and `is_cut` says if a
part of it is lost.
"""

import json
import re
from enum import StrEnum
from typing import Final

from cheapdeep_ops.lost_escapes import CONTROL, LostEscapes
from cheapdeep_ops.token_limit import TokenLimit
from cheapdeep_ops.values import MalformedCause, Reason, Verdict
from cheapdeep_ops.verdict import (
    ANSWER,
    CONFIDENCE,
    is_small_talk,
    may_grow_to_nothing,
    read_verdict,
    says_something,
    states_verdict,
)

# [0-9] and not \d, which matches digits of other scripts too.
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_SPACE: Final = r"[ \t\r\n]*"
_STATED: Final = re.compile(rf'\{{{_SPACE}"{CONFIDENCE}"{_SPACE}:{_SPACE}({_NUMBER})(?=[ \t\r\n,}}])')
_OPENED: Final = re.compile(rf'{_SPACE},{_SPACE}"{ANSWER}"{_SPACE}:{_SPACE}("|null(?=[ \t\r\n,}}]))')
_FARTHEST: Final = 400
"""The number of characters within which an answer must begin; otherwise the reply is read whole."""

# A surrogate pair is decoded as one piece: half of it is not a character. No answer has a control character, escaped or
# not, but tab and the line ends.
_HIGH: Final = r"u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_PLAIN: Final = r"u(?![dD][89a-fA-F]|00(?:0[0-8bBcCeEfF]|1|7[fF]|[89]))[0-9a-fA-F]{4}"
_PIECE: Final = re.compile(rf'(?:[^"\\\t\n\r{CONTROL}\ud800-\udfff]++|\\(?:["\\/nrt]|{_PLAIN}|{_HIGH}\\{_LOW}))+')
_LONGEST_ESCAPE: Final = len(r"\ud83d\ude00")


class Early(StrEnum):
    """The state of a reply that has not ended."""

    UNDECIDED = "undecided"
    SHIP = "ship"
    """The answer goes out as it arrives."""
    ESCALATE = "escalate"
    """The reply cannot ship, whatever follows; there is no need to wait for its end."""
    WHOLE = "whole"
    """The decision needs the whole reply."""


class PartialReply:
    """A triage reply while it arrives: call `feed` with each piece of text, and `finish` at its end.

    `threshold` is the one in force. `user_text` is everything that the caller sent: if a verdict is spelled out in it,
    only the whole reply shows whether the model copied it. `max_tokens` is the caller's limit for the answer. With
    `is_patient`, every reply is decided at its end.
    """

    def __init__(
        self,
        *,
        threshold: float,
        base_threshold: float,
        user_text: str = "",
        max_tokens: int | None = None,
        is_patient: bool = False,
    ) -> None:
        self.state = Early.UNDECIDED
        self.confidence: float | None = None
        """The stated confidence, once its number is complete."""
        self.problem: Reason | None = None
        """Why a reply escalates early; None if its answer is only withheld."""
        self._threshold, self._base_threshold = threshold, base_threshold
        self._user_text, self._max_tokens = user_text, max_tokens
        self._is_patient = is_patient or states_verdict(user_text)
        self._pieces: list[str] = []
        self._head = ""
        self._answer: _PartialAnswer | None = None
        self._held = ""

    @property
    def is_too_long(self) -> bool:
        """Whether the answer that goes out has reached the caller's limit, and no more of it goes out."""
        return self.state is Early.SHIP and self._answer is not None and self._answer.is_too_long

    @property
    def is_cut(self) -> bool:
        """Whether the answer that goes out has a fault, and text is lost behind it."""
        is_faulty = self._answer is not None and self._answer.is_cut
        return is_faulty and self.state is Early.SHIP and not self.is_too_long

    def feed(self, text: str) -> str:
        """Read the next piece of the reply; returns the part of the answer that can go out now."""
        self._pieces.append(text)
        if self._answer is not None:
            return self._show(self._answer.feed(text))
        if self.state is Early.UNDECIDED:
            self._head += text
            return self._look()
        return ""

    def finish(self, stop_reason: str | None) -> Verdict:
        """The verdict on the whole reply, which ended with `stop_reason`."""
        if self.is_too_long:
            return Verdict(confidence=self.confidence, problem=Reason.TRUNCATED, detail="cut at max_tokens")
        verdict = read_verdict(
            "".join(self._pieces), stop_reason=stop_reason, user_text=self._user_text, max_tokens=self._max_tokens
        )
        if self._answer is not None and verdict.problem is Reason.MALFORMED:
            self._answer.finish()
        return verdict

    def abandoned(self) -> Verdict:
        """The verdict on a reply that was abandoned, from the part that was read."""
        problem = Reason.MALFORMED if self.is_cut else self.problem
        cause = None
        if problem is Reason.MALFORMED:
            cause = MalformedCause.NOT_A_VERDICT if self._answer is None else self._answer.cause
        return Verdict(confidence=self.confidence, problem=problem, cause=cause, detail="not read to its end")

    def _look(self) -> str:
        """Decide as soon as the beginning of the reply allows it."""
        start = self._head.find("{")
        stated = _STATED.match(self._head, start) if start >= 0 else None
        if stated is None:
            return self._wait()
        if not is_small_talk(self._head[:start]):
            return self._leave_whole()
        confidence = float(stated[1])
        if not 0 <= confidence <= 1:
            return self._escalate(Reason.MALFORMED)
        self.confidence = confidence
        # From the lower of the two on, the answer counts: if it is null, the call escalates even at base.
        if confidence < min(self._threshold, self._base_threshold):
            return self._escalate(Reason.LOW_CONFIDENCE)
        return self._open(_OPENED.match(self._head, stated.end()), confidence)

    def _open(self, opened: "re.Match[str] | None", confidence: float) -> str:
        if opened is None:
            return self._wait()
        if opened[1] == "null":
            return self._escalate(Reason.NO_ANSWER)
        if confidence < self._threshold:  # withheld, without a fault of its own
            return self._escalate(None)
        if self._is_patient or opened.end() > _FARTHEST:
            return self._leave_whole()
        self._answer = _PartialAnswer(self._max_tokens)
        return self._show(self._answer.feed(self._head[opened.end() :]))

    def _show(self, text: str) -> str:
        """Return `text` for the caller, once it is certain that the answer is not blank or another word for null."""
        if self.state is Early.SHIP:
            return text
        # An answer such as "null" escalates, so its first letters may not go out.
        self._held += text
        if len(self._held) > _FARTHEST and not says_something(self._held):
            self._answer = None
            return self._leave_whole()
        if says_something(self._held) and not may_grow_to_nothing(self._held):
            self.state = Early.SHIP
            return self._held
        return self._escalate(Reason.MALFORMED) if self._answer is not None and self._answer.is_cut else ""

    def _wait(self) -> str:
        return self._leave_whole() if len(self._head) > _FARTHEST else ""

    def _leave_whole(self) -> str:
        self.state = Early.WHOLE
        return ""

    def _escalate(self, problem: Reason | None) -> str:
        self.state, self.problem = Early.ESCALATE, problem
        return ""


class _PartialAnswer:
    """The answer's text while its JSON string arrives: up to its end, its limit, or the first fault."""

    def __init__(self, max_tokens: int | None) -> None:
        self._string = _StringDecoder()
        self._escapes = LostEscapes()
        self._limit = TokenLimit(max_tokens)

    @property
    def is_too_long(self) -> bool:
        """Whether the text has reached its limit."""
        return self._limit.is_over

    @property
    def cause(self) -> MalformedCause:
        """The kind of the fault, if there is one."""
        return MalformedCause.LOST_ESCAPE if self._escapes.is_found else self._string.fault

    @property
    def is_cut(self) -> bool:
        """Whether there is a fault, and something other than the end of the JSON object follows it."""
        return self._escapes.is_found or self._string.has_lost_text

    def feed(self, raw: str) -> str:
        """The text that can go out."""
        text = self._escapes.feed(self._string.feed(raw))
        if self._string.is_closed:
            text += self._escapes.end()
        return self._limit.feed(text)

    def finish(self) -> None:
        """The reply has ended and is malformed: an answer whose end was not seen has lost it."""
        self._string.finish(is_held=self._escapes.is_holding)


class _StringDecoder:
    """Decodes a JSON string (RFC 8259, section 7) piece by piece, after its opening quote; stops at the first fault."""

    def __init__(self) -> None:
        self._rest = ""
        self.has_ended = False
        """Whether the string has ended, with its quote or with a fault."""
        self.has_lost_text = False
        """Whether more than the end of the JSON object is known to follow."""

    @property
    def is_closed(self) -> bool:
        """Whether its closing quote has arrived."""
        return self.has_ended and self._rest.startswith('"')

    @property
    def fault(self) -> MalformedCause:
        """The kind of the fault after which text was lost."""
        is_control = _CONTROL_NEXT.match(self._rest) is not None
        return MalformedCause.CONTROL_CHARACTER if is_control else MalformedCause.NOT_JSON

    def feed(self, raw: str) -> str:
        """The decoded text of the next piece, up to an incomplete escape."""
        if not self.has_ended or len(self._rest) < _FARTHEST:
            self._rest += raw
        text = "" if self.has_ended else self._decoded()
        # A comma may begin another key of the object, which only the whole reply shows.
        if self.has_ended and not self.has_lost_text:
            self.has_lost_text = _SURELY_MORE.match(self._rest) is not None
        return text

    def finish(self, *, is_held: bool) -> None:
        """The reply has ended and is malformed; `is_held` is whether some of the decoded text has not gone out."""
        match = _ONLY_END.match(self._rest)
        self.has_lost_text = is_held or match is None or not is_small_talk(self._rest[match.end() :])

    def _decoded(self) -> str:
        match = _PIECE.match(self._rest)
        end = match.end() if match else 0
        piece, self._rest = self._rest[:end], self._rest[end:]
        self.has_ended = bool(self._rest) and not _may_be_completed(self._rest)
        return str(json.loads(f'"{piece}"')) if "\\" in piece else piece


_CONTROL_NEXT: Final = re.compile(r"[\x7f-\x9f]|\\(?:[bf]|u00)")
"""A control character that JSON allows."""

_ONLY_END: Final = re.compile(r'[ \t\r\n]*"[ \t\r\n]*\}?[ \t\r\n]*')
_SURELY_MORE: Final = re.compile(r'[ \t\r\n]*(?:[^ \t\r\n"]|"[ \t\r\n]*[^ \t\r\n},])')
"""What follows the place where decoding stopped, if the object neither ends there nor has another key."""


def _may_be_completed(rest: str) -> bool:
    """Whether `rest`, where decoding stopped, is the beginning of an escape."""
    return rest.startswith("\\") and len(rest) < _LONGEST_ESCAPE and _BEGUN.fullmatch(rest) is not None


_HEX: Final = "[0-9a-fA-F]"
_BEGUN: Final = re.compile(
    rf"\\(?:u{_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}{{0,2}})?)?)?)?)?"
)
