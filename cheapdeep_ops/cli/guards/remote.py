"""A guard over HTTP: what commands ask of one that runs elsewhere (`CHEAPDEEP_GUARD_URL`)."""

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from cheapdeep_ops.cli.guards.protocol import Found, GuardClient
from cheapdeep_ops.errors import MissingError, PolicyError, RemoteError, StoreError
from cheapdeep_ops.guard.http.version import API_VERSION, VERSION_HEADER, serves
from cheapdeep_ops.values import Grade

_PATIENCE_S: Final = 60.0
_UNAUTHORIZED: Final = 401
_SERVER_ERROR: Final = 500
_LONGEST_SAID: Final = 500


class RemoteGuard(GuardClient):
    """`Controls` of the guard that answers at `url`; what a method does is said there."""

    def __init__(self, url: str, token: SecretStr | None) -> None:
        parts = urlsplit(url)
        # A user's password stays out of what is said.
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
        self._has_token = token is not None
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        self._client = httpx2.Client(base_url=f"{url.rstrip('/')}/api/v1/", headers=headers, timeout=_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def status(self) -> Found:
        return self._one("GET", "status")

    def report(self, last_s: float) -> Found:
        return self._one("GET", "report", params={"last_s": last_s})

    def trends(self, *, since: float, until: float) -> Found:
        return self._one("GET", "report/trends", params={"since": since, "until": until})

    def policy(self) -> Found:
        return self._one("GET", "policy")

    def pin(self, threshold: float, *, route: str, author: str, why: str) -> Found:
        return self._one("PUT", "policy/pin", json={"threshold": threshold, "route": route, **_by(author, why)})

    def release(self, *, route: str, author: str, why: str) -> Found:
        return self._one("DELETE", "policy/pin", json={"route": route, **_by(author, why)})

    def normal(self) -> Found:
        return self._one("GET", "normal")

    def relearn(self, *, route: str, author: str, why: str) -> Found:
        return self._one("POST", "normal/relearn", json={"route": route, **_by(author, why)})

    def acknowledge(self, incident_id: int, *, author: str, why: str) -> Found:
        return self._one("POST", f"incidents/{incident_id}/ack", json=_by(author, why))

    def silences(self) -> list[Found]:
        return self._all("GET", "silences")

    def silence(self, rule: str, *, route: str | None, lasts_s: float, author: str, why: str) -> list[Found]:
        return self._all("POST", "silences", json={"rule": rule, "route": route, "for_s": lasts_s, **_by(author, why)})

    def unsilence(self, silence_id: int, *, author: str, why: str) -> list[Found]:
        return self._all("DELETE", f"silences/{silence_id}", json=_by(author, why))

    def review(self, route: str) -> Found:
        return self._one("GET", "review", params={"route": route})

    def next_sample(self, route: str, *, skipped: Collection[str]) -> Found | None:
        found: Found | None = self._ask("GET", "review/next", params={"route": route, "skip": list(skipped)})
        return found

    def label(self, given: Sequence[tuple[str, Grade]], *, author: str) -> list[Found]:
        said = [{"call_id": call_id, "verdict": verdict.value} for call_id, verdict in given]
        return self._all("POST", "labels/batch", json={"labels": said, "author": author})

    def _one(self, method: str, path: str, **content: Any) -> Found:
        found: Found = self._ask(method, path, **content)
        return found

    def _all(self, method: str, path: str, **content: Any) -> list[Found]:
        found: list[Found] = self._ask(method, path, **content)
        return found

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
        """Raise what an answer amounts to unless it is a guard's own, and a good one."""
        found = answer.headers.get(VERSION_HEADER, "")
        if not serves(found):
            self._refuse_version(answer.status_code, found)
        if answer.is_success:
            return
        if answer.status_code == _UNAUTHORIZED:
            wrong = "does not know the token in" if self._has_token else "wants a token in"
            raise RemoteError(
                f"the guard at {self._shown} {wrong} CHEAPDEEP_GUARD_TOKEN: one of those in its CHEAPDEEP_API_TOKENS"
            )
        said = _said(answer)
        # Its refusals are what the same order would raise at its store.
        raises = _ERRORS.get(answer.status_code)
        if raises is not None:
            raise raises(said)
        raise RemoteError(f"the guard at {self._shown} answers {answer.status_code}: {said}")

    def _refuse_version(self, status: int, found: str) -> NoReturn:
        if not found and status >= _SERVER_ERROR:
            raise RemoteError(f"no guard answers at {self._shown}: HTTP {status}")
        if not found:
            raise RemoteError(
                f"what answers at {self._shown} (HTTP {status}) is no guard, or an older one: its answer has no "
                f"{VERSION_HEADER}, and this command needs {API_VERSION}"
            )
        raise RemoteError(
            f"the guard at {self._shown} is of another version: it speaks API {found}, and this command needs "
            f"{API_VERSION} or a later {API_VERSION.partition('.')[0]}.x"
        )


_ERRORS: Final[Mapping[int, type[Exception]]] = {404: MissingError, 409: PolicyError, 422: PolicyError, 503: StoreError}


def _by(author: str, why: str) -> dict[str, str]:
    return {"author": author, "why": why}


def _said(answer: httpx2.Response) -> str:
    """What a refusal says, on one line."""
    try:
        said = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = answer.text
    if isinstance(said, list):
        said = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in said)
    return str(said)[:_LONGEST_SAID]
