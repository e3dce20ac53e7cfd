"""How a server process listens, and what it does with the signals that end it."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cheapdeep_ops.errors import SettingsError


@contextmanager
def own_signals() -> Iterator[None]:
    """Inside the block, SIGTERM and SIGINT end the server but not the process."""
    # When its server has ended, uvicorn raises the signal again, before the process has stored what it counted.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """A socket that listens on `host` and `port`; 0 is any free port. Raises SettingsError, which names `setting`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, because asyncio sets TCP_NODELAY only then.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From now on connections wait instead of being refused, so the server may log its address.
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another port with {setting}"
        ) from None
    return listener
