"""The SDK's aiohttp client, with a session for each event loop. It closes itself silently when it is collected.

This module can be imported only where aiohttp is installed.
"""

import asyncio
import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, Final
from weakref import finalize

import httpx2
from aiohttp import AddrInfoType, ClientError, ClientPayloadError, ClientSession, DummyCookieJar, TCPConnector
from anthropic import DefaultAioHttpClient

from cheapdeep_ops.claude.lean_requests import ENDS_WITHIN_S

_PAUSE_S: Final = 0.5
"""After this time without a request, the loop may have stood still and have missed that a server hung up."""

_LOOP_TURNS: Final = 3
"""The turns in which a loop notices that a server hung up: one for the event, one to read, one to close (TLS)."""

_HEADER_BYTES: Final = 100 * 1024
"""The longest line that httpx2 takes; aiohttp's own limit is 8190 bytes."""

_CUT_OFF: Final = "peer closed connection without sending complete message body"
"""httpx2's message for a body that ends too early."""

_TCP_OPTIONS: Final = {
    option: value
    for name, value in {"TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5, "TCP_KEEPIDLE": 60}.items()
    if (option := getattr(socket, name, None)) is not None
}
"""The options of the SDK's httpx2 client. With them, a network keeps a connection whose answer takes minutes."""


class LoopAioHttpClient(DefaultAioHttpClient):
    """The SDK's `DefaultAioHttpClient` for several event loops, which may run one after another or in threads."""

    def _init_transport(self, *args: Any, **options: Any) -> httpx2.AsyncBaseTransport:
        given = {name: value for name, value in options.items() if name != "transport"}
        return LoopTransport(
            super()._init_transport(*args, **options), partial(httpx2.AsyncHTTPTransport, *args, **given)
        )

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *args: Any, **options: Any) -> httpx2.AsyncBaseTransport:
        make_httpx2 = partial(httpx2.AsyncHTTPTransport, *args, **{**options, "proxy": proxy})
        if proxy.url.scheme.startswith("socks"):  # aiohttp has no SOCKS
            return make_httpx2()
        return LoopTransport(super()._init_proxy_transport(proxy, *args, **options), make_httpx2)


class LoopTransport(httpx2.AsyncBaseTransport):
    """Sends each request through a session of the running event loop; `transport` has the settings of all.

    `make_httpx2` makes a transport of httpx2 with these settings, for the URLs that aiohttp would change.
    """

    def __init__(self, transport: Any, make_httpx2: Callable[[], httpx2.AsyncBaseTransport]) -> None:
        self.limits: httpx2.Limits = transport.limits
        self._pattern, self._make_httpx2 = transport, make_httpx2
        self._sessions: dict[asyncio.AbstractEventLoop, _LoopSession] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request. Raises the errors of httpx2."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop) or self._begin(loop)
        # aiohttp decodes what needs no escape (`%7E`), and a signature of the URL would no longer match.
        if b"%" in request.url.raw_path:
            session.httpx2 = session.httpx2 or self._make_httpx2()
            return await session.httpx2.handle_async_request(request)
        return await session.send(request)

    async def aclose(self) -> None:
        """Close the connections of the running loop; another loop closes its own when it runs again."""
        here = self._sessions.pop(asyncio.get_running_loop(), None)
        self._sessions.clear()
        if here is not None:
            await here.transport.aclose()
            if here.httpx2 is not None:
                await here.httpx2.aclose()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> "_LoopSession":
        for other in list(self._sessions):
            if other.is_closed():
                self._sessions.pop(other, None)
        session = self._sessions[loop] = _LoopSession(self._pattern, loop)
        return session


class _LoopSession:
    """A transport with a session of its own, for one loop; its settings are those of `pattern`."""

    def __init__(self, pattern: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: Any = copy(pattern)
        session = self.transport.client = _client_session(pattern)
        self.httpx2: httpx2.AsyncBaseTransport | None = None
        self._loop, self._last = loop, loop.time()
        # aiohttp logs a session that is collected with an open connector. A detached session has no connector, and the
        # connector closes itself.
        finalize(self, session.detach)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        now = self._loop.time()
        if now - self._last > _PAUSE_S:
            for _ in range(_LOOP_TURNS):
                await asyncio.sleep(0)
        self._last = now
        limit = _limit(request.extensions.get("timeout", {}))
        try:
            # A timer takes a while to make, and the sender may have one that ends earlier.
            if limit is None or limit >= request.extensions.get(ENDS_WITHIN_S, math.inf):
                response: httpx2.Response = await self.transport.handle_async_request(request)
            else:
                response = await self._send_within(limit, request)
        except ClientError as error:  # one that the SDK does not translate
            raise httpx2.RemoteProtocolError(str(error)) from error
        response.stream = _Body(response.stream)
        return response

    async def _send_within(self, seconds: float, request: httpx2.Request) -> httpx2.Response:
        # aiohttp's own timeout begins after the request is written. A server that does not read would never time out.
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                response: httpx2.Response = await self.transport.handle_async_request(request)
                return response
        except TimeoutError as error:
            if timeout.expired():
                raise httpx2.WriteTimeout("the server does not take the request") from error
            raise


class _Body(httpx2.AsyncByteStream):
    """The body of a response; it raises httpx2's error if it is cut off."""

    def __init__(self, body: Any) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                yield chunk
        except httpx2.ReadError as error:
            if isinstance(error.__cause__, ClientPayloadError):
                raise httpx2.RemoteProtocolError(_CUT_OFF) from error
            raise
        except ClientError as error:
            raise httpx2.RemoteProtocolError(str(error)) from error

    async def aclose(self) -> None:
        await self._body.aclose()


def _limit(timeouts: Mapping[str, float | None]) -> float | None:
    """The longest time in which httpx2 would have written a request and read the first of its response, in seconds."""
    limits = [timeouts.get(part) for part in ("pool", "connect", "write", "read")]
    known = [limit for limit in limits if limit is not None]
    return sum(known) if len(known) == len(limits) else None


def _client_session(transport: Any) -> ClientSession:
    """A session with the SDK's settings."""
    limits: httpx2.Limits = transport.limits
    connector = _QuietConnector(
        limit=limits.max_connections or 0,
        keepalive_timeout=limits.keepalive_expiry,
        ssl=transport.ssl_context,
        socket_factory=_open_socket,
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),  # the HTTP client keeps the cookies
        max_line_size=_HEADER_BYTES,
        max_field_size=_HEADER_BYTES,
    )


def _open_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _TCP_OPTIONS.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class _QuietConnector(TCPConnector):
    """Closes its connections when it is collected, and logs nothing then."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._runs_in, self._process = asyncio.get_running_loop(), os.getpid()

    def __del__(self, _warnings: object = None) -> None:
        # After a fork the connections are the parent's: a byte to the server, or a call of the selector, breaks them.
        if self.closed or self._process != os.getpid():
            return
        if self._runs_in.is_running() and self._runs_in is not _running_loop():
            with suppress(RuntimeError):  # closed in this moment
                self._runs_in.call_soon_threadsafe(self.__exit__, None, None, None)
        else:
            self.__exit__(None, None, None)  # `close` would need a task in a loop that may never run again


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
