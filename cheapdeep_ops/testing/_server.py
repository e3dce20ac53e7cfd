"""Serve an ASGI app on loopback from a thread, with responses that can be slow or cut off."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# Generous: a machine may be busy, and an end that does not come leaves sockets open.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


class _Server(uvicorn.Server):
    """Uvicorn with an event for its start, and a stop from another thread that takes effect at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stopping: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets=sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # Uvicorn checks every 0.1 s whether to stop; an event saves each test that wait.
        while not await self.on_tick(0):
            await self.stops_within(1.0)

    async def stops_within(self, seconds: float) -> bool:
        assert self.stopping is not None  # noqa: S101  # set in startup, which precedes every caller
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    def ask_to_stop(self) -> None:
        self.should_exit = True
        if self.loop is not None and self.stopping is not None:
            self.loop.call_soon_threadsafe(self.stopping.set)


class ServedApp:
    """Serve `app` over HTTP from `start` to `stop`; a later `start` uses the old port again."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, name: str, has_dates: bool = False) -> None:
        """`has_dates` is whether `app` itself sends the Date header, from a clock of its own."""
        self._app = app
        self._has_dates = has_dates
        self._host = host
        self._port = port
        self._name = name
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        if self._port == 0:
            raise RuntimeError(f"{self._name} has no port before it is started")
        return self._port

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def start(self) -> Self:
        if self._thread is not None:
            raise RuntimeError(f"{self._name} is already running")
        sock = self._bind()
        server = _Server(self._config())
        self._thread = threading.Thread(target=_serve, args=(server, sock), name=self._name, daemon=True)
        self._server = server
        self._thread.start()
        if not server.ready.wait(START_TIMEOUT_S):
            self.stop()
            raise RuntimeError(f"{self._name} did not start within {START_TIMEOUT_S} s")
        return self

    def stop(self) -> None:
        """End open responses, close every connection and wait for the thread; does nothing if not running."""
        if self._thread is None or self._server is None:
            return
        self._server.ask_to_stop()
        self._thread.join(STOP_TIMEOUT_S)
        self._thread = self._server = None

    async def paused(self, seconds: float) -> bool:
        """Wait `seconds` and return True; return False at once if the server stops."""
        return seconds <= 0 or self._server is None or not await self._server.stops_within(seconds)

    async def drop(self, scope: Scope, receive: Receive) -> None:
        """Close the connection of `scope` without finishing its response, and wait until it is closed."""
        for connection in list(self._server.server_state.connections if self._server else ()):
            if isinstance(connection, H11Protocol) and connection.client == scope["client"]:
                connection.transport.close()
        # Uvicorn logs an error for an unfinished response unless it has seen the disconnect first.
        while (await receive())["type"] != "http.disconnect":
            pass

    def _bind(self) -> socket.socket:
        # asyncio sets TCP_NODELAY only for an explicit protocol; without it each response takes 40 ms more.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
        except OSError:
            sock.close()
            raise
        self._port = sock.getsockname()[1]
        return sock

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            http="h11",  # `drop` can close only this implementation's connections
            log_config=None,  # uvicorn must not change the process's logging
            log_level="warning",
            access_log=False,
            date_header=not self._has_dates,
            lifespan="off",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )


class SimulatedServer:
    """A simulated service, which listens from `start` to `stop`; what it has received stays readable."""

    _served: ServedApp

    @property
    def port(self) -> int:
        """The port that it listens on; RuntimeError before the first `start`."""
        return self._served.port

    def start(self) -> Self:
        """Listen; after a `stop`, on the old port again. Raises OSError if the port is taken."""
        self._served.start()
        return self

    def stop(self) -> None:
        """Close every connection, also those of delayed replies, and stop listening."""
        self._served.stop()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_exc_info: object) -> None:
        """Stop."""
        self.stop()


def _serve(server: _Server, sock: socket.socket) -> None:
    with sock:
        asyncio.run(server.serve(sockets=[sock]))


@dataclass(slots=True, kw_only=True)
class PacedStream:
    """A stream with a pause of `pace_s` seconds between events; `sent` counts the events sent so far."""

    model: str
    pace_s: float
    at_once: int = 0
    sent: int = 0
    is_open: bool = True


async def _disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A response as bytes, which can be sent in pieces, late, or only in part."""

    served: ServedApp
    pieces: tuple[bytes, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    streamed: bool = False
    """Whether to omit the content-length header, as for server-sent events."""
    delay_s: float = 0.0
    stream: "PacedStream | None" = None
    """Pace and progress, if the pieces are sent one by one; else None."""
    cut_after: int | None = None
    """Bytes of the body after which the connection closes; None sends all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self.served.paused(self.delay_s):
            await self.served.drop(scope, receive)
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self._raw_headers()})
        if self.stream is not None:
            await self._send_paced(self.stream, receive, send)
            return
        for piece in self._sent_pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            # Uvicorn learns in its loop alone that the client has left. Until then asyncio logs a line for each piece.
            await asyncio.sleep(0)
        if self.cut_after is not None:
            await self.served.drop(scope, receive)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_paced(self, stream: "PacedStream", receive: Receive, send: Send) -> None:
        disconnect = asyncio.create_task(_disconnected(receive))
        try:
            for piece in self.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                stream.sent += 1
                # The wait is the pause between events, and ends early when the client disconnects.
                await asyncio.wait({disconnect}, timeout=stream.pace_s if stream.sent > stream.at_once else 0)
                if disconnect.done():
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            disconnect.cancel()
            stream.is_open = False

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not self.streamed:
            headers.setdefault("content-length", str(sum(map(len, self.pieces))))
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    def _sent_pieces(self) -> tuple[bytes, ...]:
        if self.cut_after is None:
            return self.pieces
        return (b"".join(self.pieces)[: self.cut_after],)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup:
    """No response at all: the connection closes."""

    served: ServedApp

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        await self.served.drop(scope, receive)
