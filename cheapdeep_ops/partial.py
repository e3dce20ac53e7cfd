"""Reading a triage reply while it arrives: what may be shown, or given up, before its end.

Only a reply in the contract's own order (`{"confidence": 0.93, "answer": "...`) is decided early; any other is left
to `verdict`, which judges it whole. Whatever is decided here, the whole reply's verdict would not contradict it,
unless the reply goes wrong after its answer has begun.
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

_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"  # \d would take digits of other scripts too
_SPACE: Final = r"[ \t\r\n]*"
_STATED: Final = re.compile(rf'\{{{_SPACE}"{CONFIDENCE}"{_SPACE}:{_SPACE}({_NUMBER})(?=[ \t\r\n,}}])')
_OPENED: Final = re.compile(rf'{_SPACE},{_SPACE}"{ANSWER}"{_SPACE}:{_SPACE}("|null(?=[ \t\r\n,}}]))')
_FARTHEST: Final = 400
"""Characters within which an answer must begin; a reply that takes longer is judged whole."""

_HIGH: Final = r"u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = r"u[dD][c-fC-F][0-9a-fA-F]{2}"
_PLAIN: Final = r"u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
_PIECE: Final = re.compile(rf'(?:[^"\\\x00-\x1f\ud800-\udfff]|\\(?:["\\/bfnrt]|{_PLAIN}|{_HIGH}\\{_LOW}))+')
_LONGEST_ESCAPE: Final = len(r"\ud83d\ude00")


class Early(StrEnum):
    """What is known of a reply that has not ended."""

    UNDECIDED = "undecided"
    SHIP = "ship"
    """The answer goes out as it arrives."""
    ESCALATE = "escalate"
    """The reply will not ship, whatever follows: there is no need to wait for its end."""
    WHOLE = "whole"
    """Nothing can be said before the end."""


class PartialReply:
    """A triage reply while it arrives; `feed` it with each piece of text, `finish` it at its end.

    `threshold` is the one in force; a confidence from `base_threshold` to below it is known to be withheld only when
    the answer has begun. `user_text` is all that the caller sent: where a verdict is spelled out in it, the whole reply
    must be seen to tell whether the model has copied it. `is_patient` leaves every answer to the end.
    """

    def __init__(
        self, *, threshold: float, base_threshold: float, user_text: str = "", is_patient: bool = False
    ) -> None:
        self.state = Early.UNDECIDED
        self.confidence: float | None = None
        """What the reply states, once its number is complete."""
        self.problem: Reason | None = None
        """What is wrong with a reply that escalates early; nothing where it is withheld."""
        self._threshold, self._base_threshold = threshold, base_threshold
        self._user_text = user_text
        self._is_patient = is_patient or states_verdict(user_text)
        self._pieces: list[str] = []
        self._head = ""
        self._string: _StringDecoder | None = None
        self._held = ""

    @property
    def has_shown(self) -> bool:
        """Whether any of the answer has been given out."""
        return self.state is Early.SHIP

    def feed(self, text: str) -> str:
        """Take the next piece of the reply; gives the part of the answer that can be shown now."""
        self._pieces.append(text)
        if self._string is not None:
            return self._show(self._string.feed(text))
        if self.state is Early.UNDECIDED:
            self._head += text
            return self._look()
        return ""

    def finish(self, stop_reason: str | None) -> Verdict:
        """The verdict on the whole reply, which has ended with `stop_reason`."""
        return read_verdict("".join(self._pieces), stop_reason=stop_reason, user_text=self._user_text)

    def broken_off(self) -> Verdict:
        """The verdict on a reply that nobody waits for any longer, as far as it was read."""
        return Verdict(confidence=self.confidence, problem=self.problem, detail="not read to its end")

    def _look(self) -> str:
        """Decide as soon as the beginning allows it."""
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
        if confidence < min(self._threshold, self._base_threshold):
            return self._escalate(Reason.LOW_CONFIDENCE)
        return self._open(_OPENED.match(self._head, stated.end()), confidence)

    def _open(self, opened: "re.Match[str] | None", confidence: float) -> str:
        if opened is None:
            return self._wait()
        if opened[1] == "null":
            return self._escalate(Reason.NO_ANSWER)
        if confidence < self._threshold:  # withheld: nothing is wrong with it
            return self._escalate(None)
        if self._is_patient or opened.end() > _FARTHEST:
            return self._leave_whole()
        self._string = _StringDecoder()
        return self._show(self._string.feed(self._head[opened.end() :]))

    def _show(self, text: str) -> str:
        """Give out `text`, once it is sure that the answer says something."""
        if self.state is Early.SHIP:
            return text
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
    """A JSON string (RFC 8259, section 7) while it arrives, from behind its opening quote; stops where it is broken."""

    def __init__(self) -> None:
        self._rest = ""
        self._has_ended = False

    def feed(self, raw: str) -> str:
        """What the next piece stands for, as far as it is certain."""
        if self._has_ended:
            return ""
        raw = self._rest + raw
        found = _PIECE.match(raw)
        end = found.end() if found else 0
        self._rest = raw[end:]
        self._has_ended = bool(self._rest) and not _may_be_completed(self._rest)
        return str(json.loads(f'"{raw[:end]}"')) if end else ""


def _may_be_completed(rest: str) -> bool:
    """Whether `rest`, at which decoding has stopped, is the beginning of an escape."""
    return rest.startswith("\\") and len(rest) < _LONGEST_ESCAPE and _BEGUN.fullmatch(rest) is not None


_HEX: Final = "[0-9a-fA-F]"
_BEGUN: Final = re.compile(
    rf"\\(?:u{_HEX}{{0,3}}|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}{{0,2}})?)?)?)?)?"
)
