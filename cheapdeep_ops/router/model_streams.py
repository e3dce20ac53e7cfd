"""Opens the streams of models, by the public methods of the SDK that instrumentations wrap.

A stream that another instrumentation traces has a context of its own (`contextvars`). Its span becomes the current one
there when the stream is opened, and stops to be so when it ends. It may end in another thread or task, and after the
route span has ended: in the caller's context, the route span would then be the current one for good.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import Any, TypeVar, cast

import httpx2

from cheapdeep_ops.router.model_call import ModelCall
from cheapdeep_ops.router.provider import (
    Anthropic,
    AsyncAnthropic,
    AsyncHelpedStream,
    AsyncStream,
    Event,
    HelpedStream,
    Params,
    Stream,
    plain_async_stream,
    plain_stream,
    raw_async_stream,
    raw_stream,
)

_T = TypeVar("_T")
Events = Stream[Event]
AsyncEvents = AsyncStream[Event]
Method = Callable[..., Any]


def open_stream(method: Method, model_call: ModelCall) -> Events:
    """Open a stream by `messages.create`."""
    return _opened(partial(method, **model_call.request), model_call)


def open_triage(client: Anthropic, model_call: ModelCall) -> Events:
    """Open the stream of a triage tier by `messages.create` of `client`."""
    stream = open_stream(client.messages.create, model_call)
    return plain_stream(stream, client) if _is_unseen(model_call) else stream


def open_helper(method: Method, model_call: ModelCall) -> Events:
    """Open a stream by `messages.stream`."""
    manager = partial(method, **_without_stream(model_call.request))
    if model_call.is_plain:  # the caller's own helper adds up the message, which takes time
        return raw_stream(manager().__enter__())
    return _opened(lambda: HelpedStream(manager()), model_call)


async def open_async_stream(method: Method, model_call: ModelCall) -> AsyncEvents:
    """Open a stream by the asyncio client's `messages.create`."""
    return await _async_opened(partial(method, **model_call.request), model_call)


async def open_async_triage(client: AsyncAnthropic, model_call: ModelCall) -> AsyncEvents:
    """Open the stream of a triage tier by `messages.create` of the asyncio `client`."""
    stream = await open_async_stream(client.messages.create, model_call)
    return plain_async_stream(stream, client) if _is_unseen(model_call) else stream


async def open_async_helper(method: Method, model_call: ModelCall) -> AsyncEvents:
    """Open a stream by the asyncio client's `messages.stream`."""
    manager = partial(method, **_without_stream(model_call.request))
    if model_call.is_plain:
        return raw_async_stream(await manager().__aenter__())
    return await _async_opened(lambda: AsyncHelpedStream.entered(manager()), model_call)


def _is_unseen(model_call: ModelCall) -> bool:
    """Whether the router alone sees the stream's events."""
    return model_call.is_plain and not model_call.is_traced


def _without_stream(request: Params) -> dict[str, Any]:
    """The arguments of `messages.stream`, which takes no `stream`."""
    return {name: value for name, value in request.items() if name != "stream"}


def _opened(begin: Callable[[], object], model_call: ModelCall) -> Events:
    if model_call.is_plain:
        return cast("Events", begin())
    context = copy_context()
    return cast("Events", _ContextStream(context, cast("Events", context.run(begin))))


async def _async_opened(begin: Callable[[], Awaitable[object]], model_call: ModelCall) -> AsyncEvents:
    if model_call.is_plain:
        return cast("AsyncEvents", await begin())
    context = copy_context()
    return cast("AsyncEvents", _AsyncContextStream(context, cast("AsyncEvents", await _within(context, begin))))


class _ContextStream:
    """A stream that is read and closed in `context`."""

    def __init__(self, context: Context, stream: Events) -> None:
        self._context, self._stream = context, stream
        self._events = iter(stream)

    @property
    def response(self) -> httpx2.Response:
        return self._stream.response

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return self._context.run(next, self._events)

    def close(self) -> None:
        is_entered = False

        def close() -> None:
            nonlocal is_entered
            is_entered = True
            self._stream.close()

        try:
            self._context.run(close)
        except RuntimeError:
            if is_entered:
                raise
            self._stream.close()  # another thread is reading in the context, which can be entered only once


class _AsyncContextStream:
    """`_ContextStream` for asyncio."""

    def __init__(self, context: Context, stream: AsyncEvents) -> None:
        self._context, self._stream = context, stream
        self._events = aiter(stream)

    @property
    def response(self) -> httpx2.Response:
        return self._stream.response

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await _within(self._context, partial(anext, self._events))

    async def close(self) -> None:
        await _within(self._context, self._stream.close)


async def _within(context: Context, work: Callable[[], Awaitable[_T]]) -> _T:
    """Await `work`, each step of it in `context`."""
    return await _steps(context, _awaited(work))


async def _awaited(work: Callable[[], Awaitable[_T]]) -> _T:
    return await work()


@coroutine
def _steps(context: Context, work: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
    resume: Callable[[], Any] = partial(context.run, work.send, None)
    while True:
        try:
            waited_for = resume()
        except StopIteration as end:
            return cast("_T", end.value)
        try:
            resume = partial(context.run, work.send, (yield waited_for))
        except BaseException as error:  # noqa: BLE001 - such as a cancellation, which is for `work`
            resume = partial(context.run, work.throw, error)
