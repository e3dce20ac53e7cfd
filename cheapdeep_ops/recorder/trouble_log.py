"""Logs the recorder's failures: each one once when it begins, and once when it is over."""

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


@dataclass(slots=True)
class _Trouble:
    """A failure that lasts; `began` is on the monotonic clock; `level` is the logged level, 0 if not logged yet."""

    began: float
    level: int = logging.NOTSET


class TroubleLog:
    """The failures that last, by topic; its methods never raise.

    A locked store is logged at INFO after PATIENCE_S seconds. Every other failure is logged at WARNING at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ongoing: dict[str, _Trouble] = {}

    def failed(self, topic: str, error: Exception, message: str, *values: object) -> None:
        """Report that `topic` failed with `error`; `message` and `values` are the log line."""
        trouble = self._ongoing.setdefault(topic, _Trouble(self._clock()))
        is_busy = isinstance(error, StoreBusyError)
        # A lock costs nothing but time: the counters are written later.
        level = logging.INFO if is_busy else logging.WARNING
        if trouble.level >= level or (is_busy and self._lasted(trouble) < PATIENCE_S):
            return
        trouble.level = level
        _write(level, message, *values)

    def warn(self, topic: str, message: str, *values: object) -> None:
        """Log at WARNING, once for each topic until `reset`."""
        if topic not in self._ongoing:
            self._ongoing[topic] = _Trouble(self._clock(), logging.WARNING)
            _write(logging.WARNING, message, *values)

    def ended(self, topic: str) -> None:
        """Report that `topic` succeeds; if its failure was logged, log that it is over and how long it lasted."""
        trouble = self._ongoing.pop(topic, None)
        if trouble is not None and trouble.level:
            _write(trouble.level, "%s works again after %.1f s", topic, self._lasted(trouble))

    def reset(self, topic: str) -> None:
        """Allow the next warning of this topic to be logged."""
        self._ongoing.pop(topic, None)

    def _lasted(self, trouble: _Trouble) -> float:
        return self._clock() - trouble.began


def loggable(error: Exception) -> object:
    """An error of the store as it is; of any other error only the type."""
    # A driver's message may quote the value that it rejects.
    return error if isinstance(error, StoreError) else type(error).__name__


def _write(level: int, message: str, *values: object) -> None:
    with suppress(Exception):  # a failing handler or filter of the application must not end the thread
        _log.log(level, message, *values)
