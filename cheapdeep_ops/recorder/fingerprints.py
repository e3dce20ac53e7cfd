"""Tells whether two requests have equal turns, without their text.

A fingerprint is made of the text before redaction: two customers' questions are not made equal by it. A plain hash of a
short text could be guessed, so the store's secret key goes into what is stored.
"""

from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Final

from cheapdeep_ops.values import TextTurn

_BYTES: Final = 16


def digest_of(turns: Iterable[TextTurn]) -> bytes:
    """The hash of all turns of a request, with their roles. It is never stored, because its text can be guessed."""
    whole = sha256()
    for turn in turns:
        text = turn.text.encode("utf-8", "surrogatepass")
        # With their lengths, so that no text can look like two turns.
        whole.update(f"{turn.role} {len(text)} ".encode())
        whole.update(text)
    return whole.digest()


def fingerprint_of(digest: bytes, key: bytes) -> str:
    """The fingerprint of a request, 32 hexadecimal digits, from the hash of its turns and a secret key.

    Source: RFC 7693, whose keyed BLAKE2 is a MAC.
    """
    return blake2b(digest, key=key, digest_size=_BYTES).hexdigest()
