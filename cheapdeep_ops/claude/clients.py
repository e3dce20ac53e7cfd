"""SDK clients for the router: without the SDK's tracing, with connections that stay open between calls."""

import inspect
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from operator import is_
from traceback import walk_tb
from types import FunctionType
from typing import Any, Final, Generic, NamedTuple, TypeVar, Unpack

import httpx2
from anthropic import (
    DEFAULT_TIMEOUT,
    Anthropic,
    AnthropicError,
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

from cheapdeep_ops.claude.lean_messages import AsyncLeanMessages, LeanMessages
from cheapdeep_ops.claude.lean_requests import ENDS_WITHIN_S
from cheapdeep_ops.claude.params import AsyncClientOptions, ClientOptions
from cheapdeep_ops.claude.retry_wait import BoundedRetryWait

_AsyncHttpClient: type[httpx2.AsyncClient] = DefaultAsyncHttpxClient
"""The HTTP client of an asyncio client; aiohttp's where it is installed, because it takes less CPU."""
with suppress(ImportError):
    from cheapdeep_ops.claude.aiohttp_client import LoopAioHttpClient as _AsyncHttpClient

_LIMITS: Final = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=60.0)
"""The SDK's own limits, but idle connections stay open 60 s, not httpx2's 5: sparse traffic keeps its TLS session."""

_REQUEST_ERRORS: Final = frozenset({400, 409, 413, 422})
"""Statuses that the request caused. Source: https://platform.claude.com/docs/en/api/errors"""

_REQUEST_FAILURES: Final = (AnthropicError, httpx2.HTTPError, OSError)

_BELOW_A_REQUEST: Final = sys.stdlib_module_names | {
    "", "aiohappyeyeballs", "aiohttp", "anthropic", "anyio", "cheapdeep_ops", "h11", "h2", "httpcore2", "httpx2",
    "idna", "multidict", "pydantic", "pydantic_core", "yarl",
}  # fmt: skip
"""The packages that a request runs through. Others raise into it from outside, such as a signal's handler."""

_RAW_RESPONSE: Final = "X-Stainless-Raw-Response"
"""The header by which the SDK's `with_raw_response` and `with_streaming_response` mark a call."""

_TEMPORARY_ERRORS: Final = frozenset({408, 429})
_FIRST_SERVER_ERROR: Final = 500

_CLIENTS: Final = (Anthropic, AsyncAnthropic)

_LEAN: Final[Mapping[type, type[Any]]] = {Anthropic: LeanMessages, AsyncAnthropic: AsyncLeanMessages}
"""The classes of `messages` in the router's copies of a client of the SDK's own class."""

_WHOLE: Final[Mapping[str, Any]] = {"is_raw": False}

RESOURCES: Final = frozenset(
    name for client in _CLIENTS for name, value in vars(client).items() if isinstance(value, cached_property)
)
"""The names of `messages`, `models` and the like in a client."""

_SENDING: Final = frozenset({"create", "stream", "parse", "post", "request", "_request"})
"""Methods that instrumentation replaces in a client, or in its `messages`."""

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
        all_options["http_client"] = async_http_client()
    return AsyncAnthropic(**all_options)


def async_http_client() -> httpx2.AsyncClient:
    """The HTTP client of an asyncio client that has none of its own."""
    return _AsyncHttpClient(limits=_LIMITS)


class Views(NamedTuple, Generic[AnyClient]):
    """What the model calls of a router are sent through; `is_as_given` if that is the caller's client itself."""

    triage: AnyClient
    triage_streams: AnyClient
    original: AnyClient
    is_as_given: bool


class CallClients(Generic[AnyClient]):
    """Copies of the caller's client for calls. A change of the client holds for the next call.

    A client that sends in its own way is used as it is: a copy would not do what its owner added.
    """

    def __init__(self, client: AnyClient, *, triage_timeout_s: float) -> None:
        self._client: AnyClient = client
        self._triage_timeout_s = triage_timeout_s
        # A thread cannot be stopped: the triage timeout holds for each of its reads.
        is_limited = issubclass(type(client), AsyncAnthropic)
        self._raw: Mapping[str, Any] = {
            "is_raw": True,
            "extensions": {ENDS_WITHIN_S: triage_timeout_s} if is_limited else {},
        }
        self._made: tuple[list[object], Views[AnyClient]] = self._make()

    def now(self) -> Views[AnyClient]:
        """The copies of the client as it is now."""
        made_of, _ = self._made
        parts = _parts(self._client)
        if len(parts) != len(made_of) or not all(map(is_, parts, made_of)):
            self._made = self._make()
        return self._made[1]

    def _make(self) -> tuple[list[object], Views[AnyClient]]:
        client: AnyClient = self._client
        parts = _parts(client)
        if _sends_in_its_own_way(client):
            return parts, Views(client, client, client, is_as_given=True)
        own_timeout, limit = client.timeout, self._triage_timeout_s
        limit = min(own_timeout, limit) if isinstance(own_timeout, int | float) else limit
        # A failed triage call escalates instead of a retry. The SDK would wait as long as a Retry-After header says.
        triage = _copy_of(client, self._raw, max_retries=0, _timeout=limit, _timeout_overridden=True)
        # The router itself limits the time to the first event; the rest of a stream may take longer.
        triage_streams = _copy_of(client, max_retries=0)
        # First in the list is outermost: it must see the response before the SDK decides on a retry.
        original = _copy_of(client, _middleware=(BoundedRetryWait(), *client.middleware))
        return parts, Views(triage, triage_streams, original, is_as_given=False)


def _parts(client: Anthropic | AsyncAnthropic) -> list[object]:
    """The attributes of a client and of its `messages`: if they are the same objects, the client is unchanged."""
    messages = client.messages  # first, because the SDK makes it on demand and keeps it as an attribute
    own = vars(client).values()
    if type(client) in _CLIENTS:  # which have no slots
        return [*own, *vars(messages).values()]
    return [*own, *_attributes(client)[1].values(), *vars(messages).values()]


def _attributes(client: object) -> tuple[dict[str, object], dict[str, object]]:
    """The attributes of `client` in its `__dict__`, and those in slots of a subclass."""
    state: Any = object.__getstate__(client)
    return state if isinstance(state, tuple) else (state, {})


def _sends_in_its_own_way(client: Anthropic | AsyncAnthropic) -> bool:
    """Whether it is a wrapper, or a library has put its own `messages` or methods into it."""
    messages = client.messages
    is_of_the_sdk = issubclass(type(client), _CLIENTS) and type(messages).__module__.partition(".")[0] == "anthropic"
    return not is_of_the_sdk or not _SENDING.isdisjoint([*vars(client), *vars(messages)])


def _copy_of(client: AnyClient, lean_options: Mapping[str, Any] = _WHOLE, **changed: object) -> AnyClient:
    """A shallow copy of `client`, with its class and its attributes but those `changed`.

    `lean_options` are those of its lean `messages`, if it may have one.
    """
    # `with_options` would call the constructor, which a subclass may have changed, and lose other attributes.
    made = object.__new__(type(client))
    attributes, slots = _attributes(client)
    # A resource, such as `models`, belongs to one client.
    own = {name: value for name, value in attributes.items() if getattr(value, "_client", None) is not client}
    vars(made).update(own, **changed)
    for name, value in slots.items():
        object.__setattr__(made, name, value)
    # A middleware of the caller, or a function in place of a method, may look at what the SDK makes.
    is_changed = any(isinstance(getattr(type(client), name, None), FunctionType) for name in attributes)
    lean = None if is_changed or client.middleware or client.base_url.query else _LEAN.get(type(client))
    if lean is not None:
        vars(made)["messages"] = lean(made, **lean_options)
    if made._middleware:  # the SDK has no public way to change it
        made._middleware_chain = made._build_middleware_chain()
    return made


def resource_of(client: Anthropic | AsyncAnthropic, name: str, *, sending_through: object) -> object:
    """The client's `models`, `beta` or the like, made for a router, unless a library has put its own there."""
    make, own = getattr(type(client), name, None), vars(client).get(name)
    is_of_the_sdk = own is None or _package(type(own).__module__) == "anthropic"
    return make.func(sending_through) if isinstance(make, cached_property) and is_of_the_sdk else getattr(client, name)


def request_method(client: Anthropic | AsyncAnthropic) -> Callable[..., Any] | None:
    """The method by which another class than the SDK's own sends a request; None for the SDK's own."""
    # Not the client's attribute: instrumentation of a router replaces that by a function that calls the router.
    method: Any = getattr(type(client), "request", None)
    if type(client) in _CLIENTS:
        return None
    return method.__get__(client) if method else client.request


def unrouted_way(options: Any) -> str | None:
    """In which way a request asks for an answer without the router; None if it asks for something else."""
    path = options.url.partition("?")[0].rstrip("/")
    if options.method.lower() != "post" or not path.endswith(("v1/messages", "v1/messages/batches")):
        return None
    if path.endswith("batches"):
        return "messages.batches"
    if getattr(options, "qualifiers", None) or "beta=true" in options.url:
        return "beta.messages"
    if wants_raw_response({"extra_headers": options.headers}):
        return "with_raw_response"
    return "messages.parse without output_format, or post"


def max_connections_of(client: Anthropic | AsyncAnthropic) -> int | None:
    """The size of the client's connection pool; None if it is unknown or unbounded."""
    # httpx2 2.x has no public attribute for it; a transport of aiohttp has `limits`.
    transport = getattr(client._client, "_transport", None)  # noqa: SLF001
    limits, pool = getattr(transport, "limits", None), getattr(transport, "_pool", None)
    most = getattr(limits, "max_connections", None) or getattr(pool, "_max_connections", None)
    return most if isinstance(most, int) and most < sys.maxsize else None


def interruption(error: Exception) -> BaseException | None:
    """The exception from outside that interrupted a request, such as a signal handler's; None if the request failed."""
    chain = iter(_chain(error))
    raised = next(filter(_is_from_outside, chain), None)
    # The caller's middleware may tell of a failed request by an error of its own.
    return None if any(isinstance(cause, _REQUEST_FAILURES) for cause in chain) else raised


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from: the SDK and httpx2 wrap what is raised while they send."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        # httpcore2 hides the cause. Any other context may be an exception that the caller of the router is handling.
        error = error.__context__ if _package(type(error).__module__) == "httpcore2" else error.__cause__
    return chain


def _is_from_outside(error: BaseException) -> bool:
    if isinstance(error, _REQUEST_FAILURES) and not isinstance(error, TimeoutError):
        return False
    return not {_package(type(error).__module__), _package(_module_that_raised(error))} <= _BELOW_A_REQUEST


def _module_that_raised(error: BaseException) -> str:
    frames = [frame for frame, _line in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")) if frames else ""


def _package(module: str) -> str:
    return module.partition(".")[0]


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
