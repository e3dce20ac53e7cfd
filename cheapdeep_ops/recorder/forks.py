"""What all recorders of a process do when it forks, and when it ends."""

import atexit
import os
import weakref
from collections.abc import Callable
from typing import Final, Protocol


class Forking(Protocol):
    """A recorder, as this module uses it."""

    def before_fork(self) -> None:
        """Come to rest."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Start over."""

    def end(self) -> None:
        """Begin to close."""

    def close(self) -> None:
        """Close."""


_orphans: Final[list[object]] = []
_recorders: Final["weakref.WeakSet[Forking]"] = weakref.WeakSet()


def note_recorder(recorder: Forking) -> None:
    """Have a recorder told of forks, and closed at the end of the process."""
    _recorders.add(recorder)


def forget_recorder(recorder: Forking) -> None:
    """Undo `note_recorder`."""
    _recorders.discard(recorder)


def keep_alive(inherited: object) -> None:
    """Keep the parent's store alive in a forked child: closing its connections would harm the parent."""
    _orphans.append(inherited)


def _for_all(act: Callable[[Forking], object]) -> Callable[[], None]:
    def run() -> None:
        for recorder in list(_recorders):
            act(recorder)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(lambda each: each.before_fork()),
        after_in_parent=_for_all(lambda each: each.after_fork_in_parent()),
        after_in_child=_for_all(lambda each: each.after_fork_in_child()),
    )
# The last one that is registered runs first: all begin to close before one is waited for.
atexit.register(_for_all(lambda each: each.close()))
atexit.register(_for_all(lambda each: each.end()))
