"""The SDK's stream helper for an answer that ships, without the events that its caller does not see.

The SDK's helper builds two events for each delta, also for a caller who only waits for the message or reads its text.
Here such a caller's deltas are added to the message, and nothing else is made of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Literal

from anthropic import AsyncMessageStream, AsyncMessageStreamManager, MessageStream, MessageStreamManager
from anthropic.lib.streaming import TextEvent
from pydantic import BaseModel

from cheapdeep_ops.claude.received_events import text_event


class AnswerText(BaseModel):
    """Stands for a delta with a part of the answer. The SDK's helper passes it on, as any event that it does not know.

    It comes after the start of the message and of its only block.
    """

    type: Literal["answer_text"] = "answer_text"
    text: str


def answer_text(text: str) -> AnswerText:
    """What stands for the delta of a part of the answer."""
    return AnswerText(text=text)


class AnswerStream(MessageStream[Any]):
    """The SDK's helper over a stream that gives an `AnswerText` for each delta."""

    def __init__(self, raw_stream: Any, output_format: Any) -> None:
        super().__init__(raw_stream, output_format)
        self.text_stream = self._texts()
        self._parts: Iterator[Any] = super().__stream__()
        self._is_seen = False

    def __stream__(self) -> Iterator[Any]:
        """The events that the SDK's helper gives."""
        self._is_seen = True
        for part in self._parts:
            if isinstance(part, AnswerText):
                snapshot = self._longer_by(part.text)
                yield text_event(part.text)
                yield TextEvent(type="text", text=part.text, snapshot=snapshot)
            else:
                yield part

    def until_done(self) -> None:
        """Wait until the stream has been read."""
        for part in self._rest():
            if isinstance(part, AnswerText):
                self._longer_by(part.text)

    def _texts(self) -> Iterator[str]:
        for part in self._rest():
            if isinstance(part, AnswerText):
                self._longer_by(part.text)
                yield part.text
            elif part.type == "content_block_delta":
                yield part.delta.text

    def _rest(self) -> Iterator[Any]:
        # A caller who has seen events may find one of two unread.
        return iter(self) if self._is_seen else self._parts

    def _longer_by(self, text: str) -> str:
        return _longer(self.current_message_snapshot, text)


class AsyncAnswerStream(AsyncMessageStream[Any]):
    """`AnswerStream` for asyncio."""

    def __init__(self, raw_stream: Any, output_format: Any) -> None:
        super().__init__(raw_stream, output_format)
        self.text_stream = self._texts()
        self._parts: AsyncIterator[Any] = super().__stream__()
        self._is_seen = False

    async def __stream__(self) -> AsyncIterator[Any]:
        """The events that the SDK's helper gives."""
        self._is_seen = True
        async for part in self._parts:
            if isinstance(part, AnswerText):
                snapshot = self._longer_by(part.text)
                yield text_event(part.text)
                yield TextEvent(type="text", text=part.text, snapshot=snapshot)
            else:
                yield part

    async def until_done(self) -> None:
        """Wait until the stream has been read."""
        async for part in self._rest():
            if isinstance(part, AnswerText):
                self._longer_by(part.text)

    async def _texts(self) -> AsyncIterator[str]:
        async for part in self._rest():
            if isinstance(part, AnswerText):
                self._longer_by(part.text)
                yield part.text
            elif part.type == "content_block_delta":
                yield part.delta.text

    def _rest(self) -> AsyncIterator[Any]:
        return aiter(self) if self._is_seen else self._parts

    def _longer_by(self, text: str) -> str:
        return _longer(self.current_message_snapshot, text)


def _longer(message: Any, text: str) -> str:
    """The text of the answer so far, with `text` at its end."""
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
        stream = self._open()
        helper = AnswerStream if stream.tell_texts() else MessageStream
        self._helper = helper(stream, self._output_format)
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
        stream = await self._opening
        helper = AsyncAnswerStream if stream.tell_texts() else AsyncMessageStream
        self._helper = helper(stream, self._output_format)
        return self._helper

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._helper is not None:
            await self._helper.close()
