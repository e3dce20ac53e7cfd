"""A guard elsewhere, over HTTP."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import httpx2

from cheapdeep_ops.cli.common import author
from cheapdeep_ops.errors import MissingError, PolicyError, RemoteError, StoreError
from cheapdeep_ops.guard.http.version import API_VERSION, serves
from cheapdeep_ops.recorder.wire import VERSION_HEADER
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.guard.actions.operation import Operation

_TIMEOUT_S: Final = 60.0
_UNAUTHORIZED: Final = 401
_SERVER_ERROR: Final = 500
_LONGEST_REASON: Final = 500
# A status of the API becomes the error that the operation raised in the guard.
_ERRORS: Final[Mapping[int, type[Exception]]] = {404: MissingError, 409: PolicyError, 422: PolicyError, 503: StoreError}


class RemoteGuard:
    """A guard's HTTP API.

    Both methods return the JSON of the response. They raise RemoteError if no guard of a fitting version responds.
    They raise StoreError, PolicyError or MissingError if the guard refuses the request.
    """

    def __init__(self, client: httpx2.Client, *, shown_url: str, has_token: bool) -> None:
        self._client, self._shown, self._has_token = client, shown_url, has_token

    def read(self, path: str, **fields: object) -> Any:
        """Return the report at a path below `/api/v1`. Names in braces are fields, and so are what it asks for."""
        params = {name: value for name, value in fields.items() if f"{{{name}}}" not in path}
        return self._ask("GET", f"/api/v1/{path.format(**fields)}", params=params)

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
def over_http(url: str, settings: Settings) -> Iterator[RemoteGuard]:
    """A client of the guard at `url`."""
    parts, token = urlsplit(url), settings.guard_token
    # Errors show this URL, so it must not contain a user's password.
    # With an unescaped slash in the password, a part of it is in the path.
    path = "" if "@" in parts.path else parts.path
    shown_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}".rstrip("/")
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as client:
        yield RemoteGuard(client, shown_url=shown_url, has_token=token is not None)
