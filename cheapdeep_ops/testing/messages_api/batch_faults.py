"""The faults that a test can order for the creation and the reads of batches."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from cheapdeep_ops.testing.messages_api.replies import Reply

BatchRead = Literal["create", "batch", "results"]
"""What is answered: the creation, which takes place all the same, a read of the batch, or of its results."""

Fault = Reply | Callable[[bytes], bytes]
"""A reply that replaces the right one, or a function that changes the body of the file of results."""


class BatchFaults:
    """The queues of faults, one for each kind of answer; threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[BatchRead, deque[Fault]] = {"create": deque(), "batch": deque(), "results": deque()}

    def enqueue(self, read: BatchRead, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` answers fail. Raises ValueError if `times` is below 1."""
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        with self._lock:
            self._queues[read].extend([fault] * times)

    def take(self, read: BatchRead) -> Fault | None:
        """Remove and return the fault of this answer; None if it succeeds."""
        with self._lock:
            return self._queues[read].popleft() if self._queues[read] else None

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            for queue in self._queues.values():
                queue.clear()
