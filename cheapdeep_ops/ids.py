"""Random ids without a system call, which takes long in a container."""

import os
from random import Random
from typing import Final

# A generator of its own: a service may seed that of the `random` module, and its processes would draw equal ids.
_random: Final = Random()  # noqa: S311 - an id is no secret

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def random_id() -> str:
    """32 hexadecimal digits (128 random bits), unique among all calls and processes."""
    return f"{_random.getrandbits(128):032x}"
