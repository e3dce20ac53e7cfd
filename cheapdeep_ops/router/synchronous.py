"""The router for threads."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from functools import partial
from threading import Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast, overload

from cheapdeep_ops.claude.clients import (
    make_client,
    max_connections_of,
    original_client,
    traces_itself,
    triage_client,
    triage_stream_client,
)
from cheapdeep_ops.claude.params import CallParams, ClientOptions
from cheapdeep_ops.claude.sdk import (
    Anthropic,
    Batches,
    Beta,
    Files,
    Message,
    MessageParam,
    MessageStreamManager,
    MessagesWithRawResponse,
    MessagesWithStreamingResponse,
    MessageTokensCount,
    ModelParam,
    Models,
    Omit,
    Organization,
    ParsedMessage,
    RawMessageStreamEvent,
    SdkMessages,
    Skills,
    Stream,
    UserProfiles,
    omit,
)
from cheapdeep_ops.claude.stream_events import raw_stream
from cheapdeep_ops.flow import Ask, drive
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.router.core import CallRunner, OpenCall, ShadowTriage, default_settings, only_one, patient, whole
from cheapdeep_ops.router.forks import renew_after_fork
from cheapdeep_ops.router.planner import Call, CallPlanner, Routed, Sink, random_id
from cheapdeep_ops.router.streams import (
    BackgroundThreads,
    OpenStream,
    RoutedStream,
    StreamFinalizer,
    TimedOpen,
    begun,
    output_format,
    read_the_rest,
    without_stream,
)
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import DEFAULT_ROUTE, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_Parsed = TypeVar("_Parsed")

Events = Stream[RawMessageStreamEvent]
Open = Callable[[Mapping[str, Any]], Events]
"""Begins the stream of an original request: a method of the SDK."""

Answer = Callable[[Mapping[str, Any], str | None, str], object]
"""From a request, its route and its input class to what goes back to the caller."""


class Router:
    """Asks the cheap tier first and ships its answer when it is confident enough; else the deep tier answers.

    Takes the place of `anthropic.Anthropic()`: `router.messages.create(...)` gives the SDK's own `Message` and raises
    the SDK's own errors, unchanged. Settings come from `CHEAPDEEP_*` variables, the API key from where the SDK finds
    it. `client` is a client of your own, which `close` leaves open, or `options` are those of `anthropic.Anthropic()`
    (`api_key`, `timeout`, ...) for one of the router's; `route` is the route of calls that name none.
    `telemetry` writes to other providers than the global ones; `recorder` takes decisions and gives policies in the
    place of the one that this router would make; `redact` runs over each text before it is stored for grading, in the
    place of `cheapdeep_ops.redaction.redact`; `clock` (Unix seconds) and `new_id` are for replays and tests.
    Safe to share between threads. A router may be made and used before a fork, but a client, or an `http_client`, that
    you hand in is yours to renew in the child.

    Raises SettingsError where a setting is unknown or out of range, TypeError where both client and options are given.
    """

    # The SDK's own, unrouted: `__getattr__` gives them, and type checkers learn here what they are.
    models: Models
    files: Files
    skills: Skills
    user_profiles: UserProfiles
    organization: Organization
    beta: Beta

    def __init__(
        self,
        *,
        settings: "Settings | None" = None,
        client: Anthropic | None = None,
        route: str = DEFAULT_ROUTE,
        telemetry: Telemetry | None = None,
        recorder: Sink | None = None,
        redact: Redact = redact,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = random_id,
        **options: Unpack[ClientOptions],
    ) -> None:
        settings = settings or default_settings()
        only_one(client, options)
        self._owns_client, self._owns_recorder = client is None, recorder is None
        self._options, self._is_view = options, False
        self._use(client or make_client(**options), settings.triage_timeout_s)
        plan = CallPlanner(settings, route=route, clock=clock, new_id=new_id)
        silent = traces_itself(self._client)
        self._core = CallRunner(plan, telemetry=telemetry, recorder=recorder, redact=redact, silent=silent)
        self._readers = BackgroundThreads()
        if self._owns_client and not options.get("http_client"):
            renew_after_fork(self, Router._renew_client)
        self.messages = self._make_messages()

    def route(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Routed:
        """Answer one request; gives the message together with the decision.

        Takes what the SDK's `messages.create` takes. `model` names another deep tier for this call; where it names a
        triage tier's model, that model answers without triage.
        """
        request = {"max_tokens": max_tokens, "messages": messages, **params}
        return self._core.routed(self._run(whole(request), route, input_class))

    def ask(
        self,
        text: str,
        *,
        max_tokens: int = 1024,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Routed:
        """Answer one question."""
        messages: list[MessageParam] = [{"role": "user", "content": text}]
        return self.route(max_tokens=max_tokens, messages=messages, route=route, input_class=input_class, **params)

    def with_options(self, **options: Any) -> Self:
        """A view of this router whose client has other options, as the SDK's `with_options`; closing it closes nothing.

        It is not renewed after a fork: make it where it is used.
        """
        client = self._client.with_options(**options)
        return copy(self)._through(client, options)  # noqa: SLF001 - a copy of its own

    copy = with_options

    def with_middleware(self, *middleware: Any) -> Self:
        """A view of this router whose client has more middleware, as the SDK's `with_middleware`."""
        client = self._client.with_middleware(*middleware)
        return copy(self)._through(client, ["middleware"])  # noqa: SLF001 - a copy of its own

    def __getattr__(self, name: str) -> Any:
        """What else the SDK's client has (`models`, `beta`, `files`, ...), unrouted."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._client, name)

    def close(self) -> None:
        """Store everything that was counted, and close what this router made."""
        if self._is_view:
            return
        self._readers.join(self._core.plan.most_beside_s)
        self._core.settle()
        if self._owns_recorder:
            self._core.recorder.close()
        if self._owns_client:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        if request.get("stream"):
            return self._stream(self._create_stream, request, route, input_class)
        return self._core.answer(self._run(request, route, input_class))

    def _run(self, request: Mapping[str, Any], route: str | None, input_class: str) -> OpenCall:
        """One call from begin to end."""
        with self._core.calling(request, route=route, input_class=input_class) as asked:
            call = asked.call
            asked.course = drive(self._core.plan.flow(call), lambda ask: self._perform(call, ask))
            self._try_beside(asked)
        return asked

    def _manager(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        """The SDK's own, which asks when it is entered."""
        open_stream = partial(self._stream, self._helped_stream, request, route, input_class)
        return MessageStreamManager(open_stream, output_format=output_format(request))

    def _stream(self, begin: Open, request: Mapping[str, Any], route: str | None, input_class: str) -> RoutedStream:
        """One call until it is known who answers it; the rest is the caller's to read."""
        asked = self._core.begin(request, route=route, input_class=input_class)
        try:
            with self._core.inside(asked):
                flow = self._core.plan.flow(asked.call)
                asked.course = drive(flow, lambda ask: self._perform_stream(begin, asked, ask))
                opened = begun(asked.course)
                self._try_beside(asked)
        except BaseException:
            self._core.end(asked)
            raise
        return RoutedStream(opened, StreamFinalizer(self._core, asked, opened))

    def _through(self, client: Anthropic, options: Iterable[str]) -> Self:
        self._is_view = True
        self._core = self._core.for_view(options)
        self._use(client, self._core.plan.settings.triage_timeout_s)
        self.messages = self._make_messages()
        return self

    def _make_messages(self) -> "Messages":
        return Messages(create=self._answer, stream=self._manager, sdk=lambda: self._client.messages)

    def _use(self, client: Anthropic, triage_timeout_s: float) -> None:
        self._client = client
        self._originals, self._connections = original_client(client), max_connections_of(client)
        self._triage = triage_client(client, timeout_s=triage_timeout_s)
        self._triage_streams = triage_stream_client(client)

    def _renew_client(self) -> Anthropic:
        """Connections of this process's own, after a fork; gives the parent's."""
        inherited = self._client
        self._use(make_client(**self._options), self._core.plan.settings.triage_timeout_s)
        return inherited

    def _perform(self, call: Call, ask: Ask) -> TierReply:
        client = self._triage if ask.kind == "triage" else self._originals
        with self._core.asking(call, ask) as question, patient(call, self._client):
            return question.read(client.messages.create(**question.request))

    def _try_beside(self, asked: OpenCall) -> None:
        """In shadow mode, try triage on some of the calls that the deep tier has answered; only so many at a time."""
        shadow = self._core.shadow(asked)
        if shadow is None:
            return
        most = self._core.most_shadows(self._connections)
        with suppress(RuntimeError):  # no more threads: figures are worth less than the call
            self._readers.run(partial(copy_context().run, self._try, shadow), most=most)
            self._core.goes_on(asked, shadow.beside)

    def _try(self, shadow: ShadowTriage) -> None:
        watch = Timer(shadow.most_s, shadow.beside.over)  # a connection's timeouts are for each read
        watch.daemon = True
        try:
            watch.start()
            shadow.tried(drive(shadow.flow(), lambda ask: self._perform(shadow.call, ask)))
        finally:
            watch.cancel()
            shadow.beside.over()

    def _perform_stream(self, begin: Open, asked: OpenCall, ask: Ask) -> TierReply:
        """Open one model's stream, and read a triage tier's until it is decided."""
        with self._core.opening(asked.call, ask) as question:
            reading = self._core.plan.reading(asked.call, ask)
            if ask.kind == "original":
                with patient(asked.call, self._client):
                    return OpenStream(begin(question.request), reading, question).reply()
            attempt = TimedOpen(
                lambda: OpenStream(self._triage_streams.messages.create(**question.request), reading, question)
            )
            self._readers.run(partial(copy_context().run, attempt.run))
            opened = attempt.outcome(self._core.plan.settings.triage_timeout_s)
        if not opened.goes_out:
            return self._leave(asked, opened)
        question.answered()
        return opened.reply()

    def _leave(self, asked: OpenCall, opened: OpenStream[Events]) -> TierReply:
        """Give a triage stream up, except where its answer is wanted as evidence."""
        reply = opened.reply()
        if not (opened.is_withheld and self._core.is_kept(asked.call) and self._read_beside(asked, opened)):
            opened.end()
            opened.stream.close()
        return reply

    def _read_beside(self, asked: OpenCall, opened: OpenStream[Events]) -> bool:
        beside, seconds = self._core.withheld(opened.reading.reply, asked), self._core.plan.settings.triage_timeout_s
        try:
            self._readers.run(lambda: read_the_rest(opened, beside, seconds))
        except RuntimeError:  # no more threads: evidence is worth less than the call
            return False
        self._core.goes_on(asked, beside)
        return True

    def _create_stream(self, request: Mapping[str, Any]) -> Events:
        return cast("Events", self._originals.messages.create(**request))

    def _helped_stream(self, request: Mapping[str, Any]) -> Events:
        return raw_stream(self._originals.messages.stream(**without_stream(request)).__enter__())


class Messages:
    """`router.messages`: the SDK's calling methods, routed."""

    def __init__(self, *, create: Answer, stream: Answer, sdk: Callable[[], SdkMessages]) -> None:
        self._create, self._stream, self._sdk = create, stream, sdk

    @overload
    def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: Literal[False] | Omit = ...,
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> Message: ...

    @overload
    def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: Literal[True],
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> Stream[RawMessageStreamEvent]: ...

    @overload
    def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool,
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> Message | Stream[RawMessageStreamEvent]: ...

    def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool | Omit = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Message | Stream[RawMessageStreamEvent]:
        """Answer one request with the SDK's `Message`, whose content is the answer.

        With `stream=True` the SDK's stream of events comes back, of whichever tier answers: the answer of a triage tier
        begins to arrive as soon as its confidence is known to suffice. What was shown is not taken back.
        """
        request = {"max_tokens": max_tokens, "messages": messages, "stream": stream, **params}
        return cast("Message", self._create(request, route, input_class))

    @overload
    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        output_format: Omit | None = ...,
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> MessageStreamManager[None]: ...

    @overload
    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        output_format: type[_Parsed],
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> MessageStreamManager[_Parsed]: ...

    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> MessageStreamManager[Any]:
        """The SDK's stream helper, for whichever tier answers; the call is made when it is entered."""
        request = {"max_tokens": max_tokens, "messages": messages, **params, "stream": True}
        return cast("MessageStreamManager[Any]", self._stream(request, route, input_class))

    def count_tokens(self, *, messages: Iterable[MessageParam], model: ModelParam, **params: Any) -> MessageTokensCount:
        """The SDK's own: nothing is routed."""
        return self._sdk().count_tokens(messages=messages, model=model, **params)

    @overload
    def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: Omit | None = ...,
        **params: Any,
    ) -> "ParsedMessage[None]": ...

    @overload
    def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: type[_Parsed],
        **params: Any,
    ) -> "ParsedMessage[_Parsed]": ...

    def parse(self, **params: Any) -> "ParsedMessage[Any]":
        """The SDK's own, for structured output: nothing is routed."""
        return self._sdk().parse(**params)

    @property
    def batches(self) -> Batches:
        """The SDK's own: batches are not routed."""
        return self._sdk().batches

    @property
    def with_raw_response(self) -> MessagesWithRawResponse:
        """The SDK's own: a raw response is of the model that was asked, and nothing is routed."""
        return self._sdk().with_raw_response

    @property
    def with_streaming_response(self) -> MessagesWithStreamingResponse:
        """The SDK's own: nothing is routed."""
        return self._sdk().with_streaming_response
