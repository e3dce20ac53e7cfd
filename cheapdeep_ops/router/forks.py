"""Own connections after a fork: two processes that read from one socket would get each other's answers."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

_T = TypeVar("_T")
_renewals: Final[WeakKeyDictionary[Any, Callable[[Any], object]]] = WeakKeyDictionary()
_inherited: Final[list[object]] = []
"""The parent's clients in a child. They are kept, because closing them would end the parent's connections."""


def renew_after_fork(owner: _T, renew: Callable[[_T], object]) -> None:
    """Call `renew(owner)` in every child; it replaces what the parent uses, and returns that."""
    _renewals[owner] = renew


def _in_child() -> None:
    _inherited.extend(renew(owner) for owner, renew in list(_renewals.items()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
