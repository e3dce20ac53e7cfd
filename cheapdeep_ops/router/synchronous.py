"""The router for threads."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Timer
from typing import TYPE_CHECKING, Unpack, cast

from cheapdeep_ops.flow import Ask, drive
from cheapdeep_ops.ids import random_id
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.router.base import RouterBase, own_resource, whole
from cheapdeep_ops.router.calls import Call, Routed, Sink
from cheapdeep_ops.router.core import OpenCall, ShadowTriage
from cheapdeep_ops.router.messages import Messages
from cheapdeep_ops.router.model_call import ModelCall
from cheapdeep_ops.router.model_streams import open_helper, open_stream, open_triage
from cheapdeep_ops.router.provider import (
    Anthropic,
    CallParams,
    ClientOptions,
    Message,
    MessageParam,
    Params,
    RawMessageStreamEvent,
    RoutedStreamManager,
    Stream,
    Views,
    make_client,
)
from cheapdeep_ops.router.streams import (
    OpenStream,
    RoutedStream,
    StreamFinalizer,
    begun,
)
from cheapdeep_ops.router.threads import (
    BackgroundThreads,
    ThreadStream,
    TimedOpen,
    in_time,
    read_tail,
    read_the_rest,
)
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import DEFAULT_ROUTE, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

Events = Stream[RawMessageStreamEvent]
Send = Callable[..., Message]
"""A method of the SDK's `messages` that gives a whole message."""


class Router(RouterBase[Anthropic], Anthropic):
    """Asks the cheap tier first and ships its answer if it is confident enough; else the deep tier answers.

    A router is an `anthropic.Anthropic`: `router.messages.create(...)` gives the SDK's own `Message` and raises the
    SDK's own errors, unchanged. Settings come from `CHEAPDEEP_*` variables, the API key from where the SDK finds it.
    `client` is a client of your own, which `close` leaves open. The router shares its attributes, so that a new key
    holds for the next call. A client with a `messages` of its own is asked as it is; its retries of a triage call end
    with the triage timeout. Without a client, `options` are those of `anthropic.Anthropic()`, such as `api_key`.
    `route` is the route of calls that name none.
    `telemetry` writes to other providers than the global ones. `recorder` takes decisions and gives policies, in the
    place of the router's own. `redact` changes each text before it is stored for grading; it replaces
    `cheapdeep_ops.redaction.redact`. `clock` (Unix seconds) and `new_id` are for replays and tests.
    Threads may share a router. It may be made and used before a fork; renew a `client` or an `http_client` of your own
    in the child.

    Raises SettingsError if a setting is unknown or out of range. Raises RouterArgumentError (a SettingsError and a
    TypeError) for a wrong argument, TypeError if both client and options are given.
    """

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
        self._readers = BackgroundThreads()
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
    def messages(self) -> Messages:
        """The SDK's `messages`, with its calls routed."""
        return Messages(self, answer=self._answer, parse=self._parse, manage=self._manager)

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

        Takes what the SDK's `messages.create` takes. `model` names another deep tier for this call; if it names a
        triage tier's model, that model answers without triage.
        """
        request = {"max_tokens": max_tokens, "messages": messages, **params}
        return self._run(whole(request), route, input_class).routed()

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

    def close(self) -> None:
        """Store everything that was counted, and close what this router made."""
        if self._is_view:
            return
        self._is_closed = True
        self._readers.join(self._core.planner.background_limit_s)
        self._core.record_pending()
        if self._owns_recorder:
            self._core.recorder.close()
        if self._owns_client:
            self._sdk.close()

    def _make_client(self) -> Anthropic:
        return make_client(**cast("ClientOptions", self._options))

    # A whole answer

    def _answer(self, request: Params, route: str | None, input_class: str) -> object:
        if request.get("stream"):
            return self._stream(request, route, input_class)
        return self._run(request, route, input_class).answer()

    def _parse(self, request: Params, route: str | None, input_class: str) -> object:
        return self._run(request, route, input_class, send=self._originals.messages.parse).answer()

    def _run(self, request: Params, route: str | None, input_class: str, *, send: Send | None = None) -> OpenCall:
        """One call from begin to end; `send` sends an original request, if it is not `messages.create`."""
        with self._core.calling(request, route=route, input_class=input_class) as open_call:
            call, calls = open_call.call, self._calls.now()
            self._skip_futile_triage(call, calls.original)
            open_call.result = drive(self._core.planner.flow(call), lambda ask: self._perform(call, ask, calls, send))
            self._start_shadow(open_call)
        return open_call

    def _perform(self, call: Call, ask: Ask, calls: Views[Anthropic], send: Send | None = None) -> TierReply:
        # A thread cannot be stopped, so the triage timeout holds for each read from the connection.
        send = calls.triage.messages.create if ask.kind == "triage" else send or calls.original.messages.create
        with self._core.models.asking(call, ask, send) as model_call:
            if ask.kind == "triage":
                return model_call.read(self._ask_triage(model_call, send, in_thread=calls.is_as_given))
            with self._wait_limit(call):
                return model_call.read(send(**model_call.request))

    def _ask_triage(self, model_call: ModelCall, send: Send, *, in_thread: bool) -> Message:
        ask = partial(send, **model_call.request)
        try:
            if not in_thread:
                return ask()
            # The client is used as it was given: it may retry, and its timeouts may be long.
            return in_time(self._readers, ask, self._core.planner.settings.triage_timeout_s)
        except Exception as error:  # not in a `with`, which takes longer: each call comes here
            model_call.check(error)
            raise

    # A stream

    def _manager(self, request: Params, route: str | None, input_class: str) -> object:
        """The SDK's stream helper; the call begins when the caller enters it."""
        open_stream = partial(self._stream, request, route, input_class, is_helped=True)
        return RoutedStreamManager(open_stream, output_format=request["output_format"])

    def _stream(self, request: Params, route: str | None, input_class: str, *, is_helped: bool = False) -> RoutedStream:
        """One call until it is known which tier answers; the caller reads the rest."""
        with self._core.calling(request, route=route, input_class=input_class, stays_open=True) as open_call:
            flow = self._core.planner.flow(open_call.call)
            open_call.result = drive(flow, lambda ask: self._perform_stream(open_call, ask, is_helped=is_helped))
            opened = begun(open_call.result)
            self._start_shadow(open_call)
        return RoutedStream(opened, StreamFinalizer(self._core, open_call, opened))

    def _perform_stream(self, open_call: OpenCall, ask: Ask, *, is_helped: bool) -> TierReply:
        """Open one model's stream, and read a triage tier's until it is decided."""
        call, planner = open_call.call, self._core.planner
        if ask.kind == "original":
            return self._open_original(call, ask, is_helped=is_helped)
        client = self._triage_streams
        with self._core.models.asking(call, ask, client.messages.create, stays_open=True) as model_call:
            progress = planner.progress(call, ask, model_call.request)
            attempt = TimedOpen(lambda: OpenStream(open_triage(client, model_call), progress, model_call))
            with model_call.waiting():
                self._readers.run(partial(copy_context().run, attempt.run))
                opened = attempt.outcome(planner.settings.triage_timeout_s)
        if not opened.ships:
            return self._leave(open_call, opened)
        model_call.answered()
        return opened.reply()

    def _open_original(self, call: Call, ask: Ask, *, is_helped: bool) -> TierReply:
        messages = self._originals.messages
        method, begin = (messages.stream, open_helper) if is_helped else (messages.create, open_stream)
        with self._core.models.asking(call, ask, method, stays_open=True) as model_call, self._wait_limit(call):
            progress = self._core.planner.progress(call, ask, model_call.request)
            return OpenStream(begin(method, model_call), progress, model_call).reply()

    def _leave(self, open_call: OpenCall, opened: ThreadStream) -> TierReply:
        """Give up a triage stream, unless its answer is wanted for grading."""
        is_wanted = opened.is_withheld and self._core.is_kept(open_call)
        if opened.has_tail:
            self._read_tail(opened)
        reply = opened.reply()
        if not (is_wanted and self._read_in_background(open_call, opened)):
            opened.end()
            opened.stream.close()
        return reply

    def _read_tail(self, opened: ThreadStream) -> None:
        try:
            with opened.model_call.waiting():
                read_tail(opened)
        except BaseException as error:  # raised by others, such as a signal's handler
            opened.end(error)
            opened.stream.close()
            raise

    # In the background

    def _read_in_background(self, open_call: OpenCall, opened: ThreadStream) -> bool:
        task = self._core.withheld(opened.model_call.ask.tier, opened.progress.reply, open_call)
        seconds = self._core.planner.settings.triage_timeout_s
        try:
            self._readers.run(lambda: read_the_rest(opened, task, seconds))
        except RuntimeError:  # no more threads can be started; a candidate is not worth the call
            return False
        self._core.add_background(open_call, task)
        return True

    def _start_shadow(self, open_call: OpenCall) -> None:
        """In shadow mode, start triage for some of the calls that the deep tier has answered."""
        shadow = self._core.shadow(open_call)
        if shadow is None:
            return
        most = self._core.most_shadows(self._connections)
        with suppress(RuntimeError):  # no more threads can be started; a figure is not worth the call
            self._readers.run(partial(copy_context().run, self._run_shadow, shadow), most=most)
            self._core.add_background(open_call, shadow.task)

    def _run_shadow(self, shadow: ShadowTriage) -> None:
        watch = Timer(shadow.most_s, shadow.task.over)  # a connection's timeouts hold for each read only
        watch.daemon = True
        try:
            watch.start()
            shadow.finished(drive(shadow.flow, lambda ask: self._perform(shadow.call, ask, self._calls.now())))
        finally:
            watch.cancel()
            shadow.task.over()
