"""The router for asyncio: the same calls, awaited."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, cast

from cheapdeep_ops.claude.clients import for_triage, make_async_client, traces_itself
from cheapdeep_ops.claude.sdk import AsyncAnthropic, AsyncMessageStreamManager, Message, MessageParam
from cheapdeep_ops.flow import Ask, adrive, drive
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.router.call import Call, Plan, Routed, Sink, random_id
from cheapdeep_ops.router.forks import renew_after_fork
from cheapdeep_ops.router.shared import Asked, Core, whole, without_stream
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import DEFAULT_ROUTE, Reply

Answer = Callable[[Mapping[str, Any], str | None, str], Awaitable[object]]
"""From a request, its route and its input class to what goes back to the caller."""

Open = Callable[[Mapping[str, Any], str | None, str], object]
"""The same for a stream, which is opened later and by the caller."""


class AsyncRouter:
    """`Router` for asyncio, in the place of `anthropic.AsyncAnthropic()`.

    Make it before the loop runs where a start of half a second matters: it loads the store's libraries and reads the
    policies in force.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        client: AsyncAnthropic | None = None,
        route: str = DEFAULT_ROUTE,
        telemetry: Telemetry | None = None,
        recorder: Sink | None = None,
        redact: Redact = redact,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        settings = settings or Settings()
        self._owns_client, self._owns_recorder = client is None, recorder is None
        self._use(client or make_async_client(), settings.triage_timeout_s)
        plan = Plan(settings, route=route, clock=clock, new_id=new_id)
        silent = traces_itself(self._client)
        self._core = Core(plan, telemetry=telemetry, recorder=recorder, redact=redact, silent=silent)
        if self._owns_client:
            renew_after_fork(self, AsyncRouter._renew_client)
        self.messages = AsyncMessages(create=self._answer, stream=self._open_stream)

    async def route(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> Routed:
        """Answer one request; gives the message together with the decision. See `Router.route`."""
        request = {"max_tokens": max_tokens, "messages": messages, **params}
        return self._core.routed(await self._run(whole(request), route, input_class))

    async def ask(
        self, text: str, *, max_tokens: int = 1024, route: str | None = None, input_class: str = "", **params: Any
    ) -> Routed:
        """Answer one question."""
        messages: list[MessageParam] = [{"role": "user", "content": text}]
        return await self.route(
            max_tokens=max_tokens, messages=messages, route=route, input_class=input_class, **params
        )

    async def aclose(self) -> None:
        """Store everything that was counted, and close what this router made."""
        if self._owns_recorder:
            await asyncio.to_thread(self._core.recorder.close)
        if self._owns_client:
            await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answer(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        return self._core.answer(await self._run(request, route, input_class))

    async def _run(self, request: Mapping[str, Any], route: str | None, input_class: str) -> Asked:
        """One call from begin to end."""
        with self._core.calling(request, route=route, input_class=input_class) as asked:
            call = asked.call
            asked.course = await adrive(self._core.plan.flow(call), lambda ask: self._perform(call, ask))
        return asked

    def _use(self, client: AsyncAnthropic, triage_timeout_s: float) -> None:
        self._client = client
        self._triage = for_triage(client, timeout_s=triage_timeout_s)

    def _renew_client(self) -> AsyncAnthropic:
        """Connections of this process's own, after a fork; gives the parent's."""
        inherited = self._client
        self._use(make_async_client(), self._core.plan.settings.triage_timeout_s)
        return inherited

    async def _perform(self, call: Call, ask: Ask) -> Reply:
        with self._core.asking(call, ask) as question:
            if ask.kind == "original":
                return question.read(await self._client.messages.create(**question.request))
            async with asyncio.timeout(self._core.plan.settings.triage_timeout_s):
                return question.read(await self._triage.messages.create(**question.request))

    def _open_stream(self, request: Mapping[str, Any], route: str | None, input_class: str) -> object:
        with self._core.calling(request, route=route, input_class=input_class) as asked:
            call = asked.call
            asked.course = drive(self._core.plan.flow(call), lambda ask: self._begin_stream(call, ask))
        return self._core.answer(asked)

    def _begin_stream(self, call: Call, ask: Ask) -> Reply:
        with self._core.asking(call, ask) as question:
            return question.read(self._client.messages.stream(**without_stream(question.request)))


class AsyncMessages:
    """`router.messages`: the SDK's calling methods, routed."""

    def __init__(self, *, create: Answer, stream: Open) -> None:
        self._create, self._stream = create, stream

    async def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> Message:
        """Answer one request with the SDK's `Message`, whose content is the answer. See `Messages.create`."""
        request = {"max_tokens": max_tokens, "messages": messages, **params}
        return cast("Message", await self._create(request, route, input_class))

    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> AsyncMessageStreamManager[None]:
        """The deep tier's stream as the SDK gives it: streams are not triaged."""
        request = {"max_tokens": max_tokens, "messages": messages, **params, "stream": True}
        return cast("AsyncMessageStreamManager[None]", self._stream(request, route, input_class))
