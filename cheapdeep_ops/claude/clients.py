"""Clients of the SDK as the router wants them: no tracing of their own, connections that outlive pauses."""

import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Final, TypeVar, Unpack

import httpx2
from anthropic import (
    Anthropic,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncAnthropic,
    BadRequestError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
)

from cheapdeep_ops.claude.params import AsyncClientOptions, ClientOptions
from cheapdeep_ops.claude.retry_wait import BoundedRetryWait

_LIMITS: Final = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=60.0)
"""The SDK's own limits, but idle connections live 60 s instead of httpx2's 5: sparse traffic keeps its TLS session."""

_OF_THE_REQUEST: Final = frozenset({400, 409, 413, 422})
"""Source: https://platform.claude.com/docs/en/api/errors"""

_RAW_RESPONSE: Final = "X-Stainless-Raw-Response"
"""The header by which the SDK's `with_raw_response` and `with_streaming_response` mark a call."""

_FOR_NOW: Final = frozenset({408, 429})
_SERVERS: Final = 500

AnyClient = TypeVar("AnyClient", Anthropic, AsyncAnthropic)


def make_client(**options: Unpack[ClientOptions]) -> Anthropic:
    """A client with the SDK's own `options`, for the API that the environment names where they do not.

    It makes no spans of its own, where `open_telemetry` does not say otherwise.
    """
    chosen: ClientOptions = {"open_telemetry": False, **options}
    if not chosen.get("http_client"):
        chosen["http_client"] = DefaultHttpxClient(limits=_LIMITS)
    return Anthropic(**chosen)


def make_async_client(**options: Unpack[AsyncClientOptions]) -> AsyncAnthropic:
    """The same for asyncio."""
    chosen: AsyncClientOptions = {"open_telemetry": False, **options}
    if not chosen.get("http_client"):
        chosen["http_client"] = DefaultAsyncHttpxClient(limits=_LIMITS)
    return AsyncAnthropic(**chosen)


def for_triage(client: AnyClient, *, timeout_s: float) -> AnyClient:
    """A view of `client` that never retries and waits at most `timeout_s` seconds.

    Escalating is the retry; the SDK's own would wait as long as a Retry-After header says, which has no upper bound.
    """
    own = client.timeout
    limit = min(own, timeout_s) if isinstance(own, int | float) else timeout_s
    return client.with_options(max_retries=0, timeout=limit)


def for_originals(client: AnyClient) -> AnyClient:
    """A view of `client` that retries as it does, but begins no wait longer than the caller gives an attempt."""
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


def without_resources(client: object) -> dict[str, Any]:
    """The attributes of `client` without `messages`, `models` and the like, which each belong to one client."""
    resources = {name for name in vars(client) if isinstance(_class_attribute(client, name), cached_property)}
    return {name: value for name, value in vars(client).items() if name not in resources}


def _class_attribute(client: object, name: str) -> object:
    return getattr(type(client), name, None)


def connections_of(client: Anthropic | AsyncAnthropic) -> int | None:
    """How many connections `client` has at most; None where that is not known, or where there is no bound.

    Read from where httpx2 2.x keeps it, as it is told nowhere.
    """
    pool = getattr(getattr(client._client, "_transport", None), "_pool", None)  # noqa: SLF001
    most = getattr(pool, "_max_connections", None)
    return most if isinstance(most, int) and most < sys.maxsize else None


def is_refused(error: BaseException) -> bool:
    """Whether the API calls the request invalid."""
    return isinstance(error, BadRequestError)


def is_tiers_fault(error: BaseException) -> bool:
    """Whether a failed call says something of the model's service, and not of the request or of a caller who left."""
    if isinstance(error, APIStatusError):
        return error.status_code not in _OF_THE_REQUEST
    return isinstance(error, (APIConnectionError, httpx2.TransportError, TimeoutError))


def is_outage(error: BaseException) -> bool:
    """Whether a model's service cannot answer for now, whoever asks: nothing that a caller could mend."""
    if isinstance(error, APIStatusError):
        return error.status_code in _FOR_NOW or error.status_code >= _SERVERS
    return isinstance(error, (APIConnectionError, httpx2.TransportError))


def is_timeout(error: BaseException) -> bool:
    """Whether a call took longer than it was given."""
    return isinstance(error, (APITimeoutError, httpx2.TimeoutException, TimeoutError))


def for_triage_streams(client: AnyClient) -> AnyClient:
    """The same for streams, whose beginning is timed by whoever waits for it: what follows may take its time."""
    return client.with_options(max_retries=0)


def break_off(response: httpx2.Response) -> None:
    """End a response in whose body another thread is waiting: closing it would not wake that thread."""
    network = response.extensions.get("network_stream")
    connected = network.get_extra_info("socket") if network is not None else None
    if connected is not None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


def wants_raw_response(params: Mapping[str, Any]) -> bool:
    """Whether the caller wants the response itself, which comes from one model: such a call cannot be routed."""
    headers = params.get("extra_headers")
    return isinstance(headers, Mapping) and _RAW_RESPONSE in headers


def traces_itself(client: Anthropic | AsyncAnthropic) -> bool:
    """Whether the SDK makes a span of its own for every call of this client."""
    return bool(client.open_telemetry["traces"]["enabled"])


def make_client_for(base_url: str, *, api_key: str) -> Anthropic:
    """A client for a given server, such as a simulated one, whatever proxies the environment names."""
    http_client = DefaultHttpxClient(limits=_LIMITS, trust_env=False)
    return Anthropic(base_url=base_url, api_key=api_key, http_client=http_client, open_telemetry=False)
