"""Protection from other web pages: foreign origins are refused, and responses say what a browser may do with them."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every response."""

_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of what is no page: nothing is loaded, and no page shows it in a frame."""

_POLICY: Final = "Content-Security-Policy"
_REFUSED: Final = "requests of pages from other origins are refused"


class SafeHeaders:
    """Adds the headers of safety to every response; a response with a policy of its own keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault(_POLICY, _NOTHING)
            await send(message)

        await self._app(scope, receive, send_safe if scope["type"] == "http" else send)


class OwnOrigin:
    """Refuses what a page of another origin asks for with 403, before the application and before a websocket opens.

    `address` is where people open the console, if a proxy gives the guard another host name. A link from another page
    may open a page. Source: https://www.w3.org/TR/fetch-metadata/ and RFC 6455, section 10.2.
    """

    def __init__(self, app: ASGIApp, address: str | None = None) -> None:
        self._app = app
        self._known = urlsplit(address).netloc.lower() if address else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in {"http", "websocket"} or not self._is_foreign(scope, Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif kind == "http":
            await JSONResponse({"detail": _REFUSED}, 403)(scope, receive, send)
        else:
            await refuse_websocket(receive, send)

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            return urlsplit(origin).netloc.lower() not in {headers.get("host", "").lower(), self._known} - {""}
        if scope["type"] == "websocket":
            # Every browser sends an origin with a websocket, and no other program needs one here.
            return True
        # A browser sends no origin with a plain GET, but says where the page comes from.
        is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not is_link


async def refuse_websocket(receive: Receive, send: Send) -> None:
    """Refuse a websocket before it opens; the server answers with 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})
