"""The guard's HTTP API: health, metrics, status, policy."""

import hmac
import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cheapdeep_ops.errors import MissingError, PolicyError, StoreError
from cheapdeep_ops.guard import metrics
from cheapdeep_ops.guard.attention import LONGEST_SILENCE_S, acknowledge, silence, silences, unsilence
from cheapdeep_ops.guard.contract import API_VERSION, VERSION_HEADER
from cheapdeep_ops.guard.ledger import normals_of, relearn
from cheapdeep_ops.guard.receipt import LONGEST_S, receipt
from cheapdeep_ops.guard.review import label, label_all, next_sample, review_of, shown
from cheapdeep_ops.guard.series import series
from cheapdeep_ops.guard.status import policy_state, status
from cheapdeep_ops.guard.thresholds import release_threshold, set_threshold
from cheapdeep_ops.settings import Settings, filled_text, valid_text
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.stories import MOST_INCIDENTS, story
from cheapdeep_ops.values import ALL_ROUTES, Grade

Token = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
Route = Annotated[str, AfterValidator(filled_text)]
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(valid_text)]
FilledText = Annotated[Text, AfterValidator(filled_text)]
Id = Annotated[int, Path(ge=1, lt=2**31)]

_MOST_SKIPPED: Final = 200
_MOST_LABELS: Final = 1_000
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


class PinRequest(BaseModel):
    """A person's order to hold a threshold."""

    model_config = ConfigDict(extra="forbid")

    threshold: float = Field(ge=0, le=1, strict=True, allow_inf_nan=False)
    route: Route = ALL_ROUTES
    author: FilledText
    why: FilledText


class ReleaseRequest(BaseModel):
    """A person's order to let the rules decide again."""

    model_config = ConfigDict(extra="forbid")

    route: Route = ALL_ROUTES
    author: FilledText
    why: Text = ""


class RelearnRequest(BaseModel):
    """A person's order to learn anew what is normal for a route."""

    model_config = ConfigDict(extra="forbid")

    route: Route
    author: FilledText
    why: FilledText


class LabelRequest(BaseModel):
    """What a person says of an answer that was graded."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[FilledText, StringConstraints(max_length=500)]
    verdict: Grade
    author: Annotated[FilledText, StringConstraints(max_length=500)]


class LabelOf(BaseModel):
    """A call, and what is said of its answer."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[FilledText, StringConstraints(max_length=500)]
    verdict: Grade


class LabelsRequest(BaseModel):
    """What a person says of several answers that were graded."""

    model_config = ConfigDict(extra="forbid")

    labels: Annotated[list[LabelOf], Field(min_length=1, max_length=_MOST_LABELS)]
    author: Annotated[FilledText, StringConstraints(max_length=500)]


class AcknowledgeRequest(BaseModel):
    """A person's word that somebody looks after an incident."""

    model_config = ConfigDict(extra="forbid")

    author: FilledText
    why: FilledText


class SilenceRequest(BaseModel):
    """A person's order to keep messages of a rule back for so many seconds; without a route, in every one."""

    model_config = ConfigDict(extra="forbid")

    rule: FilledText
    route: Route | None = None
    for_s: float = Field(gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False)
    author: FilledText
    why: FilledText


class UnsilenceRequest(BaseModel):
    """A person's order to end a silence."""

    model_config = ConfigDict(extra="forbid")

    author: FilledText
    why: Text = ""


class Access:
    """Who may read and who may change: every change needs a token; reading needs one off loopback only."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = [token.get_secret_value() for token in settings.api_tokens]
        self.is_local = _is_loopback(settings.host)
        """Whether reading needs no token."""

    @property
    def has_tokens(self) -> bool:
        """Whether anything can be changed over HTTP at all."""
        return bool(self._tokens)

    def may_read(self, token: Token) -> None:
        """Raise 401 unless this caller may read."""
        if not self.is_local:
            self.may_change(token)

    def may_change(self, token: Token) -> None:
        """Raise 403 where no token is set up, 401 unless this caller has one."""
        if not self._tokens:
            raise HTTPException(403, "set CHEAPDEEP_API_TOKENS to allow this over HTTP, or use the command line")
        if token is None or not self.is_known(token.credentials):
            raise HTTPException(401, "needs one of the tokens in CHEAPDEEP_API_TOKENS", {"WWW-Authenticate": "Bearer"})

    def is_known(self, given: str) -> bool:
        """Whether this is one of the tokens; takes as long whichever it is."""
        return bool(given) and any(hmac.compare_digest(given.encode(), known.encode()) for known in self._tokens)


def make_api(
    store: Store,
    *,
    settings: Settings,
    collector: metrics.FleetCollector,
    is_ready: Callable[[], str],
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application; `is_ready` says what is missing, or nothing."""
    api = FastAPI(title="cheapdeep_ops guard", version=API_VERSION, docs_url=None, redoc_url=None)
    access = Access(settings)
    if _is_loopback(settings.host):
        # Reading needs no token here, so a web page must not get in under a name of its own that leads to loopback.
        api.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, settings.host])

    api.add_middleware(_Versioned)

    @api.exception_handler(RequestValidationError)
    def request_refused(_request: object, error: RequestValidationError) -> Response:
        faults = json.dumps({"detail": [_fault(fault) for fault in error.errors()]})
        return Response(faults, status_code=422, media_type="application/json")

    @api.exception_handler(StoreError)
    def store_failed(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=503, media_type="text/plain")

    @api.exception_handler(PolicyError)
    def policy_refused(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=409, media_type="text/plain")

    @api.exception_handler(MissingError)
    def nothing_there(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=404, media_type="text/plain")

    api.include_router(_health(is_ready))
    api.include_router(_reading(store, settings, collector, clock), dependencies=[Depends(access.may_read)])
    api.include_router(_happened(store, clock), dependencies=[Depends(access.may_read)])
    for changing in (_changing, _attending):
        api.include_router(changing(store, settings, clock), dependencies=[Depends(access.may_change)])
    return api


class _Versioned:
    """Puts the API's version into every answer below `/api`, refusals included."""

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

    @router.get("/healthz")
    def healthz() -> dict[str, Literal["ok"]]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz(response: Response) -> dict[str, str]:
        """The guard does its work: 503 with what is missing, else 200."""
        missing = is_ready()
        response.status_code = 503 if missing else 200
        return {"status": missing or "ok"}

    return router


def _reading(
    store: Store, settings: Settings, collector: metrics.FleetCollector, clock: Callable[[], float]
) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics", response_class=Response)
    def get_metrics() -> Response:
        """Fleet-wide figures in Prometheus' text format."""
        return Response(metrics.page(collector), media_type=metrics.CONTENT_TYPE)

    @router.get("/api/v1/status")
    def get_status() -> dict[str, Any]:
        """Policy, alerts, signals, what is normal, grader, queue, watchers."""
        return status(store, settings, clock())

    @router.get("/api/v1/policy")
    def get_policy() -> dict[str, Any]:
        """The thresholds in force, and why."""
        with store.reading() as connection:
            return policy_state(connection, settings)

    @router.get("/api/v1/normal")
    def get_normal() -> dict[str, Any]:
        """What false confidence is normal for each route."""
        with store.reading() as connection:
            return normals_of(connection, settings)

    @router.get("/api/v1/report")
    def get_report(last_s: Annotated[float, Query(gt=0, le=LONGEST_S)] = 86_400.0) -> dict[str, Any]:
        """The receipt over the last so many seconds."""
        now = clock()
        return receipt(store, settings, since=now - last_s, until=now)

    @router.get("/api/v1/series")
    def get_series(
        route: Route = ALL_ROUTES,
        last_s: Annotated[float, Query(gt=0, le=LONGEST_S)] = 3_600.0,
        step_s: Annotated[int, Query(ge=1, le=LONGEST_S)] = 60,
    ) -> dict[str, Any]:
        """What was counted and graded, in steps: for charts. At most a thousand steps at a time."""
        try:
            return series(store, settings, scope=route, now=clock(), last_s=last_s, step_s=step_s)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

    @router.get("/api/v1/review")
    def get_review(route: Route = ALL_ROUTES) -> dict[str, Any]:
        """How far the judge agrees with people, what is still to be labelled, and how all judges compare."""
        with store.reading() as connection:
            return review_of(connection, settings, route)

    return router


def _happened(store: Store, clock: Callable[[], float]) -> APIRouter:
    router = APIRouter()

    @router.get("/api/v1/policy/changes")
    def get_changes(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[dict[str, Any]]:
        """The newest changes of policy first."""
        with store.reading() as connection:
            return policies.history(connection, limit=limit)

    @router.get("/api/v1/incidents")
    def get_incidents(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[dict[str, Any]]:
        """The newest incidents first."""
        with store.reading() as connection:
            return incidents.incidents(connection, limit=limit)

    @router.get("/api/v1/silences")
    def get_silences() -> list[dict[str, Any]]:
        """The silences that last, oldest first."""
        with store.reading() as connection:
            return silences(connection, clock())

    @router.get("/api/v1/incidents/{incident_id}")
    def get_incident(incident_id: Annotated[int, Path(ge=1, le=MOST_INCIDENTS)]) -> dict[str, Any]:
        """One incident with every message about it and what it changed; 404 where there is none."""
        with store.reading() as connection:
            return story(connection, incident_id)

    return router


def _changing(store: Store, settings: Settings, clock: Callable[[], float]) -> APIRouter:
    router = APIRouter()

    @router.put("/api/v1/policy/pin")
    def put_pin(order: PinRequest) -> dict[str, Any]:
        """Hold a threshold until it is released."""
        by = {"author": order.author, "why": order.why}
        return set_threshold(store, settings, order.threshold, scope=order.route, now=clock(), **by)

    @router.post("/api/v1/normal/relearn")
    def post_relearn(order: RelearnRequest) -> dict[str, Any]:
        """Learn anew, from calls that begin now, what false confidence is normal for a route."""
        relearn(store, settings, order.route, author=order.author, why=order.why, now=clock())
        with store.reading() as connection:
            return normals_of(connection, settings)

    @router.get("/api/v1/review/next")
    def get_next(
        route: Route = ALL_ROUTES, skip: Annotated[tuple[str, ...], Query(max_length=_MOST_SKIPPED)] = ()
    ) -> dict[str, Any] | None:
        """The answer to label next, with its content, so that a token is needed; null where none is left.

        Calls that are named by `skip` are passed over.
        """
        with store.reading() as connection:
            found = next_sample(connection, settings, scope=route, skipped=skip)
        return None if found is None else shown(found)

    @router.post("/api/v1/labels")
    def post_label(order: LabelRequest) -> LabelRequest:
        """Say whether a graded answer is right, in place of what this person said before; returns what was stored."""
        label(store, order.call_id, order.verdict, author=order.author, now=clock())
        return order

    @router.post("/api/v1/labels/batch")
    def post_labels(order: LabelsRequest) -> list[dict[str, Any]]:
        """Say it of several answers: all are stored or none. Returns them, each with what the judge had said."""
        given = [(each.call_id, each.verdict) for each in order.labels]
        return label_all(store, settings, given, author=order.author, now=clock())

    @router.delete("/api/v1/policy/pin")
    def delete_pin(order: ReleaseRequest) -> dict[str, Any]:
        """Let the rules decide again."""
        by = {"author": order.author, "why": order.why}
        return release_threshold(store, settings, scope=order.route, now=clock(), **by)

    return router


def _attending(store: Store, settings: Settings, clock: Callable[[], float]) -> APIRouter:
    router = APIRouter()

    @router.post("/api/v1/incidents/{incident_id}/ack")
    def post_ack(incident_id: Id, order: AcknowledgeRequest) -> dict[str, Any]:
        """Say that somebody looks after an open incident: nobody is reminded of it any more."""
        return acknowledge(store, settings, incident_id, author=order.author, why=order.why, now=clock())

    @router.post("/api/v1/silences")
    def post_silence(order: SilenceRequest) -> list[dict[str, Any]]:
        """Keep messages of a rule back for a while; the rule itself goes on. Returns all silences that last."""
        by = {"author": order.author, "why": order.why}
        return silence(store, settings, rule=order.rule, route=order.route, lasts_s=order.for_s, now=clock(), **by)

    @router.delete("/api/v1/silences/{silence_id}")
    def delete_silence(silence_id: Id, order: UnsilenceRequest) -> list[dict[str, Any]]:
        """End a silence before its time; returns those that still last."""
        return unsilence(store, silence_id, author=order.author, why=order.why, now=clock())

    return router


def _fault(fault: Mapping[str, Any]) -> dict[str, Any]:
    """What is wrong and where, without what was sent: that may be secret, and need not even be valid JSON."""
    place = fault["loc"][:1] if fault["type"] == "extra_forbidden" else fault["loc"]
    return {"loc": list(place), "msg": fault["msg"], "type": fault["type"]}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
