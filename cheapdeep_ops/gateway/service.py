"""Wiring of router, API and HTTP server of the gateway."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from cheapdeep_ops.gateway.app import make_app
from cheapdeep_ops.gateway.callers import Callers
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.messages import Messages
from cheapdeep_ops.gateway.upstream import Upstream
from cheapdeep_ops.router.forwarding import ForwardingRouter
from cheapdeep_ops.router.provider import make_gateway_client
from cheapdeep_ops.settings import Settings

_log: Final = logging.getLogger(__name__)
_KEEP_ALIVE_S: Final = 75


class Gateway:
    """The gateway of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = make_gateway_client()
        self._router = ForwardingRouter(settings=settings, client=self._client)
        self._is_ready = False

    def app(self) -> Starlette:
        """The application, which closes the router at its end."""
        upstream = Upstream(self._router.http_client, str(self._client.base_url))
        calls, callers = RecentCalls(), Callers(self._router, secrets.token_bytes(32))
        within_s = self._settings.gateway_status_within_s
        return make_app(
            messages=Messages(callers, upstream, calls, status_within_s=within_s),
            upstream=upstream,
            callers=callers,
            calls=calls,
            lifespan=self._lifespan,
            missing=lambda: "" if self._is_ready else "the gateway is starting or ending",
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._is_ready = True
        try:
            yield
        finally:
            self._is_ready = False
            await self._router.aclose()
            await self._client.close()

    def serve(self, host: str, port: int) -> None:
        """Serve until SIGTERM or SIGINT."""
        config = uvicorn.Config(
            self.app(),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            server_header=False,
            date_header=False,
        )
        uvicorn.Server(config).run()
