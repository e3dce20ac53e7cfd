"""The cascade as a generator: it yields requests and receives replies, without an SDK, a clock or a database.

This is the pattern of httpx's auth flow: one flow, driven by a synchronous and an asynchronous function.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from cheapdeep_ops.values import BypassCause, Outcome, Reason, Tier, TierReply, Verdict
from cheapdeep_ops.verdict import decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to a tier: the triage question, or the caller's original request."""

    tier: Tier
    kind: Literal["triage", "original"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request, its reply, and the reason to escalate, if any; `reply` is None if the call failed without one."""

    ask: Ask
    reply: TierReply | None
    reason: Reason | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeResult:
    """The steps of one call and their result.

    `answer` is the reply for the caller; if it is None, `error` is the exception for the caller. `escalated` is whether
    the call left the first tier. `is_fallback` marks a triage tier's answer that replaces the deep tier's error. A
    streamed answer that fails after its text went out has a `reason`, but is not escalated.
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
        """The step whose reply goes to the caller; the last step if none does."""
        if not self.is_fallback:
            return self.steps[-1]
        return next(step for step in reversed(self.steps) if step.reply is self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """Sends the original request to `tier` without triage; `cause` is set if the request cannot be triaged."""

    tier: Tier
    cause: BypassCause | None = None
    reason: Reason = Reason.BYPASS


def _is_no_exception(error: BaseException) -> bool:
    """Whether it is a cancellation, an interrupt or the like."""
    return not isinstance(error, Exception)


_T = TypeVar("_T")
Asking = Generator[Ask, TierReply, _T]
"""A generator that yields requests, receives replies, and returns a result."""

Flow = Asking[CascadeResult]


def cascade(
    tiers: Sequence[Tier],
    *,
    threshold: float,
    base_threshold: float,
    bypass: Bypass | None = None,
    falls_back: Callable[[BaseException], bool] | None = None,
    interrupts: Callable[[BaseException], bool] = _is_no_exception,
) -> Flow:
    """Triage all `tiers` but the last, ship the first answer that passes, and else send the request to the last tier.

    A failed triage call escalates. A failed deep call ends the flow with its error. `interrupts` selects the errors
    that end the flow at any tier: by default all that are not an `Exception` (a cancellation, an interrupt).
    `falls_back` selects the errors of the deep tier that the most confident triage answer replaces, whatever its
    confidence.
    """
    steps = [] if bypass else (yield from triaged(tiers[:-1], threshold=threshold, interrupts=interrupts))
    if steps and steps[-1].reason is None:
        return _result_of(steps, base_threshold)
    last = yield from (_original(bypass.tier, bypass.reason) if bypass else _original(tiers[-1]))
    result = _result_of([*steps, last], base_threshold)
    if falls_back and last.error is not None and falls_back(last.error):
        return _with_fallback(result)
    return result


def triaged(
    tiers: Sequence[Tier],
    *,
    threshold: float,
    interrupts: Callable[[BaseException], bool] = _is_no_exception,
) -> Asking[list[Step]]:
    """Triage `tiers` in order until an answer ships or the call is interrupted; that step has no `reason`."""
    steps: list[Step] = []
    for tier in tiers:
        step = yield from _triage(tier, threshold, interrupts)
        steps.append(step)
        if step.reason is None:
            break
    return steps


def _with_fallback(result: CascadeResult) -> CascadeResult:
    """The result with the most confident triage answer as its answer; unchanged if there is none."""
    # In reverse order, so that the higher tier wins at equal confidence: `max` returns the first.
    usable = [each.reply for each in reversed(result.steps[:-1]) if each.reply and _is_usable(each.reply)]
    answer = max(usable, key=_confidence, default=None)
    return result if answer is None else replace(result, answer=answer, error=None, is_fallback=True)


def _is_usable(reply: TierReply) -> bool:
    return reply.verdict is not None and reply.verdict.answer is not None and reply.verdict.problem is None


def _confidence(reply: TierReply) -> float:
    return (reply.verdict.confidence if reply.verdict else None) or 0.0


def _triage(
    tier: Tier, threshold: float, interrupts: Callable[[BaseException], bool]
) -> Generator[Ask, TierReply, Step]:
    ask = Ask(tier=tier, kind="triage")
    try:
        reply = yield ask
    except BaseException as error:  # noqa: BLE001 - whatever failed in the cheap call, the deep one can still answer
        return Step(ask=ask, reply=None, reason=None if interrupts(error) else _error_reason(error), error=error)
    _, reason = decide(_verdict(reply), threshold=threshold)
    return Step(ask=ask, reply=reply, reason=reason)


def _error_reason(error: BaseException) -> Reason | None:
    return Reason.TRIAGE_ERROR if isinstance(error, Exception) else None


def _original(tier: Tier, reason: Reason | None = None) -> Generator[Ask, TierReply, Step]:
    ask = Ask(tier=tier, kind="original")
    try:
        reply = yield ask
    except BaseException as error:  # noqa: BLE001 - returned as a value; the router raises it unchanged
        return Step(ask=ask, reply=None, reason=reason, error=error)
    return Step(ask=ask, reply=reply, reason=reason)


def shadowed(steps: Sequence[Step], result: CascadeResult, *, base_threshold: float) -> CascadeResult:
    """The result that a shadow call would have had if it had been routed.

    `steps` are those of the triage beside it, and `result` is the deep tier's.
    """
    is_answered = steps[-1].reason is None
    return _result_of(steps if is_answered else [*steps, *result.steps], base_threshold)


def revised(result: CascadeResult, reply: TierReply, *, base_threshold: float) -> CascadeResult:
    """The result of a streamed call whose first reply, which escalated early, has now been read to its end."""
    first, *others = result.steps
    return _result_of([replace(first, reply=reply), *others], base_threshold)


def _result_of(steps: Sequence[Step], base_threshold: float) -> CascadeResult:
    first, last = steps[0], steps[-1]
    bypassed = first.ask.kind == "original"
    base_outcome, base_reason = (None, None) if bypassed else _base(first, base_threshold)
    # The answer would have shipped at base, so only the raised threshold made the call escalate.
    raised = base_outcome is Outcome.SHIP and first.reason is not None
    return CascadeResult(
        steps=tuple(steps),
        answer=last.reply,
        error=last.error,
        reason=Reason.RAISED_THRESHOLD if raised else first.reason,
        base_outcome=base_outcome,
        base_reason=base_reason,
        # The first tier's, so that confidence and base outcome describe one reply.
        confidence=first.reply.verdict.confidence if first.reply and first.reply.verdict else None,
        escalated=bypassed or (len(steps) > 1 and first.reason is not None),
    )


def completed(
    result: CascadeResult, reply: TierReply, *, base_threshold: float, error: BaseException | None = None
) -> CascadeResult:
    """The result of a streamed call whose answer has ended; `reply` is the whole answer, as far as it came.

    The threshold no longer applies to a triage answer that has begun to go out. A later fault becomes its `reason`.
    """
    *before, last = result.steps
    reason = last.reason
    if last.ask.kind == "triage":
        reason = _error_reason(error) if error else _verdict(reply).problem
    step = replace(last, reply=reply, error=error, reason=reason)
    return _result_of([*before, step], base_threshold)


def _base(first: Step, base_threshold: float) -> tuple[Outcome | None, Reason | None]:
    if first.error is not None and first.reason is not None:
        return Outcome.ESCALATE, first.reason
    if first.reply is None:  # an interrupted call is no evidence about the traffic
        return None, None
    return decide(_verdict(first.reply), threshold=base_threshold)


def _verdict(reply: TierReply) -> Verdict:
    return reply.verdict or Verdict(problem=Reason.MALFORMED, detail="no verdict was read")


def drive(flow: Asking[_T], perform: Callable[[Ask], TierReply]) -> _T:
    """Run `flow` to its end with `perform`, which does each request; its exceptions are thrown into the flow."""
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
        result: _T = stop.value  # typeshed types `value` as Any
        return result
    finally:
        flow.close()


async def adrive(flow: Asking[_T], perform: Callable[[Ask], Awaitable[TierReply]]) -> _T:
    """Run `flow` to its end with an asynchronous `perform`; its exceptions are thrown into the flow."""
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
        result: _T = stop.value
        return result
    finally:
        flow.close()
