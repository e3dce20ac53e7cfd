"""A circuit breaker for a tier that keeps failing: calls skip the tier, and single calls probe it from time to time.

The states are those of the pattern (Nygard, Release It!, 2nd edition 2018, chapter 5): closed while the tier works,
open while calls skip it, half open while one call probes it.
"""

import threading


class Breaker:
    """Opens after `failures` failures in a row, for `pause_s` seconds; each failed probe doubles the pause.

    The pause grows up to `longest_pause_s`. Time is an argument, from any clock that never goes back. Thread-safe. With
    `failures` 0, it never opens.
    """

    def __init__(self, *, failures: int, pause_s: float, longest_pause_s: float) -> None:
        self._limit, self._first_pause_s, self._longest_pause_s = failures, pause_s, longest_pause_s
        self._lock = threading.Lock()
        self._failed = 0
        self._pause_s = pause_s
        self._try_at: float | None = None
        self._opened_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls skip the tier, except for a probe."""
        return self._try_at is not None

    def may_ask(self, now: float) -> bool:
        """Whether this call may use the tier; while open, only one call in each pause may: the probe."""
        if not self.is_open:
            return True
        with self._lock:
            try_at = self._try_at
            if try_at is not None and now < try_at:
                return False
            if try_at is not None:
                # A probe may never report its result. Then another one is due after this pause.
                self._try_at = now + self._pause_s
            return True

    def succeeded(self, begun_at: float) -> None:
        """Report that the tier answered the call that began at `begun_at`."""
        # Without the lock, because nearly every call ends here.
        if not self._failed and self._try_at is None:
            return
        with self._lock:
            if self._is_current(begun_at):
                self._failed, self._try_at, self._pause_s = 0, None, self._first_pause_s

    def failed(self, begun_at: float, now: float) -> None:
        """Report that the call that began at `begun_at` failed."""
        with self._lock:
            if not self._limit or not self._is_current(begun_at):
                return
            self._failed += 1
            if self.is_open:
                self._pause_s = min(self._pause_s * 2, self._longest_pause_s)
            elif self._failed >= self._limit:
                self._opened_at = now
            else:
                return
            self._try_at = now + self._pause_s

    def _is_current(self, begun_at: float) -> bool:
        """Whether a result is about the tier's present state: results of calls from before it opened are ignored."""
        return not self.is_open or begun_at > self._opened_at
