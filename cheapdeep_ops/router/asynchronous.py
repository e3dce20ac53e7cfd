"""The router for asyncio."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Unpack, cast

from cheapdeep_ops.flow import Ask, adrive
from cheapdeep_ops.ids import random_id
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.router.base import RouterBase, own_resource, whole
from cheapdeep_ops.router.calls import Call, Routed, Sink
from cheapdeep_ops.router.core import OpenCall, ShadowTriage
from cheapdeep_ops.router.messages import AsyncMessages
from cheapdeep_ops.router.model_streams import open_async_helper, open_async_stream, open_async_triage
from cheapdeep_ops.router.provider import (
    AsyncAnthropic,
    AsyncClientOptions,
    AsyncRoutedStreamManager,
    AsyncStream,
    CallParams,
    Message,
    MessageParam,
    Params,
    RawMessageStreamEvent,
    StreamProgress,
    Views,
    make_async_client,
)
from cheapdeep_ops.router.streams import (
    AsyncRoutedStream,
    OpenStream,
    StreamFinalizer,
    begun,
)
from cheapdeep_ops.router.tasks import (
    LoopStream,
    LoopTasks,
    beside_the_loop,
    closing_on_failure,
    read_tail,
    read_the_rest,
    read_until_decided,
    require_asyncio,
)
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import DEFAULT_ROUTE, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

Events = AsyncStream[RawMessageStreamEvent]
Send = Callable[..., Awaitable[Message]]
"""A method of the SDK's `messages` that gives a whole message."""


class Original(Protocol):
    """Sends the caller's own request to the deep tier, in place of the SDK."""

    def begun(self, call: Call) -> None:
        """The call has begun, and nothing is sent yet."""

    async def send(self, **request: Any) -> Message:
        """The reply to the request, whose arguments in `request` are for information."""

    async def open(self) -> tuple[Events, StreamProgress]:
        """The opened stream of the reply, with its reader."""


OpenOriginal = Callable[[Call, Ask], Awaitable[TierReply]]


class AsyncRouter(RouterBase[AsyncAnthropic], AsyncAnthropic):
    """`Router` for asyncio: an `anthropic.AsyncAnthropic` whose calls are routed.

    Make it before the loop runs if a pause of half a second matters: it loads the store's libraries and reads the
    policies in force.

    Raises EventLoopError inside another async library, such as trio; so do its calls.
    """

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
        require_asyncio(running=False)
        self._readers = LoopTasks()
        self._set_up(
            client,
            options,
            settings=settings,
            route=route,
            telemetry=telemetry,
            recorder=recorder,
            redact=redact,
            clock=clock,
            new_id=new_id,
        )

    @own_resource
    def messages(self) -> AsyncMessages:
        """The SDK's `messages`, with its calls routed."""
        return AsyncMessages(self, answer=self._answer, parse=self._parse, manage=self._manager)

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
        return (await self._run(whole(request), route, input_class)).routed()

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

    async def aclose(self) -> None:
        """Store everything that was counted, and close what this router made."""
        if self._is_view:
            return
        self._is_closed = True
        await self._readers.join(self._core.planner.background_limit_s)
        self._core.record_pending()
        if self._owns_recorder:
            await beside_the_loop(self._core.recorder.close)
        if self._owns_client:
            await self._sdk.close()

    async def close(self) -> None:
        """`aclose` by the SDK's name."""
        await self.aclose()

    def _make_client(self) -> AsyncAnthropic:
        return make_async_client(**cast("AsyncClientOptions", self._options))

    # A whole answer

    async def _answer(self, request: Params, route: str | None, input_class: str) -> object:
        if request.get("stream"):
            return await self._stream(request, route, input_class)
        return (await self._run(request, route, input_class)).answer()

    async def _parse(self, request: Params, route: str | None, input_class: str) -> object:
        return (await self._run(request, route, input_class, send=self._originals.messages.parse)).answer()

    async def _run(
        self,
        request: Params,
        route: str | None,
        input_class: str,
        *,
        send: Send | None = None,
        original: Original | None = None,
    ) -> OpenCall:
        """One call from begin to end; `send` or `original` send an original request, if it is not `messages.create`."""
        require_asyncio(running=True)
        with self._core.calling(request, route=route, input_class=input_class) as open_call:
            call, calls = open_call.call, self._calls.now()
            if original is None:
                self._skip_futile_triage(call, calls.original)
            else:
                send = original.send
                original.begun(call)
            flow = self._core.planner.flow(call)
            open_call.result = await adrive(flow, lambda ask: self._perform(call, ask, calls, send))
            self._start_shadow(open_call)
        return open_call

    async def _perform(self, call: Call, ask: Ask, calls: Views[AsyncAnthropic], send: Send | None = None) -> TierReply:
        send = calls.triage.messages.create if ask.kind == "triage" else send or calls.original.messages.create
        with self._core.models.asking(call, ask, send) as model_call:
            if ask.kind == "original":
                with self._wait_limit(call):
                    return model_call.read(await send(**model_call.request))
            # The client's timeouts hold for each read only; this one holds for the whole triage.
            async with asyncio.timeout(self._core.planner.settings.triage_timeout_s):
                try:
                    message = await send(**model_call.request)
                except Exception as error:
                    model_call.check(error)
                    raise
                return model_call.read(message)

    # A stream

    def _manager(self, request: Params, route: str | None, input_class: str) -> object:
        """The SDK's stream helper; the call begins when the caller enters it."""
        opening = self._stream(request, route, input_class, is_helped=True)
        return AsyncRoutedStreamManager(opening, output_format=request["output_format"])

    async def _stream(
        self,
        request: Params,
        route: str | None,
        input_class: str,
        *,
        is_helped: bool = False,
        original: Original | None = None,
    ) -> AsyncRoutedStream:
        """One call until it is known which tier answers; the caller reads the rest.

        `original` opens the stream of an original request, if the SDK is not to open it.
        """
        require_asyncio(running=True)
        with self._core.calling(request, route=route, input_class=input_class, stays_open=True) as open_call:
            if original is not None:
                original.begun(open_call.call)
            flow = self._core.planner.flow(open_call.call)
            open_original = partial(self._open_original, is_helped=is_helped, original=original)
            open_call.result = await adrive(flow, lambda ask: self._perform_stream(open_call, ask, open_original))
            opened = begun(open_call.result)
            self._start_shadow(open_call)
        return AsyncRoutedStream(opened, StreamFinalizer(self._core, open_call, opened))

    async def _perform_stream(self, open_call: OpenCall, ask: Ask, open_original: OpenOriginal) -> TierReply:
        """Open one model's stream, and read a triage tier's until it is decided."""
        call, planner = open_call.call, self._core.planner
        if ask.kind == "original":
            return await open_original(call, ask)
        client = self._triage_streams
        with self._core.models.asking(call, ask, client.messages.create, stays_open=True) as model_call:
            async with asyncio.timeout(planner.settings.triage_timeout_s):
                with model_call.waiting():
                    stream = await open_async_triage(client, model_call)
                opened = OpenStream(stream, planner.progress(call, ask, model_call.request), model_call)
                async with closing_on_failure(stream):
                    await read_until_decided(opened)
        if not opened.ships:
            return await self._leave(open_call, opened)
        model_call.answered()
        return opened.reply()

    async def _open_original(self, call: Call, ask: Ask, *, is_helped: bool, original: Original | None) -> TierReply:
        if original is not None:
            with self._core.models.asking(call, ask, original.send, stays_open=True) as model_call:
                return OpenStream(*await original.open(), model_call).reply()
        messages = self._originals.messages
        method, begin = (messages.stream, open_async_helper) if is_helped else (messages.create, open_async_stream)
        with self._core.models.asking(call, ask, method, stays_open=True) as model_call, self._wait_limit(call):
            stream = await begin(method, model_call)
            return OpenStream(stream, self._core.planner.progress(call, ask, model_call.request), model_call).reply()

    async def _leave(self, open_call: OpenCall, opened: LoopStream) -> TierReply:
        """Give up a triage stream, unless its answer is wanted for grading."""
        if opened.has_tail:
            async with closing_on_failure(opened.stream):
                await read_tail(opened)
        reply = opened.reply()
        if opened.is_withheld and self._core.is_kept(open_call):
            task = self._core.withheld(opened.model_call.ask.tier, opened.progress.reply, open_call)
            self._readers.run(read_the_rest(opened, task, self._core.planner.settings.triage_timeout_s), task)
            self._core.add_background(open_call, task)
        else:
            opened.end()
            await opened.stream.close()
        return reply

    # In the background

    def _start_shadow(self, open_call: OpenCall) -> None:
        """In shadow mode, start triage for some of the calls that the deep tier has answered."""
        self._readers.leave_closed_loops()
        shadow = self._core.shadow(open_call)
        if shadow is not None and len(self._readers) < self._core.most_shadows(self._connections):
            self._readers.run(self._run_shadow(shadow), shadow.task)
            self._core.add_background(open_call, shadow.task)

    async def _run_shadow(self, shadow: ShadowTriage) -> None:
        shadow.finished(await adrive(shadow.flow, lambda ask: self._perform(shadow.call, ask, self._calls.now())))
