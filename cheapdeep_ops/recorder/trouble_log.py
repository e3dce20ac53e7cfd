"""Logs the recorder's failures: each kind once when it begins, and once when it is over."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.errors import StoreBusyError, StoreError

_log: Final = logging.getLogger(__name__)
PATIENCE_S: Final = 5.0
"""How long the store may be locked before that is logged; on a busy machine, a second or two are normal."""

PEACE_S: Final = 60.0
"""How long nothing must fail until a failure belongs to another outage."""

MOST_LINES: Final = 8
"""How many lines one outage may log: a store that comes and goes must not fill a service's log."""


@dataclass(slots=True)
class _Trouble:
    """A failure that lasts; `began` is on the monotonic clock; `level` is the logged level, 0 if not logged yet."""

    began: float
    level: int = logging.NOTSET
    kind: str = ""


class TroubleLog:
    """The failures that last, by topic; its methods never raise.

    A locked store is logged at INFO after PATIENCE_S seconds. Every other failure is logged at WARNING at once, and
    again if its kind changes. Failures of several topics for one cause are logged once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ongoing: dict[str, _Trouble] = {}
        self._lines = 0
        self._failed_at = float("-inf")

    def failed(self, topic: str, error: Exception, message: str, *values: object) -> None:
        """Report that `topic` failed with `error`; `message` and `values` are the log line."""
        now = self._clock()
        if now - self._failed_at > PEACE_S:
            self._lines = 0
        self._failed_at = now
        trouble = self._ongoing.setdefault(topic, _Trouble(now))
        is_busy = isinstance(error, StoreBusyError)
        # A lock costs nothing but time: the counters are written later.
        level = logging.INFO if is_busy else logging.WARNING
        kind = _kind_of(error)
        is_known = any(each.level >= level and each.kind == kind for each in self._ongoing.values())
        if is_known or trouble.level > level or (is_busy and now - trouble.began < PATIENCE_S):
            return
        trouble.level, trouble.kind = level, kind
        self._write_bounded(level, message, *values)

    def warn(self, topic: str, message: str, *values: object) -> None:
        """Log at WARNING, once for each topic until `reset`."""
        if topic not in self._ongoing:
            self._ongoing[topic] = _Trouble(self._clock(), logging.WARNING)
            _write(logging.WARNING, message, *values)

    def ended(self, topic: str) -> None:
        """Report that `topic` succeeds; if its failure was logged, log that it is over and how long it lasted."""
        # Most often nothing has failed, and this is asked several times a second.
        trouble = self._ongoing.pop(topic, None) if self._ongoing else None
        if trouble is not None and trouble.level:
            self._write_bounded(trouble.level, "%s works again after %.1f s", topic, self._clock() - trouble.began)

    def reset(self, topic: str) -> None:
        """Allow the next warning of this topic to be logged."""
        self._ongoing.pop(topic, None)

    def _write_bounded(self, level: int, message: str, *values: object) -> None:
        self._lines += 1
        if self._lines <= MOST_LINES:
            _write(level, message, *values)
        if self._lines == MOST_LINES:
            _write(level, "no more of this is logged until nothing has failed for %.0f s", PEACE_S)


def loggable(error: Exception) -> object:
    """An error of the store as it is; of any other error only the type."""
    # A driver's message may quote the value that it rejects.
    return error if isinstance(error, StoreError) else type(error).__name__


def _kind_of(error: Exception) -> str:
    """What is the matter, without the driver's own words: they may name a port or a process."""
    return str(error).partition(": ")[0] if isinstance(error, StoreError) else type(error).__name__


def _write(level: int, message: str, *values: object) -> None:
    with suppress(Exception):  # a failing handler or filter of the application must not end the thread
        _log.log(level, message, *values)
