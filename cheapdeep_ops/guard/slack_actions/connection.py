"""slack_sdk's Socket Mode client with bounds: on the size of what it reads, and on how often it connects.

The client itself reads each message by a recursion that copies all that came before: a message of 2 MB takes 500 MB. It
answers each request to disconnect with a new connection at once, also if that was meant for an older one.

Source: slack_sdk/socket_mode/builtin of slack_sdk 3.47
"""

import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from slack_sdk import WebClient
from slack_sdk.socket_mode.builtin import SocketModeClient
from slack_sdk.socket_mode.builtin.connection import Connection, ConnectionState

_LARGEST_FRAME: Final = 1_000_000
"""In bytes. A click holds its message, which has 50 blocks of 3,000 characters at most."""

_BUFFER: Final = 65_536
_CONCURRENCY: Final = 4
_NEW_LINE: Final = 10
_SHORT: Final = 127
_LENGTHS: Final = {126: 2, 127: 8}
"""How many bytes of a length follow these short ones. Source: https://www.rfc-editor.org/rfc/rfc6455#section-5.2"""

_MASKED: Final = 128


class BoundedSocket:
    """A websocket's socket that fails before a frame is too large, and if a frame stops in the middle."""

    def __init__(self, sock: Any, *, largest: int = _LARGEST_FRAME) -> None:
        self._sock = sock
        self._largest = largest
        self._head = b""
        """The beginning of a frame whose length is not known yet."""
        self._left = 0
        """How many bytes of the present frame are still to come."""

    def recv(self, size: int) -> bytes:
        """Read at most `size` bytes. Raises OSError if a frame is too large or has stopped."""
        try:
            data: bytes = self._sock.recv(size)
        except TimeoutError:
            if self._left or self._head:
                # slack_sdk would forget the first part, and take the second one for frames.
                raise ConnectionError("a frame has stopped in the middle") from None
            raise
        self._follow(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _follow(self, data: bytes) -> None:
        at = 0
        while True:
            skipped = min(self._left, len(data) - at)
            self._left -= skipped
            at += skipped
            if at == len(data):
                return
            # The last line of the handshake leaves its end behind.
            if self._head or data[at] != _NEW_LINE:
                self._head += data[at : at + 1]
            at += 1
            length = _length_of(self._head)
            if length is not None:
                self._left, self._head = length, b""
            if self._left > self._largest:
                raise OSError(errno.EMSGSIZE, f"a frame has more than {self._largest} bytes")


def _length_of(head: bytes) -> int | None:
    """The length of the frame that begins with `head`; None if that is not long enough."""
    if len(head) < 2:  # noqa: PLR2004 - the shortest head
        return None
    short = head[1] & _SHORT
    end = 2 + _LENGTHS.get(short, 0)
    if len(head) < end:
        return None
    mask = 4 if head[1] & _MASKED else 0
    return mask + (int.from_bytes(head[2:end]) if short in _LENGTHS else short)


class _Session(Connection):
    """One connection, whose messages are bounded."""

    def connect(self) -> None:
        """Connect; without success there is no socket."""
        super().connect()
        if self.sock is not None:
            self.sock = BoundedSocket(self.sock)  # type: ignore[assignment]  # it has what slack_sdk calls

    def end(self) -> None:
        """Disconnect at once: otherwise that waits for a read, for three seconds at most."""
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # slack_sdk's other thread may disconnect meanwhile.
        with suppress(AttributeError):
            self.close()


class BoundedClient(SocketModeClient):
    """Connects when its owner calls `renew`, and tells by `on_disconnect` that Slack asks for another connection."""

    def __init__(
        self,
        *,
        app_token: str,
        web_client: WebClient,
        logger: logging.Logger,
        on_message: Callable[[str], None],
        on_error: Callable[[Exception], None],
        on_disconnect: Callable[[], None],
    ) -> None:
        self._on_disconnect = on_disconnect
        super().__init__(
            app_token,
            logger=logger,
            web_client=web_client,
            concurrency=_CONCURRENCY,
            receive_buffer_size=_BUFFER,
            auto_reconnect_enabled=False,
            on_message_listeners=[on_message],
            on_error_listeners=[on_error],
        )

    def connect_to_new_endpoint(self, force: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - slack_sdk's form
        """Tell the owner; slack_sdk calls it when Slack asks for another connection."""
        self._on_disconnect()

    def renew(self) -> None:
        """Connect, and then end the connection before. Raises what slack_sdk raises; check `is_connected` too."""
        # Each address can be used once. slack_sdk's own method would sleep for as long as Slack says.
        self.wss_uri = str(self.web_client.apps_connections_open(app_token=self.app_token)["url"])
        with self.connect_operation_lock:
            self.connect()

    def connect(self) -> None:
        """Connect, as slack_sdk does, with a bounded connection that is read before the former one has ended."""
        session = _Session(
            url=str(self.wss_uri),
            logger=self.logger,
            ping_interval=self.ping_interval,
            receive_buffer_size=self.receive_buffer_size,
            proxy=self.proxy,
            proxy_headers=self.proxy_headers,
            on_message_listener=self._on_message,
            on_error_listener=self._on_error,
            on_close_listener=self._on_close,
            ssl_context=self.web_client.ssl,
        )
        session.connect()
        former, state = self.current_session, self.current_session_state
        if not session.is_active() and self.is_connected():
            return
        self.current_session = session
        self.current_session_state = ConnectionState()  # type: ignore[no-untyped-call]  # slack_sdk's
        state.terminated = True
        if isinstance(former, _Session):
            former.end()
        if not self.current_app_monitor_started:
            self.current_app_monitor_started = True
            self.current_app_monitor.start()

    def end(self) -> None:
        """Disconnect, and end all threads."""
        if isinstance(self.current_session, _Session):
            self.current_session_state.terminated = True
            self.current_session.end()
        self.close()
