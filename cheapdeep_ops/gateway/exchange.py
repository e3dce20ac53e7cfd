"""One request over ASGI and the response to it, which ends early if the caller goes away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from cheapdeep_ops.gateway.headers import Headers, value_of

_log: Final = logging.getLogger(__name__)
LARGEST_MESSAGE: Final = 32 * 2**20
"""The API's limit of a request for a message, in bytes. Source: https://platform.claude.com/docs/en/api/errors"""


class CallerGoneError(Exception):
    """The caller has closed its connection."""


class TooLargeError(Exception):
    """A body is larger than the API takes."""


class HttpExchange:
    """A request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"] or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers: Headers = scope["headers"]
        self.has_body = value_of(self.headers, b"content-length") not in (b"", b"0") or bool(
            value_of(self.headers, b"transfer-encoding")
        )
        self.has_begun = False
        self.caller_has_gone = False
        self._has_ended = False
        self._body_is_read = asyncio.Event()
        if not self.has_body:
            self._body_is_read.set()

    async def body(self) -> bytes:
        """The whole body. Raises TooLargeError, CallerGoneError."""
        parts, size = [], 0
        async for part in self.body_parts():
            size += len(part)
            if size > LARGEST_MESSAGE:
                raise TooLargeError
            parts.append(part)
        return b"".join(parts)

    async def body_parts(self) -> AsyncIterator[bytes]:
        """The parts of the body as they come. Raises CallerGoneError."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.caller_has_gone = True
                raise CallerGoneError
            if part := message.get("body", b""):
                yield part
            if not message.get("more_body", False):
                self._body_is_read.set()
                return

    @asynccontextmanager
    async def ends_with_caller(self) -> AsyncIterator[None]:
        """Inside, the work is cancelled when the caller goes away; the block ends quietly then.

        It does so too when the server breaks off what takes too long at its end. While the body is read, the reader
        learns that the caller goes away (CallerGoneError).
        """
        work = asyncio.current_task()

        async def watch() -> None:
            # A message has one receiver.
            await self._body_is_read.wait()
            while (await self._receive())["type"] != "http.disconnect":
                pass
            # The server says this too when the response has ended.
            if not self._has_ended and work is not None:
                self.caller_has_gone = True
                work.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if self.caller_has_gone and work is not None:
                work.uncancel()
            else:
                _log.warning("a response is broken off, because the gateway ends")
        finally:
            watching.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work on it is to end, because the caller has gone or the gateway ends."""
        work = asyncio.current_task()
        return work is not None and work.cancelling() > 0

    async def begin(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, part: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        """Send the end of the body."""
        self._has_ended = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response."""
        length = (b"content-length", str(len(body)).encode())
        await self.begin(status, [*headers, length])
        await self.end(b"" if self.method == "HEAD" else body)

    async def respond_json(self, status: int, value: object, headers: Headers = ()) -> None:
        """Send a whole response with `value` as JSON."""
        await self.respond(status, [(b"content-type", b"application/json"), *headers], to_json(value))

    async def refuse(self, status: int, kind: str, message: str) -> None:
        """Answer with an error in the API's form."""
        await self.respond_json(status, error_body(kind, message))


def error_body(kind: str, message: str) -> dict[str, object]:
    """An error in the API's form.

    Source: https://platform.claude.com/docs/en/api/errors
    """
    return {"type": "error", "error": {"type": kind, "message": message}}
