"""`POST /v1/messages`: the router triages the request, and what it does not triage is forwarded as it came."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import httpx2
from pydantic_core import from_json
from starlette.types import Receive, Scope, Send

from cheapdeep_ops.claude.wire_requests import params_of
from cheapdeep_ops.gateway.callers import Caller, Callers
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.events import PING, STREAM_HEADERS, error_event, part_bytes
from cheapdeep_ops.gateway.exchange import CallerGoneError, Exchange, TooLargeError, error_body
from cheapdeep_ops.gateway.headers import CallOptions, call_options, from_triage, of_the_call, to_caller
from cheapdeep_ops.gateway.upstream import Upstream, refuse_unreachable
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.error_decision import decision_of
from cheapdeep_ops.router.forwarding import Outline, outline_of, send_deep
from cheapdeep_ops.router.provider import StreamedError, is_status_error
from cheapdeep_ops.router.streams import AsyncRoutedStream
from cheapdeep_ops.telemetry.remote_context import continued_trace
from cheapdeep_ops.values import BypassCause, Decision

_JSON: Final = (b"content-type", b"application/json")
_READ: Final = frozenset({b"content-encoding", b"content-length"})
"""Headers that no longer hold for a body that was read whole."""


class Messages:
    """The endpoint, as an ASGI application. A stream has status and headers within `status_within_s` seconds."""

    def __init__(self, callers: Callers, upstream: Upstream, calls: RecentCalls, *, status_within_s: float) -> None:
        self._callers, self._upstream, self._calls = callers, upstream, calls
        self._status_within_s = status_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        try:
            body = await exchange.body()
        except TooLargeError:
            too_large = error_body("request_too_large", "Request exceeds the maximum size")
            await exchange.respond_json(413, too_large)
            return
        except CallerGoneError:
            return
        async with exchange.ends_with_caller():
            with continued_trace(exchange.headers):
                await self._answer(exchange, body)

    async def _answer(self, exchange: Exchange, body: bytes) -> None:
        caller, params = self._callers.of(exchange.headers), params_of(body)
        # The API explains best what is wrong with it.
        if caller is None or params is None:
            await self._upstream.pass_on(exchange, self._upstream.message_request(exchange, body))
            return
        options = call_options(exchange.headers)
        if options.conversation:
            params["conversation"] = f"{caller.key_hash} {options.conversation}"
        call = _ForwardedCall(self._upstream, exchange, body, options)
        if params.get("stream"):
            await self._stream(exchange, caller, params, call)
        else:
            await self._answer_whole(exchange, caller, params, call)

    # A whole answer

    async def _answer_whole(
        self, exchange: Exchange, caller: Caller, params: dict[str, Any], call: "_ForwardedCall"
    ) -> None:
        router, options = self._callers.router_for(exchange.headers), call.options
        try:
            answered = await router.answer_whole(params, call, route=options.route, input_class=options.input_class)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it as a response
            await self._respond_error(exchange, caller, call, error)
            return
        self._calls.put(caller.key_hash, answered.decision)
        own = of_the_call(_of_decision(answered.decision))
        if answered.body is not None:
            passed = [] if answered.headers is None else from_triage(answered.headers.raw)
            await exchange.respond(200, [_JSON, *passed, *own], answered.body)
        elif call.response is not None:
            headers = to_caller(call.response.headers.raw, without=_READ)
            await exchange.respond(call.response.status_code, [*headers, *own], call.response.content)

    async def _respond_error(
        self, exchange: Exchange, caller: Caller, call: "_ForwardedCall", error: Exception
    ) -> None:
        """Give the API's own error to the caller, or say that the API did not answer."""
        decision = decision_of(error)
        if decision is not None:
            self._calls.put(caller.key_hash, decision)
        if not is_status_error(error) or call.response is None:
            if not isinstance(error, httpx2.HTTPError):
                raise error
            await refuse_unreachable(exchange, error)
            return
        headers = to_caller(call.response.headers.raw, without=_READ)
        own = () if decision is None else of_the_call(_of_decision(decision))
        await exchange.respond(call.response.status_code, [*headers, *own], call.response.content)

    # A stream

    async def _stream(self, exchange: Exchange, caller: Caller, params: dict[str, Any], call: "_ForwardedCall") -> None:
        router, options = self._callers.router_for(exchange.headers), call.options
        opening = asyncio.ensure_future(
            router.answer_streamed(params, call, route=options.route, input_class=options.input_class)
        )
        try:
            await self._wait_with_pings(exchange, opening, call)
        finally:
            if not opening.done():
                opening.cancel()
                await asyncio.wait({opening})
        try:
            stream = opening.result()
        except Exception as error:  # noqa: BLE001 - as above
            if exchange.has_begun:
                await exchange.end(error_event(_error_data(call, error)))
            else:
                await self._respond_error(exchange, caller, call, error)
            return
        try:
            await self._pass_parts(exchange, stream, call)
        finally:
            await stream.close()
            if stream.decision is not None:
                self._calls.put(caller.key_hash, stream.decision)

    async def _wait_with_pings(
        self, exchange: Exchange, opening: "asyncio.Future[AsyncRoutedStream]", call: "_ForwardedCall"
    ) -> None:
        """Wait until a tier answers. After a while, begin the response, and send a ping now and then."""
        while not (await asyncio.wait({opening}, timeout=self._status_within_s))[0]:
            if not exchange.has_begun:
                own = of_the_call(outline_of(call.begun_call)) if call.begun_call is not None else ()
                await exchange.begin(200, [*STREAM_HEADERS, *own])
            await exchange.write(PING)

    async def _pass_parts(self, exchange: Exchange, stream: AsyncRoutedStream, call: "_ForwardedCall") -> None:
        is_forwarded = stream.response is call.response
        if not exchange.has_begun:
            headers = stream.response.headers.raw
            own = of_the_call(outline_of(call.begun_call, stream.result)) if call.begun_call is not None else ()
            passed = to_caller(headers) if is_forwarded else [*STREAM_HEADERS, *from_triage(headers)]
            await exchange.begin(stream.response.status_code, [*passed, *own])
        try:
            async for part in stream.parts():
                await exchange.write(part_bytes(part))
        except StreamedError:
            pass  # the caller has got the event
        except Exception as error:
            if is_forwarded:
                raise  # the connection breaks off, as that of the API has done
            await exchange.end(error_event(_error_data(call, error)))
            return
        await exchange.end()


class _ForwardedCall:
    """The caller's request, and what becomes of it; a `Forward`."""

    def __init__(self, upstream: Upstream, exchange: Exchange, body: bytes, options: CallOptions) -> None:
        self._upstream, self._exchange, self._body, self.options = upstream, exchange, body, options
        self.begun_call: Call | None = None
        self.response: httpx2.Response | None = None

    def begun(self, call: Call) -> None:
        self.begun_call = call
        call.may_be_graded = self.options.may_be_graded
        if self.options.is_off:
            send_deep(call, BypassCause.DEEP_REQUESTED)

    async def send(self) -> httpx2.Response:
        request = self._upstream.message_request(self._exchange, self._body)
        self.response = await self._upstream.send(request)
        return self.response


def _of_decision(decision: Decision) -> Outline:
    return Outline(
        call_id=decision.call_id,
        threshold=decision.threshold,
        tier=decision.tier,
        confidence=decision.confidence,
        reason=decision.reason,
        cost_usd=decision.cost_usd,
    )


def _error_data(call: _ForwardedCall, error: Exception) -> object:
    """The API's error object, or one of the gateway's in that form."""
    if is_status_error(error) and call.response is not None:
        with suppress(ValueError):
            data = from_json(call.response.content)
            if isinstance(data, dict) and data.get("type") == "error":
                return data
    return error_body("api_error", "The answer broke off.")
