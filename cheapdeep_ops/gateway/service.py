"""Wiring of router, API and HTTP server of the gateway."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette

from cheapdeep_ops.access.known_tokens import LOOK_EVERY_S, KnownTokens
from cheapdeep_ops.claude.caller_clients import make_gateway_client, own_credentials
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.gateway.app import make_app
from cheapdeep_ops.gateway.callers import Callers, GatewayKeys
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.messages import MessagesEndpoint
from cheapdeep_ops.gateway.stored_calls import StoredCalls
from cheapdeep_ops.gateway.upstream import Upstream
from cheapdeep_ops.listening import listen, own_signals
from cheapdeep_ops.router.forwarding import ForwardingRouter
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.telemetry.handler import Telemetry

_log: Final = logging.getLogger(__name__)
_KEEP_ALIVE_S: Final = 75
_UNFINISHED: Final = "ASGI callable returned without completing response."


class _Server(uvicorn.Server):
    """uvicorn's server, which calls `on_signal` when it is to end."""

    def __init__(self, config: uvicorn.Config, *, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        self._on_signal()
        super().handle_exit(sig, frame)


class Gateway:
    """The gateway of one process, to the API at `base_url`, or where `ANTHROPIC_BASE_URL` says."""

    def __init__(self, settings: Settings, *, base_url: str | None = None, telemetry: Telemetry | None = None) -> None:
        self._settings = settings
        self._client = make_gateway_client(base_url)
        self._router = ForwardingRouter(settings=settings, client=self._client, telemetry=telemetry)
        self._keys = _keys(settings.gateway_keys_file)
        # Behind a guard there is no way to store calls yet.
        has_store = settings.record and not settings.is_store_remote
        self._stored = StoredCalls(settings.store_url, every_s=settings.flush_every_s) if has_store else None
        self._is_open = False

    def app(self) -> Starlette:
        """The application, which closes the router at its end."""
        upstream = Upstream(self._router.http_client, str(self._client.base_url))
        calls, callers = RecentCalls(self._stored), Callers(self._router, self._keys)
        within_s = self._settings.gateway_status_within_s
        return make_app(
            messages=MessagesEndpoint(callers, upstream, calls, models=self._settings.tiers, status_within_s=within_s),
            upstream=upstream,
            callers=callers,
            calls=calls,
            lifespan=self._lifespan,
            missing=lambda: "" if self._is_open else "the gateway is starting or ending",
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._is_open = True
        if self._stored is not None:
            self._stored.start()
        following = asyncio.create_task(self._follow_budgets())
        try:
            yield
        finally:
            self._is_open = False
            following.cancel()
            await asyncio.sleep(0)  # so that calls that were just broken off are recorded
            await self._router.aclose()
            await self._client.close()
            if self._stored is not None:
                await asyncio.to_thread(self._stored.stop)

    async def _follow_budgets(self) -> None:
        """Keep the budgets of keys as the file of keys says."""
        while self._keys is not None:
            self._router.spending.limit_keys(self._keys.budgets)
            await asyncio.sleep(LOOK_EVERY_S)

    def server(self, *, on_signal: Callable[[], None] = lambda: None) -> uvicorn.Server:
        """The HTTP server, which calls `on_signal` when it is to end."""
        settings = self._settings
        config = uvicorn.Config(
            self.app(),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=max(round(settings.gateway_stop_within_s), 1),
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            proxy_headers=False,
            ws="none",
            server_header=False,
            date_header=False,
        )
        return _Server(config, on_signal=on_signal)

    def serve(self, *, on_signal: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; then responses that have begun come to their end, and no new ones begin.

        Calls `on_signal` at the signal. Raises SettingsError if the port is taken.
        """
        settings = self._settings
        # A response that breaks off like that of the API is no fault of the gateway.
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _UNFINISHED)
        listener = listen(settings.gateway_host, settings.gateway_port, setting="CHEAPDEEP_GATEWAY_PORT")
        with own_signals(), listener:
            host, port = listener.getsockname()[:2]
            scheme = "https" if settings.tls_cert else "http"
            _log.info("calls go to %s; %s://%s:%s", self._client.base_url.host, scheme, host, port)
            server = self.server(on_signal=on_signal)
            # What is there now lives as long as the process. To look through it now and then would delay calls.
            gc.collect()
            gc.freeze()
            server.run(sockets=[listener])


def _keys(path: Path | None) -> GatewayKeys | None:
    """The keys in the file. Raises SettingsError if it is wrong, or if there is no key to call the API with."""
    if path is None:
        return None
    credentials = own_credentials()
    if not credentials:
        raise SettingsError(
            "CHEAPDEEP_GATEWAY_KEYS_FILE needs ANTHROPIC_API_KEY, the key with which the gateway calls the API"
        )
    headers = [(name.lower().encode(), value.encode()) for name, value in credentials.items()]
    return GatewayKeys(KnownTokens(path=path), headers)
