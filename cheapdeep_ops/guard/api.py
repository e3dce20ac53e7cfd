"""The guard's HTTP API: health, metrics, status, policy."""

import hmac
import ipaddress
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from cheapdeep_ops.errors import PolicyError, StoreError
from cheapdeep_ops.guard import metrics
from cheapdeep_ops.guard.receipt import receipt
from cheapdeep_ops.guard.status import status
from cheapdeep_ops.guard.thresholds import release_threshold, set_threshold
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.values import ALL_ROUTES

Token = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class PinRequest(BaseModel):
    """A person's order to hold a threshold."""

    model_config = ConfigDict(extra="forbid")

    threshold: float = Field(ge=0, le=1)
    route: str = ALL_ROUTES
    author: str = Field(min_length=1)
    why: str = Field(min_length=1)


class ReleaseRequest(BaseModel):
    """A person's order to let the rules decide again."""

    model_config = ConfigDict(extra="forbid")

    route: str = ALL_ROUTES
    author: str = Field(min_length=1)
    why: str = ""


class Access:
    """Who may read and who may change: every change needs a token; reading needs one off loopback only."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = [token.get_secret_value() for token in settings.api_tokens]
        self._is_local = _is_loopback(settings.host)

    def may_read(self, token: Token) -> None:
        """Raise 401 unless this caller may read."""
        if not self._is_local:
            self.may_change(token)

    def may_change(self, token: Token) -> None:
        """Raise 403 where no token is set up, 401 unless this caller has one."""
        if not self._tokens:
            raise HTTPException(403, "set CHEAPDEEP_API_TOKENS to allow this over HTTP, or use the command line")
        given = token.credentials.encode() if token else b""
        if not any(hmac.compare_digest(given, known.encode()) for known in self._tokens):
            raise HTTPException(401, "needs one of the tokens in CHEAPDEEP_API_TOKENS", {"WWW-Authenticate": "Bearer"})


def make_api(
    store: Store,
    *,
    settings: Settings,
    collector: metrics.FleetCollector,
    is_ready: Callable[[], str],
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application; `is_ready` says what is missing, or nothing."""
    api = FastAPI(title="cheapdeep_ops guard", version="1", docs_url=None, redoc_url=None)
    access = Access(settings)

    @api.exception_handler(StoreError)
    def store_failed(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=503, media_type="text/plain")

    @api.exception_handler(PolicyError)
    def policy_refused(_request: object, error: Exception) -> Response:
        return Response(str(error), status_code=409, media_type="text/plain")

    api.include_router(_health(is_ready))
    api.include_router(_reading(store, settings, collector, clock), dependencies=[Depends(access.may_read)])
    api.include_router(_changing(store, settings, clock), dependencies=[Depends(access.may_change)])
    return api


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
        """Policy, alerts, signals, queue, watchers."""
        return status(store, settings, clock())

    @router.get("/api/v1/report")
    def get_report(last_s: Annotated[float, Query(gt=0)] = 86_400.0) -> dict[str, Any]:
        """The receipt over the last so many seconds."""
        now = clock()
        return receipt(store, settings, since=now - last_s, until=now)

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

    return router


def _changing(store: Store, settings: Settings, clock: Callable[[], float]) -> APIRouter:
    router = APIRouter()

    @router.put("/api/v1/policy/pin")
    def put_pin(order: PinRequest) -> dict[str, Any]:
        """Hold a threshold until it is released."""
        by = {"author": order.author, "why": order.why}
        return set_threshold(store, settings, order.threshold, scope=order.route, now=clock(), **by)

    @router.delete("/api/v1/policy/pin")
    def delete_pin(order: ReleaseRequest) -> dict[str, Any]:
        """Let the rules decide again."""
        by = {"author": order.author, "why": order.why}
        return release_threshold(store, settings, scope=order.route, now=clock(), **by)

    return router


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
