"""The guard as commands ask it: over HTTP, or as the same application in this process where no URL names a guard."""

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import httpx2

from cheapdeep_ops.cli.common import author, opened
from cheapdeep_ops.errors import MissingError, PolicyError, RemoteError, StoreError
from cheapdeep_ops.guard.http.version import API_VERSION, VERSION_HEADER, serves
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from cheapdeep_ops.guard.actions.operation import Operation

_TIMEOUT_S: Final = 60.0
_HERE: Final = "http://localhost"
_UNAUTHORIZED: Final = 401
_SERVER_ERROR: Final = 500
_LONGEST_REASON: Final = 500
# A refusal of the API raises what the operation raised in the guard.
_ERRORS: Final[Mapping[int, type[Exception]]] = {404: MissingError, 409: PolicyError, 422: PolicyError, 503: StoreError}


class InProcessTransport(httpx2.BaseTransport):
    """Answers requests by an application in this process; an error that the application does not handle is raised."""

    def __init__(self, app: "FastAPI") -> None:
        self._transport = httpx2.ASGITransport(app)
        self._runner = asyncio.Runner()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the application's answer, read to its end."""
        return self._runner.run(self._answer(request))

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._transport.handle_async_request(request)
        # The body as bytes, because a synchronous client cannot read an asynchronous stream.
        return httpx2.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()


class GuardClient:
    """A guard's HTTP API.

    Both methods return the JSON of the answer. They raise RemoteError where no guard of this version answers, and
    otherwise what the guard refuses with: StoreError, PolicyError or MissingError.
    """

    def __init__(self, client: httpx2.Client, *, shown_url: str = _HERE, has_token: bool = False) -> None:
        self._client, self._shown, self._has_token = client, shown_url, has_token

    def read(self, path: str, **params: object) -> Any:
        """What the guard reports under a path below `/api/v1`."""
        return self._ask("GET", f"/api/v1/{path}", params=params)

    def act(self, operation: "Operation[Any]", **given: object) -> Any:
        """Have the guard perform an operation; its author is the user of this process where none is given."""
        request, ids = operation.checked({"author": author(), **given})
        return self._ask(operation.method, operation.path.format(**ids), json=request.model_dump(mode="json"))

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self._client.request(method, path, **content)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise RemoteError(
                f"no guard answers at {self._shown}: {why} (CHEAPDEEP_GUARD_URL says where it is)"
            ) from None
        self._check(answer)
        try:
            return answer.json()
        except ValueError:
            raise RemoteError(f"the guard at {self._shown} answers with what is no JSON") from None

    def _check(self, answer: httpx2.Response) -> None:
        """Raise an error unless the answer is a guard's own, and a success."""
        version = answer.headers.get(VERSION_HEADER, "")
        if not serves(version):
            self._refuse_version(answer.status_code, version)
        if answer.is_success:
            return
        if answer.status_code == _UNAUTHORIZED:
            wrong = "does not know the token in" if self._has_token else "wants a token in"
            raise RemoteError(
                f"the guard at {self._shown} {wrong} CHEAPDEEP_GUARD_TOKEN: one of those in its CHEAPDEEP_API_TOKENS"
            )
        reason = _reason(answer)
        raises = _ERRORS.get(answer.status_code)
        if raises is not None:
            raise raises(reason)
        raise RemoteError(f"the guard at {self._shown} answers {answer.status_code}: {reason}")

    def _refuse_version(self, status: int, version: str) -> NoReturn:
        if not version and status >= _SERVER_ERROR:
            raise RemoteError(f"no guard answers at {self._shown}: HTTP {status}")
        if not version:
            raise RemoteError(
                f"what answers at {self._shown} (HTTP {status}) is no guard, or an older one: its answer has no "
                f"{VERSION_HEADER}, and this command needs {API_VERSION}"
            )
        raise RemoteError(
            f"the guard at {self._shown} is of another version: it speaks API {version}, and this command needs "
            f"{API_VERSION} or a later {API_VERSION.partition('.')[0]}.x"
        )


def _reason(answer: httpx2.Response) -> str:
    """Why the guard refuses, on one line."""
    try:
        reason = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        reason = answer.text
    if isinstance(reason, list):
        reason = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in reason)
    return str(reason)[:_LONGEST_REASON]


@contextmanager
def connected(settings: Settings) -> Iterator[GuardClient]:
    """The guard at CHEAPDEEP_GUARD_URL; where that is not set, the API over the store that the settings name.

    Raises StoreError where there is no store yet, SchemaError where its schema does not fit.
    """
    if settings.guard_url is not None:
        with _over_http(settings.guard_url, settings) as client:
            yield client
        return
    # What a command loads lives on: to search it for garbage meanwhile takes a tenth of the command's time.
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
    # Errors show the URL without a user's password.
    shown_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as client:
        yield GuardClient(client, shown_url=shown_url, has_token=token is not None)


def read(path: str, **params: object) -> Any:
    """What the guard that the settings name reports under a path below `/api/v1`."""
    with connected(Settings()) as guard:
        return guard.read(path, **params)


def act(operation: "Operation[Any]", **given: object) -> Any:
    """Have the guard that the settings name perform an operation; returns its answer."""
    with connected(Settings()) as guard:
        return guard.act(operation, **given)
