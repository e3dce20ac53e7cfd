"""The SDK's stream helper for an answer that ships, without the events that its caller does not see.

The SDK's helper builds two events for each delta, even if its caller reads only the message or the text.
Here the text is added to the message directly. Only the events around the text go through the SDK's helper.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from types import TracebackType
from typing import Any, Final

import httpx2
from anthropic import AsyncMessageStream, AsyncMessageStreamManager, MessageStream, MessageStreamManager, Omit
from anthropic.lib.streaming import TextEvent
from anthropic.types import ParsedMessage

from cheapdeep_ops.claude.received_events import text_event

_WITHOUT_EFFECT: Final = frozenset({"content_block_stop", "message_stop"})
"""The events that do not change the message."""


class _OneByOne:
    """Stands for a raw stream: it gives `event` to the SDK's helper, which makes one event of its own from it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.event: Any = None

    @property
    def response(self) -> httpx2.Response:
        response: httpx2.Response = self._stream.response
        return response

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.event

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            yield self.event

    def close(self) -> Any:
        return self._stream.close()


class AnswerStream(MessageStream[Any]):
    """The SDK's helper over `stream`, whose `parts` are events, and a text for each delta of the answer.

    A caller who changes from `text_stream` to the events gets the events after the last text.
    """

    def __init__(self, stream: Any, parts: Iterator[Any], output_format: Any) -> None:
        self._next = _OneByOne(stream)
        super().__init__(self._next, output_format)  # type: ignore[arg-type]
        # The SDK's own generator adds each event to the message before it yields its own event.
        self._built, self._parts = super().__stream__(), parts
        self._is_seen = False
        self.text_stream = self._texts()

    def __stream__(self) -> Iterator[Any]:
        """The events that the SDK's helper gives."""
        self._is_seen = True
        for part in self._parts:
            if isinstance(part, str):
                snapshot = _with_text(self.current_message_snapshot, part)
                yield text_event(part)
                yield TextEvent(type="text", text=part, snapshot=snapshot)
            else:
                self._next.event = part
                built = next(self._built, None)
                if built is None:  # it ended with an error before
                    return
                yield built

    def until_done(self) -> None:
        """Wait until the stream has been read."""
        for _ in self._texts():
            pass

    def _texts(self) -> Iterator[str]:
        # A caller who has seen the first event of a delta has not read the second one yet.
        for part in self if self._is_seen else self._parts:
            if isinstance(part, str):
                _with_text(self.current_message_snapshot, part)
                yield part
            elif self._is_seen:
                yield from _text_of(part)
            elif part.type not in _WITHOUT_EFFECT:
                self._next.event = part
                if next(self._built, None) is None:
                    return


class AsyncAnswerStream(AsyncMessageStream[Any]):
    """`AnswerStream` for asyncio."""

    def __init__(self, stream: Any, parts: AsyncIterator[Any], output_format: Any) -> None:
        self._next = _OneByOne(stream)
        super().__init__(self._next, output_format)  # type: ignore[arg-type]
        self._built, self._parts = super().__stream__(), parts
        self._is_seen = False
        self.text_stream = self._texts()

    async def __stream__(self) -> AsyncIterator[Any]:
        """The events that the SDK's helper gives."""
        self._is_seen = True
        async for part in self._parts:
            if isinstance(part, str):
                snapshot = _with_text(self.current_message_snapshot, part)
                yield text_event(part)
                yield TextEvent(type="text", text=part, snapshot=snapshot)
            else:
                self._next.event = part
                built = await anext(self._built, None)
                if built is None:
                    return
                yield built

    async def until_done(self) -> None:
        """Wait until the stream has been read."""
        async for _ in self._texts():
            pass

    async def _texts(self) -> AsyncIterator[str]:
        async for part in self if self._is_seen else self._parts:
            if isinstance(part, str):
                _with_text(self.current_message_snapshot, part)
                yield part
            elif self._is_seen:
                for text in _text_of(part):
                    yield text
            elif part.type not in _WITHOUT_EFFECT:
                self._next.event = part
                if await anext(self._built, None) is None:
                    return


def _text_of(event: Any) -> tuple[str, ...]:
    return (event.delta.text,) if event.type == "content_block_delta" else ()


def _with_text(message: Any, text: str) -> str:
    """Add `text` to the message; returns the answer's text so far."""
    block = message.content[-1]
    block.text += text
    return str(block.text)


class RoutedStreamManager(MessageStreamManager[Any]):
    """The SDK's manager of a stream helper; the helper is an `AnswerStream` where an answer ships."""

    def __init__(self, open_stream: Callable[[], Any], *, output_format: Any) -> None:
        super().__init__(open_stream, output_format=output_format)
        self._open, self._output_format = open_stream, output_format
        self._helper: MessageStream[Any] | None = None

    def __enter__(self) -> MessageStream[Any]:
        _keep_message_type()
        stream = self._open()
        # With an output format, the SDK parses the text of the answer, so its helper needs all events.
        if stream.gives_texts and isinstance(self._output_format, Omit):
            self._helper = AnswerStream(stream, stream.parts(), self._output_format)
        else:
            self._helper = MessageStream(stream, self._output_format)
        return self._helper

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._helper is not None:
            self._helper.close()


class AsyncRoutedStreamManager(AsyncMessageStreamManager[Any]):
    """`RoutedStreamManager` for asyncio."""

    def __init__(self, opening: Awaitable[Any], *, output_format: Any) -> None:
        super().__init__(opening, output_format=output_format)
        self._opening, self._output_format = opening, output_format
        self._helper: AsyncMessageStream[Any] | None = None

    async def __aenter__(self) -> AsyncMessageStream[Any]:
        _keep_message_type()
        stream = await self._opening
        if stream.gives_texts and isinstance(self._output_format, Omit):
            self._helper = AsyncAnswerStream(stream, stream.parts(), self._output_format)
        else:
            self._helper = AsyncMessageStream(stream, self._output_format)
        return self._helper

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._helper is not None:
            await self._helper.close()


@cache
def _keep_message_type() -> object:
    """Keep the generic type that the SDK names for each message that its helper begins.

    Pydantic forgets such a type if nothing keeps it. Making it again takes longer than a short stream.
    """
    parsed, helper = ParsedMessage, MessageStream  # type: Any, Any
    return parsed[helper.__parameters__[0]]
