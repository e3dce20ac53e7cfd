"""The replies that a test has scripted, and the record of which simulated answers are correct."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.messages_api.replies import Reply

Answerer = Callable[[ReceivedRequest], Reply | None]
"""A function that replies to a request; if it returns None, the simulation replies."""


class Script:
    """Scripted replies: queued ones first, then standing ones; those for one model before those for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[tuple[str | None, Reply]] = deque()
        self._standing: dict[str | None, Reply | Answerer] = {}

    def enqueue(self, replies: tuple[Reply, ...], model: str | None) -> None:
        """Add replies that are used once each, by `model` or, if that is None, by any model."""
        with self._lock:
            self._queue.extend((model, reply) for reply in replies)

    def set_standing(self, reply: Reply | Answerer | None, model: str | None) -> None:
        """Set the standing reply of `model`, or of all models; a reply of None removes it."""
        with self._lock:
            if reply is not None:
                self._standing[model] = reply
            elif model is not None:
                self._standing.pop(model, None)
            else:
                self._standing.clear()

    def clear(self) -> None:
        """Remove all replies."""
        with self._lock:
            self._queue.clear()
            self._standing.clear()

    def queued(self) -> int:
        """Return the number of queued replies."""
        with self._lock:
            return len(self._queue)

    def reply_to(self, request: ReceivedRequest) -> Reply | None:
        """Return the reply to this request and remove it from the queue; None if none is scripted."""
        with self._lock:
            queued = self._take(request.model)
            standing = (self._standing.get(request.model), self._standing.get(None))
        if queued is not None:
            return queued
        # Answerers are a test's own code, which may enqueue replies: so the lock is not held.
        answers = (one(request) if callable(one) else one for one in standing if one is not None)
        return next((reply for reply in answers if reply is not None), None)

    def _take(self, model: str) -> Reply | None:
        for index, (wanted, reply) in enumerate(self._queue):
            if wanted is None or wanted == model:
                del self._queue[index]
                return reply
        return None


class GroundTruth:
    """Which simulated answers are correct; it holds the newest `limit`."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._correct: OrderedDict[str, bool] = OrderedDict()

    def record(self, answer: str, *, correct: bool) -> None:
        """Record whether an answer is correct."""
        with self._lock:
            self._correct[answer] = correct
            self._correct.move_to_end(answer)
            if len(self._correct) > self._limit:
                self._correct.popitem(last=False)

    def is_correct(self, answer: str) -> bool | None:
        """Whether an answer is correct; None if it is unknown."""
        with self._lock:
            return self._correct.get(answer)
