"""Samples calls by a hash of their id: repeatable, without coordination, and nested (1% lies inside 5%)."""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

_STEPS: Final = 2**64
_KEPT_PER_SAMPLE: Final = 30
"""The number of kept answers for each graded one, so that a guard can grade more past answers if it must."""


@lru_cache(maxsize=512)  # a router asks several times for each call
def position(call_id: str, salt: str = "") -> float:
    """The position of a call in [0, 1): uniform over ids, and equal in every process; another `salt` gives another one.

    A sample of share `p` has the calls with a position below `p`. So it is part of every larger sample.
    """
    # `surrogatepass`: an id that is not valid Unicode needs a position too.
    digest = blake2b(f"{salt}\0{call_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / _STEPS


def kept_share(sample_rate: float) -> float:
    """The share of answers that a router keeps (0 to 1), for a guard that grades `sample_rate` of them."""
    return min(1.0, _KEPT_PER_SAMPLE * sample_rate)
