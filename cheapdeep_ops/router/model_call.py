"""One request to a model: permitted by its tier's breaker, traced by a span, timed."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Final, Self

from cheapdeep_ops.breaker import Breaker
from cheapdeep_ops.errors import BreakerOpenError
from cheapdeep_ops.flow import Ask
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.decisions import DecisionBuilder
from cheapdeep_ops.router.planner import CallPlanner
from cheapdeep_ops.router.provider import Message, Method, Params, claude, is_plain, is_traced
from cheapdeep_ops.telemetry.handler import ChatRecord, ChatSpan, Telemetry
from cheapdeep_ops.values import Outcome, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_LONGEST_PAUSE: Final = 12.0

_SAME_TIERS: Final = frozenset({"timeout", "max_retries", "default_headers", "set_default_headers", "default_query"})
"""Options of a client that change neither the server nor the account."""

is_asking: Final[ContextVar[bool]] = ContextVar("cheapdeep_is_asking", default=False)
"""Whether a request is part of a routed call."""


class ModelCall:
    """One request to a model, as a context: inside, its span is the current one.

    It ends with the block. If it `stays_open`, because its stream is read later, it ends with the block only if that
    fails; otherwise call `end`. `request` are the keyword arguments of `messages.create`. `is_traced` is whether the
    SDK or another package traces it, and `is_plain` whether only the SDK's code sends it.
    """

    def __init__(
        self,
        caller: "ModelCaller",
        call: Call,
        ask: Ask,
        *,
        span: ChatSpan,
        request: Params,
        is_traced: bool,
        is_plain: bool,
        stays_open: bool,
    ) -> None:
        self._caller, self._call, self.ask, self._chat = caller, call, ask, span
        self.request, self.is_traced, self.is_plain = request, is_traced, is_plain
        self._stays_open, self._is_answered = stays_open, False
        self._began: float | None = time.perf_counter()
        self._begun_at = time.monotonic()
        if not ask.is_second:  # the second request belongs to the step of the first
            call.model_s.append(0.0)
        self._index = len(call.model_s) - 1
        self._waited_s = call.model_s[self._index]

    def __enter__(self) -> Self:
        self._asking = is_asking.set(True)
        self._inside = self._caller.telemetry.enter(self._chat.span)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._caller.telemetry.leave(self._inside)
        is_asking.reset(self._asking)
        if error is not None or not self._stays_open:
            self.end(error)

    def read(self, message: Message) -> TierReply:
        """The reply of the model; the span gets its figures."""
        reply = self._caller.planner.read(self._call, self.ask, message)
        self.note(reply)
        return reply

    def note(self, reply: TierReply) -> None:
        """Write the figures of a reply onto the span."""
        if self._chat.is_recording:
            record = self._caller.decisions.chat_record(self._call, self.ask, reply, has_shipped=self._is_answered)
            self._chat.finish(record)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for a triage tier. An exception from outside that interrupts it goes to the caller."""
        try:
            yield
        except Exception as error:
            self.check(error)
            raise

    def check(self, error: Exception) -> None:
        """Raise the exception from outside that interrupted the wait for a triage tier, if it caused `error`."""
        interruption = claude.interruption(error)
        if interruption is not None:
            self._call.interruption = interruption
            raise interruption from interruption.__cause__

    def answered(self) -> None:
        """The model answers well so far; its breaker learns this now, and not at the end of the stream."""
        if not self._is_answered:
            self._is_answered = True
            self._caller.report(self._call, self.ask, self._begun_at, None)

    def pause(self) -> None:
        """The caller's own time begins, which does not count as the model's."""
        if self._began is not None:
            self._waited_s += time.perf_counter() - self._began
            self._began = None

    def resume(self) -> None:
        """The router waits for the model again."""
        self._began = time.perf_counter()

    def end(self, error: BaseException | None = None) -> None:
        """The model has answered, or failed with `error`."""
        if error is None:
            self.answered()
        else:
            self._caller.report(self._call, self.ask, self._begun_at, error)
            if self.ask.kind == "triage" and isinstance(error, Exception) and not self._is_answered:
                self._chat.finish(ChatRecord(outcome=Outcome.ESCALATE))
            self._chat.fail(error)
        self._chat.end()
        self.pause()
        self._call.model_s[self._index] = self._waited_s


class ModelCaller:
    """Starts the model calls of one router, each with a span, unless the SDK or another package makes one."""

    def __init__(self, planner: CallPlanner, decisions: DecisionBuilder, telemetry: Telemetry) -> None:
        self.planner, self.decisions, self.telemetry = planner, decisions, telemetry
        self._breakers = _breakers(planner.settings)
        self._is_impatient = False

    def for_view(self, options: Iterable[str]) -> "ModelCaller":
        """The caller for a client with other `options`. It has breakers of its own if it may ask another server."""
        view = copy(self)
        if set(options) <= _SAME_TIERS:
            view._is_impatient = self._is_impatient or "timeout" in options  # noqa: SLF001 - a copy of this object
        else:
            view._breakers = _breakers(self.planner.settings)  # noqa: SLF001 - a copy of this object
        return view

    def asking(self, call: Call, ask: Ask, method: Method, *, stays_open: bool = False) -> ModelCall:
        """A model call by a `method` of the SDK's `messages`. Raises BreakerOpenError if its tier keeps failing.

        Raises BudgetError if a budget is used up, and original requests are refused for that.
        """
        try:
            self._require_permission(ask)
            if call.spending is not None and ask.kind == "original":
                call.spending.require(call.labels.name.route, call.key, is_deep=ask.tier.is_deep)
            request, translated = self.planner.request(call, ask)
        except BaseException:
            if not ask.is_second:
                call.model_s.append(0.0)  # the lists of hops and of seconds have one order
            raise
        # Asked for each call, because an instrumentation may be switched on at any time.
        plain = is_plain(method)
        traced = is_traced(method, plain=plain)
        span = self.telemetry.begin_chat(
            provider=claude.name,
            model=ask.tier.model,
            tier=ask.tier.index,
            kind=ask.kind,
            max_tokens=request.get("max_tokens"),
            translated=translated,
            prompt_version=self.planner.prompt.version if ask.kind == "triage" else "",
            silent=traced,
        )
        return ModelCall(
            self,
            call,
            ask,
            span=span,
            request=request,
            is_traced=traced,
            is_plain=plain,
            stays_open=stays_open,
        )

    def _require_permission(self, ask: Ask) -> None:
        # The deep tier has no breaker: no other tier could answer in its place.
        is_first_triage = ask.kind == "triage" and not ask.is_second
        if is_first_triage and not self._breakers[ask.tier.index].may_ask(time.monotonic()):
            raise BreakerOpenError(f"{ask.tier.model} keeps failing and gets no requests for a while")

    def report(self, call: Call, ask: Ask, begun_at: float, error: BaseException | None) -> None:
        """Report the outcome of a call that began at `begun_at` (monotonic clock) to the breaker of its tier."""
        if ask.kind == "original":
            return
        breaker = self._breakers[ask.tier.index]
        if error is None:
            breaker.succeeded(begun_at)
            return
        # A timeout of the caller's own says nothing about the tier, because it may be very short.
        has_own_timeout = self._is_impatient or "timeout" in call.params
        is_tiers = claude.is_tier_failure(error) and not (has_own_timeout and claude.is_timeout(error))
        if is_tiers and error is not call.interruption:
            breaker.failed(begun_at, time.monotonic())


def _breakers(settings: "Settings") -> list[Breaker]:
    failures, pause_s = settings.breaker_failures, settings.breaker_pause_s
    longest_s = _LONGEST_PAUSE * pause_s
    return [Breaker(failures=failures, pause_s=pause_s, longest_pause_s=longest_s) for _ in settings.cascade]
