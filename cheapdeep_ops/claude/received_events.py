"""The events of a stream as they arrive: objects of the SDK's types, or plain data, which are decoded JSON.

A triage stream has many deltas. The caller sees only the answer in their text, or nothing. Building an event object
takes longer than decoding its JSON. So the events are read as plain data if no other code can see them.
"""

from typing import Any, Final, NamedTuple

from anthropic import Anthropic, AsyncAnthropic, AsyncStream, Stream
from anthropic.types import (
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
    RawMessageStreamEvent,
    TextDelta,
)
from pydantic import ValidationError

Event = RawMessageStreamEvent

_DELTA: Final = "content_block_delta"
_TYPES: Final[dict[object, Any]] = {
    "message_start": RawMessageStartEvent,
    "content_block_start": RawContentBlockStartEvent,
    _DELTA: RawContentBlockDeltaEvent,
    "content_block_stop": RawContentBlockStopEvent,
    "message_delta": RawMessageDeltaEvent,
    "message_stop": RawMessageStopEvent,
}


class Piece(NamedTuple):
    """A delta that brings text."""

    block: object
    """The index of its content block."""
    text: str
    type: str = _DELTA


Received = Event | Piece | None
"""None stands for an event of an unknown type."""


def plain_stream(stream: Stream[Event], client: Anthropic) -> Stream[Event]:
    """`stream` with plain data as its events. It must be unread; `client` has opened it."""
    # The SDK gives an event as it is decoded if it is to be cast to `object`.
    return Stream[Any](cast_to=object, response=stream.response, client=client)


def plain_async_stream(stream: AsyncStream[Event], client: AsyncAnthropic) -> AsyncStream[Event]:
    """`plain_stream` for asyncio."""
    return AsyncStream[Any](cast_to=object, response=stream.response, client=client)


def received(event: Any) -> Received:
    """A piece of text, or the SDK's event. Raises an error of any type if `event` is not in the API's format."""
    if isinstance(event, dict):
        delta = event.get("delta")
        text = delta.get("text") if event.get("type") == _DELTA and isinstance(delta, dict) else None
        return Piece(event.get("index"), text) if isinstance(text, str) else _built(event)
    text = getattr(getattr(event, "delta", None), "text", None) if event.type == _DELTA else None
    return Piece(getattr(event, "index", None), text) if isinstance(text, str) else event


def _built(data: dict[str, Any]) -> Event | None:
    """The event that the SDK makes of `data`."""
    kind = _TYPES.get(data.get("type"))
    if kind is None:
        return None
    try:
        event: Event = kind.model_validate(data)
    except ValidationError:
        event = kind.construct(**data)  # as the SDK does, which passes on what a server sends
    return event


def text_event(text: str) -> Event:
    """The event of a delta with a part of the answer."""
    return RawContentBlockDeltaEvent(type=_DELTA, index=0, delta=TextDelta(type="text_delta", text=text))
