"""Logs outages of the store: each kind once, rare reminders, and the end; not every attempt of every job."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.formatting import duration

_log: Final = logging.getLogger(__name__)
_MOST_KINDS: Final = 4
_REMIND_AFTER_S: Final = (60.0, 600.0, 3_600.0, 86_400.0)
"""How long an outage has lasted when it is logged again. With the kinds and the end, it has at most ten lines."""


class OutageLog:
    """The outage of the store that goes on, if there is one, for all jobs of this process. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._began: float | None = None
        self._kinds: list[str] = []
        self._reminders = 0
        self._attempts = 0

    def failed(self, error: StoreError) -> None:
        """Note that a job failed with `error`."""
        with self._lock:
            now = self._monotonic()
            if self._began is None:
                self._began, self._kinds, self._reminders, self._attempts = now, [], 0, 0
            self._attempts += 1
            # "the store URL does not answer: details": the details may differ at each attempt.
            kind = str(error).partition(": ")[0]
            if kind not in self._kinds:
                self._kinds.append(kind)
                if len(self._kinds) <= _MOST_KINDS:
                    _log.error("%s; rules, messages and grading wait for it", error)
                return
            lasted_s = now - self._began
            due = sum(lasted_s >= after_s for after_s in _REMIND_AFTER_S)
            if due > self._reminders:
                self._reminders = due
                _log.error("%s, for %s now (%d attempts)", kind, duration(lasted_s), self._attempts)

    def worked(self) -> None:
        """Note that the store was read and written; if an outage went on, it is over."""
        with self._lock:
            if self._began is None:
                return
            lasted_s, self._began = self._monotonic() - self._began, None
            _log.warning("the store works again after %s (%d attempts failed)", duration(lasted_s), self._attempts)
