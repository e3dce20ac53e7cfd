"""Sees in the size and time of a SQLite file's log whether anybody has written, at a third of a read's cost."""

import os
from typing import Final

_SETTLES_S: Final = 0.5
"""How long after a change the file counts as changing.

A commit is visible a moment after it is written to the log, and two writes may bear one time.
"""


class LogWatch:
    """Watches the write-ahead log of the file at `path`, which is open in this process. Close it before the file."""

    def __init__(self, path: str) -> None:
        self._found: tuple[int, int] | None = None
        self._settled_at = float("-inf")  # on the monotonic clock
        self._log: int | None = None
        # Elsewhere, the time of an open file may be written late.
        if os.name == "posix":
            try:
                # The lock of SQLite's is on other files, so closing this one releases none.
                self._log = os.open(f"{path}-wal", os.O_RDONLY)
            except OSError:  # no log, as on a file system that cannot share memory
                self._log = None

    def is_unchanged(self, now: float) -> bool:
        """Whether nothing was written for a while, at `now` on the monotonic clock; False if that cannot be seen."""
        if self._log is None:
            return False
        about = os.fstat(self._log)
        found = about.st_size, about.st_mtime_ns
        if found != self._found:
            self._found, self._settled_at = found, now + _SETTLES_S
        return now >= self._settled_at

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None
