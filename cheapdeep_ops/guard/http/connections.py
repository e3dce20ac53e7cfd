"""Bounds on the connections of the HTTP server: how many there are, and how long one may keep it waiting.

uvicorn has no limit on the time and size of a request's head, and none on the time in which a response is read.
"""

import asyncio
import logging
import resource
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_WITHIN_S: Final = 10.0
"""How long the head of a request may take to arrive, in seconds."""

READ_WITHIN_S: Final = 60.0
"""For how long a peer may not read what it asked for, in seconds."""

_LARGEST_HEAD: Final = 65_536
_MOST: Final = 4_000
_FOR_ALL_ELSE: Final = 200
"""File descriptors that the guard needs for its store, its receivers and its logs."""

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_log: Final = logging.getLogger(__name__)


def most_connections() -> int:
    """How many connections may be open: 4,000, or as many as the process may have files, without a reserve."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(min(files - _FOR_ALL_ELSE, _MOST), 1)


class BoundedConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # one of two classes of uvicorn
    """A connection of uvicorn that is closed if its peer sends a head, or reads a response, too slowly.

    If too many connections are open, the one that has waited longest for a request makes room. If none waits, the new
    one is refused with 503.
    """

    most = most_connections()

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self.waits_since = 0.0
        """Since when it has waited for a request, by the clock of the event loop."""

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection, or refuse it."""
        if len(self.connections) >= self.most and not self._make_room():
            _log.warning("%s connections are open: a new one is refused", self.most)
            transport.write(_FULL)
            transport.close()
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self.transport.is_closing():
            return
        if self._head_timer is None and self.is_waiting:
            self._expect_head()
        super().data_received(data)
        if not self.is_waiting or self.transport.get_protocol() is not self:
            _stop(self._head_timer)
            self._head_timer = None
            return
        # What was refused without being read counts too: the rest of a body, before the next head.
        self._head_bytes += len(data)
        if self.cycle is None and self._head_bytes > _LARGEST_HEAD:
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._head_bytes = 0
        if self.is_waiting:
            self.waits_since = self.loop.time()

    def pause_writing(self) -> None:
        """Wait until the peer reads."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        _stop(self._read_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _stop(self._head_timer)
        _stop(self._read_timer)
        super().connection_lost(exc)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request; returns whether there is one."""
        waiting = [each for each in self.connections if isinstance(each, BoundedConnection) and each.is_waiting]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda each: each.waits_since)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _expect_head(self) -> None:
        self.waits_since = self.loop.time()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
