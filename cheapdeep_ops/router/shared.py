"""What the synchronous and the asynchronous router have in common: everything but the waiting."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from cheapdeep_ops.claude.sdk import Message
from cheapdeep_ops.flow import Ask, Course
from cheapdeep_ops.recorder import NullRecorder, Recorder
from cheapdeep_ops.recorder.keeping import lies_within
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.router.call import Call, Plan, Routed, Sink
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.telemetry.handler import ChatSpan, Telemetry
from cheapdeep_ops.values import Decision, Exchange, Reply

_log: Final = logging.getLogger(__name__)


class Question:
    """One request that is about to be sent, and what is done with what comes back."""

    def __init__(self, plan: Plan, call: Call, ask: Ask, span: ChatSpan, request: Mapping[str, Any]) -> None:
        self._plan, self._call, self._ask, self._span = plan, call, ask, span
        self.request = request

    def read(self, message: object) -> Reply:
        """The reply for the flow; the span learns of it as well."""
        reply, record = self._plan.read(self._call, self._ask, message)
        self._span.finish(record)
        return reply


class Asked:
    """One caller's call while the router works on it; `course` is set once it has ended."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.course: Course | None = None
        self.decision: Decision | None = None


class Core:
    """Plan, telemetry and recorder of one router."""

    def __init__(
        self,
        plan: Plan,
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
        self._graded_share = settings.graded_share if settings.record else 0.0
        self._thresholds: dict[str, float] = {}

    @contextmanager
    def calling(self, params: Mapping[str, Any], *, route: str | None, input_class: str) -> Iterator[Asked]:
        """One call from begin to end: its span is open inside, and its decision is made when it is left."""
        call = self.plan.begin(params, route=route, input_class=input_class, book=self.recorder.book)
        self._show_threshold(call)
        asked = Asked(call)
        with self._telemetry.route_span() as span:
            yield asked
            if asked.course is None:
                return
            decision = asked.decision = self.plan.decide(call, asked.course)
            sampled = lies_within(decision, self._graded_share)
            self._telemetry.record_decision(span, decision, model_s=call.model_s, sampled=sampled)
            course, trace_of = asked.course, self._telemetry.trace_of
            self._record(decision, lambda: self.plan.exchange(call, course, trace_of(span)))

    @contextmanager
    def asking(self, call: Call, ask: Ask) -> Iterator[Question]:
        """One model call: the request to send, inside its span, timed."""
        started = time.perf_counter()
        try:
            request, translated = self.plan.request(call, ask)
            with self._telemetry.chat_span(
                model=ask.tier.model,
                kind=ask.kind,
                max_tokens=request.get("max_tokens"),
                translated=translated,
                prompt_version=self.plan.prompt.version if ask.kind == "triage" else "",
                silent=self._silent,
            ) as span:
                yield Question(self.plan, call, ask, span, request)
        finally:
            call.model_s.append(time.perf_counter() - started)

    def routed(self, asked: Asked) -> Routed:
        """The whole answer with its decision. Raises the model's own error, unchanged."""
        message = self.answer(asked)
        if not isinstance(message, Message) or asked.decision is None:
            raise TypeError(f"the API answered with something else than a message: {type(message).__name__}")
        return Routed(message=message, decision=asked.decision)

    def answer(self, asked: Asked) -> object:
        """The answer alone: a message, or a stream that has begun. Raises the model's own error, unchanged."""
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


def _recorder(settings: Settings, telemetry: Telemetry, redact: Redact) -> Sink:
    return Recorder(settings, drops=telemetry, redact=redact) if settings.record else NullRecorder(settings)


def whole(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request of a caller who wants one whole message. Raises TypeError where it asks for a stream."""
    if request.get("stream"):
        raise TypeError("route() answers whole; for a stream use messages.create(stream=True) or messages.stream()")
    return request


def without_stream(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the SDK's `messages.stream`, which knows by its name that it streams."""
    return {name: value for name, value in request.items() if name != "stream"}
