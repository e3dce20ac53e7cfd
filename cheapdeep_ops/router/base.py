"""What `Router` and `AsyncRouter` have in common: how they are made, how they are clients, and their views."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from cheapdeep_ops.recorder import NullRecorder, share_recorder
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.router.calls import Call, Sink
from cheapdeep_ops.router.core import CallRunner
from cheapdeep_ops.router.decisions import DecisionBuilder
from cheapdeep_ops.router.forks import renew_after_fork
from cheapdeep_ops.router.model_call import ModelCaller
from cheapdeep_ops.router.planner import CallPlanner
from cheapdeep_ops.router.provider import (
    AnyClient,
    Params,
    claude,
    max_connections_of,
    original_client,
    share_defaults,
    traces_itself,
    triage_client,
    triage_stream_client,
    without_resources,
)
from cheapdeep_ops.telemetry.handler import Telemetry

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings


_OF_THE_CLIENT: Final = frozenset({"api_key", "auth_token", "base_url", "max_retries", "timeout", "webhook_key"})
"""Attributes of the SDK's clients that callers set."""


class RouterBase(ABC, Generic[AnyClient]):
    """A router without the waiting. It is a client of the SDK that has no connection or key of its own.

    `_sdk` is the client that was given or made. The router reads and sets the attributes of a client there.
    """

    _sdk: AnyClient
    _originals: AnyClient
    _triage: AnyClient
    _triage_streams: AnyClient

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
        settings = settings or _default_settings()
        _reject_options(client, options)
        self._owns_client, self._owns_recorder = client is None, recorder is None
        self._options, self._is_view = options, False
        self._use(self._make_client() if client is None else client, settings.triage_timeout_s)
        telemetry = telemetry or Telemetry()
        planner = CallPlanner(settings, route=route, clock=clock, new_id=new_id)
        decisions = DecisionBuilder(settings, planner.prompt, at=clock())
        models = ModelCaller(planner, decisions, telemetry, silent=traces_itself(self._sdk))
        recorder = recorder or _recorder(settings, telemetry, redact)
        self._core = CallRunner(planner, decisions, models, telemetry=telemetry, recorder=recorder)
        if self._owns_client and not options.get("http_client"):
            renew_after_fork(self, RouterBase._renew_client)

    @abstractmethod
    def _make_client(self) -> AnyClient:
        """A client with the router's `_options`."""

    def _use(self, client: AnyClient, triage_timeout_s: float) -> None:
        self._sdk = client
        self._originals, self._connections = original_client(client), max_connections_of(client)
        self._triage = triage_client(client, timeout_s=triage_timeout_s)
        self._triage_streams = triage_stream_client(client)
        share_defaults(self, client)

    def _renew_client(self) -> AnyClient:
        """Connect anew after a fork; returns the parent's client."""
        inherited, client = self._sdk, self._make_client()
        for name in _OF_THE_CLIENT:  # a caller may have set them since the options were given
            if getattr(client, name) != getattr(inherited, name):
                setattr(client, name, getattr(inherited, name))
        self._use(client, self._core.planner.settings.triage_timeout_s)
        return inherited

    if not TYPE_CHECKING:  # a type checker knows the attributes of a client, and finds misspelt ones

        def __getattr__(self, name: str) -> Any:
            """An attribute of the SDK's client (`api_key`, `max_retries`, ...), as it is now."""
            client = None if name.startswith("__") else vars(self).get("_sdk")
            if client is None:
                raise AttributeError(name)
            return getattr(client, name)

        def __setattr__(self, name: str, value: object) -> None:
            """Set an attribute of a client on the SDK's client, so that it holds for routed calls as well."""
            if name not in _OF_THE_CLIENT:
                object.__setattr__(self, name, value)
                return
            setattr(self._sdk, name, value)
            self._use(self._sdk, self._core.planner.settings.triage_timeout_s)

    def with_options(self, **options: Any) -> Self:
        """A view of this router whose client has other options, as the SDK's `with_options`; closing it closes nothing.

        It is not renewed after a fork: make it where it is used.
        """
        client = self._sdk.with_options(**options)
        # Not by the constructor, which would make a client and a recorder.
        view = object.__new__(type(self))
        vars(view).update(without_resources(self))
        view._is_view = True
        view._core = self._core.for_view(options)
        view._use(client, self._core.planner.settings.triage_timeout_s)
        return view

    copy = with_options

    @property
    def user_agent(self) -> str:
        """The user agent of the SDK's client, which unrouted calls have too."""
        return self._sdk.user_agent

    def _wait_limit(self, call: Call) -> AbstractContextManager[None]:
        """Inside, no wait of the SDK before a retry is longer than the caller gives an attempt."""
        return claude.retry_wait_limit(call.params.get("timeout", self._sdk.timeout))


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
