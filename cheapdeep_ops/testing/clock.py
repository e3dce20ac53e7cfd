"""A clock that only a test moves."""

import threading


class FrozenClock:
    """A clock that stands still until a test moves it forward.

    A call returns seconds since the epoch, as `time.time()` does. Threads may share it.
    """

    def __init__(self, now_s: float = 1_767_225_600.0) -> None:
        """Start at `now_s`, in seconds since the epoch (by default 2026-01-01 00:00 UTC)."""
        self._lock = threading.Lock()
        self._now_s = float(now_s)

    def __call__(self) -> float:
        """Return the current time in seconds."""
        with self._lock:
            return self._now_s

    def advance(self, seconds: float) -> float:
        """Move forward by `seconds` and return the new time. Raises ValueError if `seconds` is negative."""
        with self._lock:
            return self._move(self._now_s + seconds)

    def set(self, now_s: float) -> float:
        """Move to `now_s` and return it. Raises ValueError if that is in the past."""
        with self._lock:
            return self._move(float(now_s))

    def _move(self, now_s: float) -> float:
        # "not >=" rather than "<", so that NaN is refused too.
        if not now_s >= self._now_s:
            raise ValueError(f"time does not go backwards: {now_s!r} is before {self._now_s!r}")
        self._now_s = now_s
        return now_s
