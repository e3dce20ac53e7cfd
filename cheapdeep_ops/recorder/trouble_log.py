"""What the recorder says in the log of its troubles: each once when it begins, and once when it is over."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.errors import StoreBusyError, StoreError

_log: Final = logging.getLogger(__name__)
PATIENCE_S: Final = 5.0
"""How long a lock of the store may last before it is said; on a busy machine a second or two are normal."""


@dataclass(slots=True)
class _Trouble:
    """A trouble that goes on; `began` is on the monotonic clock, `level` is where it was said, 0 before that."""

    began: float
    level: int = logging.NOTSET


class TroubleLog:
    """The troubles that go on now, by topic; none of its methods raises.

    A locked store is said at INFO, once that has lasted PATIENCE_S seconds: what waits is written later, and nothing is
    lost. All else is said at WARNING at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._going_on: dict[str, _Trouble] = {}

    def failed(self, topic: str, error: Exception, message: str, *values: object) -> None:
        """Note that `topic` failed with `error`; the message says what that means."""
        trouble = self._going_on.setdefault(topic, _Trouble(self._clock()))
        is_busy = isinstance(error, StoreBusyError)
        level = logging.INFO if is_busy else logging.WARNING
        if trouble.level >= level or (is_busy and self._lasted(trouble) < PATIENCE_S):
            return
        trouble.level = level
        _say(level, message, *values)

    def warn(self, topic: str, message: str, *values: object) -> None:
        """Say at WARNING what is lost or amiss, once until `forget`."""
        if topic not in self._going_on:
            self._going_on[topic] = _Trouble(self._clock(), logging.WARNING)
            _say(logging.WARNING, message, *values)

    def ended(self, topic: str) -> None:
        """Note that `topic` succeeds; where its trouble was said, say that it is over and how long it lasted."""
        trouble = self._going_on.pop(topic, None)
        if trouble is not None and trouble.level:
            _say(trouble.level, "%s works again after %.1f s", topic, self._lasted(trouble))

    def forget(self, topic: str) -> None:
        """Have a warning said again when it comes again."""
        self._going_on.pop(topic, None)

    def _lasted(self, trouble: _Trouble) -> float:
        return self._clock() - trouble.began


def shown(error: Exception) -> object:
    """An error of the store, for the log; of any other, the type alone: its text may show the value."""
    return error if isinstance(error, StoreError) else type(error).__name__


def _say(level: int, message: str, *values: object) -> None:
    with suppress(Exception):  # a handler or filter of the application's that fails must not end the thread
        _log.log(level, message, *values)
