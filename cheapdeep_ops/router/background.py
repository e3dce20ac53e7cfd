"""What goes on in the background of a call: shadow triage, or a withheld answer that is read to its end."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.flow import CascadeResult
from cheapdeep_ops.router.calls import CallRecord

_log: Final = logging.getLogger(__name__)
_LONGEST_WRITE_S: Final = 2.0


class BackgroundTask:
    """A background task of a call; the call is recorded when both have ended.

    After a fork it belongs to the process that runs it: in the other one it does nothing.
    """

    def __init__(self, record: Callable[[CascadeResult], CallRecord]) -> None:
        self.record = record
        """From the result of the caller's own call to what is recorded, when the task has ended."""
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_over = False
        self._waiting: list[Callable[[], None]] = []
        self._are_done = threading.Event()

    def over(self) -> None:
        """The task has ended, or is given up. Only the first report counts.

        A later report returns when the thread of the first one has written the record, or after 2 seconds.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            is_first, self._is_over = not self._is_over, True
            waiting, self._waiting = self._waiting, []
        if not is_first:
            self._are_done.wait(_LONGEST_WRITE_S)
            return
        for act in waiting:
            try:
                act()
            except Exception:  # noqa: BLE001 - this may run in the middle of another call, which must not fail
                _log.exception("a call with a background task could not be recorded")
        self._are_done.set()

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` when the task has ended: now, if it has."""
        with self._lock:
            if not self._is_over:
                self._waiting.append(act)
                return
        act()
