"""One call of a caller: its request as it came, and what its headers say of it."""

from collections.abc import Iterable
from typing import Final

import httpx2
from pydantic_core import from_json, to_json

from cheapdeep_ops.gateway.exchange import HttpExchange
from cheapdeep_ops.gateway.headers import CallOptions
from cheapdeep_ops.gateway.upstream import Upstream
from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.forwarding import Outline, outline_of, send_deep
from cheapdeep_ops.values import BypassCause, Decision

_MOST_MODELS: Final = 1_000


class KnownModels:
    """The models that the API has answered with, so that their names are known to be right."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {model_name(name).name for name in names}

    def __contains__(self, name: str) -> bool:
        return model_name(name).name in self._names

    def add(self, name: str) -> None:
        """The API has answered with this model."""
        # A server that answers to any name must not fill the memory.
        if len(self._names) < _MOST_MODELS:
            self._names.add(model_name(name).name)


class ForwardedCall:
    """A `Forward` for the router. `model` is the model that the body names."""

    def __init__(
        self,
        upstream: Upstream,
        exchange: HttpExchange,
        body: bytes,
        *,
        options: CallOptions,
        models: KnownModels,
        model: str,
    ) -> None:
        self._upstream, self._exchange, self._body = upstream, exchange, body
        self._models, self._model = models, model
        self.options = options
        self._call: Call | None = None

    @property
    def outline(self) -> Outline | None:
        """What is known of the call; None before it has begun."""
        return None if self._call is None else outline_of(self._call)

    def begun(self, call: Call) -> None:
        """The router has begun the call."""
        self._call = call
        call.may_be_graded = self.options.may_be_graded
        if self.options.is_off:
            send_deep(call, BypassCause.DEEP_REQUESTED)
        # The API refuses a name that it does not have. A triage tier would answer in its place, now and then.
        elif self._model not in self._models:
            send_deep(call, BypassCause.UNKNOWN_MODEL)

    async def send(self, *, streamed: bool = False) -> httpx2.Response:
        """The API's response to the request as it came, or with `streamed` to one for a stream."""
        body = to_json({**from_json(self._body), "stream": True}) if streamed else self._body
        response = await self._upstream.send(self._upstream.message_request(self._exchange, body))
        if response.is_success:
            self._models.add(self._model)
        return response


def outline_of_decision(decision: Decision) -> Outline:
    """What is known of a call that has ended."""
    return Outline(
        call_id=decision.call_id,
        threshold=decision.threshold,
        tier=decision.tier,
        confidence=decision.confidence,
        reason=decision.reason,
        cost_usd=decision.cost_usd,
    )
