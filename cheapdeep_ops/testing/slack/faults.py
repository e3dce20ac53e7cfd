"""The faults that a test can order from the simulated Slack."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

OutageState = Literal["up", "unavailable", "closing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One failing response: Slack's error code, and the Retry-After in seconds of a rate limit."""

    error: str
    retry_after_s: float | None = None


class Faults:
    """The current outage, and the queue of faults for single calls."""

    def __init__(self) -> None:
        self.state: OutageState = "up"
        self._lock = threading.Lock()
        self._queue: deque[Fault] = deque()

    def enqueue(self, fault: Fault, *, times: int) -> None:
        """Let the next `times` calls fail. Raises ValueError if `times` is below 1."""
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        with self._lock:
            self._queue.extend([fault] * times)

    def take(self) -> Fault | None:
        """Remove and return the fault of this call; None if it succeeds."""
        with self._lock:
            return self._queue.popleft() if self._queue else None

    @contextmanager
    def outage(self, state: OutageState) -> Iterator[None]:
        """Set `state` inside the block."""
        before, self.state = self.state, state
        try:
            yield
        finally:
            self.state = before

    def clear(self) -> None:
        """Remove queued faults, and end any outage."""
        with self._lock:
            self._queue.clear()
        self.state = "up"
