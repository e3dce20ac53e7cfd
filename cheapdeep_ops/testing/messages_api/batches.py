"""Message batches: when they end, the results of their requests, and their JSON."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.received import json_object
from cheapdeep_ops.testing.messages_api.replies import FIRST_ERROR_STATUS, JsonObject, Reply
from cheapdeep_ops.units import DAY_S

EXPIRES_AFTER_S: Final = float(DAY_S)
RESULT_TYPES: Final = ("succeeded", "errored", "canceled", "expired")

Answer = Callable[[JsonObject, Mapping[str, str]], JsonObject]
"""A function that takes a request's params and its batch's headers, and returns the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch at one moment: it holds its requests until it has ended, and then its results."""

    id: str
    created_at: float
    delay_s: float
    """Seconds until its requests are done; from 24 hours on they expire."""
    headers: Mapping[str, str]
    """The headers of the request that created the batch."""
    requests: tuple[JsonObject, ...] = ()
    cancel_initiated_at: float | None = None
    ended_at: float | None = None
    results: tuple[JsonObject, ...] = ()
    """The lines of its results; a client must not rely on their order."""

    @property
    def status(self) -> Literal["in_progress", "canceling", "ended"]:
        """The API's `processing_status`."""
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"

    @property
    def ends_at(self) -> float:
        """When the batch ends, because its requests are done, have expired or were cancelled."""
        if self.cancel_initiated_at is not None:
            return self.cancel_initiated_at
        return self.created_at + min(self.delay_s, EXPIRES_AFTER_S)

    def settled(self, now: float, answer: Answer) -> "Batch":
        """Return the batch at time `now`; if it has ended by then, its requests are answered."""
        if self.ended_at is not None or now < self.ends_at:
            return self
        lines = [
            {"custom_id": request["custom_id"], "result": self._result(request, answer)} for request in self.requests
        ]
        # The real API guarantees no order, so the order here is never that of the requests.
        return replace(self, ended_at=self.ends_at, requests=(), results=tuple(reversed(lines)))

    def canceled(self, now: float) -> "Batch":
        """Return the batch with its cancellation begun at `now`; unchanged if it has ended or is being cancelled."""
        return replace(self, cancel_initiated_at=now) if self.status == "in_progress" else self

    def as_json(self, base_url: str) -> JsonObject:
        """Return the API's batch object; `base_url` is the server's URL with a slash at its end."""
        results_url = f"{base_url}v1/messages/batches/{self.id}/results"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": self._counts(),
            "ended_at": _timestamp(self.ended_at),
            "created_at": _timestamp(self.created_at),
            "expires_at": _timestamp(self.created_at + EXPIRES_AFTER_S),
            "archived_at": None,
            "cancel_initiated_at": _timestamp(self.cancel_initiated_at),
            "results_url": results_url if self.ended_at is not None else None,
        }

    def _result(self, request: JsonObject, answer: Answer) -> JsonObject:
        if self.cancel_initiated_at is not None:
            return {"type": "canceled"}
        if self.delay_s >= EXPIRES_AFTER_S:
            return {"type": "expired"}
        return answer(request["params"], self.headers)

    def _counts(self) -> dict[str, int]:
        tally = Counter(line["result"]["type"] for line in self.results)
        return {"processing": len(self.requests), **{name: tally[name] for name in RESULT_TYPES}}


class Batches:
    """The newest `limit` batches; threads may share them."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._batches: OrderedDict[str, Batch] = OrderedDict()

    def add(self, batch: Batch) -> None:
        """Add a batch; drops the oldest one if there are more than `limit`."""
        with self._lock:
            self._batches[batch.id] = batch
            if len(self._batches) > self._limit:
                self._batches.popitem(last=False)

    def settle(self, now: float, answer: Answer) -> None:
        """Answer the requests of all batches that have ended by `now`, oldest batch first."""
        # Answers may come from a test's own code, which may clear the batches: so the lock is not held.
        for batch in reversed(self.newest_first()):
            self.put(batch.settled(now, answer))

    def put(self, batch: Batch) -> None:
        """Replace a batch by its newer state, unless it was dropped in the meantime."""
        with self._lock:
            if batch.id in self._batches:
                self._batches[batch.id] = batch

    def get(self, batch_id: str) -> Batch | None:
        """Return a batch; None if it is unknown."""
        with self._lock:
            return self._batches.get(batch_id)

    def newest_first(self) -> list[Batch]:
        """Return a list of all batches, newest first."""
        with self._lock:
            return list(reversed(self._batches.values()))

    def clear(self) -> None:
        """Remove all batches."""
        with self._lock:
            self._batches.clear()


def page(
    batches: Sequence[Batch], *, limit: int, after_id: str | None = None, before_id: str | None = None
) -> tuple[Sequence[Batch], bool]:
    """Return up to `limit` batches next to a cursor, and whether there are more; none for an unknown cursor."""
    places = {batch.id: index for index, batch in enumerate(batches)}
    if before_id is not None:
        end = places.get(before_id, 0)
        return batches[max(0, end - limit) : end], end > limit
    start = 0 if after_id is None else places.get(after_id, len(batches)) + 1
    return batches[start : start + limit], start + limit < len(batches)


def result_lines(batch: Batch) -> bytes:
    """Return the results of a batch as JSON Lines."""
    return b"".join(wire.encoded(line) + b"\n" for line in batch.results)


def other_result(reply: Reply, *, request_id: str | None) -> JsonObject:
    """Return a line's result for a reply that is an error or a recorded body.

    A body that is no JSON object, such as an event stream, becomes an internal error.
    """
    if reply.kind == "error":
        return {"type": "errored", "error": wire.error_object(reply, request_id=request_id)}
    body = json_object(reply.payload)
    if body is None:
        return other_result(Reply.error(500), request_id=request_id)
    if reply.status >= FIRST_ERROR_STATUS:
        return {"type": "errored", "error": body}
    return {"type": "succeeded", "message": body}


def _timestamp(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
