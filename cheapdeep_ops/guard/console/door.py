"""The door of the console: the cookie that its websocket needs, and what its pages may load."""

import re
import secrets
from typing import Final
from urllib.parse import quote, urlencode

from nicegui import Client
from starlette.datastructures import URL, Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cheapdeep_ops.guard.console.sessions import Sessions
from cheapdeep_ops.guard.http.own_paths import is_own
from cheapdeep_ops.guard.http.visitors import refuse_websocket

COOKIE: Final = "cheapdeep_session"
PAGE_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    # NiceGUI's page has inline scripts without nonces, and NiceGUI, Vue and Tailwind evaluate text: `eval`.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    # Elements of Quasar and ECharts have inline styles, and Tailwind adds a style element.
    "style-src 'self' 'unsafe-inline'; "
    # Quasar has icons in data URLs.
    "img-src 'self' data:; font-src 'self'; "
    # The websocket, and the modules that a page loads later.
    "connect-src 'self'"
)
"""The Content-Security-Policy of a page: nothing from other hosts, and what NiceGUI needs beyond that."""

NO_SESSION: Final = 3_000
"""The code with which a websocket is closed whose cookie stands for no live session: "Unauthorized".

Source: https://www.iana.org/assignments/websocket/websocket.xhtml (close codes)
"""

_NO_SESSION_WHY: Final = "this session has ended: load the page again"
_ASSETS: Final = "/_nicegui/"
_SOCKETS: Final = "/_nicegui_ws/"
_MOST_PAGES: Final = 300
"""Open pages: each takes memory, also before a person has signed in."""

_TICKET: Final = "sign_in"
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def cookie_of(headers: Headers) -> str:
    """The session's id that a browser sends; empty if there is none."""
    value = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return value if _WELL_FORMED.fullmatch(value) else ""


def new_cookie() -> str:
    """A new id with 256 random bits."""
    return secrets.token_urlsafe(32)


def with_ticket(url: URL, ticket: str) -> str:
    """The address of the same page to which a browser goes with the ticket of a sign-in."""
    asked = url.include_query_params(**{_TICKET: ticket})
    return f"{asked.path}?{asked.query}"


class ConsoleDoor:
    """Gives each browser a cookie with its first page, and refuses a websocket without one that is live.

    A script cannot read the cookie, and the browser does not send it for a page of another site. After a sign-in the
    browser gets another one for a ticket, so that a cookie which was known before is worth nothing.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or is_own(scope["path"]) or scope["path"].startswith(_ASSETS):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket" or scope["path"].startswith(_SOCKETS):
            await self._connect(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            # No page, so it needs no cookie and no room: such as a click that Slack posts.
            await self._app(scope, receive, send)
        elif ticket := QueryParams(scope["query_string"]).get(_TICKET):
            await self._sign_in(ticket, scope, receive, send)
        else:
            await self._show(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookie = cookie_of(Headers(scope=scope))
        if cookie and self._sessions.is_live(cookie):
            await self._app(scope, receive, send)
        elif scope["type"] != "websocket":
            await PlainTextResponse("open a page of the console first", 403)(scope, receive, send)
        elif cookie:
            await _close(receive, send)
        else:
            await refuse_websocket(receive, send)

    async def _sign_in(self, ticket: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Lead to the same page without the ticket, which then stays in no history."""
        cookie = self._sessions.redeem(ticket, cookie_of(Headers(scope=scope)))
        rest = [(name, value) for name, value in QueryParams(scope["query_string"]).multi_items() if name != _TICKET]
        # Relative to the present folder, so that no path leads to another host.
        place = "./" + quote(scope["path"].rpartition("/")[2]) + (f"?{urlencode(rest)}" if rest else "")
        response = Response(status_code=303, headers={"Location": place, "Cache-Control": "no-store"})
        if cookie is not None:
            response.headers.append("Set-Cookie", _set_cookie(cookie, is_secure=scope.get("scheme") == "https"))
        await response(scope, receive, send)

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(Client.instances) >= _MOST_PAGES:
            response = PlainTextResponse("too many pages are open: close some, or try again in a minute", 503)
            await response(scope, receive, send)
            return
        sent = cookie_of(Headers(scope=scope))
        known = sent if sent and self._sessions.is_live(sent) else ""
        cookie = known or self._sessions.visit()
        is_secure = scope.get("scheme") == "https"

        async def send_page(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = PAGE_POLICY
                headers.setdefault("Cache-Control", "no-store")
                if cookie != known:
                    headers.append("Set-Cookie", _set_cookie(cookie, is_secure=is_secure))
            await send(message)

        await self._app(scope, receive, send_page)


async def _close(receive: Receive, send: Send) -> None:
    """Close a websocket with a code that its page can read: a script does not learn why one was refused."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": NO_SESSION, "reason": _NO_SESSION_WHY})


def _set_cookie(cookie: str, *, is_secure: bool) -> str:
    # Lax and not Strict: a link from Slack would otherwise open the console signed out.
    return f"{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"
