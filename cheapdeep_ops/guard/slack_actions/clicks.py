"""All ways in which clicks reach this guard, as its settings say."""

import logging
from collections.abc import Callable
from typing import Final

from slack_sdk import WebClient
from starlette.routing import Route

from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.reports.status import SEEN_S
from cheapdeep_ops.guard.slack_actions.endpoint import interactions_route
from cheapdeep_ops.guard.slack_actions.handler import ClickHandler
from cheapdeep_ops.guard.slack_actions.people import People
from cheapdeep_ops.guard.slack_actions.socket_mode import SocketConnection
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import processes
from cheapdeep_ops.store.engine import Store

_TIMEOUT_S: Final = 2
"""How long a call of Slack may take: a click opens its form within three seconds or not at all."""

_SILENT: Final = logging.Logger("slack_sdk.actions", level=logging.CRITICAL + 1)  # noqa: LOG001 - as in notify.slack


class Clicks:
    """Hears clicks by Socket Mode, over HTTPS, or both."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float]) -> None:
        """`settings` name a bot, and one of the two ways at least."""
        self._store = store
        self._clock = clock
        client = silent_client(settings)
        context = ActionContext(store=store, settings=settings, clock=clock)
        self._handler = ClickHandler(context, client=client, people=People(client, settings))
        self._socket: SocketConnection | None = None
        if settings.slack_app_token is not None:
            app_token = settings.slack_app_token.get_secret_value()
            self._socket = SocketConnection(
                app_token=app_token, base_url=settings.slack_base_url, handler=self._handler, guards=self._guards
            )
        self._signing_secret = settings.slack_signing_secret

    @property
    def routes(self) -> list[Route]:
        """The path for Slack's requests, if there is a secret to check them."""
        if self._signing_secret is None:
            return []
        secret = self._signing_secret.get_secret_value()
        return [interactions_route(self._handler, signing_secret=secret, clock=self._clock)]

    def start(self) -> None:
        """Begin to connect."""
        if self._socket:
            self._socket.start()

    def ask_to_stop(self) -> None:
        """Begin to disconnect."""
        if self._socket:
            self._socket.ask_to_stop()

    def stop(self, timeout_s: float) -> None:
        """Disconnect, and wait for orders under way, for `timeout_s` seconds at most."""
        self.ask_to_stop()
        if self._socket:
            self._socket.join(timeout_s)
        self._handler.close()

    def _guards(self) -> int:
        with self._store.reading() as connection:
            return len(processes.running_guards(connection, since=self._clock() - SEEN_S))


def silent_client(settings: Settings) -> WebClient:
    """A client for the bot's calls that neither logs nor retries."""
    token = settings.slack_bot_token.get_secret_value() if settings.slack_bot_token else ""
    base_url = settings.slack_base_url
    return WebClient(token=token, base_url=base_url, timeout=_TIMEOUT_S, retry_handlers=[], logger=_SILENT)
