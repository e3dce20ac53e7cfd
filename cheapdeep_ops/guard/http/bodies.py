"""Bounds on the bodies of requests: how large each may be, and how long it may take to arrive.

They hold before a body is parsed, and before the token of the request is looked at. A body beyond 64 kB is read only
for a caller with a valid token, and on the path of Slack, whose requests have a signature instead.
"""

import asyncio
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cheapdeep_ops.access.tokens import Refusal, Role
from cheapdeep_ops.guard.actions.outcomes import LARGEST_BODY as LARGEST_BATCH
from cheapdeep_ops.guard.http.access import Access, peer_of, secret_in
from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH, LARGEST_CLICK
from cheapdeep_ops.recorder.wire import CANDIDATES_PATH, FLUSHES_PATH, LARGEST_BODY, NAMES_PATH

LARGEST_ORDER: Final = 64_000
"""The largest body in bytes of a request by a person, or without a valid token."""

WITHIN_S: Final = 30.0
"""How long a body may take to arrive, in seconds."""

_SENT_BY_ROUTERS: Final = frozenset({FLUSHES_PATH, CANDIDATES_PATH, NAMES_PATH})
_LENGTH: Final = re.compile(r"[0-9]{1,15}")


def largest_body(path: str) -> int:
    """The size in bytes of the largest body that a path takes."""
    if path in _SENT_BY_ROUTERS:
        return LARGEST_BODY
    if path == CLICKS_PATH:
        return LARGEST_CLICK
    return LARGEST_BATCH if path.endswith("/batch") else LARGEST_ORDER


class BoundedBodies:
    """Refuses a body that is too large (413), takes too long (408), or is large and has no valid token (401, 429)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        # Without a readable length, the body is measured as it comes.
        refusal = self.refusal(scope, int(declared) if _LENGTH.fullmatch(declared) else 0)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run(self._app)

    def refusal(self, scope: Scope, size: int) -> Response | None:
        """The refusal of a body with `size` bytes or more; None if it may go on."""
        if size <= LARGEST_ORDER:
            return None
        path = scope["path"]
        largest = largest_body(path)
        if size > largest:
            return PlainTextResponse(f"the body has more than {largest:,} bytes: send less at once", 413)
        # Slack has no token: its signature, which is looked at once the body is there, counts instead.
        if path == CLICKS_PATH:
            return None
        secret = secret_in(Headers(scope=scope).get("authorization", ""))
        # The role does not matter here: the path itself asks for its own.
        token = self._access.allowed_from(peer_of(scope), secret, Role.READ)
        if isinstance(token, Refusal) and token.error != "insufficient_scope":
            return JSONResponse({"detail": token.detail}, token.status, token.headers)
        return None


class _Exchange:
    """One request, whose body is measured while the application reads it."""

    def __init__(self, bounds: BoundedBodies, scope: Scope, receive: Receive, send: Send) -> None:
        self._bounds, self._scope, self._receive, self._send = bounds, scope, receive, send
        self._size = 0
        self._is_whole = self._has_begun = False
        self._until = asyncio.get_running_loop().time() + WITHIN_S
        self._refused: Response | None = None

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._read, self._answer)
        except Exception:
            # What the application makes of a body that ends too soon is no error of its own.
            if self._refused is None:
                raise
        if self._refused is not None and not self._has_begun:
            await self._refused(self._scope, self._receive, self._send)

    async def _read(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            slow = f"the body did not arrive within {WITHIN_S:g} seconds"
            return self._refuse(PlainTextResponse(slow, 408, {"Connection": "close"}))
        if message["type"] != "http.request":
            return message
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body")
        refusal = self._bounds.refusal(self._scope, self._size)
        return message if refusal is None else self._refuse(refusal)

    def _refuse(self, refusal: Response) -> Message:
        self._refused, self._is_whole = refusal, True
        return {"type": "http.disconnect"}

    async def _answer(self, message: Message) -> None:
        if self._refused is None or self._has_begun:
            self._has_begun = True
            await self._send(message)
