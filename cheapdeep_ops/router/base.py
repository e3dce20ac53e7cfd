"""What `Router` and `AsyncRouter` have in common: how they are made, how they are clients, and their views."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, wraps
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from cheapdeep_ops.flow import Bypass
from cheapdeep_ops.recorder import NullRecorder, share_recorder
from cheapdeep_ops.recorder.spending import Spending
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.router.arguments import check_arguments
from cheapdeep_ops.router.calls import Call, Sink
from cheapdeep_ops.router.core import CallRunner
from cheapdeep_ops.router.decisions import DecisionBuilder
from cheapdeep_ops.router.forks import renew_after_fork
from cheapdeep_ops.router.model_call import ModelCaller, is_asking
from cheapdeep_ops.router.planner import CallPlanner
from cheapdeep_ops.router.provider import (
    RESOURCES,
    Anthropic,
    AnyClient,
    CallClients,
    Params,
    claude,
    max_connections_of,
    refuses_unstreamed,
    request_method,
    resource_of,
    unrouted_way,
)
from cheapdeep_ops.router.refusals import refused_parts_of
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import BypassCause

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings


_log: Final = logging.getLogger(__name__)

_KEPT: Final = ("api_key", "auth_token", "base_url", "max_retries", "timeout", "webhook_key")
"""Attributes of a client that callers set; its connections are renewed after a fork, these are not."""

_OF_ITS_CLASS: Final = (
    "_gen_ai_provider_name", "_otel_platform", "_supports_message_threads", "auth_headers", "default_headers",
    "user_agent",
)  # fmt: skip
"""What a subclass of the SDK's client may say in its own way."""

_warned_of: Final[set[str]] = set()


class _OfTheClient:
    """An attribute that the router takes from its client."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, router: "RouterBase[Any] | None", _kind: type) -> Any:
        return self if router is None else getattr(router._sdk, self._name)  # noqa: SLF001 - a part of that class


class _Resource:
    """`messages`, `models` and the like: made when it is first used, and kept beside the shared attributes."""

    def __init__(self, make: Callable[[Any], object], name: str = "") -> None:
        self._make, self._name = make, name or make.__name__

    def __get__(self, router: "RouterBase[Any] | None", _kind: type) -> Any:
        if router is None:
            return self
        made = router._resources  # noqa: SLF001
        if self._name not in made:
            made[self._name] = self._make(router)
        return made[self._name]

    def __set__(self, router: "RouterBase[Any]", value: object) -> None:
        router._resources[self._name] = value  # noqa: SLF001


if TYPE_CHECKING:
    own_resource = cached_property  # to type checkers, because a caller sees no difference
else:
    own_resource = _Resource


class RouterBase(ABC, Generic[AnyClient]):
    """A router without the waiting. It is a client of the SDK, and shares all attributes with the client `_sdk`.

    `_sdk` is the client that was given or made. An attribute that is set on one of the two is set on the other as well.
    What only a subclass of the router knows is in `_own`: two routers over one client differ in it.
    """

    # The router's own attributes are in slots, because its `__dict__` is that of the client.
    __slots__ = (
        "_calls", "_core", "_is_closed", "_is_view", "_options", "_own", "_owns_client", "_owns_recorder", "_readers",
        "_resources", "_sdk",
    )  # fmt: skip

    _sdk: AnyClient
    _calls: CallClients[AnyClient]
    _resources: dict[str, object]
    _own: dict[str, object]

    def _set_up(
        self,
        client: AnyClient | None,
        options: Mapping[str, object],
        *,
        settings: "Settings | None",
        route: str,
        telemetry: Telemetry | None,
        recorder: Sink | None,
        redact: Redact,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        check_arguments(self, settings=settings, client=client, options=options)
        settings = settings or _default_settings()
        _reject_options(client, options)
        self._owns_client, self._owns_recorder = client is None, recorder is None
        self._options, self._is_view, self._is_closed = options, False, False
        self._own = dict(vars(self))  # what a subclass has set before
        vars(self).clear()
        self._use(self._make_client() if client is None else client, settings.triage_timeout_s)
        telemetry = telemetry or Telemetry()
        planner = CallPlanner(
            settings, route=route, clock=clock, new_id=new_id, on_refusal=telemetry.record_refused_part
        )
        decisions = DecisionBuilder(settings, planner.prompt, at=clock())
        models = ModelCaller(planner, decisions, telemetry)
        recorder = recorder or _recorder(settings, telemetry, redact)
        refused = refused_parts_of(self._sdk)
        self._core = CallRunner(planner, decisions, models, telemetry=telemetry, recorder=recorder, refused=refused)
        if self._owns_client and not options.get("http_client"):
            renew_after_fork(self, RouterBase._renew_client)

    @abstractmethod
    def _make_client(self) -> AnyClient:
        """A client with the router's `_options`."""

    def _use(self, client: AnyClient, triage_timeout_s: float) -> None:
        client = client._sdk if isinstance(client, RouterBase) else client  # noqa: SLF001 - a router too
        # What the caller has set on the client before a view or a renewal of it.
        own = {name: value for name, value in vars(self).items() if not hasattr(type(client), name)}
        vars(client).update({**own, **vars(client)})
        object.__setattr__(self, "__dict__", vars(client))
        self._sdk, self._resources = client, {}
        self._calls = CallClients(client, triage_timeout_s=triage_timeout_s)

    def _renew_client(self) -> AnyClient:
        """Connect anew after a fork; returns the parent's client."""
        inherited, client = self._sdk, self._make_client()
        for name in _KEPT:  # a caller may have set them since the options were given
            if getattr(client, name) != getattr(inherited, name):
                setattr(client, name, getattr(inherited, name))
        self._use(client, self._core.planner.settings.triage_timeout_s)
        return inherited

    if not TYPE_CHECKING:  # a type checker knows the attributes of a client, and finds misspelt ones

        def __getattr__(self, name: str) -> Any:
            """An attribute of a subclass of the router, or one that only the class of the client has."""
            if name.startswith("__") or name in RouterBase.__slots__:
                raise AttributeError(name)
            return self._own[name] if name in self._own else getattr(self._sdk, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if hasattr(type(self), name) or not hasattr(self, "_sdk") or hasattr(self._sdk, name):
                object.__setattr__(self, name, value)
            else:
                self._own[name] = value

        def __delattr__(self, name: str) -> None:
            if name in self._own:
                del self._own[name]
            else:
                object.__delattr__(self, name)

        @wraps(Anthropic.copy, assigned=())
        def copy(self, **options: Any) -> Self:
            """A view of this router whose client has other options, as the SDK's `copy`; closing it closes nothing.

            It is not renewed after a fork: make it where it is used.
            """
            return self._view(self._sdk.copy(**options), self._core.for_view(options))

        with_options = copy

        def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
            """Send a request that is not routed, as a subclass of the SDK's client or of the router does."""
            _warn_if_unrouted(options)
            send = request_method(self._sdk) or super().request
            return send(cast_to, options, **more)

        def _resource(self, name: str) -> object:
            return resource_of(self._sdk, name, sending_through=self)

    def __copy__(self) -> Self:
        """A view of this router with its client."""
        return self._view(self._sdk, self._core)

    def _view(self, client: AnyClient, core: CallRunner) -> Self:
        # Not by the constructor, which would make a client and a recorder.
        view = object.__new__(type(self))
        for name in RouterBase.__slots__:
            setattr(view, name, getattr(self, name))
        view._own = dict(self._own)
        vars(view).update(vars(self))
        view._is_view, view._core = True, core
        view._use(client, core.planner.settings.triage_timeout_s)
        return view

    def is_closed(self) -> bool:
        """Whether the router or its client was closed."""
        return self._is_closed or self._sdk.is_closed()

    @property
    def spending(self) -> Spending:
        """The budgets of this process, and what it has spent of them."""
        return self._core.spending

    @property
    def _triage(self) -> AnyClient:
        return self._calls.now().triage

    @property
    def _triage_streams(self) -> AnyClient:
        return self._calls.now().triage_streams

    @property
    def _originals(self) -> AnyClient:
        return self._calls.now().original

    @property
    def _connections(self) -> int | None:
        return max_connections_of(self._sdk)

    def _skip_futile_triage(self, call: Call, client: AnyClient) -> None:
        """Send a whole request at once to the deep tier if `client` refuses it there: its error comes before any cost.

        Otherwise it would depend on the question whether the caller gets an error, and triage would be paid for.
        """
        deep = call.tiers[-1]
        if call.bypass is None and refuses_unstreamed(client, call.params, model=deep.model):
            call.bypass = Bypass(tier=deep, cause=BypassCause.MALFORMED_REQUEST)

    def _wait_limit(self, call: Call) -> AbstractContextManager[None]:
        """Inside, no wait of the SDK before a retry is longer than the caller gives an attempt."""
        return claude.retry_wait_limit(call.params.get("timeout", self._sdk.timeout))


for _name in _OF_ITS_CLASS:
    setattr(RouterBase, _name, _OfTheClient(_name))
for _name in RESOURCES:
    setattr(RouterBase, _name, _Resource(methodcaller("_resource", _name), _name))


def _warn_if_unrouted(options: object) -> None:
    """Say once for each way that answers which are asked for in this way are not routed."""
    # Instrumentation that replaces a router's `request` sends routed calls through it.
    way = None if is_asking.get() else unrouted_way(options)
    if way and way not in _warned_of:
        _warned_of.add(way)
        _log.warning("%s: such calls are neither routed nor counted; the model that they name answers", way)


def _default_settings() -> "Settings":
    """The settings of the environment. Raises SettingsError if they are not valid."""
    # Imported here, because pydantic-settings takes longer to load than the rest of the router.
    from cheapdeep_ops.settings import Settings  # noqa: PLC0415

    return Settings()


def _reject_options(client: object, options: Iterable[str]) -> None:
    """Raises TypeError if both a client and options for one are given."""
    if client is not None and options:
        raise TypeError(f"{', '.join(options)}: a client of your own has its options already; it has with_options()")


def _recorder(settings: "Settings", telemetry: Telemetry, redact: Redact) -> Sink:
    return share_recorder(settings, drops=telemetry, redact=redact) if settings.record else NullRecorder(settings)


def whole(request: Params) -> Params:
    """The request of a caller who wants one whole message. Raises TypeError if it asks for a stream."""
    if request.get("stream"):
        raise TypeError("route() answers whole; for a stream use messages.create(stream=True) or messages.stream()")
    return request
