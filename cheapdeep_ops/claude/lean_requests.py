"""Requests that differ in their body alone: the SDK builds the first one, and the others are copies of it.

The SDK needs a third of a call's time to build a request: it merges headers three times, and parses the URL.
"""

# ruff: noqa: SLF001 - the SDK has no public names for the parts of a request

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import httpx2
from anthropic import (
    Anthropic,
    AnthropicError,
    APIConnectionError,
    APITimeoutError,
    AsyncAnthropic,
    NotGiven,
    Omit,
    not_given,
    omit,
)
from anthropic._models import FinalRequestOptions

from cheapdeep_ops.claude.retry_wait import BoundedRetryWait

_log: Final = logging.getLogger(__name__)
_SDK_LOG: Final = logging.getLogger("anthropic._base_client")
_ENCODER: Final = json.JSONEncoder(check_circular=False, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
"""The SDK's settings for JSON; other than the SDK, it refuses types that need conversion.

In a body that contains itself it recurses until it fails. So the SDK gets the body, and says what is wrong.
"""

ENDS_WITHIN_S: Final = "cheapdeep_ends_within_s"
"""The extension of a request with the seconds after which its sender gives it up, wherever it waits then."""

_HEADERS_OF_ARGUMENTS: Final = frozenset({"anthropic-user-profile-id", "anthropic-workspace-id"})
"""Headers that the SDK makes from arguments. Without an argument, the client's header stays."""

_OWN: Final = frozenset({"params", "extra_json"})
"""Options of one request that change more than its body and its timeout."""

_TIMEOUTS: Final = (int, float, httpx2.Timeout, NotGiven)

_BUILDERS: Final = (httpx2.Client.build_request, httpx2.AsyncClient.build_request)


class RequestTemplate:
    """What the requests of one client have in common. The client is of the SDK's own class.

    `extensions` are added to those of each request.
    """

    def __init__(self, client: Anthropic | AsyncAnthropic, path: str, extensions: Mapping[str, object]) -> None:
        self._client, self._path, self._extensions = client, path, extensions
        self._made: tuple[object, httpx2.Request] | None = None

    def filled(self, request: Mapping[str, Any]) -> httpx2.Request | None:
        """The request for these arguments of `post`; None if the SDK must build and send it."""
        try:
            return self._filled(request)
        # The SDK can send an open file or a date, and says best what is wrong with a request. Another version of it may
        # lack a name that is used here: a call must not fail for that.
        except Exception:  # noqa: BLE001
            _log.debug("the SDK builds a request that cannot be copied", exc_info=True)
            return None

    def _filled(self, request: Mapping[str, Any]) -> httpx2.Request | None:
        options = request["options"]
        if not (self._only_sends() and _is_usual(options)):
            return None
        given = {name: value for name, value in request["body"].items() if not isinstance(value, Omit)}
        body = _ENCODER.encode(given).encode()
        made, cookies = self._newest(options.get("timeout", not_given)), self._client._client.cookies
        filled = httpx2.Request(
            "POST",
            made.url,
            headers=made.headers,
            stream=httpx2.ByteStream(body),
            # A transport or a hook may change the timeout of one request.
            extensions={**made.extensions, "timeout": {**made.extensions["timeout"]}},
            cookies=cookies if len(cookies.jar) else None,  # they may come with any response
        )
        filled.headers.encoding = made.headers.encoding
        filled.headers["Content-Length"] = str(len(body))
        filled.read()  # so that hooks can look at its content
        return filled

    def _only_sends(self) -> bool:
        """Whether the client adds nothing to the template, and retries no request or takes a failed attempt."""
        client: Any = self._client
        # On asyncio, the SDK finds the platform out at the first request, in a thread.
        is_ready = client._platform is not None or isinstance(client, Anthropic)
        middleware = client.middleware
        takes_attempts = not (middleware or client.max_retries) or [*map(type, middleware)] == [BoundedRetryWait]
        has_keys = client._idempotency_header is not None  # each request needs a key of its own
        builder = getattr(client._client.build_request, "__func__", None)
        adds_nothing = not has_keys and client.custom_auth is None and builder in _BUILDERS
        return is_ready and takes_attempts and adds_nothing and not _SDK_LOG.isEnabledFor(logging.DEBUG)

    def _newest(self, timeout: Any) -> httpx2.Request:
        """The request to copy; the SDK builds another one after a change of the client's headers or timeout."""
        client: Any = self._client
        http = client._client
        # The query as text, because a value of it may be a list that changes.
        made_of = (
            dict(client._custom_headers),
            repr(dict(client._custom_query)),
            http.headers.raw,
            http.params,
            timeout,
        )
        if self._made is None or self._made[0] != made_of:
            options = FinalRequestOptions.construct(method="post", url=self._path, json_data={}, timeout=timeout)
            made = client._build_request(options)
            del made.headers["Content-Length"]
            if not _has_own_cookie(client):
                made.headers.pop("Cookie", None)
            made.extensions.update(self._extensions)
            # httpx2 would find it out for each request, from all headers. A hook may add one that is not ASCII.
            made.headers.encoding = "utf-8" if made.headers.encoding == "ascii" else made.headers.encoding
            self._made = made_of, made
        return self._made[1]


def _has_own_cookie(client: Any) -> bool:
    """Whether the client has a `Cookie` header of its own, which replaces the cookies of responses."""
    given = {name.lower(): value for name, value in client._custom_headers.items()}
    return "cookie" in client._client.headers or not isinstance(given.get("cookie", omit), Omit)


def _is_usual(options: Mapping[str, Any]) -> bool:
    """Whether a request has no headers, query or fields of its own."""
    if not (_OWN.isdisjoint(options) and isinstance(options.get("timeout", not_given), _TIMEOUTS)):
        return False
    for name, value in (options.get("headers") or {}).items():
        if not isinstance(value, Omit) or name not in _HEADERS_OF_ARGUMENTS:
            return False
    return True


def sdk_error(request: httpx2.Request, error: Exception) -> Exception:
    """The SDK's error for a request that got no response because of `error`."""
    if isinstance(error, AnthropicError):  # a transport may raise one
        return error
    kind = APITimeoutError if isinstance(error, httpx2.TimeoutException) else APIConnectionError
    made: Exception = kind(request=request)
    made.__cause__ = error
    return made
