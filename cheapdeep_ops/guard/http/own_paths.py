"""What the API answers on its own paths where FastAPI has no endpoint: HEAD, unknown paths and other methods."""

import re
from functools import cache
from typing import Final

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIX: Final = "/api/"
_PATHS: Final = frozenset({"/api", "/healthz", "/readyz", "/metrics", "/openapi.json"})
_NAMED: Final = re.compile(r"{\w+}")


def is_own(path: str) -> bool:
    """Whether a path belongs to the API, and not to the console."""
    return path in _PATHS or path.startswith(_PREFIX)


class HeadAsGet:
    """Answers HEAD as GET, without the body.

    Source: https://www.rfc-editor.org/rfc/rfc9110#name-head
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or not is_own(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


class Unanswered(BaseRoute):
    """The last route of the API: 405 for a method that a path does not have, 404 for a path that does not exist.

    Without it, the console would answer both with a page.
    """

    def __init__(self, api: FastAPI) -> None:
        self._api = api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """All paths of the API."""
        return (Match.FULL if scope["type"] == "http" and is_own(scope["path"]) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the refusal."""
        allowed = self._methods(scope["path"])
        if allowed:
            headers = {"Allow": ", ".join(sorted(allowed))}
            response = JSONResponse({"detail": "this path does not have this method"}, 405, headers)
        else:
            response = JSONResponse({"detail": "there is no such path"}, 404)
        await response(scope, receive, send)

    def _methods(self, path: str) -> set[str]:
        """The methods of a path; empty if there is no such path."""
        # From the document, because FastAPI's routes are nested in ways that differ between its versions.
        paths = {"/openapi.json": {"get": None}, **self._api.openapi()["paths"]}
        known = (methods for pattern, methods in paths.items() if _regex(pattern).fullmatch(path))
        found = {method.upper() for methods in known for method in methods}
        return found | {"HEAD"} if "GET" in found else found


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """The paths that a pattern of the document stands for."""
    return re.compile("[^/]+".join(map(re.escape, _NAMED.split(pattern))))
