"""The guard's HTTP API: health, metrics, reports and operations."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter, FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cheapdeep_ops.access.tokens import Role
from cheapdeep_ops.addresses import is_loopback
from cheapdeep_ops.errors import MissingError, PolicyError, StoreError
from cheapdeep_ops.guard.actions.operation import ActionContext, FieldError
from cheapdeep_ops.guard.actions.operations import OPERATIONS
from cheapdeep_ops.guard.actions.reports import REPORTS, Tag
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.bodies import BoundedBodies
from cheapdeep_ops.guard.http.endpoints import endpoint_of, reading_of
from cheapdeep_ops.guard.http.own_paths import HeadAsGet, Unanswered
from cheapdeep_ops.guard.http.version import API_VERSION
from cheapdeep_ops.guard.http.visitors import OwnOrigin, SafeHeaders
from cheapdeep_ops.guard.report_types.state import Health
from cheapdeep_ops.recorder.wire import VERSION_HEADER
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store

if TYPE_CHECKING:
    from cheapdeep_ops.guard.http.metrics import FleetCollector
    from cheapdeep_ops.guard.http.senders import Senders

_DESCRIPTION: Final = f"""
The guard's reports and operations. Paths below `/api/v1` do not change. The second number of the version grows with
each addition; every response below `/api` has the version in `{VERSION_HEADER}`.

Changes and content need a token; off loopback, reading needs one too. The role that a token must have stands beside the
security scheme of each path. Rates are shares from 0 to 1, null if unknown. Intervals are 95%. Times are Unix seconds.
Route `*` is all routes together.
"""

_TAGS: Final = [
    {"name": "health", "description": "For probes and scrapers."},
    {"name": "reports", "description": "The present state and the past."},
    {"name": "changes", "description": "Changes by people, each with author and reason. They need a token."},
    {"name": "senders", "description": "Routers without a database send their counts, and follow the policies."},
    {"name": "outcomes", "description": "What users say about answers. These paths need a token with their own role."},
    {"name": "labels", "description": "People check the grader. These paths have content and need a token."},
]
_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
_ALWAYS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The host name is not one of this guard, or the request cannot be read"},
    403: {"description": "The request comes from a page of another origin"},
}
"""The refusals that every path has."""

_BY_TOKEN: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "The token is missing, unknown or expired"},
    403: {
        "description": "The token lacks the role or the route, the guard has no tokens at all, or the request comes "
        "from a page of another origin"
    },
    429: {"description": "Too many wrong tokens came from this address; `Retry-After` has the seconds to wait"},
}
_OF_CHANGES: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "The request names something that does not exist", "content": _TEXT},
    408: {"description": "The body did not arrive in time", "content": _TEXT},
    409: {"description": "The operation is not possible in the present state", "content": _TEXT},
    413: {"description": "The body is too large", "content": _TEXT},
}
_UNREACHABLE: Final[dict[int | str, dict[str, Any]]] = {
    503: {"description": "The store is unreachable", "content": _TEXT}
}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


def make_api(
    store: Store,
    *,
    settings: Settings,
    collector: "FleetCollector",
    is_ready: Callable[[], str],
    clock: Callable[[], float] = time.time,
    access: Access | None = None,
    served: "Senders | None" = None,
) -> FastAPI:
    """The application; `is_ready` returns what is missing, or an empty text. By default `access` is made of `settings`.

    With `served`, routers can send to it. Raises SettingsError if the file of tokens is missing or wrong.
    """
    # No documentation page, because FastAPI's pages load their scripts from another host.
    api = FastAPI(
        title="cheapdeep_ops guard",
        version=API_VERSION,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_name_of,
    )
    access = access or Access(settings)
    # Each is outside of those before it.
    api.add_middleware(BoundedBodies, access=access)
    api.add_middleware(OwnOrigin, address=settings.console_url)
    api.add_middleware(HeadAsGet)
    if is_loopback(settings.host):
        # Reading needs no token here, so a web page must not reach the API by a DNS name that points to loopback.
        api.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, settings.host])

    api.include_router(_health(is_ready), tags=["health"], responses=_ALWAYS)
    api.include_router(
        _metrics(collector), tags=["reports"], dependencies=access.needs(Role.READ), responses=_of_reading(access)
    )
    _add_paths(api, ActionContext(store=store, settings=settings, clock=clock), access)
    api.add_middleware(SafeHeaders)
    if served is not None:
        # Loaded here, because a command that reads one report does not need it.
        from cheapdeep_ops.guard.http.flushes import sending_paths  # noqa: PLC0415

        refusals = _ALWAYS | _UNREACHABLE | _BY_TOKEN | _OF_CHANGES
        api.include_router(sending_paths(served, access), tags=["senders"], responses=refusals)
    api.router.routes.append(Unanswered(api))
    return api


def _add_paths(api: FastAPI, context: ActionContext, access: Access) -> None:
    """Add all paths below `/api`."""
    api.add_middleware(_Versioned)

    @api.exception_handler(RequestValidationError)
    def request_refused(_request: object, error: RequestValidationError) -> Response:
        return _refused([_fault(fault) for fault in error.errors()])

    @api.exception_handler(FieldError)
    def field_refused(_request: object, error: Exception) -> Response:
        wrong = cast("FieldError", error)
        return _refused([{"loc": ["query", wrong.field], "msg": wrong.problem, "type": "value_error"}])

    @api.exception_handler(StoreError)
    def store_failed(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=503, media_type="text/plain")

    @api.exception_handler(PolicyError)
    def policy_refused(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=409, media_type="text/plain")

    @api.exception_handler(MissingError)
    def not_found(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=404, media_type="text/plain")

    needed, refusals = access.needs(Role.READ), _ALWAYS | _UNREACHABLE | _BY_TOKEN | _OF_CHANGES
    reports, labels = _reports("reports", context, access), _reports("labels", context, access)
    api.include_router(reports, tags=["reports"], dependencies=needed, responses=_of_reading(access))
    api.include_router(labels, tags=["labels"], responses=refusals)
    api.include_router(_actions(context, access), responses=refusals)


def _of_reading(access: Access) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path that only reads."""
    by_token = _BY_TOKEN if access.needs(Role.READ) else {}
    return _ALWAYS | _UNREACHABLE | by_token


def _answering(model: Any, summary: str, *, missing: str = "") -> dict[str, Any]:
    """The documentation of a path: the type of its response, and when it answers 404, if it does."""
    # The type is only for the document: without a response model FastAPI does not check responses.
    refusals = {404: {"description": missing, "content": _TEXT}} if missing else {}
    return {"response_model": None, "responses": {200: {"model": model}, **refusals}, "summary": summary}


def _name_of(route: APIRoute) -> str:
    """The id of an operation, which generated clients use as a function name."""
    return route.name


# Not a FastAPI dependency, because responses of exception handlers need the header too.
class _Versioned:
    """Adds the API's version to every response below `/api`, including refusals."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[VERSION_HEADER] = API_VERSION
            await send(message)

        is_api = scope["type"] == "http" and scope["path"].startswith("/api/")
        await self._app(scope, receive, send_versioned if is_api else send)


def _health(is_ready: Callable[[], str]) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", **_answering(Health, "Whether the process answers"))
    async def healthz() -> Health:
        """The process answers."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Whether the guard works",
        responses={200: {"model": Health}, 503: {"model": Health, "description": "The guard does not work"}},
    )
    def readyz(response: Response) -> dict[str, str]:
        """200 if the guard works; 503 with what is missing otherwise."""
        missing = is_ready()
        response.status_code = 503 if missing else 200
        return {"status": missing or "ok"}

    return router


def _metrics(collector: "FleetCollector") -> APIRouter:
    # Loaded here, because it loads the whole guard, which a command that reads one report does not need.
    from cheapdeep_ops.guard.http import metrics  # noqa: PLC0415

    router = APIRouter()

    @router.get("/metrics", response_class=PlainTextResponse, summary="Fleet-wide figures for Prometheus")
    def get_metrics() -> Response:
        """Fleet-wide figures in Prometheus' text format."""
        return Response(metrics.page(collector), media_type=metrics.CONTENT_TYPE)

    return router


def _reports(tag: Tag, context: ActionContext, access: Access) -> APIRouter:
    """An endpoint for each report with this tag; FastAPI takes its parameters from the signature of `make`."""
    router = APIRouter()
    for each in REPORTS.values():
        if each.tag == tag:
            router.add_api_route(
                f"/api/v1/{each.path}",
                reading_of(each, context, access),
                methods=["GET"],
                description=each.description,
                **_answering(each.answer, each.summary, missing=each.missing),
            )
    return router


def _actions(context: ActionContext, access: Access) -> APIRouter:
    """An endpoint for each operation; FastAPI takes the body and the row ids from the signature of `act`."""
    router = APIRouter()
    for each in OPERATIONS:
        router.add_api_route(
            each.path,
            endpoint_of(each, context, access),
            methods=[each.method],
            name=each.name,
            description=each.description,
            tags=[each.tag],
            **_answering(each.answer, each.summary),
        )
    return router


def _refused(faults: Sequence[Mapping[str, Any]]) -> Response:
    """The response to a request with wrong fields."""
    return Response(json.dumps({"detail": faults}), status_code=422, media_type="application/json")


def _fault(fault: Mapping[str, Any]) -> dict[str, Any]:
    """A fault of a request: its place, message and type."""
    # Without the input, which may be secret, or no value that JSON can hold.
    place = fault["loc"][:1] if fault["type"] == "extra_forbidden" else fault["loc"]
    return {"loc": list(place), "msg": fault["msg"], "type": fault["type"]}
