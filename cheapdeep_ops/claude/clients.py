"""SDK clients for the router: without the SDK's tracing, with connections that stay open between calls."""

import inspect
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Final, TypeVar, Unpack

import httpx2
from anthropic import (
    DEFAULT_TIMEOUT,
    Anthropic,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncAnthropic,
    BadRequestError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    UnprocessableEntityError,
    _constants,
)

from cheapdeep_ops.claude.params import AsyncClientOptions, ClientOptions
from cheapdeep_ops.claude.retry_wait import BoundedRetryWait

_LIMITS: Final = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=60.0)
"""The SDK's own limits, but idle connections stay open 60 s, not httpx2's 5: sparse traffic keeps its TLS session."""

_REQUEST_ERRORS: Final = frozenset({400, 409, 413, 422})
"""Statuses that the request caused. Source: https://platform.claude.com/docs/en/api/errors"""

_RAW_RESPONSE: Final = "X-Stainless-Raw-Response"
"""The header by which the SDK's `with_raw_response` and `with_streaming_response` mark a call."""

_TEMPORARY_ERRORS: Final = frozenset({408, 429})
_FIRST_SERVER_ERROR: Final = 500

AnyClient = TypeVar("AnyClient", Anthropic, AsyncAnthropic)


def make_client(**options: Unpack[ClientOptions]) -> Anthropic:
    """A client with the SDK's own `options`; the SDK reads the others from the environment.

    The SDK's tracing is off, unless `open_telemetry` switches it on.
    """
    # The router makes one span for each model call; the SDK's span would count the call twice.
    all_options: ClientOptions = {"open_telemetry": False, **options}
    if not all_options.get("http_client"):
        all_options["http_client"] = DefaultHttpxClient(limits=_LIMITS)
    return Anthropic(**all_options)


def client_arguments() -> frozenset[str]:
    """The names of the arguments of the SDK's clients, in the installed version."""
    return frozenset(inspect.signature(Anthropic).parameters)


def make_async_client(**options: Unpack[AsyncClientOptions]) -> AsyncAnthropic:
    """An asyncio client with the SDK's own `options`, as `make_client` makes a synchronous one."""
    all_options: AsyncClientOptions = {"open_telemetry": False, **options}
    if not all_options.get("http_client"):
        all_options["http_client"] = DefaultAsyncHttpxClient(limits=_LIMITS)
    return AsyncAnthropic(**all_options)


def triage_client(client: AnyClient, *, timeout_s: float) -> AnyClient:
    """A view of `client` that never retries and waits at most `timeout_s` seconds.

    A failed triage call escalates instead.
    """
    own_timeout = client.timeout
    limit = min(own_timeout, timeout_s) if isinstance(own_timeout, int | float) else timeout_s
    # The SDK would wait as long as a Retry-After header says, which has no upper bound.
    return client.with_options(max_retries=0, timeout=limit)


def original_client(client: AnyClient) -> AnyClient:
    """A view of `client` with its retries, but no wait before a retry is longer than one attempt's timeout."""
    # First in the list is outermost: it must see the response before the SDK decides on a retry.
    return client.with_options(middleware=[BoundedRetryWait(), *client.middleware])


def share_defaults(router: object, client: Anthropic | AsyncAnthropic) -> None:
    """Give `router` the attributes of `client` for which the SDK's classes have defaults; it reads all others there."""
    for name, value in vars(client).items():
        default = _class_attribute(router, name)
        if hasattr(type(router), name) and not (callable(default) or isinstance(default, cached_property)):
            vars(router)[name] = value
    if type(client) not in (Anthropic, AsyncAnthropic):
        # A subclass may sign and prepare requests in its own way.
        vars(router)["request"] = client.request


def without_resources(client: object) -> dict[str, object]:
    """The attributes of `client` without `messages`, `models` and the like, which each belong to one client."""
    resources = {name for name in vars(client) if isinstance(_class_attribute(client, name), cached_property)}
    return {name: value for name, value in vars(client).items() if name not in resources}


def _class_attribute(client: object, name: str) -> object:
    return getattr(type(client), name, None)


def max_connections_of(client: Anthropic | AsyncAnthropic) -> int | None:
    """The size of the client's connection pool; None if it is unknown or unbounded."""
    # httpx2 2.x has no public attribute for it.
    pool = getattr(getattr(client._client, "_transport", None), "_pool", None)  # noqa: SLF001
    most = getattr(pool, "_max_connections", None)
    return most if isinstance(most, int) and most < sys.maxsize else None


def is_bad_request(error: BaseException) -> bool:
    """Whether the API calls the request invalid."""
    # Gateways answer 422 to a field that they do not know.
    return isinstance(error, (BadRequestError, UnprocessableEntityError))


def is_tier_failure(error: BaseException) -> bool:
    """Whether the model's service caused the failure; False for a wrong request or a cancelled call."""
    if isinstance(error, APIStatusError):
        return error.status_code not in _REQUEST_ERRORS
    return isinstance(error, (APIConnectionError, httpx2.TransportError, TimeoutError))


def is_outage(error: BaseException) -> bool:
    """Whether a model's service is unavailable for now; False for errors that the caller can fix."""
    if isinstance(error, APIStatusError):
        return error.status_code in _TEMPORARY_ERRORS or error.status_code >= _FIRST_SERVER_ERROR
    return isinstance(error, (APIConnectionError, httpx2.TransportError))


def is_timeout(error: BaseException) -> bool:
    """Whether a call exceeded its timeout."""
    return isinstance(error, (APITimeoutError, httpx2.TimeoutException, TimeoutError))


def triage_stream_client(client: AnyClient) -> AnyClient:
    """A view of `client` for triage streams: it never retries and keeps the client's timeout."""
    # The router itself limits the time to the first event; the rest of a stream may take longer.
    return client.with_options(max_retries=0)


def abort_response(response: httpx2.Response) -> None:
    """End a response while another thread waits for its body."""
    # Closing the response would not wake that thread; shutting the socket down does.
    network = response.extensions.get("network_stream")
    sock = network.get_extra_info("socket") if network is not None else None
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def wants_raw_response(params: Mapping[str, object]) -> bool:
    """Whether the caller wants the response itself, which comes from one model: such a call cannot be routed."""
    headers = params.get("extra_headers")
    return isinstance(headers, Mapping) and _RAW_RESPONSE in headers


def refuses_unstreamed(client: Anthropic | AsyncAnthropic, params: Mapping[str, Any], *, model: str) -> bool:
    """Whether `client` will not send the request to `model` without streaming, because it may take too long.

    As `messages.create` of anthropic 2.12 decides: a timeout of the caller's, for the call or the client, permits it.
    """
    # The SDK has no public function for it, so another version may lack this one.
    check = getattr(client, "_calculate_nonstreaming_timeout", None)
    if check is None or "timeout" in params or client.timeout != DEFAULT_TIMEOUT:
        return False
    limits: Mapping[str, int] = getattr(_constants, "MODEL_NONSTREAMING_TOKENS", {})
    try:
        check(params.get("max_tokens"), limits.get(model))
    except Exception:  # noqa: BLE001 - whatever the SDK raises here, it raises when the request is sent too
        return True
    return False


def make_client_for(base_url: str, *, api_key: str) -> Anthropic:
    """A client for the server at `base_url`, such as a simulated one; it ignores the environment's proxies."""
    http_client = DefaultHttpxClient(limits=_LIMITS, trust_env=False)
    return Anthropic(base_url=base_url, api_key=api_key, http_client=http_client, open_telemetry=False)
