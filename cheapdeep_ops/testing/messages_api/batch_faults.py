"""The faults that a test can order for reads of batches."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from cheapdeep_ops.testing.messages_api.replies import Reply

BatchRead = Literal["batch", "results"]
"""What is read: the batch's object, or the file of its results."""

Fault = Reply | Callable[[bytes], bytes]
"""A reply that replaces the right one, or a function that changes the body of the file of results."""


class BatchFaults:
    """The queues of faults, one for each kind of read; threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[BatchRead, deque[Fault]] = {"batch": deque(), "results": deque()}

    def enqueue(self, read: BatchRead, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` reads fail. Raises ValueError if `times` is below 1."""
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        with self._lock:
            self._queues[read].extend([fault] * times)

    def take(self, read: BatchRead) -> Fault | None:
        """Remove and return the fault of this read; None if it succeeds."""
        with self._lock:
            return self._queues[read].popleft() if self._queues[read] else None

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            for queue in self._queues.values():
                queue.clear()
