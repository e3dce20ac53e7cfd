"""Reads a triage reply while it arrives, and decides before its end whether the answer ships or the call escalates.

Only a reply in the contract's order (`{"confidence": 0.93, "answer": "...`) is decided early. Any other reply is read
whole by `verdict`. An early decision agrees with the verdict on the whole reply, unless the reply becomes malformed
after its answer has begun.
"""

import json
import re
from enum import StrEnum
from typing import Final

from cheapdeep_ops.values import Reason, Verdict
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

# A surrogate pair is decoded as one piece: half of it is not a character.
_HIGH: Final = r"u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_PLAIN: Final = r"u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
_PIECE: Final = re.compile(rf'(?:[^"\\\x00-\x1f\ud800-\udfff]|\\(?:["\\/bfnrt]|{_PLAIN}|{_HIGH}\\{_LOW}))+')
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
    only the whole reply shows whether the model copied it. With `is_patient`, every reply is decided at its end.
    """

    def __init__(
        self, *, threshold: float, base_threshold: float, user_text: str = "", is_patient: bool = False
    ) -> None:
        self.state = Early.UNDECIDED
        self.confidence: float | None = None
        """The stated confidence, once its number is complete."""
        self.problem: Reason | None = None
        """Why a reply escalates early; None if its answer is only withheld."""
        self._threshold, self._base_threshold = threshold, base_threshold
        self._user_text = user_text
        self._is_patient = is_patient or states_verdict(user_text)
        self._pieces: list[str] = []
        self._head = ""
        self._string: _StringDecoder | None = None
        self._held = ""

    def feed(self, text: str) -> str:
        """Read the next piece of the reply; returns the part of the answer that can go out now."""
        self._pieces.append(text)
        if self._string is not None:
            return self._show(self._string.feed(text))
        if self.state is Early.UNDECIDED:
            self._head += text
            return self._look()
        return ""

    def finish(self, stop_reason: str | None) -> Verdict:
        """The verdict on the whole reply, which ended with `stop_reason`."""
        return read_verdict("".join(self._pieces), stop_reason=stop_reason, user_text=self._user_text)

    def abandoned(self) -> Verdict:
        """The verdict on a reply that was abandoned, from the part that was read."""
        return Verdict(confidence=self.confidence, problem=self.problem, detail="not read to its end")

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
        self._string = _StringDecoder()
        return self._show(self._string.feed(self._head[opened.end() :]))

    def _show(self, text: str) -> str:
        """Return `text` for the caller, once it is certain that the answer is not blank or another word for null."""
        if self.state is Early.SHIP:
            return text
        # An answer such as "null" escalates, so its first letters may not go out.
        self._held += text
        if len(self._held) > _FARTHEST and not says_something(self._held):
            self._string = None
            return self._leave_whole()
        if may_grow_to_nothing(self._held) or not says_something(self._held):
            return ""
        self.state = Early.SHIP
        return self._held

    def _wait(self) -> str:
        return self._leave_whole() if len(self._head) > _FARTHEST else ""

    def _leave_whole(self) -> str:
        self.state = Early.WHOLE
        return ""

    def _escalate(self, problem: Reason | None) -> str:
        self.state, self.problem = Early.ESCALATE, problem
        return ""


class _StringDecoder:
    """Decodes a JSON string (RFC 8259, section 7) piece by piece, after its opening quote; stops at the first fault."""

    def __init__(self) -> None:
        self._rest = ""
        self._has_ended = False

    def feed(self, raw: str) -> str:
        """The decoded text of the next piece, up to an incomplete escape."""
        if self._has_ended:
            return ""
        raw = self._rest + raw
        match = _PIECE.match(raw)
        end = match.end() if match else 0
        self._rest = raw[end:]
        self._has_ended = bool(self._rest) and not _may_be_completed(self._rest)
        return str(json.loads(f'"{raw[:end]}"')) if end else ""


def _may_be_completed(rest: str) -> bool:
    """Whether `rest`, where decoding stopped, is the beginning of an escape."""
    return rest.startswith("\\") and len(rest) < _LONGEST_ESCAPE and _BEGUN.fullmatch(rest) is not None


_HEX: Final = "[0-9a-fA-F]"
_BEGUN: Final = re.compile(
    rf"\\(?:u{_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}{{0,2}})?)?)?)?)?"
)
