"""The store's time: one time for all hosts, by which calls are counted and rules evaluated.

- On PostgreSQL it is the server's clock. Each process reads it often, and carries it on in between by a clock that
  never steps. So the clocks of other hosts may differ and step as they like.
- On SQLite all processes share one host, and the store's time is that host's clock. A step of it is noticed, because
  the clock that never steps disagrees, and is not followed while any process goes on: a process that starts later
  takes over the difference from the heartbeats. Corrections of a few seconds are followed.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

SKEW_S: Final = 30.0
"""A host's clock that differs from the store's time by more is reported."""

SKEW_WARNING: Final = (
    "the clock of this host, %s, is %.0f s ahead of the store's time (negative: behind): calls are counted and rules "
    "evaluated at the store's time"
)

_FOLLOWED_S: Final = 5.0
"""On SQLite, a smaller step of the host's clock is followed: such corrections are normal."""

_UNCERTAIN_S: Final = 0.25
"""A reading of the server's clock moves the store's time only if it differs by more than this and its round trip."""

_LONGEST_TRIP_S: Final = 2.0
"""A reading that took longer is not used, unless it is the first."""

_NOTICED_S: Final = 0.5
"""Clocks that differ by less count as equal, so that jitter moves no call to another second."""

_ALIVE_S: Final = 60.0


class StoreTime(NamedTuple):
    """What the store says about time: `now` is the server's clock, in Unix seconds; None on SQLite.

    `seen_at` is the newest heartbeat of a running process in the store's time, None without one. The host's clock was
    `ahead_s` seconds ahead of the store's time then.
    """

    now: float | None = None
    seen_at: float | None = None
    ahead_s: float | None = None


def steady() -> float:
    """Seconds by a clock that never steps, and also runs while the machine sleeps."""
    # Python's monotonic clock stops during sleep on Linux and macOS.
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def corrected(second: float, offset_s: float) -> float:
    """A time of this host in the store's time, which differs by `offset_s`; by less than half a second, it stays."""
    return second + offset_s if abs(offset_s) >= _NOTICED_S else second


class StoreClock:
    """The store's time in this process; call it for the Unix time in seconds. `note` takes what the store says.

    `wall` is the host's clock, `steady` a clock that never steps. A `wall` clock of a test or a replay that comes
    without a `steady` one is the store's time itself.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, *, steady_clock: Callable[[], float] | None = None
    ) -> None:
        self._wall = wall
        self._is_given = steady_clock is None and wall is not time.time
        self.steady: Callable[[], float] = steady_clock or (wall if self._is_given else steady)
        self._offset_s = wall() - self.steady()
        self._is_told = False
        self._is_joined = False

    def __call__(self) -> float:
        """The store's time, in Unix seconds."""
        if self._is_given:
            return self._wall()
        now = self.steady() + self._offset_s
        if self._is_told:
            return now
        step_s = self._wall() - now
        if abs(step_s) < _FOLLOWED_S:
            self._offset_s += step_s
        return self.steady() + self._offset_s

    @property
    def ahead_s(self) -> float:
        """How far this host's clock is ahead of the store's time, in seconds."""
        return self._wall() - self()

    @property
    def follows_server(self) -> bool:
        """Whether the store's time is a server's, which is to be read again and again."""
        return self._is_told

    def note(self, told: StoreTime, *, asked_at: float) -> None:
        """Note what the store says; `asked_at` is `steady()` just before it was asked."""
        if self._is_given:
            return
        if told.now is not None:
            self._set(told.now, asked_at)
        elif not self._is_joined:
            self._join(told)

    def _set(self, now: float, asked_at: float) -> None:
        answered_at = self.steady()
        trip_s = answered_at - asked_at
        offset_s = now - (asked_at + answered_at) / 2
        is_usable = trip_s <= _LONGEST_TRIP_S and abs(offset_s - self._offset_s) > _UNCERTAIN_S + trip_s / 2
        if is_usable or not self._is_told:
            self._offset_s = offset_s
        self._is_told = True

    def _join(self, told: StoreTime) -> None:
        """Take over the store's time from the processes that run, if this host's clock has stepped since they began."""
        self._is_joined = True
        if told.seen_at is None or told.ahead_s is None or abs(told.ahead_s) < _FOLLOWED_S:
            return
        now = self._wall() - told.ahead_s
        if abs(now - told.seen_at) <= _ALIVE_S:
            self._offset_s = now - self.steady()
