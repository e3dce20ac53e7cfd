"""What a test told the simulated API to say, and the API's own book of what was true."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.messages_api.replies import Reply

Answerer = Callable[[ReceivedRequest], Reply | None]
"""A function that answers a request, or returns None to leave it to the simulation."""


class Script:
    """Replies to come: queued ones first, then standing ones; those for a model before those for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[tuple[str | None, Reply]] = deque()
        self._standing: dict[str | None, Reply | Answerer] = {}

    def enqueue(self, replies: tuple[Reply, ...], model: str | None) -> None:
        """Add replies that are each taken once, by any model where `model` is None."""
        with self._lock:
            self._queue.extend((model, reply) for reply in replies)

    def stand(self, reply: Reply | Answerer | None, model: str | None) -> None:
        """Set the standing reply of a model, or of all; None takes away."""
        with self._lock:
            if reply is not None:
                self._standing[model] = reply
            elif model is not None:
                self._standing.pop(model, None)
            else:
                self._standing.clear()

    def clear(self) -> None:
        """Forget all replies."""
        with self._lock:
            self._queue.clear()
            self._standing.clear()

    def waiting(self) -> int:
        """Return how many queued replies are left."""
        with self._lock:
            return len(self._queue)

    def reply_to(self, request: ReceivedRequest) -> Reply | None:
        """Take the reply for this request; None leaves it to the simulation."""
        with self._lock:
            queued = self._take(request.model)
            standing = (self._standing.get(request.model), self._standing.get(None))
        if queued is not None:
            return queued
        # Answerers are the test's own code: called without the lock, so they may enqueue.
        answers = (one(request) if callable(one) else one for one in standing if one is not None)
        return next((reply for reply in answers if reply is not None), None)

    def _take(self, model: str) -> Reply | None:
        for index, (wanted, reply) in enumerate(self._queue):
            if wanted is None or wanted == model:
                del self._queue[index]
                return reply
        return None


class TruthBook:
    """Which answers were right; keeps the newest `limit`."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._correct: OrderedDict[str, bool] = OrderedDict()

    def enter(self, answer: str, *, correct: bool) -> None:
        """Note an answer that was given."""
        with self._lock:
            self._correct[answer] = correct
            self._correct.move_to_end(answer)
            if len(self._correct) > self._limit:
                self._correct.popitem(last=False)

    def read(self, answer: str) -> bool | None:
        """Tell whether an answer was right; None where it is not in the book."""
        with self._lock:
            return self._correct.get(answer)
