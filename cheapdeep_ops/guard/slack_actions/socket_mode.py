"""Takes clicks by Socket Mode: the guard connects to Slack, so that it needs no public address.

Slack gives a click to any one connection of the app, so to any guard, and never again. It goes on counting connections
that are long dead, and gives them clicks too; so the number of connections is watched.

Sources: https://docs.slack.dev/apis/events-api/using-socket-mode and
https://github.com/slackapi/python-slack-sdk/issues/1940
"""

import errno
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from cheapdeep_ops.guard.notify.slack_history import code_of
from cheapdeep_ops.guard.slack_actions.connection import BoundedClient
from cheapdeep_ops.guard.slack_actions.handler import ClickHandler

_log: Final = logging.getLogger(__name__)
_SILENT: Final = logging.Logger("slack_sdk.socket_mode", level=logging.CRITICAL + 1)  # noqa: LOG001 - as in notify.slack
"""A logger without parent and handler for slack_sdk, which logs messages and addresses with tickets."""

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 60.0
_FRESH_S: Final = 10.0
"""For so long after it began, a connection is not replaced while it works: Slack may have meant the one before."""


class SocketConnection:
    """One Socket Mode connection, which is made again whenever it ends."""

    def __init__(self, *, app_token: str, base_url: str, handler: ClickHandler, guards: Callable[[], int]) -> None:
        """`guards` returns how many guards run, each of which has one connection."""
        self._app_token = app_token
        self._base_url = base_url
        self._handler = handler
        self._guards = guards
        self._last_failure = ""
        self._connections = 0
        """How many connections Slack has counted when the last one began; 0 once that was looked at."""
        self._is_full = False
        """Whether Slack has refused the last connection, because the app has too many."""
        self._connected_at = float("-inf")
        self._is_asked = False
        """Whether Slack has asked for another connection."""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slack-socket-mode", daemon=True)

    def start(self) -> None:
        """Connect in a thread, and try again until that succeeds."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin to disconnect."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it is disconnected, for `timeout_s` seconds at most."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s, was_connected, client = _FIRST_WAIT_S, False, self._client()
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                is_due = not client.is_connected() or self._is_to_be_replaced()
                why = self._connect(client) if is_due else ""
                is_connected = client.is_connected()
                if is_connected != was_connected:
                    _log.log(*(_THERE if is_connected else _GONE))
                elif not is_connected and why != self._last_failure:
                    _log.warning("%s, so clicks are not heard: %s", why, _OTHER_WAYS)
                self._last_failure, was_connected = why, is_connected
                self._check_connections()
                is_well = is_connected and not self._is_full
                wait_s = _FIRST_WAIT_S if is_well else min(2 * wait_s, _LONGEST_WAIT_S)
                # Looked at again, because a stop may have come just before `clear`.
                if not self._stopping.is_set():
                    self._wake.wait(wait_s)
        finally:
            client.end()

    def _is_to_be_replaced(self) -> bool:
        return self._is_asked and time.monotonic() - self._connected_at >= _FRESH_S

    def _client(self) -> BoundedClient:
        client = BoundedClient(
            app_token=self._app_token,
            logger=_SILENT,
            web_client=WebClient(base_url=self._base_url, retry_handlers=[], logger=_SILENT),
            on_message=self._note,
            on_error=self._note_failure,
            on_disconnect=self._ask,
        )
        client.socket_mode_request_listeners.append(self._answer)
        return client

    def _ask(self) -> None:
        """Have the connection replaced."""
        self._is_asked = True
        # A fresh one is looked at again after the usual wait, so that many requests are one.
        if self._is_to_be_replaced():
            self._wake.set()

    def _connect(self, client: BoundedClient) -> str:
        """Connect; returns why that failed, for certain failures only."""
        self._is_asked, self._connected_at = False, time.monotonic()
        try:
            client.renew()
        except SlackApiError as error:
            return f"Slack refuses Socket Mode ({code_of(error)})"
        except Exception as error:  # noqa: BLE001 - an answer of any form must not end the attempts
            return f"Socket Mode is out of reach ({type(error).__name__})"
        # A handshake that fails raises no error.
        return "" if client.is_connected() else "Slack does not open the Socket Mode connection"

    def _answer(self, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        """Acknowledge an interaction, and then do the rest of the work."""
        if request.type != "interactive":
            client.send_socket_mode_response(SocketModeResponse(request.envelope_id))
            return
        reply = self._handler.receive(request.payload)
        # Without a body there is no payload: Slack closes the form.
        client.send_socket_mode_response(SocketModeResponse(request.envelope_id, dict(reply.body) or None))
        reply.then()

    def _note(self, text: str) -> None:
        """Watch what Slack says of the connection itself."""
        # Most messages are clicks, which need no second look here.
        if '"hello"' not in text and '"disconnect"' not in text:
            return
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        # An error here would end slack_sdk's connection.
        if not isinstance(message, dict):
            return
        if message.get("type") == "hello":
            # Looked at by the other thread, because this one must be free for clicks.
            self._is_full = False
            counted = message.get("num_connections")
            self._connections = counted if isinstance(counted, int) else 0
        elif message.get("type") == "disconnect" and message.get("reason") == "too_many_websockets":
            if not self._is_full:
                _log.warning("Slack counts more than ten connections of this app (too_many_websockets): %s", _LOST)
            self._is_full = True
        elif message.get("type") == "disconnect" and message.get("reason") == "link_disabled":
            _log.error("Socket Mode is switched off in the app's settings (link_disabled): %s", _OTHER_WAYS)

    def _note_failure(self, error: Exception) -> None:
        """Say that a message was too large; other failures end the connection, which is said anyway."""
        if isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
            _log.warning("Slack has sent a message that is too large for a click: the connection is made again")

    def _check_connections(self) -> None:
        """Say once for each connection if Slack counts more of them than there are."""
        connections, self._connections = self._connections, 0
        if not connections:
            return
        try:
            guards = max(self._guards(), 1)
        except Exception as error:  # noqa: BLE001 - a store that is down must not end the connection
            _log.info("how many guards run is not known: %s", error)
            return
        # Slack may still count a connection that was replaced just now.
        if connections > guards + 1:
            _log.warning("Slack counts %s connections of this app, but guards run: %s; %s", connections, guards, _LOST)


_LOST: Final = (
    "it gives clicks to all of them by turns, and a click that goes to a dead one is lost. Slack then shows an error "
    "beside the button: click again, or use the command line or the console"
)
_OTHER_WAYS: Final = "use the command line or the console, and see cheapdeep-ops doctor"
_GONE: Final = (logging.WARNING, "the Socket Mode connection has ended, so clicks are not heard until it is back")
_THERE: Final = (logging.INFO, "Socket Mode is connected: buttons work")
