"""A circuit breaker for a tier that keeps failing: stop asking it, try again now and then.

The states are those of the pattern (Nygard, Release It!, 2nd edition 2018, chapter 5): closed while all is well, open
while the tier is left alone, half open while one call tries it.
"""

import threading


class Breaker:
    """Leaves a tier alone after `failures` in a row, for `pause_s` seconds, twice as long after each failed try.

    Time is an argument: any clock that does not go back. What is told of a call that began before the tier was left
    alone changes nothing any more. Safe to share between threads. With 0 failures it never opens.
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
        """Whether the tier is left alone, tries aside."""
        return self._try_at is not None

    def may_ask(self, now: float) -> bool:
        """Whether to ask the tier; where it is open and a try is due, this call is the try, and no other one is."""
        if not self.is_open:
            return True
        with self._lock:
            try_at = self._try_at
            if try_at is not None and now < try_at:
                return False
            if try_at is not None:
                # Whoever tries may never tell how it went: then the end of the next pause has another try.
                self._try_at = now + self._pause_s
            return True

    def succeeded(self, begun_at: float) -> None:
        """The tier has answered a call."""
        if not self._failed and not self.is_open:
            return
        with self._lock:
            if self._tells(begun_at):
                self._failed, self._try_at, self._pause_s = 0, None, self._first_pause_s

    def failed(self, begun_at: float, now: float) -> None:
        """The tier has failed a call."""
        with self._lock:
            if not self._limit or not self._tells(begun_at):
                return
            self._failed += 1
            if self.is_open:
                self._pause_s = min(self._pause_s * 2, self._longest_pause_s)
            elif self._failed >= self._limit:
                self._opened_at = now
            else:
                return
            self._try_at = now + self._pause_s

    def _tells(self, begun_at: float) -> bool:
        """Whether a call says something of the tier as it is now."""
        return not self.is_open or begun_at > self._opened_at
