"""The endpoints of the Message Batches API."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery
from cheapdeep_ops.testing.messages_api.batch_faults import BatchFaults, BatchRead
from cheapdeep_ops.testing.messages_api.batches import Answer, Batch, Batches, page, result_lines
from cheapdeep_ops.testing.messages_api.endpoints import KeyFault, Record
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest, json_object
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.testing.messages_api.validation import batch_fault

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 1_000
_PATH: Final = "/v1/messages/batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchApi:
    """The endpoints for batches; the server passes in how requests are answered and responses sent."""

    batches: Batches
    faults: BatchFaults
    delay_s: float
    """Seconds of `clock` until a batch ends."""
    clock: Callable[[], float]
    new_id: Callable[[], str]
    record: Record
    key_fault: KeyFault
    answer: Answer
    deliver: Callable[[Reply, ReceivedRequest], Delivery]

    def routes(self) -> list[Route]:
        """Return the routes of the five endpoints."""
        return [
            Route(_PATH, self._create, methods=["POST"]),
            Route(_PATH, self._list, methods=["GET"]),
            Route(f"{_PATH}/{{batch_id}}", self._retrieve, methods=["GET"]),
            Route(f"{_PATH}/{{batch_id}}/results", self._results, methods=["GET"]),
            Route(f"{_PATH}/{{batch_id}}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _create(self, request: Request) -> Delivery:
        raw = await request.body()
        body = json_object(raw)
        received = self.record(request, body, raw)
        version = request.headers.get("anthropic-version", "")
        fault = self.key_fault(request.headers) or batch_fault(body, version=version)
        if fault is not None:
            return self.deliver(fault, received)
        created = _shown(self._created(received), request)
        return self.deliver(self._faulty("create", lambda: created), received)

    async def _list(self, request: Request) -> Delivery:
        return self._respond(request, lambda: self._page(request))

    async def _retrieve(self, request: Request) -> Delivery:
        def shown() -> Reply:
            return self._with_batch(request, lambda batch: _shown(batch, request))

        return self._respond(request, lambda: self._faulty("batch", shown))

    async def _results(self, request: Request) -> Delivery:
        return self._respond(request, lambda: self._faulty("results", lambda: self._with_batch(request, _results_of)))

    async def _cancel(self, request: Request) -> Delivery:
        return self._respond(request, lambda: self._with_batch(request, lambda batch: self._canceled(batch, request)))

    def _respond(self, request: Request, reply: Callable[[], Reply]) -> Delivery:
        received = self.record(request, None, b"")
        fault = self.key_fault(request.headers)
        if fault is not None:
            return self.deliver(fault, received)
        # Batches end only when a request asks for them, so that a test's clock decides when.
        self.batches.settle(self.clock(), self.answer)
        return self.deliver(reply(), received)

    def _faulty(self, read: BatchRead, reply: Callable[[], Reply]) -> Reply:
        """The right reply, or what an ordered fault makes of it."""
        fault = self.faults.take(read)
        if fault is None:
            return reply()
        if isinstance(fault, Reply):
            return fault
        right = reply()
        return replace(right, payload=fault(right.payload))

    def _created(self, received: ReceivedRequest) -> Batch:
        batch = Batch(
            id=self.new_id(),
            created_at=received.at,
            delay_s=self.delay_s,
            headers=received.headers,
            requests=tuple(received.body["requests"]),
        )
        self.batches.add(batch)
        return batch

    def _with_batch(self, request: Request, reply: Callable[[Batch], Reply]) -> Reply:
        batch_id = request.path_params["batch_id"]
        batch = self.batches.get(batch_id)
        return Reply.error(404, message=f"Message Batch {batch_id} not found.") if batch is None else reply(batch)

    def _canceled(self, batch: Batch, request: Request) -> Reply:
        canceled = batch.canceled(self.clock())
        self.batches.put(canceled)
        return _shown(canceled, request)

    def _page(self, request: Request) -> Reply:
        query = request.query_params
        limit = _limit(query.get("limit", str(DEFAULT_PAGE)))
        if limit is None:
            return Reply.error(400, message=f"limit: Input should be a number from 1 to {MAX_PAGE}")
        batches, has_more = page(
            self.batches.newest_first(), limit=limit, after_id=query.get("after_id"), before_id=query.get("before_id")
        )
        data = [batch.as_json(str(request.base_url)) for batch in batches]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return Reply.body({"data": data, "has_more": has_more, **ends})


def _shown(batch: Batch, request: Request) -> Reply:
    waits = {} if batch.status == "ended" else {"retry-after": "10"}
    return Reply.body(batch.as_json(str(request.base_url)), headers=waits)


def _results_of(batch: Batch) -> Reply:
    if batch.status != "ended":
        return Reply.error(404, message=f"Message Batch {batch.id} has no available results.")
    return Reply.body(result_lines(batch), headers={"content-type": "application/x-jsonl"})


def _limit(text: str) -> int | None:
    # At most four digits, because Python refuses to parse numbers of thousands of digits.
    limit = int(text) if re.fullmatch("[0-9]{1,4}", text) else 0
    return limit if 1 <= limit <= MAX_PAGE else None
