"""What the synchronous and the asynchronous router have in common: everything but the waiting."""

import atexit
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from cheapdeep_ops.breaker import Breaker
from cheapdeep_ops.claude.clients import is_tier_failure, is_timeout
from cheapdeep_ops.claude.retry_wait import attempt_limit_s, retry_wait_limit
from cheapdeep_ops.claude.sdk import Anthropic, AsyncAnthropic, Message
from cheapdeep_ops.errors import BreakerOpenError
from cheapdeep_ops.flow import Ask, Asking, CascadeResult, Step, revised
from cheapdeep_ops.recorder import NullRecorder, Recorder
from cheapdeep_ops.recorder.candidate_rows import is_kept
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.error_decision import attach
from cheapdeep_ops.router.planner import Call, CallPlanner, CallRecord, Routed, Sink
from cheapdeep_ops.sampling import kept_share, position
from cheapdeep_ops.telemetry.handler import ChatSpan, OpenSpan, Telemetry
from cheapdeep_ops.values import Decision, Exchange, TierReply

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
_LONGEST_PAUSE: Final = 12.0

MOST_SHADOWS: Final = 16
"""How many calls a router tries triage on at the same time in shadow mode; others pass without."""

_CONNECTIONS_PER_SHADOW: Final = 4
"""How many connections a client must have for each of them: callers wait for a connection that a trial holds."""

_SAME_TIERS: Final = frozenset({"timeout", "max_retries", "default_headers", "set_default_headers", "default_query"})
"""Options of a client that change neither whom it asks nor as whom."""


Told = Callable[[BaseException | None], None]
"""Learns how a request to a model has ended."""


class ModelCall:
    """One request to a model, from when it is sent until it is told how that ended."""

    def __init__(
        self, plan: CallPlanner, call: Call, ask: Ask, *, span: ChatSpan, request: Mapping[str, Any], told: Told
    ) -> None:
        self._plan, self._call, self.ask, self._chat, self._told = plan, call, ask, span, told
        self._began: float | None = time.perf_counter()
        self._waited_s = 0.0
        self._is_answered = False
        self._place = len(call.model_s)
        call.model_s.append(0.0)
        self.request = request

    @property
    def span(self) -> OpenSpan:
        """Its span, which is open."""
        return self._chat.span

    def read(self, message: Message) -> TierReply:
        """The reply for the flow; the span learns of it as well."""
        reply = self._plan.read(self._call, self.ask, message)
        self.note(reply)
        return reply

    def note(self, reply: TierReply) -> None:
        """Write what came back onto the span."""
        self._chat.finish(self._plan.record(self._call, self.ask, reply))

    def answered(self) -> None:
        """The model has begun to answer, well: whoever watches it need not wait for the end."""
        if not self._is_answered:
            self._is_answered = True
            self._told(None)

    def pause(self) -> None:
        """It is the caller who takes time now, and not the model."""
        if self._began is not None:
            self._waited_s += time.perf_counter() - self._began
            self._began = None

    def resume(self) -> None:
        """The model is waited for again."""
        self._began = time.perf_counter()

    def end(self, error: BaseException | None = None) -> None:
        """The model has answered, or failed with `error`."""
        if error is None:
            self.answered()
        else:
            self._told(error)
            self._chat.fail(error)
        self._chat.end()
        self.pause()
        self._call.model_s[self._place] = self._waited_s


class OpenCall:
    """One caller's call while the router works on it; `course` is set once it has ended."""

    def __init__(self, call: Call, span: OpenSpan) -> None:
        self.call, self.span = call, span
        self.course: CascadeResult | None = None
        self.beside: BackgroundTask | None = None
        self.ended_ns: int | None = None
        self.decision: Decision | None = None


class ShadowTriage:
    """Triage that is tried beside a call in shadow mode; `call` is the call as triage sees it."""

    def __init__(self, plan: CallPlanner, asked: OpenCall) -> None:
        self._plan, self._asked = plan, asked
        self._steps: Sequence[Step] = ()
        self.call = plan.shadow(asked.call)
        self.beside = BackgroundTask(self._settle)
        self.most_s = plan.most_beside_s

    def flow(self) -> Asking[list[Step]]:
        """What is asked, ready to be driven."""
        return self._plan.triage(self.call)

    def tried(self, steps: Sequence[Step]) -> None:
        """It came to its end."""
        self._steps = steps

    def _settle(self, course: CascadeResult) -> CallRecord:
        return self._plan.settle_shadow(self._asked.call, course, self.call, self._steps)


class CallRunner:
    """Plan, telemetry and recorder of one router."""

    def __init__(
        self,
        plan: CallPlanner,
        *,
        telemetry: Telemetry | None,
        recorder: Sink | None,
        redact: Redact,
        silent: bool,
    ) -> None:
        settings = plan.settings
        self.plan = plan
        self._telemetry = telemetry or Telemetry()
        self.recorder: Sink = recorder or _recorder(settings, self._telemetry, redact)
        self._silent = silent
        self._pending: WeakSet[BackgroundTask] = WeakSet()
        self.open_streams: WeakSet[Callable[[], None]] = WeakSet()
        """What ends the streams that callers are still reading, should the interpreter end first."""
        _living.add(self)
        self._graded_share = settings.graded_share if settings.record else 0.0
        self._kept_share = kept_share(self._graded_share)
        self._breakers = [_breaker(settings) for _ in plan.tiers]
        self._is_impatient = False
        self._has_complained = Event()  # one for all views
        self.late: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """What streams that were dropped still have to record: not where they are collected, which may be anywhere."""
        self._thresholds: dict[str, float] = {}

    @contextmanager
    def calling(self, params: Mapping[str, Any], *, route: str | None, input_class: str) -> Iterator[OpenCall]:
        """One call from begin to end: its span is open inside, and its decision is made when it is left."""
        asked = self.begin(params, route=route, input_class=input_class)
        try:
            with self._telemetry.inside(asked.span):
                yield asked
        finally:
            self.end(asked)

    def begin(self, params: Mapping[str, Any], *, route: str | None, input_class: str) -> OpenCall:
        """A call that has begun, with its span; whoever begins it ends it."""
        self.catch_up()
        call = self.plan.begin(params, route=route, input_class=input_class, book=self.recorder.book)
        self._show_threshold(call)
        return OpenCall(call, self._telemetry.begin_route())

    def shadow(self, asked: OpenCall) -> ShadowTriage | None:
        """What is to be tried beside a call that the deep tier has answered, if it is one of those in shadow mode."""
        is_answered = asked.course is not None and asked.course.error is None
        if not (asked.call.is_shadowed and is_answered):
            return None
        try:
            return ShadowTriage(self.plan, asked)
        except Exception:  # noqa: BLE001 - what cannot be copied is not tried
            _log.debug("triage cannot be tried on a call", exc_info=True)
            return None

    def most_shadows(self, connections: int | None) -> int:
        """How many calls triage may be tried on at the same time, by a client with so many connections."""
        most = MOST_SHADOWS if connections is None else min(MOST_SHADOWS, connections // _CONNECTIONS_PER_SHADOW)
        if not most and not self._has_complained.is_set():
            self._has_complained.set()
            _log.warning(
                "shadow mode: a client with %s connections is too small to try triage beside calls", connections
            )
        return most

    def goes_on(self, asked: OpenCall, beside: BackgroundTask) -> None:
        """From now on `beside` has a say in the call's record."""
        asked.beside = beside
        self._pending.add(beside)

    def settle(self) -> None:
        """Record the calls beside which something goes on, as if it had ended, and the streams that were dropped."""
        for beside in _all_of(self._pending):
            beside.over()
        self.catch_up()

    def catch_up(self) -> None:
        """Record the streams that were dropped meanwhile."""
        while not self.late.empty():
            with suppress(Empty):
                self.late.get_nowait()()

    def for_view(self, options: Iterable[str]) -> "CallRunner":
        """The same for a client with other `options`, whose tiers fail by themselves where it may be asking others."""
        view = copy(self)
        if set(options) <= _SAME_TIERS:
            view._is_impatient = self._is_impatient or "timeout" in options  # noqa: SLF001 - a copy of its own
            return view
        view._breakers = [_breaker(self.plan.settings) for _ in self.plan.tiers]  # noqa: SLF001 - a copy of its own
        return view

    def inside(self, asked: OpenCall) -> AbstractContextManager[None]:
        """The call's span is the current one inside."""
        return self._telemetry.inside(asked.span)

    def withheld(self, reply: Callable[[], TierReply], asked: OpenCall) -> BackgroundTask:
        """A triage stream that is read to its end beside the deep tier's; `reply` gives the whole of it then."""

        def settle(course: CascadeResult) -> CallRecord:
            whole_course = revised(course, reply(), base_threshold=self.plan.settings.base_threshold)
            return self.plan.settle(asked.call, whole_course)

        return BackgroundTask(settle)

    def end(self, asked: OpenCall) -> None:
        """Decide a call whose course is known, write it down, and end its span, once nothing runs beside it."""
        if asked.beside is None:
            self._end(asked)
        else:
            self._end_later(asked, asked.beside)
        if asked.course is not None and asked.course.error is not None and asked.decision is not None:
            attach(asked.course.error, asked.decision)

    def _end_later(self, asked: OpenCall, beside: BackgroundTask) -> None:
        asked.call.ended, asked.ended_ns = time.perf_counter(), time.time_ns()
        if asked.course is not None:
            asked.decision = self.plan.decide(asked.call, asked.course)
        beside.then(lambda: self._end(asked))

    def _end(self, asked: OpenCall) -> None:
        try:
            if asked.course is not None:
                with self._telemetry.inside(asked.span):  # so that metrics have it as their exemplar
                    self._decide(asked, self._settled(asked, asked.course))
        finally:
            self._telemetry.end_route(asked.span, at_ns=asked.ended_ns)

    def _settled(self, asked: OpenCall, course: CascadeResult) -> CallRecord:
        return asked.beside.settle(course) if asked.beside else self.plan.settle(asked.call, course)

    def is_kept(self, call: Call) -> bool:
        """Whether the call's answer is kept as a candidate for grading, if it would ship at base."""
        return position(call.id) < self._kept_share

    def _decide(self, asked: OpenCall, settled: CallRecord) -> None:
        call, span, decision = asked.call, asked.span, settled.decision
        if not (call.is_shadowed and asked.decision):  # what is tried beside a call is nothing of the caller's
            asked.decision = decision
        self.plan.remember(call, decision)
        sampled = is_kept(decision, self._graded_share)
        waited_s = sum(call.model_s)
        self._telemetry.record_decision(span, decision, hop_s=settled.hop_s, waited_s=waited_s, sampled=sampled)
        asked_of, course = settled.call, settled.course
        self._record(decision, lambda: self.plan.exchange(asked_of, course, self._telemetry.trace_of(span)))

    @contextmanager
    def asking(self, call: Call, ask: Ask) -> Iterator[ModelCall]:
        """One model call: the request to send, inside its span, timed."""
        with self.opening(call, ask) as question:
            yield question
        question.end()

    @contextmanager
    def opening(self, call: Call, ask: Ask) -> Iterator[ModelCall]:
        """The same for a stream: its question outlives this, unless it fails."""
        question = self.ask(call, ask)
        try:
            with self._telemetry.inside(question.span):
                yield question
        except BaseException as error:
            question.end(error)
            raise

    def ask(self, call: Call, ask: Ask) -> ModelCall:
        """A request that is about to be sent, with its span; whoever asks ends it."""
        try:
            told = self._permission(call, ask)
            request, translated = self.plan.request(call, ask)
        except BaseException:
            call.model_s.append(0.0)
            raise
        span = self._telemetry.begin_chat(
            model=ask.tier.model,
            kind=ask.kind,
            max_tokens=request.get("max_tokens"),
            translated=translated,
            prompt_version=self.plan.prompt.version if ask.kind == "triage" else "",
            silent=self._silent,
        )
        return ModelCall(self.plan, call, ask, span=span, request=request, told=told)

    def _permission(self, call: Call, ask: Ask) -> Told:
        """Whether the tier may be asked for triage: raises BreakerOpenError where it keeps failing."""
        has_own_timeout = self._is_impatient or "timeout" in call.params  # which may be as short as the caller likes
        if ask.kind == "original":
            return _nobody
        breaker, begun_at = self._breakers[ask.tier.index], time.monotonic()
        if not breaker.may_ask(begun_at):
            raise BreakerOpenError(f"{ask.tier.model} keeps failing and is left alone for a while")

        def told(error: BaseException | None) -> None:
            if error is None:
                breaker.succeeded(begun_at)
            elif is_tier_failure(error) and not (has_own_timeout and is_timeout(error)):
                breaker.failed(begun_at, time.monotonic())

        return told

    def routed(self, asked: OpenCall) -> Routed:
        """The whole answer with its decision. Raises the model's own error, unchanged, with the decision attached."""
        message = self.answer(asked)
        if not isinstance(message, Message) or asked.decision is None:
            raise TypeError(f"the API answered with something else than a message: {type(message).__name__}")
        return Routed(message=message, decision=asked.decision)

    def answer(self, asked: OpenCall) -> object:
        """The answer alone. Raises the model's own error, unchanged."""
        if asked.course is None:
            raise AssertionError("the call has not ended")
        return self.plan.answer(asked.course)

    def _record(self, decision: Decision, tell: Callable[[], Exchange | None]) -> None:
        try:
            self.recorder.put(decision, tell)
        except Exception:  # noqa: BLE001 - the watcher's failure stays with the watcher
            _log.exception("recording failed; the call goes on")

    def _show_threshold(self, call: Call) -> None:
        threshold = call.policy.threshold
        if self._thresholds.get(call.route) != threshold:
            self._thresholds[call.route] = threshold
            self._telemetry.record_threshold(call.route, threshold)


_living: Final[WeakSet[CallRunner]] = WeakSet()


def _leave() -> None:
    """Record what is still open when the interpreter ends; it runs before the recorder's own, registered earlier."""
    for core in _all_of(_living):
        for end in _all_of(core.open_streams):
            end()
        core.settle()


def _all_of(things: "WeakSet[_T]") -> list[_T]:
    """What is in a set that other threads go on adding to."""
    while True:
        with suppress(RuntimeError):  # it has grown meanwhile
            return list(things)


atexit.register(_leave)


def default_settings() -> "Settings":
    """The settings of the environment. Raises SettingsError where they are not valid."""
    # Loaded here, because pydantic-settings takes longer to load than all of the router.
    from cheapdeep_ops.settings import Settings  # noqa: PLC0415

    return Settings()


def _breaker(settings: "Settings") -> Breaker:
    pause_s = settings.breaker_pause_s
    return Breaker(failures=settings.breaker_failures, pause_s=pause_s, longest_pause_s=_LONGEST_PAUSE * pause_s)


def _nobody(_error: BaseException | None) -> None:
    """Nobody wants to know."""


def _recorder(settings: "Settings", telemetry: Telemetry, redact: Redact) -> Sink:
    return Recorder(settings, drops=telemetry, redact=redact) if settings.record else NullRecorder(settings)


def patient(call: Call, client: Anthropic | AsyncAnthropic) -> AbstractContextManager[None]:
    """Inside, no wait of the SDK before a retry is longer than the caller gives an attempt."""
    return retry_wait_limit(attempt_limit_s(call.params.get("timeout", client.timeout)))


def only_one(client: object, options: Iterable[str]) -> None:
    """Raises TypeError where both a client and options for one are given."""
    if client is not None and options:
        raise TypeError(f"{', '.join(options)}: a client of your own has its options already; it has with_options()")


def whole(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request of a caller who wants one whole message. Raises TypeError where it asks for a stream."""
    if request.get("stream"):
        raise TypeError("route() answers whole; for a stream use messages.create(stream=True) or messages.stream()")
    return request
