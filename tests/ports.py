"""Ports for servers in processes of their own, which cannot say which port the system has given them."""

import os
import socket
from itertools import count

# Below the ports that the system gives away by itself (32768 and up on Linux): between the choice and the moment at
# which a slow process listens, no connection and no other server gets this one. Processes begin at different ones.
_FIRST, _NUMBER = 10_000, 20_000
_tried = count(os.getpid() * 1_009)


def free_port() -> int:
    """A port of loopback at which nothing listens, and which this process gives away once."""
    for number in _tried:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _FIRST + number % _NUMBER))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise AssertionError
