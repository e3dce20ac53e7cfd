"""The events under the SDK's stream helper, which builds the request of `messages.stream`."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, cast

import httpx2
from anthropic import (
    AsyncMessageStream,
    AsyncMessageStreamManager,
    AsyncStream,
    MessageStream,
    MessageStreamManager,
    Stream,
)
from anthropic.types import RawMessageStreamEvent

Event = RawMessageStreamEvent

_DERIVED: Final = frozenset({"text", "citation", "thinking", "signature", "input_json"})
"""Events that the helper adds to those of the API."""


def raw_stream(helper: MessageStream[Any]) -> Stream[Event]:
    """The raw events under a helper of the SDK's own; the helper itself is not read."""
    return helper._raw_stream  # noqa: SLF001 - the SDK has no public attribute for them


def raw_async_stream(helper: AsyncMessageStream[Any]) -> AsyncStream[Event]:
    """The raw events under an asyncio helper of the SDK's own; the helper itself is not read."""
    return helper._raw_stream  # noqa: SLF001


class HelpedStream:
    """A helper that is entered, read and left as by a caller, so that a wrapper around it sees everything.

    It gives the API's events only, because the caller's own helper adds the others.
    """

    def __init__(self, manager: MessageStreamManager[Any]) -> None:
        self._manager, self._helper = manager, manager.__enter__()

    @property
    def response(self) -> httpx2.Response:
        """The response that is read."""
        return self._helper.response

    def __iter__(self) -> Iterator[Event]:
        for event in self._helper:
            if event.type not in _DERIVED:
                yield cast("Event", event)

    def close(self) -> None:
        """Leave the helper, which closes the response."""
        self._manager.__exit__(None, None, None)


class AsyncHelpedStream:
    """`HelpedStream` for asyncio; it is made by `entered`."""

    def __init__(self, manager: AsyncMessageStreamManager[Any], helper: AsyncMessageStream[Any]) -> None:
        self._manager, self._helper = manager, helper

    @classmethod
    async def entered(cls, manager: AsyncMessageStreamManager[Any]) -> "AsyncHelpedStream":
        """The stream of a manager that is not entered yet."""
        return cls(manager, await manager.__aenter__())

    @property
    def response(self) -> httpx2.Response:
        """The response that is read."""
        return self._helper.response

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self._helper:
            if event.type not in _DERIVED:
                yield cast("Event", event)

    async def close(self) -> None:
        """Leave the helper, which closes the response."""
        await self._manager.__aexit__(None, None, None)
