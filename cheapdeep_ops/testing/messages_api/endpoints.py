"""The endpoints for messages and for the catalogue of models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery
from cheapdeep_ops.testing.messages_api.models import Catalogue, model_info
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest, input_tokens, json_object
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.testing.messages_api.validation import message_fault

Record = Callable[[Request, dict[str, Any] | None, bytes], ReceivedRequest]
Deliver = Callable[[Reply, ReceivedRequest], Delivery]
KeyFault = Callable[[Mapping[str, str]], Reply | None]
"""The 401 for a request's headers, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageApi:
    """The endpoints that create a message and that count its tokens."""

    catalogue: Catalogue
    record: Record
    reply_to: Callable[[ReceivedRequest], Reply]
    deliver: Deliver
    key_fault: KeyFault
    latency_s: Callable[[], float]
    """Seconds of real time that each message takes; read for each request, so that a test can change it."""

    def routes(self) -> list[Route]:
        """Return the routes of the two endpoints."""
        return [
            Route("/v1/messages", self._create, methods=["POST"]),
            Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
        ]

    async def _create(self, request: Request) -> Delivery:
        raw = await request.body()
        body = json_object(raw)
        received = self.record(request, body, raw)
        fault = self._fault(request, body)
        if fault is not None:
            return self.deliver(fault, received)
        reply = self.reply_to(received)
        return self.deliver(replace(reply, delay_s=reply.delay_s + self.latency_s()), received)

    async def _count_tokens(self, request: Request) -> Delivery:
        raw = await request.body()
        body = json_object(raw)
        received = self.record(request, body, raw)
        fault = self._fault(request, body, counting=True)
        if fault is not None:
            return self.deliver(fault, received)
        ratio = self.catalogue.by_id[received.model].tokens_ratio
        return self.deliver(Reply.body({"input_tokens": round(input_tokens(received.body) * ratio)}), received)

    def _fault(self, request: Request, body: dict[str, object] | None, *, counting: bool = False) -> Reply | None:
        version = request.headers.get("anthropic-version", "")
        return self.key_fault(request.headers) or message_fault(
            body, models=self.catalogue.by_id, version=version, counting=counting
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelApi:
    """The endpoints that list the models and that describe one."""

    catalogue: Catalogue
    record: Record
    deliver: Deliver
    key_fault: KeyFault

    def routes(self) -> list[Route]:
        """Return the routes of the two endpoints."""
        return [
            Route("/v1/models", self._list, methods=["GET"]),
            Route("/v1/models/{model_id}", self._retrieve, methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Delivery:
        received = self.record(request, None, b"")
        query = request.query_params
        # By default the list leaves retired models out.
        stages = query.getlist("lifecycle[]") + query.getlist("lifecycle") or ["active", "deprecated"]
        return self.deliver(self.key_fault(request.headers) or Reply.body(self.catalogue.page(stages)), received)

    async def _retrieve(self, request: Request) -> Delivery:
        received = self.record(request, None, b"")
        model_id = request.path_params["model_id"]
        model = self.catalogue.by_id.get(model_id)
        reply = Reply.error(404, message=f"model: {model_id}") if model is None else Reply.body(model_info(model))
        return self.deliver(self.key_fault(request.headers) or reply, received)
