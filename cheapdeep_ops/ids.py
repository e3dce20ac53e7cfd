"""Random ids, without a system call for each: in a container that takes longer than all else that makes an id."""

import os
from random import Random
from typing import Final

# Not the generator of the `random` module: a service may seed that, and all its processes would draw one series of ids.
_random: Final = Random()  # noqa: S311 - an id is no secret

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def random_id() -> str:
    """32 hexadecimal digits (128 random bits) that no other call of this function gives, in any process."""
    return f"{_random.getrandbits(128):032x}"
