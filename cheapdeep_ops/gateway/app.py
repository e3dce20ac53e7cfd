"""The paths of the gateway: messages through the router, all else below `/v1` as it comes, and its own pages."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cheapdeep_ops.gateway.callers import Caller, Callers, Refused
from cheapdeep_ops.gateway.calls import RecentCalls
from cheapdeep_ops.gateway.exchange import HttpExchange, error_body
from cheapdeep_ops.gateway.messages import MessagesEndpoint
from cheapdeep_ops.gateway.upstream import Upstream

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


class Forwarding:
    """Every path that is not the gateway's own, as an ASGI application."""

    def __init__(self, upstream: Upstream, callers: Callers) -> None:
        self._upstream, self._callers = upstream, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on to the API, and its response back."""
        exchange = HttpExchange(scope, receive, send)
        caller = self._callers.of(exchange.headers)
        if isinstance(caller, Refused):
            await exchange.refuse(*caller)
            return
        if caller is not None:
            if not caller.may_ask(exchange.method, exchange.path):
                await exchange.refuse(403, "permission_error", "This path is not open to this key.")
                return
            exchange.headers = caller.headers
        async with exchange.ends_with_caller():
            await self._upstream.pass_on(exchange, self._upstream.request(exchange))


def make_app(
    *,
    messages: MessagesEndpoint,
    upstream: Upstream,
    callers: Callers,
    calls: RecentCalls,
    lifespan: Lifespan,
    missing: Callable[[], str],
) -> Starlette:
    """The application. `missing` says why it is not ready, and is empty if it is."""

    async def call_facts(request: Request) -> Response:
        caller = callers.of(request.scope["headers"])
        facts = None
        if isinstance(caller, Caller):
            facts = await calls.find(request.path_params["call_id"], caller.fingerprint)
        if facts is None:
            message = "No call of this key with this id has ended within ten minutes."
            return JSONResponse(error_body("not_found_error", message), 404)
        return JSONResponse(facts)

    async def ready(_request: Request) -> Response:
        why = missing()
        return PlainTextResponse(why or "ok", 503 if why else 200)

    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/cheapdeep/calls/{call_id}", call_facts, methods=["GET"]),
            Route("/v1/{path:path}", Forwarding(upstream, callers)),
            Route("/healthz", _alive, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
            # Clients ask by HEAD whether the server is there.
            Route("/", _alive, methods=["GET"]),
        ],
        lifespan=lifespan,
        exception_handlers={404: _no_such_path},
    )


async def _no_such_path(request: Request, _error: Exception) -> Response:
    return JSONResponse(error_body("not_found_error", f"The gateway has no path {request.url.path}."), 404)


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _metrics(_request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
