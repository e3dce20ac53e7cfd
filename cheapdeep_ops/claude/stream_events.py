"""Translate a model's stream into the events for the caller, and collect the reply."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from anthropic.types import Message

from cheapdeep_ops.claude.conversion import has_container, is_code_run, merged_usage, read_usage, usage_fields
from cheapdeep_ops.claude.received_events import Event, Piece, Received, received
from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.values import Outcome, StopReason, TierReply, Usage, Verdict
from cheapdeep_ops.verdict import decide, read_verdict

Shown = Sequence[Event | str]
"""What the caller gets for an event: events, and a text for each delta of the answer (see `text_event`)."""

_log: Final = logging.getLogger(__name__)
_CHARACTERS_PER_TOKEN: Final = 4
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_DELTA_TEXTS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Where each type of delta has what the model wrote."""

_TOO_LONG: Final = StopReason.MAX_TOKENS.value
_ENDINGS: Final = frozenset({"content_block_stop", "message_delta", "message_stop"})
"""The events with which an answer ends. They go out once it is known that the answer was not cut."""


class PartialMessage:
    """The message of a stream so far: its metadata and token counts, without content."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self._usage: dict[str, Any] = {}
        self._is_counted = False
        self._has_run_code = False
        self._characters = 0

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped; None until it has stopped."""
        return getattr(self.message, "stop_reason", None)

    def take(self, event: Event) -> None:
        """Process the next event; never raises."""
        # The SDK does not validate what a server sends.
        try:
            self._take(event)
        except Exception:  # noqa: BLE001 - the caller still gets an event that cannot be counted
            _log.debug("a stream event is not in the API's format", exc_info=True)

    def _take(self, event: Event) -> None:
        if event.type == "message_start":
            self.message = event.message.model_copy()
            self._usage = merged_usage({}, event.message.usage)
            self._has_run_code = has_container(event.message)
        elif event.type == "message_delta" and self.message is not None:
            self.message = self.message.model_copy(update={"stop_reason": event.delta.stop_reason})
            usage = usage_fields(getattr(event, "usage", None))
            self._usage, self._is_counted = merged_usage(self._usage, usage), "output_tokens" in usage
            self._has_run_code = self._has_run_code or has_container(event.delta)
        elif event.type == "content_block_start":
            self._has_run_code = self._has_run_code or is_code_run(event.content_block)
        elif event.type == "content_block_delta":
            delta = event.delta
            name = _DELTA_TEXTS.get(delta.type)
            self._characters += len(getattr(delta, name)) if name else 0

    def count(self, text: str) -> None:
        """Process a piece of text whose event is not built."""
        self._characters += len(text)

    def usage(self) -> Usage | None:
        """The tokens of the call; an estimate by length if their final count did not come, None if unknown."""
        usage = read_usage(self._usage, has_run_code=self._has_run_code)
        if usage is None or (self.stop_reason is not None and self._is_counted):
            return usage
        # The API sends the final count of output tokens only at the end.
        written = -(-self._characters // _CHARACTERS_PER_TOKEN)
        return replace(usage, output_tokens=max(usage.output_tokens, written), is_estimate=True)


class OriginalProgress:
    """A stream that answers the caller's own request: the caller gets every event unchanged."""

    decision: Final = Early.SHIP
    is_withheld: Final = False
    is_cut: Final = False
    gives_texts: Final = False

    def __init__(self) -> None:
        self._so_far = PartialMessage()

    @property
    def message(self) -> Message | None:
        """The stream's message so far, without its content; None before it has begun."""
        return self._so_far.message

    def take(self, event: Event) -> Shown:
        """Process the next event and return it unchanged."""
        self._so_far.take(event)
        return (event,)

    def end(self) -> Shown:
        """Return no further events."""
        return ()

    def reply(self) -> TierReply:
        """The tokens and the message so far; there is no verdict."""
        return TierReply(usage=self._so_far.usage(), message=self.message)


class TriageProgress:
    """A stream that answers the triage question: the caller gets the answer once it is certain to ship.

    The caller's events are those of a message whose only content is the answer.
    """

    def __init__(self, partial: PartialReply, *, threshold: float) -> None:
        self._partial, self._threshold = partial, threshold
        self._so_far = PartialMessage()
        self._index: int | None = None
        self._is_one_text = True
        self._buffered: list[Event | str] = []
        self._endings: list[Event] = []
        self._has_shipped = False
        self._verdict: Verdict | None = None
        self._is_cut = False

    @property
    def message(self) -> Message | None:
        """The stream's message so far, without its content; None before it has begun."""
        return self._so_far.message

    @property
    def decision(self) -> Early:
        """SHIP or ESCALATE once that is certain, at the latest after the end; UNDECIDED before."""
        if self._has_shipped:
            return Early.SHIP
        # An answer that is cut before anything went out can still escalate.
        escalates = self._verdict is not None or self._partial.state is Early.ESCALATE or self._partial.is_cut
        return Early.ESCALATE if escalates else Early.UNDECIDED

    @property
    def is_withheld(self) -> bool:
        """Whether the reply so far would ship at the base threshold; False after the end."""
        return self._verdict is None and self._partial.state is Early.ESCALATE and self._partial.problem is None

    @property
    def is_cut(self) -> bool:
        """Whether a part of the answer went out, and the rest is lost in a malformed reply."""
        return self._has_shipped and (self._is_cut or self._partial.is_cut)

    @property
    def gives_texts(self) -> bool:
        """Whether the caller gets a text for each delta, within a message that has begun."""
        return self.message is not None

    def take(self, event: object) -> Shown:
        """Process the next event, of the SDK's types or as plain data.

        Returns what the caller gets: nothing until the answer is certain to ship.
        """
        arrived, shown = self._translated_safely(event)
        if self._has_shipped and isinstance(arrived, Piece):
            return shown  # nothing is held back
        for each in shown:
            if isinstance(each, str) or each.type not in _ENDINGS:
                self._buffered.append(each)
            else:
                self._endings.append(each)
        if self._has_shipped or (self._partial.state is Early.SHIP and not self._partial.is_cut):
            is_last = arrived is not None and arrived.type == "message_stop"
            return [*self._release(), *self.end()] if is_last else self._release()
        return ()

    def end(self) -> Shown:
        """Decide on the whole reply; returns what was not certain to go out before."""
        if self._verdict is None:
            self._verdict = self._judged()
        verdict = self._verdict
        if not self._has_shipped:
            if decide(verdict, threshold=self._threshold)[0] is Outcome.ESCALATE or verdict.answer is None:
                return ()
            # The answer follows the start events of the message and of its text block.
            self._buffered.insert(2, verdict.answer)
        return [*self._release(), *self._released_endings()]

    def _judged(self) -> Verdict:
        text_end = self._so_far.stop_reason
        if self._index is not None and self._is_one_text:
            return self._partial.finish(text_end)
        self._is_cut = True  # the reply has another block beside its text, which no triage reply has
        return read_verdict(None, stop_reason=text_end)

    def _released_endings(self) -> Shown:
        endings, self._endings = self._endings, []
        return () if self.is_cut else endings

    def reply(self) -> TierReply:
        """The reply with its verdict: of the whole reply after the end, else of the part that was read."""
        verdict = self._verdict or self._partial.abandoned()
        # The record holds the confidence that decided, even if a later part of the reply was malformed.
        if self._has_shipped:
            verdict = replace(verdict, confidence=self._partial.confidence or verdict.confidence)
        return TierReply(verdict=verdict, usage=self._so_far.usage(), message=self.message)

    def _release(self) -> list[Event | str]:
        self._has_shipped = True
        released, self._buffered = self._buffered, []
        return released

    def _translated_safely(self, event: object) -> tuple[Received, Shown]:
        """What has arrived, and what it becomes in the answer's own message."""
        arrived = None
        try:
            arrived = received(event)
            return arrived, self._fed(arrived) if isinstance(arrived, Piece) else self._translated(arrived)
        except Exception:  # noqa: BLE001 - the SDK passes on what a server sends without validation
            _log.debug("a stream event is not in the API's format", exc_info=True)
            # Before the answer ships, a malformed event makes the reply unusable; later it is skipped.
            self._is_one_text = self._is_one_text and self._has_shipped
            return arrived, ()

    def _fed(self, piece: Piece) -> Shown:
        self._so_far.count(piece.text)
        shown = self._partial.feed(piece.text) if self._is_one_text and piece.block == self._index else ""
        return (shown,) if shown else ()

    def _translated(self, event: Event | None) -> Shown:
        if event is None:
            return ()
        self._so_far.take(event)
        # A message that starts with content is not in the API's format, and this content would be lost.
        if event.type == "message_start":
            self._is_one_text = self._is_one_text and not getattr(event.message, "content", None)
        if event.type == "message_delta" and self._partial.is_too_long:
            return (event.model_copy(update={"delta": event.delta.model_copy(update={"stop_reason": _TOO_LONG})}),)
        if event.type in ("message_start", "message_delta", "message_stop"):
            return (event,)
        if event.type == "content_block_start":
            return self._block_started(event)
        is_end = event.type == "content_block_stop" and event.index == self._index
        return (event.model_copy(update={"index": 0}),) if is_end else ()

    def _block_started(self, event: Any) -> Shown:
        kind = event.content_block.type
        if kind == "text" and self._index is None and self._is_one_text:
            self._index = event.index
            # The API starts a block without text; another server's text is the first part of the reply.
            begun = getattr(event.content_block, "text", "")
            shown = self._partial.feed(begun) if isinstance(begun, str) else ""
            block = event.content_block.model_copy(update={"text": ""})
            start = event.model_copy(update={"index": 0, "content_block": block})
            return (start, shown) if shown else (start,)
        self._is_one_text = self._is_one_text and kind in _THOUGHTS
        return ()
