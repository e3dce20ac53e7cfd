"""`POST /v1/messages`: the router triages the request, and what it does not triage is forwarded as it came."""

import asyncio
import logging
from collections.abc import Collection
from functools import partial
from typing import Any, Final

import httpx2
from starlette.types import Receive, Scope, Send

from cheapdeep_ops.budgets import charged_to
from cheapdeep_ops.claude.forwarded import response_of
from cheapdeep_ops.claude.wire_requests import params_of
from cheapdeep_ops.errors import BudgetError
from cheapdeep_ops.gateway.callers import Caller, Callers, Refused
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.exchange import CallerGoneError, HttpExchange, TooLargeError, error_body
from cheapdeep_ops.gateway.forwarded_call import ForwardedCall, KnownModels, outline_of_decision
from cheapdeep_ops.gateway.headers import call_options, from_triage, of_the_call, to_caller
from cheapdeep_ops.gateway.streamed import answer_streamed, given_up
from cheapdeep_ops.gateway.upstream import Upstream, refuse_unreachable
from cheapdeep_ops.router.error_decision import decision_of
from cheapdeep_ops.telemetry.remote_context import continued_trace

_log: Final = logging.getLogger(__name__)
_JSON: Final = (b"content-type", b"application/json")
_NO_RETRY: Final = (b"x-should-retry", b"false")
"""Clients of the SDK obey it. They would retry after a 429, and sleep as long as any `Retry-After` says."""

_READ: Final = frozenset({b"content-encoding", b"content-length"})
"""Headers that no longer hold for a body that was read whole."""


class MessagesEndpoint:
    """The endpoint, as an ASGI application. A stream has status and headers within `status_within_s` seconds.

    `models` are the names of models that the API is known to have.
    """

    def __init__(
        self,
        callers: Callers,
        upstream: Upstream,
        calls: RecentCalls,
        *,
        models: Collection[str],
        status_within_s: float,
    ) -> None:
        self._callers, self._upstream, self._calls = callers, upstream, calls
        self._models = KnownModels(models)
        self._status_within_s = status_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = HttpExchange(scope, receive, send)
        caller = self._callers.of(exchange.headers)
        if isinstance(caller, Refused):  # before a large body fills the memory
            await exchange.refuse(*caller)
            return
        try:
            body = await exchange.body()
        except TooLargeError:
            await exchange.refuse(413, "request_too_large", "Request exceeds the maximum size")
            return
        except CallerGoneError:
            return
        async with exchange.ends_with_caller():
            with continued_trace(exchange.headers):
                await self._answer(exchange, caller, body)

    async def _answer(self, exchange: HttpExchange, caller: Caller | None, body: bytes) -> None:
        params = params_of(body)
        if caller is not None:
            exchange.headers = caller.headers
        if params is None and caller is not None and caller.token is not None:
            # What cannot be read cannot be counted in a budget either, so it is not sent with the inner key.
            await exchange.refuse(400, "invalid_request_error", "The body is no JSON object with the name of a model.")
            return
        # The API explains best what is wrong with a request.
        if caller is None or params is None:
            await self._upstream.pass_on(exchange, self._upstream.message_request(exchange, body))
            return
        options = caller.permitted(call_options(exchange.headers))
        if isinstance(options, Refused):
            await exchange.refuse(*options)
            return
        if options.conversation:
            params["conversation"] = f"{caller.fingerprint} {options.conversation}"
        call = ForwardedCall(
            self._upstream, exchange, body, options=options, models=self._models, model=params["model"]
        )
        try:
            with charged_to(caller.name):
                await self._answer_call(exchange, params, call, caller)
        except asyncio.CancelledError:
            if exchange.is_cancelled:
                raise
            await self._respond_error(exchange, given_up(), fingerprint=caller.fingerprint)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a response
            await self._respond_error(exchange, error, fingerprint=caller.fingerprint)

    async def _answer_call(
        self, exchange: HttpExchange, params: dict[str, Any], call: ForwardedCall, caller: Caller
    ) -> None:
        router, options = self._callers.router_for(caller), call.options
        remember = partial(self._calls.put, caller.fingerprint)
        if params.get("stream"):
            opening = router.answer_streamed(params, call, route=options.route, input_class=options.input_class)
            await answer_streamed(exchange, opening, call, status_within_s=self._status_within_s, on_end=remember)
            return
        answered = await router.answer_whole(params, call, route=options.route, input_class=options.input_class)
        remember(answered.decision)
        own, headers = of_the_call(outline_of_decision(answered.decision)), answered.headers.raw
        passed = [_JSON, *from_triage(headers)] if answered.is_triage else to_caller(headers, without=_READ)
        await exchange.respond(answered.status, [*passed, *own], answered.body)

    async def _respond_error(self, exchange: HttpExchange, error: Exception, *, fingerprint: str) -> None:
        """Give the API's own error to the caller, or say that the API did not answer."""
        decision, response = decision_of(error), response_of(error)
        if decision is not None:
            self._calls.put(fingerprint, decision)
        if exchange.has_begun:
            _log.error("a response broke off", exc_info=error)
            return
        own = [] if decision is None else of_the_call(outline_of_decision(decision))
        if response is not None:
            headers = to_caller(response.headers.raw, without=_READ)
            await exchange.respond(response.status_code, [*headers, *own], response.content)
        elif isinstance(error, BudgetError):
            await exchange.respond_json(402, error_body("billing_error", str(error)), [_NO_RETRY, *own])
        elif isinstance(error, httpx2.HTTPError):
            await refuse_unreachable(exchange, error)
        else:
            _log.error("a call failed in the gateway", exc_info=error)
            await exchange.refuse(500, "api_error", "The gateway failed.")
