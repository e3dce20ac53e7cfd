"""The cascade as a conversation: yields what to ask, receives what came back, knows no SDK, clock or database.

The generator pattern is the one of httpx's auth flow: one flow, a synchronous and an asynchronous driver.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from cheapdeep_ops.values import BypassCause, Outcome, Reason, Tier, TierReply, Verdict
from cheapdeep_ops.verdict import judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to a tier: the triage question, or the caller's original request."""

    tier: Tier
    kind: Literal["triage", "original"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An ask, what came back, and how it was judged; `reply` is None where the call failed before any of it came."""

    ask: Ask
    reply: TierReply | None
    reason: Reason | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeResult:
    """The whole course of one call.

    `answer` is the reply that goes back to the caller; where it is None, `error` is what the caller is to see.
    `escalated` says whether the call left the first tier; a streamed answer that went wrong when it could not be taken
    back has a `reason`, and has not. `is_fallback` marks a triage tier's answer in the place of the deep tier's error.
    """

    steps: tuple[Step, ...]
    answer: TierReply | None
    error: BaseException | None
    reason: Reason | None
    base_outcome: Outcome | None
    base_reason: Reason | None
    confidence: float | None
    escalated: bool
    is_fallback: bool = False

    @property
    def answered(self) -> Step:
        """The step whose reply goes back to the caller; the last one where none does."""
        if not self.is_fallback:
            return self.steps[-1]
        return next(step for step in reversed(self.steps) if step.reply is self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """The order to send the original request to `tier` at once; `cause` says why it cannot be triaged, if so."""

    tier: Tier
    cause: BypassCause | None = None
    reason: Reason = Reason.BYPASS


_Found = TypeVar("_Found")
Asking = Generator[Ask, TierReply, _Found]
Flow = Asking[CascadeResult]


def cascade(
    tiers: Sequence[Tier],
    *,
    threshold: float,
    base_threshold: float,
    bypass: Bypass | None = None,
    falls_back: Callable[[BaseException], bool] | None = None,
) -> Flow:
    """The course of one call through `tiers`: triage each but the last, ship the first answer that may, else go deep.

    A failed triage call escalates; a failed deep call ends the course with its error, and so does, at any tier, what
    is no `Exception` (a cancellation, an interrupt). `falls_back` says of which errors of the deep tier the answer that
    a triage tier was surest of takes the place, whatever its confidence; of none, where it is not given.
    """
    steps = [] if bypass else (yield from triaged(tiers[:-1], threshold=threshold))
    if steps and steps[-1].reason is None:
        return _course(steps, base_threshold)
    last = yield from (_original(bypass.tier, bypass.reason) if bypass else _original(tiers[-1]))
    course = _course([*steps, last], base_threshold)
    if falls_back and last.error is not None and falls_back(last.error):
        return _fallen_back(course)
    return course


def triaged(tiers: Sequence[Tier], *, threshold: float) -> Asking[list[Step]]:
    """Triage `tiers` in order, until one's answer may ship or the call is interrupted: that step has no reason."""
    steps: list[Step] = []
    for tier in tiers:
        step = yield from _triage(tier, threshold)
        steps.append(step)
        if step.reason is None:
            break
    return steps


def _fallen_back(course: CascadeResult) -> CascadeResult:
    """The course with the answer that a triage tier was surest of; as it is where none gave one."""
    usable = [each.reply for each in reversed(course.steps[:-1]) if each.reply and _is_usable(each.reply)]
    answer = max(usable, key=_confidence, default=None)
    return course if answer is None else replace(course, answer=answer, error=None, is_fallback=True)


def _is_usable(reply: TierReply) -> bool:
    return reply.verdict is not None and reply.verdict.answer is not None and reply.verdict.problem is None


def _confidence(reply: TierReply) -> float:
    return (reply.verdict.confidence if reply.verdict else None) or 0.0


def _triage(tier: Tier, threshold: float) -> Generator[Ask, TierReply, Step]:
    ask = Ask(tier=tier, kind="triage")
    try:
        reply = yield ask
    except BaseException as error:  # noqa: BLE001 - whatever broke the cheap call, the deep one can still answer
        return Step(ask=ask, reply=None, reason=_error_reason(error), error=error)
    _, reason = judge(_verdict(reply), threshold=threshold)
    return Step(ask=ask, reply=reply, reason=reason)


def _error_reason(error: BaseException) -> Reason | None:
    return Reason.TRIAGE_ERROR if isinstance(error, Exception) else None


def _original(tier: Tier, reason: Reason | None = None) -> Generator[Ask, TierReply, Step]:
    ask = Ask(tier=tier, kind="original")
    try:
        reply = yield ask
    except BaseException as error:  # noqa: BLE001 - kept as a value; the router raises it unchanged
        return Step(ask=ask, reply=None, reason=reason, error=error)
    return Step(ask=ask, reply=reply, reason=reason)


def shadowed(steps: Sequence[Step], course: CascadeResult, *, base_threshold: float) -> CascadeResult:
    """The course that a call would have had, routed: `steps` are of triage beside it, `course` is of the deep tier."""
    is_answered = steps[-1].reason is None
    return _course(steps if is_answered else [*steps, *course.steps], base_threshold)


def revised(course: CascadeResult, reply: TierReply, *, base_threshold: float) -> CascadeResult:
    """The course of a streamed call whose first reply, given up early, was read to its end all the same."""
    first, *others = course.steps
    return _course([replace(first, reply=reply), *others], base_threshold)


def _course(steps: Sequence[Step], base_threshold: float) -> CascadeResult:
    first, last = steps[0], steps[-1]
    bypassed = first.ask.kind == "original"
    base_outcome, base_reason = (None, None) if bypassed else _base(first, base_threshold)
    raised = base_outcome is Outcome.SHIP and first.reason is not None
    return CascadeResult(
        steps=tuple(steps),
        answer=last.reply,
        error=last.error,
        reason=Reason.RAISED_THRESHOLD if raised else first.reason,
        base_outcome=base_outcome,
        base_reason=base_reason,
        confidence=first.reply.verdict.confidence if first.reply and first.reply.verdict else None,
        escalated=bypassed or (len(steps) > 1 and first.reason is not None),
    )


def completed(
    course: CascadeResult, reply: TierReply, *, base_threshold: float, error: BaseException | None = None
) -> CascadeResult:
    """The course of a streamed call whose answer has come to its end: `reply` is all that came of it.

    An answer that a triage tier began to give is no longer judged by the threshold; what went wrong with it later is
    kept as its reason.
    """
    *before, last = course.steps
    reason = last.reason
    if last.ask.kind == "triage":
        reason = _error_reason(error) if error else _verdict(reply).problem
    step = replace(last, reply=reply, error=error, reason=reason)
    return _course([*before, step], base_threshold)


def _base(first: Step, base_threshold: float) -> tuple[Outcome | None, Reason | None]:
    if first.error is not None and first.reason is not None:
        return Outcome.ESCALATE, first.reason
    if first.reply is None:  # an interrupted call says nothing about the traffic
        return None, None
    return judge(_verdict(first.reply), threshold=base_threshold)


def _verdict(reply: TierReply) -> Verdict:
    return reply.verdict or Verdict(problem=Reason.MALFORMED, detail="no verdict was read")


def drive(flow: Asking[_Found], perform: Callable[[Ask], TierReply]) -> _Found:
    """Run `flow` to its end, answering each ask with `perform`; its exceptions go into the flow."""
    try:
        ask = next(flow)
        while True:
            try:
                reply = perform(ask)
            except BaseException as error:  # noqa: BLE001 - the flow decides which ones it outlives
                ask = flow.throw(error)
            else:
                ask = flow.send(reply)
    except StopIteration as stop:
        found: _Found = stop.value
        return found
    finally:
        flow.close()


async def adrive(flow: Asking[_Found], perform: Callable[[Ask], Awaitable[TierReply]]) -> _Found:
    """`drive` for a `perform` that is awaited."""
    try:
        ask = next(flow)
        while True:
            try:
                reply = await perform(ask)
            except BaseException as error:  # noqa: BLE001 - the flow decides which ones it outlives
                ask = flow.throw(error)
            else:
                ask = flow.send(reply)
    except StopIteration as stop:
        found: _Found = stop.value
        return found
    finally:
        flow.close()
