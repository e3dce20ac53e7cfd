"""One call from begin to end: its span, its decision, its record. What the two routers share, without the waiting."""

import atexit
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final, Self, TypeVar
from weakref import WeakSet

from cheapdeep_ops.budgets import charged_key
from cheapdeep_ops.flow import Bypass, CascadeResult, Step, completed, revised
from cheapdeep_ops.recorder import RecorderShare
from cheapdeep_ops.recorder.candidate_rows import is_kept
from cheapdeep_ops.recorder.spending import NO_SPENDING, Spending
from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.calls import Call, CallRecord, Routed, Sink
from cheapdeep_ops.router.decisions import DecisionBuilder, answer_of
from cheapdeep_ops.router.error_decision import attach
from cheapdeep_ops.router.model_call import ModelCaller
from cheapdeep_ops.router.planner import CallPlanner
from cheapdeep_ops.router.provider import Message, Params, claude
from cheapdeep_ops.router.refusals import RefusedParts
from cheapdeep_ops.sampling import kept_share, position
from cheapdeep_ops.telemetry.handler import OpenSpan, Telemetry
from cheapdeep_ops.values import Decision, Reason, Tier, TierReply

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)

MOST_SHADOWS: Final = 16
"""How many shadow triages a router runs at the same time; further calls have none."""

_CONNECTIONS_PER_SHADOW: Final = 4
"""How many connections a client must have for each of them, so that callers do not wait for a connection."""


class OpenCall:
    """One call in progress, as a context: inside, its span is the current one.

    It ends with the block. If it `stays_open`, because its stream is read later, it ends with the block only if the
    block fails. `result` is set when its last model call has ended, and `decision` when it is recorded.
    """

    def __init__(self, runner: "CallRunner", call: Call, span: OpenSpan, *, stays_open: bool) -> None:
        self._runner, self.call, self.span, self._stays_open = runner, call, span, stays_open
        self.result: CascadeResult | None = None
        self.background: BackgroundTask | None = None
        self.ended_ns: int | None = None
        self.decision: Decision | None = None

    def __enter__(self) -> Self:
        self._inside = self._runner.telemetry.enter(self.span)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._runner.telemetry.leave(self._inside)
        if error is not None or not self._stays_open:
            self._runner.end(self)

    def answer(self) -> object:
        """The answer of the ended call. Raises the model's own error, unchanged."""
        if self.result is None:
            raise AssertionError("the call has not ended")
        return answer_of(self.result)

    def routed(self) -> Routed:
        """The whole answer of the ended call, with its decision. Raises the model's own error, unchanged."""
        message = self.answer()
        if not isinstance(message, Message) or self.decision is None:
            raise TypeError(f"the API answered with something else than a message: {type(message).__name__}")
        return Routed(message=message, decision=self.decision)


class ShadowTriage:
    """The shadow triage of an answered call; `call` is its copy of that call."""

    def __init__(self, planner: CallPlanner, decisions: DecisionBuilder, open_call: OpenCall) -> None:
        self._decisions, self._open_call = decisions, open_call
        self._steps: Sequence[Step] = ()
        self.call = planner.shadow(open_call.call)
        self.flow = planner.shadow_flow(self.call)
        self.task = BackgroundTask(self._record)
        self.most_s = planner.background_limit_s

    def finished(self, steps: Sequence[Step]) -> None:
        """Triage has come to its end."""
        self._steps = steps

    def _record(self, result: CascadeResult) -> CallRecord:
        return self._decisions.shadow_record(self._open_call.call, result, self.call, self._steps)


class CallRunner:
    """Begins, ends and records the calls of one router."""

    def __init__(
        self,
        planner: CallPlanner,
        decisions: DecisionBuilder,
        models: ModelCaller,
        *,
        telemetry: Telemetry,
        recorder: Sink,
        refused: RefusedParts,
    ) -> None:
        settings = planner.settings
        self.planner, self.decisions, self.models, self.recorder = planner, decisions, models, recorder
        self.telemetry, self._refused = telemetry, refused
        # A sink of the caller's own may know no budgets.
        self.spending: Spending = getattr(recorder, "spending", NO_SPENDING)
        self._refused_by_server: dict[str, RefusedParts] = {}  # views share it
        self._graded_share = settings.graded_share if settings.record else 0.0
        self._kept_share = kept_share(self._graded_share)
        self._thresholds: dict[str, float] = {}
        self._pending: WeakSet[BackgroundTask] = WeakSet()
        self._has_warned = Event()  # views share it
        self.open_streams: WeakSet[Callable[[], None]] = WeakSet()
        """The finalizers of streams that callers are still reading, for the end of the interpreter."""
        # An abandoned stream may be collected anywhere, even inside the recorder's lock, so it is recorded later.
        self.abandoned: SimpleQueue[Callable[[], None]] = (
            recorder.abandoned if isinstance(recorder, RecorderShare) else SimpleQueue()
        )
        """Functions that each record a stream which its caller has abandoned; the recorder's thread calls them too."""
        _living.add(self)

    def for_view(self, options: Mapping[str, object]) -> "CallRunner":
        """The runner for a client with other `options`.

        It shares everything but the breakers and what models refuse, if another server may be asked.
        """
        view = copy(self)
        view.models = self.models.for_view(options)
        if "base_url" in options:
            server = str(options["base_url"])  # a service may make a view for each call
            view._refused = self._refused_by_server.setdefault(server, RefusedParts())  # noqa: SLF001 - as above
        return view

    # A call

    def calling(self, params: Params, *, route: str | None, input_class: str, stays_open: bool = False) -> OpenCall:
        """A new call of `route`; with `stays_open`, its stream is read after the block (see `OpenCall`)."""
        self.record_abandoned()
        book, refused = self.recorder.book, self._refused
        call = self.planner.begin(params, route=route, input_class=input_class, book=book, refused=refused)
        self._show_threshold(call)
        if self.spending.is_on:
            self._limit(call)
        return OpenCall(self, call, self.telemetry.begin_route(), stays_open=stays_open)

    def _limit(self, call: Call) -> None:
        """Note which budgets count the call, and have it refused if one is used up and calls are refused for that."""
        call.key = charged_key.get()
        if not self.spending.limits_calls:
            return
        call.spending = self.spending
        is_triaged_stream = bool(call.params.get("stream")) and call.bypass is None
        call.ships_any = self.spending.ships and is_triaged_stream and call.is_over_budget(is_deep=True)
        # The deep tier's budget stops a call only when it escalates.
        if self.spending.refuses and call.bypass is None and call.is_over_budget(is_deep=False):
            call.bypass = Bypass(tier=call.tiers[-1], reason=Reason.BUDGET)

    def _show_threshold(self, call: Call) -> None:
        route, threshold = call.labels.counted.route, call.labels.shown_threshold
        if self._thresholds.get(route) != threshold:
            self._thresholds[route] = threshold
            self.telemetry.record_threshold(route, threshold)

    def end_stream(self, open_call: OpenCall, reply: TierReply, error: BaseException | None) -> None:
        """End a streamed call, of whose last answer `reply` has arrived."""
        if open_call.result is not None:
            base = self.planner.settings.base_threshold
            interrupts = open_call.call.is_interrupted_by
            open_call.result = completed(
                open_call.result, reply, base_threshold=base, error=error, interrupts=interrupts
            )
        self.end(open_call)

    def end(self, open_call: OpenCall) -> None:
        """Decide and record the call and end its span: now, or when its background task has ended."""
        background, result = open_call.background, open_call.result
        if background is None:
            self._finish(open_call)
        else:
            open_call.call.ended, open_call.ended_ns = time.perf_counter(), time.time_ns()
            if result is not None:
                open_call.decision = self.decisions.decide(open_call.call, result)
            background.then(lambda: self._finish(open_call))
        if result is not None and result.error is not None and open_call.decision is not None:
            attach(result.error, open_call.decision)

    def _finish(self, open_call: OpenCall) -> None:
        try:
            if open_call.result is not None:
                self._record(open_call, self._record_of(open_call, open_call.result))
        finally:
            self.telemetry.end_route(open_call.span, at_ns=open_call.ended_ns)

    def _record_of(self, open_call: OpenCall, result: CascadeResult) -> CallRecord:
        background = open_call.background
        return background.record(result) if background else self.decisions.record(open_call.call, result)

    def _record(self, open_call: OpenCall, record: CallRecord) -> None:
        call, span, decision = open_call.call, open_call.span, record.decision
        if not (call.is_shadowed and open_call.decision):  # the caller's decision is the one without shadow triage
            open_call.decision = decision
        self.planner.remember(call, decision)
        sampled = call.may_be_graded and is_kept(decision, self._graded_share)
        waited_s = sum(call.model_s)
        self.telemetry.record_decision(
            span, decision, provider=claude.name, hop_s=record.hop_s, waited_s=waited_s, sampled=sampled
        )
        try:
            if self.spending.is_on:
                self.spending.spend_decision(decision, call.key)
            trace_of = self.telemetry.trace_of
            exchange = partial(self.decisions.exchange, record.call, record.result)
            self.recorder.put(decision, lambda: exchange(trace_of(span)) if call.may_be_graded else None)
        except Exception:  # noqa: BLE001 - a failure to record must not fail the call
            _log.exception("recording failed; the call goes on")

    # Background tasks

    def shadow(self, open_call: OpenCall) -> ShadowTriage | None:
        """The shadow triage of an answered call; None if there is to be none, or if its arguments cannot be copied."""
        is_answered = open_call.result is not None and open_call.result.error is None
        if not (open_call.call.is_shadowed and is_answered):
            return None
        try:
            return ShadowTriage(self.planner, self.decisions, open_call)
        except Exception:  # noqa: BLE001 - an argument may raise anything when it is copied
            _log.debug("the arguments of a call cannot be copied for shadow triage", exc_info=True)
            return None

    def most_shadows(self, connections: int | None) -> int:
        """How many shadow triages may run at the same time on a client with so many connections (None: no limit)."""
        most = MOST_SHADOWS if connections is None else min(MOST_SHADOWS, connections // _CONNECTIONS_PER_SHADOW)
        if not most and not self._has_warned.is_set():
            self._has_warned.set()
            _log.warning("shadow mode: a client with %s connections is too small for shadow triage", connections)
        return most

    def is_kept(self, open_call: OpenCall) -> bool:
        """Whether the answer is kept as a candidate for grading, if it would ship at the base threshold."""
        # A call has one candidate. A background task is already reading that of an earlier tier.
        call = open_call.call
        return open_call.background is None and call.may_be_graded and position(call.id) < self._kept_share

    def withheld(self, tier: Tier, reply: Callable[[], TierReply], open_call: OpenCall) -> BackgroundTask:
        """The task of a tier's withheld answer that is read to its end; `reply` gives the whole of it then."""

        def record(result: CascadeResult) -> CallRecord:
            whole = revised(result, tier, reply(), base_threshold=self.planner.settings.base_threshold)
            return self.decisions.record(open_call.call, whole)

        return BackgroundTask(record)

    def add_background(self, open_call: OpenCall, task: BackgroundTask) -> None:
        """Record the call only when `task` has ended."""
        open_call.background = task
        self._pending.add(task)

    # What is not recorded yet

    def record_pending(self) -> None:
        """Record all calls that wait for a background task, without its outcome, and all abandoned streams."""
        for task in _members(self._pending):
            task.over()
        self.record_abandoned()

    def record_abandoned(self) -> None:
        """Record the streams that callers have abandoned."""
        while not self.abandoned.empty():
            with suppress(Empty):
                self.abandoned.get_nowait()()


_living: Final[WeakSet[CallRunner]] = WeakSet()


def _record_at_exit() -> None:
    for runner in _members(_living):
        for end in _members(runner.open_streams):
            end()
        runner.record_pending()


def _members(members: "WeakSet[_T]") -> list[_T]:
    """The members of a set to which other threads add."""
    while True:
        with suppress(RuntimeError):  # the set grew during the copy
            return list(members)


# The recorder registers its own function earlier, so that one runs after this one.
atexit.register(_record_at_exit)
