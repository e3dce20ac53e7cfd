"""The router for asyncio: the same calls, awaited."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast, overload

from cheapdeep_ops.claude.clients import (
    make_async_client,
    max_connections_of,
    original_client,
    traces_itself,
    triage_client,
    triage_stream_client,
)
from cheapdeep_ops.claude.params import AsyncClientOptions, CallParams
from cheapdeep_ops.claude.sdk import (
    AsyncAnthropic,
    AsyncBatches,
    AsyncBeta,
    AsyncFiles,
    AsyncMessageStreamManager,
    AsyncMessagesWithRawResponse,
    AsyncMessagesWithStreamingResponse,
    AsyncModels,
    AsyncOrganization,
    AsyncSkills,
    AsyncStream,
    AsyncUserProfiles,
    Message,
    MessageParam,
    MessageTokensCount,
    ModelParam,
    Omit,
    ParsedMessage,
    RawMessageStreamEvent,
    SdkAsyncMessages,
    omit,
)
from cheapdeep_ops.claude.stream_events import raw_async_stream
from cheapdeep_ops.flow import Ask, adrive
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.core import CallRunner, OpenCall, ShadowTriage, default_settings, only_one, patient, whole
from cheapdeep_ops.router.forks import renew_after_fork
from cheapdeep_ops.router.planner import Call, CallPlanner, Routed, Sink, random_id
from cheapdeep_ops.router.streams import (
    AsyncRoutedStream,
    OpenStream,
    StreamFinalizer,
    aclosing_on_failure,
    aread_the_rest,
    aread_until_decided,
    begun,
    output_format,
    without_stream,
)
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import DEFAULT_ROUTE, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_Parsed = TypeVar("_Parsed")

Answer = Callable[[Mapping[str, Any], str | None, str], Awaitable[object]]
"""From a request, its route and its input class to what goes back to the caller."""

Manage = Callable[[Mapping[str, Any], str | None, str], object]
"""The same for a stream, which is opened later and by the caller."""

Events = AsyncStream[RawMessageStreamEvent]
Open = Callable[[Mapping[str, Any]], Awaitable[Events]]
"""Begins the stream of an original request: a method of the SDK."""


class AsyncRouter:
    """`Router` for asyncio, in the place of `anthropic.AsyncAnthropic()`.

    Make it before the loop runs where a start of half a second matters: it loads the store's libraries and reads the
    policies in force.
    """

    # The SDK's own, unrouted: `__getattr__` gives them, and type checkers learn here what they are.
    models: AsyncModels
    files: AsyncFiles
    skills: AsyncSkills
    user_profiles: AsyncUserProfiles
    organization: AsyncOrganization
    beta: AsyncBeta

    def __init__(
        self,
        *,
        settings: "Settings | None" = None,
        client: AsyncAnthropic | None = None,
        route: str = DEFAULT_ROUTE,
        telemetry: Telemetry | None = None,
        recorder: Sink | None = None,
        redact: Redact = redact,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = random_id,
        **options: Unpack[AsyncClientOptions],
    ) -> None:
        settings = settings or default_settings()
        only_one(client, options)
        self._owns_client, self._owns_recorder = client is None, recorder is None
        self._options, self._is_view = options, False
        self._use(client or make_async_client(**options), settings.triage_timeout_s)
        plan = CallPlanner(settings, route=route, clock=clock, new_id=new_id)
        silent = traces_itself(self._client)
        self._core = CallRunner(plan, telemetry=telemetry, recorder=recorder, redact=redact, silent=silent)
        self._readers: dict[asyncio.Task[None], BackgroundTask] = {}
        if self._owns_client and not options.get("http_client"):
            renew_after_fork(self, AsyncRouter._renew_client)
        self.messages = self._make_messages()

    async def route(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Routed:
        """Answer one request; gives the message together with the decision. See `Router.route`."""
        request = {"max_tokens": max_tokens, "messages": messages, **params}
        return self._core.routed(await self._run(whole(request), route, input_class))

    async def ask(
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
        return await self.route(
            max_tokens=max_tokens, messages=messages, route=route, input_class=input_class, **params
        )

    def with_options(self, **options: Any) -> Self:
        """A view of this router whose client has other options. See `Router.with_options`."""
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

    async def aclose(self) -> None:
        """Store everything that was counted, and close what this router made."""
        if self._is_view:
            return
        self._leave_closed_loops()
        here = [task for task in self._readers if task.get_loop() is asyncio.get_running_loop()]
        if here:
            await asyncio.wait(here, timeout=self._core.plan.most_beside_s)
        self._core.settle()
        if self._owns_recorder:
            await asyncio.to_thread(self._core.recorder.close)
        if self._owns_client:
            await self._client.close()

    close = aclose
    """The name that the SDK has for it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answer(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        if request.get("stream"):
            return await self._stream(self._create_stream, request, route, input_class)
        return self._core.answer(await self._run(request, route, input_class))

    async def _run(self, request: Mapping[str, Any], route: str | None, input_class: str) -> OpenCall:
        """One call from begin to end."""
        with self._core.calling(request, route=route, input_class=input_class) as asked:
            call = asked.call
            asked.course = await adrive(self._core.plan.flow(call), lambda ask: self._perform(call, ask))
            self._try_beside(asked)
        return asked

    def _through(self, client: AsyncAnthropic, options: Iterable[str]) -> Self:
        self._is_view = True
        self._core = self._core.for_view(options)
        self._use(client, self._core.plan.settings.triage_timeout_s)
        self.messages = self._make_messages()
        return self

    def _make_messages(self) -> "AsyncMessages":
        return AsyncMessages(create=self._answer, stream=self._manager, sdk=lambda: self._client.messages)

    def _use(self, client: AsyncAnthropic, triage_timeout_s: float) -> None:
        self._client = client
        self._originals, self._connections = original_client(client), max_connections_of(client)
        self._triage = triage_client(client, timeout_s=triage_timeout_s)
        self._triage_streams = triage_stream_client(client)

    def _renew_client(self) -> AsyncAnthropic:
        """Connections of this process's own, after a fork; gives the parent's."""
        inherited = self._client
        self._use(make_async_client(**self._options), self._core.plan.settings.triage_timeout_s)
        return inherited

    async def _perform(self, call: Call, ask: Ask) -> TierReply:
        with self._core.asking(call, ask) as question:
            if ask.kind == "original":
                with patient(call, self._client):
                    return question.read(await self._originals.messages.create(**question.request))
            async with asyncio.timeout(self._core.plan.settings.triage_timeout_s):
                return question.read(await self._triage.messages.create(**question.request))

    def _try_beside(self, asked: OpenCall) -> None:
        """In shadow mode, try triage on some of the calls that the deep tier has answered; only so many at a time."""
        self._leave_closed_loops()
        shadow = self._core.shadow(asked)
        if shadow is not None and len(self._readers) < self._core.most_shadows(self._connections):
            self._go_on(asked, shadow.beside, self._try(shadow))

    async def _try(self, shadow: ShadowTriage) -> None:
        shadow.tried(await adrive(shadow.flow(), lambda ask: self._perform(shadow.call, ask)))

    def _go_on(self, asked: OpenCall, beside: BackgroundTask, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` go on beside a call, until it is over."""
        self._leave_closed_loops()
        task = asyncio.create_task(work)
        self._readers[task] = beside
        self._core.goes_on(asked, beside)
        # A task that is cancelled before it begins runs none of its own code.
        task.add_done_callback(lambda done: self._ended(done, beside))

    def _leave_closed_loops(self) -> None:
        """What has been left in a loop that is closed will not go on."""
        for task, beside in list(self._readers.items()):
            if task.get_loop().is_closed():
                self._ended(task, beside)

    def _ended(self, task: asyncio.Task[None], beside: BackgroundTask) -> None:
        self._readers.pop(task, None)
        beside.over()

    def _manager(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        """The SDK's own, which asks when it is entered."""
        opening = self._stream(self._helped_stream, request, route, input_class)
        return AsyncMessageStreamManager(opening, output_format=output_format(request))

    async def _stream(
        self, begin: Open, request: Mapping[str, Any], route: str | None, input_class: str
    ) -> AsyncRoutedStream:
        """One call until it is known who answers it; the rest is the caller's to read."""
        asked = self._core.begin(request, route=route, input_class=input_class)
        try:
            with self._core.inside(asked):
                flow = self._core.plan.flow(asked.call)
                asked.course = await adrive(flow, lambda ask: self._perform_stream(begin, asked, ask))
                opened = begun(asked.course)
                self._try_beside(asked)
        except BaseException:
            self._core.end(asked)
            raise
        return AsyncRoutedStream(opened, StreamFinalizer(self._core, asked, opened))

    async def _perform_stream(self, begin: Open, asked: OpenCall, ask: Ask) -> TierReply:
        """Open one model's stream, and read a triage tier's until it is decided."""
        with self._core.opening(asked.call, ask) as question:
            reading = self._core.plan.reading(asked.call, ask)
            if ask.kind == "original":
                with patient(asked.call, self._client):
                    return OpenStream(await begin(question.request), reading, question).reply()
            async with asyncio.timeout(self._core.plan.settings.triage_timeout_s):
                stream = await self._triage_streams.messages.create(**question.request)
                opened = OpenStream(stream, reading, question)
                async with aclosing_on_failure(stream):
                    await aread_until_decided(opened)
        if not opened.goes_out:
            return await self._leave(asked, opened)
        question.answered()
        return opened.reply()

    async def _leave(self, asked: OpenCall, opened: OpenStream[Events]) -> TierReply:
        """Give a triage stream up, except where its answer is wanted as evidence."""
        reply = opened.reply()
        if opened.is_withheld and self._core.is_kept(asked.call):
            beside = self._core.withheld(opened.reading.reply, asked)
            self._go_on(asked, beside, aread_the_rest(opened, beside, self._core.plan.settings.triage_timeout_s))
        else:
            opened.end()
            await opened.stream.close()
        return reply

    async def _create_stream(self, request: Mapping[str, Any]) -> Events:
        return cast("Events", await self._originals.messages.create(**request))

    async def _helped_stream(self, request: Mapping[str, Any]) -> Events:
        return raw_async_stream(await self._originals.messages.stream(**without_stream(request)).__aenter__())


class AsyncMessages:
    """`router.messages`: the SDK's calling methods, routed."""

    def __init__(self, *, create: Answer, stream: Manage, sdk: Callable[[], SdkAsyncMessages]) -> None:
        self._create, self._stream, self._sdk = create, stream, sdk

    @overload
    async def create(
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
    async def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: Literal[True],
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> AsyncStream[RawMessageStreamEvent]: ...

    @overload
    async def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool,
        route: str | None = ...,
        input_class: str = ...,
        **params: Unpack[CallParams],
    ) -> Message | AsyncStream[RawMessageStreamEvent]: ...

    async def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool | Omit = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Message | AsyncStream[RawMessageStreamEvent]:
        """Answer one request with the SDK's `Message`, whose content is the answer. See `Messages.create`."""
        request = {"max_tokens": max_tokens, "messages": messages, "stream": stream, **params}
        return cast("Message", await self._create(request, route, input_class))

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
    ) -> AsyncMessageStreamManager[None]: ...

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
    ) -> AsyncMessageStreamManager[_Parsed]: ...

    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> AsyncMessageStreamManager[Any]:
        """The SDK's stream helper, for whichever tier answers. See `Messages.stream`."""
        request = {"max_tokens": max_tokens, "messages": messages, **params, "stream": True}
        return cast("AsyncMessageStreamManager[Any]", self._stream(request, route, input_class))

    async def count_tokens(
        self, *, messages: Iterable[MessageParam], model: ModelParam, **params: Any
    ) -> MessageTokensCount:
        """The SDK's own: nothing is routed."""
        return await self._sdk().count_tokens(messages=messages, model=model, **params)

    @overload
    async def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: Omit | None = ...,
        **params: Any,
    ) -> "ParsedMessage[None]": ...

    @overload
    async def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: type[_Parsed],
        **params: Any,
    ) -> "ParsedMessage[_Parsed]": ...

    async def parse(self, **params: Any) -> "ParsedMessage[Any]":
        """The SDK's own, for structured output: nothing is routed."""
        return await self._sdk().parse(**params)

    @property
    def batches(self) -> AsyncBatches:
        """The SDK's own: batches are not routed."""
        return self._sdk().batches

    @property
    def with_raw_response(self) -> AsyncMessagesWithRawResponse:
        """The SDK's own: a raw response is of the model that was asked, and nothing is routed."""
        return self._sdk().with_raw_response

    @property
    def with_streaming_response(self) -> AsyncMessagesWithStreamingResponse:
        """The SDK's own: nothing is routed."""
        return self._sdk().with_streaming_response
