"""Turn replies into HTTP responses and into the results of batches."""

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

from cheapdeep_ops.testing._log import Log
from cheapdeep_ops.testing._server import Delivery, PacedStream, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.batches import other_result
from cheapdeep_ops.testing.messages_api.models import Catalogue
from cheapdeep_ops.testing.messages_api.prompt_cache import PromptCache
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.units import MINUTE_S

CACHE_LIMIT: Final = 10_000
TOKENS_A_REQUEST: Final = 500
"""The limits of tokens are this many for each request that a minute allows."""

_ORGANIZATION: Final = "00000000-0000-4000-8000-000000000000"
_EVENT_STREAM: Final = "text/event-stream; charset=utf-8"


class Responses:
    """Renders replies, with ids that depend on the seed and the order of requests alone."""

    def __init__(
        self, *, seed: int, catalogue: Catalogue, streams: Log[PacedStream], served: Callable[[], ServedApp]
    ) -> None:
        self.cache = PromptCache(CACHE_LIMIT)
        self._seed = seed
        self._catalogue = catalogue
        self._streams = streams
        self._served = served
        self._serial = itertools.count(1)

    def batch_id(self) -> str:
        """Return the id of a new batch."""
        return f"msgbatch_{self._identifier('batch', next(self._serial))}"

    def file_id(self) -> str:
        """Return the id of a new file."""
        return f"file_{self._identifier('file', next(self._serial))}"

    def deliver(self, reply: Reply, received: ReceivedRequest) -> Delivery:
        """Return the HTTP response with `reply`."""
        number = next(self._serial)
        request_id = f"req_{self._identifier('request', number)}"
        pieces, content_type = self._rendered(reply, received, request_id, number)
        known = {"content-type": content_type, "request-id": request_id, "anthropic-organization-id": _ORGANIZATION}
        headers = {**known, **self._limits(received), **reply.headers}
        return Delivery(
            served=self._served(),
            pieces=pieces,
            status=reply.status,
            headers=headers,
            streamed=content_type.startswith("text/event-stream"),
            delay_s=reply.delay_s,
            cut_after=reply.cut_after,
            stream=self._paced(reply, received) if content_type == _EVENT_STREAM else None,
        )

    def batch_result(self, reply: Reply, received: ReceivedRequest) -> Mapping[str, object]:
        """Return the result of a request in a batch."""
        number = next(self._serial)
        if reply.kind == "message":
            return {"type": "succeeded", "message": self._message(reply, received, number, service_tier="batch")}
        return other_result(reply, request_id=f"workerreq_{self._identifier('request', number)}")

    def _rendered(
        self, reply: Reply, received: ReceivedRequest, request_id: str, number: int
    ) -> tuple[tuple[bytes, ...], str]:
        if reply.kind == "error":
            return (wire.error_body(reply, request_id=request_id),), "application/json"
        if reply.kind == "verbatim":
            is_stream = reply.payload.startswith(b"event:")
            return (reply.payload,), _EVENT_STREAM if is_stream else "application/json"
        whole = self._message(reply, received, number)
        if received.body.get("stream") is True:
            return tuple(wire.event_stream(whole)), _EVENT_STREAM
        return (wire.encoded(whole),), "application/json"

    def _message(
        self, reply: Reply, received: ReceivedRequest, number: int, *, service_tier: wire.ServiceTier = "standard"
    ) -> Mapping[str, object]:
        model = self._catalogue.by_id[received.model]
        return wire.message(
            reply,
            message_id=f"msg_{self._identifier('message', number)}",
            model=model.reply_id,
            prompt=self.cache.use(received.body, model, now=received.at).times(model.tokens_ratio),
            tokens_ratio=model.tokens_ratio,
            service_tier=service_tier,
        )

    def _limits(self, received: ReceivedRequest) -> Mapping[str, str]:
        """The headers about rate limits, which each model has of its own; a call never meets a limit here."""
        model = self._catalogue.by_id.get(received.model)
        if model is None or received.path != "/v1/messages":
            return {}
        reset = datetime.fromtimestamp(received.at + MINUTE_S, UTC).isoformat(timespec="seconds")
        requests, tokens = model.requests_a_minute, model.requests_a_minute * TOKENS_A_REQUEST
        kinds = {"requests": requests, "tokens": 2 * tokens, "input-tokens": tokens, "output-tokens": tokens}
        return {
            f"anthropic-ratelimit-{kind}-{name}": str(value)
            for kind, limit in kinds.items()
            for name, value in (("limit", limit), ("remaining", limit - 1), ("reset", reset.replace("+00:00", "Z")))
        }

    def _paced(self, reply: Reply, received: ReceivedRequest) -> PacedStream | None:
        if reply.pace_s is None:
            return None
        stream = PacedStream(model=received.model, pace_s=reply.pace_s, at_once=reply.at_once)
        self._streams.append(stream)
        return stream

    def _identifier(self, kind: str, number: int) -> str:
        return "01" + blake2b(f"{self._seed}\0{kind}\0{number}".encode(), digest_size=11).hexdigest()
