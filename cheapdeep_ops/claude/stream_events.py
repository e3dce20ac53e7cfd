"""From the events of a model's stream to those that the caller gets, and to the reply that they add up to."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from anthropic import AsyncMessageStream, AsyncStream, MessageStream, Stream
from anthropic.types import Message, RawContentBlockDeltaEvent, RawMessageStreamEvent, TextDelta

from cheapdeep_ops.claude.conversion import read_usage
from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.values import Outcome, TierReply, Usage, Verdict
from cheapdeep_ops.verdict import judge, read_verdict

Event = RawMessageStreamEvent
Events = Sequence[Event]

_log: Final = logging.getLogger(__name__)
_CHARACTERS_PER_TOKEN: Final = 4
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_WRITTEN: Final = ("text", "thinking", "partial_json")


class PartialMessage:
    """What a stream has said of its message, as far as a decision needs it."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self._characters = 0

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped; None before it has."""
        return getattr(self.message, "stop_reason", None)

    def take(self, event: Event) -> None:
        """Take the next event in; never raises, for the SDK checks nothing of what a server sends."""
        try:
            self._take(event)
        except Exception:  # noqa: BLE001 - what cannot be counted is still the caller's
            _log.debug("an event of a stream is not of the API's form", exc_info=True)

    def _take(self, event: Event) -> None:
        if event.type == "message_start":
            self.message = event.message.model_copy()
        elif event.type == "message_delta" and self.message is not None:
            self.message = self.message.model_copy(update={"stop_reason": event.delta.stop_reason})
            told = {name: value for name, value in event.usage if value is not None}
            self.message = self.message.model_copy(update={"usage": self.message.usage.model_copy(update=told)})
        elif event.type == "content_block_delta":
            self._characters += sum(len(getattr(event.delta, name, "")) for name in _WRITTEN)

    def usage(self) -> Usage | None:
        """The tokens; those of a stream that was left before it told its last figures are estimated by its length."""
        usage = read_usage(getattr(self.message, "usage", None))
        if usage is None or self.stop_reason is not None:
            return usage
        written = -(-self._characters // _CHARACTERS_PER_TOKEN)
        return replace(usage, output_tokens=max(usage.output_tokens, written), is_estimate=True)


class OriginalProgress:
    """A stream that answers the caller's own request: every event goes through unchanged."""

    decision: Final = Early.SHIP
    is_withheld: Final = False

    def __init__(self) -> None:
        self._so_far = PartialMessage()

    @property
    def message(self) -> Message | None:
        """What the stream says of its message."""
        return self._so_far.message

    def take(self, event: Event) -> Events:
        """The event itself."""
        self._so_far.take(event)
        return (event,)

    def end(self) -> Events:
        """Nothing is added."""
        return ()

    def reply(self) -> TierReply:
        """The tokens, and what the message says of itself."""
        return TierReply(usage=self._so_far.usage(), message=self.message)


class TriageProgress:
    """A stream that answers the triage question: the caller gets the answer in it, once it is sure that it ships.

    What the caller gets are the events of a message whose only content is the answer.
    """

    def __init__(self, partial: PartialReply, *, threshold: float) -> None:
        self._partial, self._threshold = partial, threshold
        self._so_far = PartialMessage()
        self._index: int | None = None
        self._is_one_text = True
        self._held: list[Event] = []
        self._is_out = False
        self._verdict: Verdict | None = None

    @property
    def message(self) -> Message | None:
        """What the stream says of its message."""
        return self._so_far.message

    @property
    def decision(self) -> Early:
        """What is sure: that the answer ships, or that the reply does not; after the end it is one of the two."""
        if self._is_out:
            return Early.SHIP
        is_given_up = self._verdict is not None or self._partial.state is Early.ESCALATE
        return Early.ESCALATE if is_given_up else Early.UNDECIDED

    @property
    def is_withheld(self) -> bool:
        """Whether it would ship at the base threshold, as far as it was read, and has not ended."""
        return self._verdict is None and self._partial.state is Early.ESCALATE and self._partial.problem is None

    def take(self, event: Event) -> Events:
        """The events for the caller; none before it is sure that the answer ships."""
        self._so_far.take(event)
        self._held += self._tried(event)
        if self._is_out or self._partial.state is Early.SHIP:
            return self._release()
        return ()

    def end(self) -> Events:
        """Judge the whole reply; an answer that could not be told earlier comes out now, if it ships."""
        text_end = self._so_far.stop_reason
        is_text = self._index is not None and self._is_one_text
        self._verdict = self._partial.finish(text_end) if is_text else read_verdict(None, stop_reason=text_end)
        ships = judge(self._verdict, threshold=self._threshold)[0] is Outcome.SHIP
        if self._is_out or not ships or self._verdict.answer is None:
            return ()
        # Behind the beginnings of the message and of its text.
        self._held.insert(2, _delta(self._verdict.answer))
        return self._release()

    def reply(self) -> TierReply:
        """The reply, with a verdict on the whole of it after the end, and on what was read before."""
        verdict = self._verdict or self._partial.broken_off()
        if self._is_out:  # it was acted upon, whatever came later
            verdict = replace(verdict, confidence=self._partial.confidence or verdict.confidence)
        return TierReply(verdict=verdict, usage=self._so_far.usage(), message=self.message)

    def _release(self) -> Events:
        self._is_out = True
        released, self._held = self._held, []
        return released

    def _tried(self, event: Event) -> Events:
        try:
            return self._translated(event)
        except Exception:  # noqa: BLE001 - the SDK checks nothing of what a server sends, and passes it on
            _log.debug("an event of a stream is not of the API's form", exc_info=True)
            self._is_one_text = self._is_one_text and self._is_out
            return ()

    def _translated(self, event: Event) -> Events:
        """What an event becomes in a message that is the answer alone."""
        if event.type == "message_start":  # with content it would have said something that nobody reads
            self._is_one_text = self._is_one_text and not getattr(event.message, "content", None)
        if event.type in ("message_start", "message_delta", "message_stop"):
            return (event,)
        if event.type == "content_block_start":
            return self._begun(event)
        if getattr(event, "index", None) != self._index:
            return ()
        if event.type == "content_block_stop":
            return (event.model_copy(update={"index": 0}),)
        shown = self._partial.feed(_text(getattr(event, "delta", None))) if self._is_one_text else ""
        return (_delta(shown),) if shown else ()

    def _begun(self, event: Any) -> Events:
        kind = event.content_block.type
        if kind == "text" and self._index is None and self._is_one_text:
            self._index = event.index
            # The API begins with no text; one that does has begun with a part of the reply.
            shown = self._partial.feed(_text(event.content_block))
            block = event.content_block.model_copy(update={"text": ""})
            start = event.model_copy(update={"index": 0, "content_block": block})
            return (start, _delta(shown)) if shown else (start,)
        self._is_one_text = self._is_one_text and kind in _THOUGHTS
        return ()


def raw_stream(helper: MessageStream[Any]) -> Stream[Event]:
    """The events below the SDK's stream helper, which has made the request as only it does."""
    return helper._raw_stream  # noqa: SLF001 - the SDK has no other way to them


def araw_stream(helper: AsyncMessageStream[Any]) -> AsyncStream[Event]:
    """The same for asyncio."""
    return helper._raw_stream  # noqa: SLF001


def _text(delta: object) -> str:
    text = getattr(delta, "text", "")
    return text if isinstance(text, str) else ""


def _delta(text: str) -> RawContentBlockDeltaEvent:
    return RawContentBlockDeltaEvent(type="content_block_delta", index=0, delta=TextDelta(type="text_delta", text=text))
