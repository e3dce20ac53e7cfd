"""A router and the SDK's own client side by side: what the one gives must be what the other gives."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anthropic import (
    Anthropic,
    AsyncAnthropic,
    DefaultAioHttpClient,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
)

from cheapdeep_ops import AsyncRouter, Router, Settings

OPUS = "claude-opus-4-7"
WAYS = ("created", "streamed", "helped", "texts")
KINDS = ("sync", "async")
TRANSPORTS = (*KINDS, "aiohttp")

_OPTIONS = {"api_key": "any", "max_retries": 0, "open_telemetry": False}
_RANDOM = ("msg_", "toolu_")


@dataclass
class Given:
    """What a call gave, each thing with its type, and the error that it ended with."""

    things: list[Any] = field(default_factory=list)
    error: tuple[Any, ...] | None = None

    @property
    def text(self) -> str:
        """The answer, by whichever way it came."""
        _, message = self.things[-1]
        if isinstance(message, str):
            return "".join(piece for _, piece in self.things)
        if "content" in message:
            return "".join(block.get("text", "") for block in message["content"])
        deltas = [event["delta"] for _, event in self.things if event["type"] == "content_block_delta"]
        return "".join(delta.get("text", "") for delta in deltas)


class Side:
    """A router or a client, for threads or for asyncio, in the same words. Every call gives what it was told."""

    def __init__(self, client: Any, run: Callable[[Any], Any], names: tuple[str, ...] = _RANDOM) -> None:
        self.client, self._run, self._names = client, run, names

    def given(self, way: str, **params: Any) -> Given:
        """What the call gives by one of the `WAYS`."""
        given = Given()
        self._run(self._collected(getattr(self, f"_{way}")(params), given))
        return given

    def value(self, call: Any) -> Any:
        """What a call of the client itself comes to."""
        return self._run(_settled(call))

    def values(self, call: Any) -> list[Any]:
        """All that a call of the client itself gives, as data."""
        return [self.shown(each) for each in self._run(_gathered(call))]

    async def _collected(self, things: AsyncIterator[Any], given: Given) -> None:
        try:
            async for thing in things:
                given.things.append((type(thing), self.shown(thing)))
        except Exception as error:  # noqa: BLE001 - compared, whatever it is
            given.error = _told(error)

    async def _created(self, params: Any) -> AsyncIterator[Any]:
        yield await _settled(self.client.messages.create(**params))

    async def _streamed(self, params: Any) -> AsyncIterator[Any]:
        async for event in _each(await _settled(self.client.messages.create(stream=True, **params))):
            yield event

    async def _helped(self, params: Any) -> AsyncIterator[Any]:
        """The events of the SDK's helper, and the message that it adds them up to."""
        async with _entered(self.client.messages.stream(**params)) as stream:
            async for event in _each(stream):
                yield event
            yield await _settled(stream.get_final_message())

    async def _texts(self, params: Any) -> AsyncIterator[Any]:
        async with _entered(self.client.messages.stream(**params)) as stream:
            async for text in _each(stream.text_stream):
                yield text

    def shown(self, thing: Any) -> Any:
        """A thing as data, without what a server makes up anew for each call."""
        return self._without_ids(thing if isinstance(thing, str) else thing.model_dump())

    def _without_ids(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._without_ids(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._without_ids(each) for each in value]
        return "random" if isinstance(value, str) and value.startswith(self._names) else value


@dataclass(frozen=True)
class Pair:
    """Both sides on one server."""

    routed: Side
    bare: Side

    def same(self, way: str, *, before: Callable[[], object] = lambda: None, **params: Any) -> Given:
        """What both give; `before` is done ahead of each."""
        before()
        given = self.routed.given(way, **params)
        before()
        expected = self.bare.given(way, **{"model": OPUS, **params})
        assert given == expected
        return given


@contextmanager
def paired(
    kind: str, url: str, recorder: Any, *, keeps_ids: bool = False, max_retries: int = 0, **settings: Any
) -> Iterator[Pair]:
    """A router that tells `recorder` of its decisions, and a client without one, each with connections of its own."""
    names = () if keeps_ids else _RANDOM
    with asyncio.Runner() as runner:
        own, bare = (_client(kind, base_url=url, **{**_OPTIONS, "max_retries": max_retries}) for _ in range(2))
        make = Router if kind == "sync" else AsyncRouter
        router = make(client=own, recorder=recorder, settings=Settings(record=False, **settings))
        try:
            yield Pair(Side(router, runner.run, names), Side(bare, runner.run, names))
        finally:
            runner.run(_settled(router.aclose() if isinstance(router, AsyncRouter) else router.close()))
            runner.run(_settled(own.close()))
            runner.run(_settled(bare.close()))


def _client(kind: str, **options: Any) -> Anthropic | AsyncAnthropic:
    # Certificates would take longer to load than the test takes to run, and loopback needs none.
    if kind == "sync":
        return Anthropic(http_client=DefaultHttpxClient(verify=False), **options)
    transport = DefaultAioHttpClient if kind == "aiohttp" else DefaultAsyncHttpxClient
    return AsyncAnthropic(http_client=transport(verify=False), **options)


def _told(error: Exception) -> tuple[Any, ...]:
    """All that a caller can learn from an error."""
    response = getattr(error, "response", None)
    waits = response.headers.get("retry-after") if response is not None else None
    known = (getattr(error, name, None) for name in ("status_code", "body", "request_id"))
    return (type(error), str(error), *known, waits)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _gathered(call: Any) -> list[Any]:
    return [each async for each in _each(await _settled(call))]


async def _each(things: Any) -> AsyncIterator[Any]:
    if hasattr(things, "__aiter__"):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


@asynccontextmanager
async def _entered(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            yield stream
    else:
        with manager as stream:
            yield stream
