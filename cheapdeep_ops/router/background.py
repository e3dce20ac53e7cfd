"""What goes on beside a caller's answer: a withheld answer read to its end, or triage tried in shadow mode."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.flow import CascadeResult
from cheapdeep_ops.router.planner import CallRecord

_log: Final = logging.getLogger(__name__)
_LONGEST_WRITE_S: Final = 2.0


class BackgroundTask:
    """Something that goes on beside a call and has a say in its record; whoever ends last does what waits for both.

    A fork's other half leaves it to the process in which it goes on.
    """

    def __init__(self, settle: Callable[[CascadeResult], CallRecord]) -> None:
        self.settle = settle
        """From the caller's own course to what is recorded, once it is over."""
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_over = False
        self._waiting: list[Callable[[], None]] = []
        self._are_done = threading.Event()

    def over(self) -> None:
        """It has ended, well or not, or nobody waits for it any longer; saying so again changes nothing.

        Whoever says so again may rely on the record: it waits while another thread is about to write it.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            is_news, self._is_over = not self._is_over, True
            waiting, self._waiting = self._waiting, []
        if not is_news:
            self._are_done.wait(_LONGEST_WRITE_S)
            return
        for act in waiting:
            try:
                act()
            except Exception:  # noqa: BLE001 - whoever says so is about something else, perhaps a call of its own
                _log.exception("a call beside which something went on could not be recorded")
        self._are_done.set()

    def then(self, act: Callable[[], None]) -> None:
        """Do `act` now if it is over, else when it is."""
        with self._lock:
            if not self._is_over:
                self._waiting.append(act)
                return
        act()
