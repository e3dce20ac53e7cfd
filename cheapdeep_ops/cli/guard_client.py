"""How commands reach the guard: over HTTP, or by its API in this process if CHEAPDEEP_GUARD_URL is not set."""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import httpx2

from cheapdeep_ops.cli.common import author, opened
from cheapdeep_ops.errors import MissingError, PolicyError, RemoteError, StoreError
from cheapdeep_ops.guard.http.version import API_VERSION, serves
from cheapdeep_ops.recorder.wire import VERSION_HEADER
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from cheapdeep_ops.guard.actions.operation import Operation

_TIMEOUT_S: Final = 60.0
_HERE: Final = "http://localhost"
_UNAUTHORIZED: Final = 401
_SERVER_ERROR: Final = 500
_LONGEST_REASON: Final = 500
# A status of the API becomes the error that the operation raised in the guard.
_ERRORS: Final[Mapping[int, type[Exception]]] = {404: MissingError, 409: PolicyError, 422: PolicyError, 503: StoreError}


class InProcessTransport(httpx2.BaseTransport):
    """Sends requests to an application in this process. Raises the errors that the application does not handle."""

    def __init__(self, app: "FastAPI") -> None:
        self._transport = httpx2.ASGITransport(app)
        self._runner = asyncio.Runner()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of the application, with its whole body."""
        return self._runner.run(self._respond(request))

    async def _respond(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._transport.handle_async_request(request)
        # The body as bytes, because a synchronous client cannot read an asynchronous stream.
        return httpx2.Response(response.status_code, headers=response.headers, content=await response.aread())

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()


class GuardClient:
    """A guard's HTTP API.

    Both methods return the JSON of the response. They raise RemoteError if no guard of a fitting version responds.
    They raise StoreError, PolicyError or MissingError if the guard refuses the request.
    """

    def __init__(self, client: httpx2.Client, *, shown_url: str = _HERE, has_token: bool = False) -> None:
        self._client, self._shown, self._has_token = client, shown_url, has_token

    def read(self, path: str, **params: object) -> Any:
        """Return the report at a path below `/api/v1`."""
        return self._ask("GET", f"/api/v1/{path}", params=params)

    def act(self, operation: "Operation[Any]", **fields: object) -> Any:
        """Have the guard perform an operation. The author is the user of this process, unless `fields` name another."""
        request, ids = operation.checked({"author": author(), **fields})
        return self._ask(operation.method, operation.path.format(**ids), json=request.model_dump(mode="json"))

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        try:
            response = self._client.request(method, path, **content)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # The text of an InvalidURL may repeat a part of the URL, and so of a password.
            why = (not isinstance(error, httpx2.InvalidURL) and str(error)) or type(error).__name__
            raise RemoteError(
                f"no guard answers at {self._shown}: {why} (CHEAPDEEP_GUARD_URL says where it is)"
            ) from None
        self._check(response)
        try:
            return response.json()
        except ValueError:
            raise RemoteError(f"the response of the guard at {self._shown} is not JSON") from None

    def _check(self, response: httpx2.Response) -> None:
        """Raise an error unless the response comes from a guard and is a success."""
        version = response.headers.get(VERSION_HEADER, "")
        # Without the version it is another server, whose status says nothing about the guard.
        if not serves(version):
            self._refuse_version(response.status_code, version)
        if response.is_success:
            return
        if response.status_code == _UNAUTHORIZED:
            problem = "does not know the token in" if self._has_token else "needs a token in"
            raise RemoteError(f"the guard at {self._shown} {problem} CHEAPDEEP_GUARD_TOKEN, which that guard must know")
        reason = _reason(response)
        error = _ERRORS.get(response.status_code)
        if error is not None:
            raise error(reason)
        raise RemoteError(f"the guard at {self._shown} answers {response.status_code}: {reason}")

    def _refuse_version(self, status: int, version: str) -> NoReturn:
        # A proxy answers with a 5xx status while the guard behind it is down.
        if not version and status >= _SERVER_ERROR:
            raise RemoteError(f"no guard answers at {self._shown}: HTTP {status}")
        if not version:
            raise RemoteError(
                f"the server at {self._shown} (HTTP {status}) is not a guard, or an older one: its response has no "
                f"{VERSION_HEADER}, and this command needs {API_VERSION}"
            )
        raise RemoteError(
            f"the guard at {self._shown} has another version: it serves API {version}, and this command needs "
            f"{API_VERSION} or a later {API_VERSION.partition('.')[0]}.x"
        )


def _reason(response: httpx2.Response) -> str:
    """Why the guard refuses the request."""
    try:
        reason = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        reason = response.text
    # FastAPI lists one fault for each wrong field of a request.
    if isinstance(reason, list):
        reason = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in reason)
    return str(reason)[:_LONGEST_REASON]


@contextmanager
def connected(settings: Settings) -> Iterator[GuardClient]:
    """A client of the guard at CHEAPDEEP_GUARD_URL, or at CHEAPDEEP_STORE_URL if that is a guard's.

    Without either, it is a client of the API over the settings' store. Raises StoreError if there is no store yet,
    SchemaError if its schema does not fit.
    """
    if settings.asked_guard is not None:
        with _over_http(settings.asked_guard, settings) as client:
            yield client
        return
    # The objects that a command loads stay alive; garbage collection would take a tenth of the command's time.
    gc.disable()
    try:
        # Loaded here, because a command that asks a guard elsewhere needs no FastAPI.
        from cheapdeep_ops.guard.http.api import make_local_api

        with opened(settings) as store:
            transport = InProcessTransport(make_local_api(store, settings))
            with httpx2.Client(transport=transport, base_url=_HERE) as client:
                yield GuardClient(client)
    finally:
        gc.enable()


@contextmanager
def _over_http(url: str, settings: Settings) -> Iterator[GuardClient]:
    parts, token = urlsplit(url), settings.guard_token
    # Errors show this URL, so it must not contain a user's password.
    # With an unescaped slash in the password, a part of it is in the path.
    path = "" if "@" in parts.path else parts.path
    shown_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}".rstrip("/")
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as client:
        yield GuardClient(client, shown_url=shown_url, has_token=token is not None)


def read(path: str, **params: object) -> Any:
    """Return the report at a path below `/api/v1`, from the guard that the settings name."""
    with connected(Settings()) as guard:
        return guard.read(path, **params)


def act(operation: "Operation[Any]", **fields: object) -> Any:
    """Have the guard that the settings name perform an operation; returns the JSON of the response."""
    with connected(Settings()) as guard:
        return guard.act(operation, **fields)
