"""Choosing calls by a hash of their id: repeatable, free of coordination, and nested (1% lies inside 5%)."""

from hashlib import blake2b
from typing import Final

_STEPS: Final = 2**64
_KEPT_PER_SAMPLE: Final = 30
"""How many answers are kept for each one that is graded: what lets a guard grade more of the past when it must."""


def position(call_id: str, salt: str = "") -> float:
    """Where a call lies in [0, 1): uniform over ids, the same in every process; another `salt` draws anew.

    A share `p` of calls is those below `p`, so that a smaller share is a part of every larger one.
    """
    digest = blake2b(f"{salt}\0{call_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / _STEPS


def kept_share(sample_rate: float) -> float:
    """The share of answers that a router keeps for a guard that grades `sample_rate` of them."""
    return min(1.0, _KEPT_PER_SAMPLE * sample_rate)
