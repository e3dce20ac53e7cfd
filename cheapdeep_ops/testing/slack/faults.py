"""The faults that a test can order from the simulated Slack."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

OutageState = Literal["up", "unavailable", "closing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one call: an error code, or an answer that does not arrive."""

    error: str = ""
    """Slack's error code."""
    retry_after_s: float | None = None
    """The Retry-After of a rate limit."""
    method: str | None = None
    """The method whose next call fails; None: the next call of any."""
    effect: Literal["none", "now", "late"] = "none"
    """Whether the call takes effect all the same: at once, or only when the test says so."""
    status: int | None = None
    """The HTTP status of a call that took effect; None: the connection closes without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A call that waits in the server until `release`."""

    method: str
    moment: Literal["before", "after"]
    """Whether it waits before or after the call takes effect."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when the call waits."""
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the call go on."""
        self._released.set()

    async def wait(self) -> None:
        """Wait for `release`, in the server."""
        self.reached.set()
        await asyncio.get_running_loop().run_in_executor(None, self._released.wait)


class Faults:
    """The current outage, the queue of faults for single calls, and the calls that are held or late."""

    def __init__(self) -> None:
        self.state: OutageState = "up"
        self._lock = threading.Lock()
        self._queue: deque[Fault] = deque()
        self._holds: list[Hold] = []
        self._taken: list[Hold] = []
        self._late: list[Callable[[], object]] = []

    def enqueue(self, fault: Fault, *, times: int) -> None:
        """Let the next `times` calls fail. Raises ValueError if `times` is below 1."""
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        with self._lock:
            self._queue.extend([fault] * times)

    def take(self, method: str | None) -> Fault | None:
        """Remove and return the fault of this call; None if it succeeds."""
        with self._lock:
            found = next((each for each in self._queue if each.method in {None, method}), None)
            if found is not None:
                self._queue.remove(found)
            return found

    def hold(self, hold: Hold) -> None:
        """Let the next call of its method wait."""
        with self._lock:
            self._holds.append(hold)

    def take_hold(self, method: str | None) -> Hold | None:
        """Remove and return the hold of this call; None if it does not wait."""
        with self._lock:
            found = next((each for each in self._holds if each.method == method), None)
            if found is not None:
                self._holds.remove(found)
                self._taken.append(found)
            return found

    def put_off(self, effect: Callable[[], object]) -> None:
        """Keep the effect of a call until `apply_late`."""
        with self._lock:
            self._late.append(effect)

    def apply_late(self) -> int:
        """Have all calls that were put off take effect; returns how many."""
        with self._lock:
            late, self._late = self._late, []
        for effect in late:
            effect()
        return len(late)

    def release(self) -> None:
        """Release every call that waits."""
        with self._lock:
            held, self._taken = self._taken, []
        for each in held:
            each.release()

    @contextmanager
    def outage(self, state: OutageState) -> Iterator[None]:
        """Set `state` inside the block."""
        before, self.state = self.state, state
        try:
            yield
        finally:
            self.state = before

    def clear(self) -> None:
        """Remove queued faults and late calls, release held calls, and end any outage."""
        with self._lock:
            self._queue.clear()
            self._holds.clear()
            self._late.clear()
        self.release()
        self.state = "up"
