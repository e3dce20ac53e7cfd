"""How many wrong tokens one peer may try, so that a short token cannot be guessed."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

MOST_GUESSES: Final = 10
"""How many different wrong tokens a peer may try in a period."""

PERIOD_S: Final = 60.0
_MOST_PEERS: Final = 4_096
_NETWORK_BITS: Final = 64
"""A peer with IPv6 owns at least a network of this prefix, and so any number of addresses in it.

Source: https://www.rfc-editor.org/rfc/rfc6177
"""


@dataclass(slots=True)
class _Tried:
    until: float
    hashes: set[str] = field(default_factory=set)


class Guesses:
    """The wrong tokens that each peer has tried in its present period; `monotonic` returns seconds.

    A wrong token that a peer sends again is no new guess: a program with a revoked token is no guesser. The memory is
    bounded: of more than 4,096 peers, those whose period began first are forgotten. Any thread may call it.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._peers: OrderedDict[str, _Tried] = OrderedDict()
        self._lock = Lock()

    def wait_s(self, peer: str) -> float:
        """For how many seconds the peer must wait; 0 if it may try."""
        now = self._monotonic()
        tried = self._peers.get(_key(peer))
        if tried is None or len(tried.hashes) < MOST_GUESSES:
            return 0.0
        return max(tried.until - now, 0.0)

    def note(self, peer: str, token_hash: str) -> None:
        """Note a wrong token of the peer, by its hash."""
        now, key = self._monotonic(), _key(peer)
        with self._lock:
            tried = self._peers.get(key)
            if tried is None or now >= tried.until:
                self._peers.pop(key, None)
                tried = self._peers[key] = _Tried(until=now + PERIOD_S)
            if len(tried.hashes) < MOST_GUESSES:
                tried.hashes.add(token_hash)
            while len(self._peers) > _MOST_PEERS:
                self._peers.popitem(last=False)


def _key(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer[:100]  # such as the name of a test client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
    return peer
