"""The cascade as a generator: it yields requests and receives replies, without an SDK, a clock or a database.

This is the pattern of httpx's auth flow: one flow, driven by a synchronous and an asynchronous function.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeVar

from cheapdeep_ops.values import (
    NO_PARTS,
    BypassCause,
    MalformedCause,
    Outcome,
    Reason,
    Tier,
    TierReply,
    TriageParts,
    Verdict,
)
from cheapdeep_ops.verdict import decide

_UNREAD: Final = Verdict(problem=Reason.MALFORMED, cause=MalformedCause.NOT_TEXT, detail="no verdict was read")
"""The verdict on a triage reply without one."""

# Values of one call are not frozen, here and in the router: a frozen one takes three times as long to make.


@dataclass(slots=True, kw_only=True)
class Ask:
    """One request to a tier: the triage question, or the caller's original request.

    A triage question is asked `without` some parts. `is_second` marks one that repeats a refused question.
    """

    tier: Tier
    kind: Literal["triage", "original"]
    without: TriageParts = NO_PARTS
    is_second: bool = False


class Refusals(Protocol):
    """What is known of the parts of triage requests that models refuse."""

    def known(self, model: str) -> TriageParts:
        """The parts to leave out of a request to `model`."""

    def suspected(self, ask: Ask, error: BaseException) -> TriageParts:
        """The parts to leave out of a second request, now that the first got `error`; none for no second request."""

    def proven(self, model: str, parts: TriageParts) -> None:
        """`model` has answered a question without `parts`, which it refused with them."""


class _NoRefusals:
    """Nothing is refused."""

    def known(self, _model: str) -> TriageParts:
        return NO_PARTS

    def suspected(self, _ask: Ask, _error: BaseException) -> TriageParts:
        return NO_PARTS

    def proven(self, model: str, parts: TriageParts) -> None: ...


NOTHING_REFUSED: Final[Refusals] = _NoRefusals()


@dataclass(slots=True, kw_only=True)
class Step:
    """A request, its reply, and the reason to escalate, if any; `reply` is None if the call failed without one."""

    ask: Ask
    reply: TierReply | None
    reason: Reason | None = None
    error: BaseException | None = None


@dataclass(slots=True, kw_only=True)
class CascadeResult:
    """The steps of one call and their result.

    `answer` is the reply for the caller; if it is None, `error` is the exception for the caller. `confidence` is the
    answering tier's; if no triage tier answered, it is the first tier's. `reason`, `base_outcome` and `base_reason`
    always describe the first tier's reply. `escalated` is whether the call left the first tier. `is_fallback` marks a
    triage tier's answer that replaces the deep tier's error. `is_budgeted` marks one below the threshold that goes out
    because a budget is used up; the reason is `budget` then. A streamed answer that fails after its text went out has a
    `reason`, but is not escalated.
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
    is_budgeted: bool = False

    @property
    def answered(self) -> Step:
        """The step whose reply goes to the caller; the last step if none does."""
        if not (self.is_fallback or self.is_budgeted):
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
    refusals: Refusals = NOTHING_REFUSED,
    spares_deep: Callable[[], bool] | None = None,
    last_threshold: float | None = None,
) -> Flow:
    """Triage all `tiers` but the last, ship the first answer that passes, and else send the request to the last tier.

    A failed triage call escalates. A failed deep call ends the flow with its error. `interrupts` selects the errors
    that end the flow at any tier: by default all that are not an `Exception` (a cancellation, an interrupt).
    `falls_back` selects the errors of the deep tier that the most confident triage answer replaces, whatever its
    confidence. `refusals` says which parts of a triage request to leave out.

    While a budget is used up, the most confident triage answer replaces the deep call: `spares_deep` is asked for that
    when a call is to escalate. A stream cannot go back to an answer that it gave up, so it is told at the start: the
    last triage tier's answer then goes out from the confidence `last_threshold` on.
    """
    triage = triaged(
        tiers[:-1], threshold=threshold, interrupts=interrupts, refusals=refusals, last_threshold=last_threshold
    )
    steps = [] if bypass else (yield from triage)
    if steps and steps[-1].reason is None:
        result = _result_of(steps, base_threshold)
        return _spared(result) if last_threshold is not None and _is_below(steps[-1], threshold) else result
    if steps and spares_deep is not None and spares_deep():
        spared = _with_best(_result_of(steps, base_threshold))
        if spared is not None:
            return _spared(spared)
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
    refusals: Refusals = NOTHING_REFUSED,
    last_threshold: float | None = None,
) -> Asking[list[Step]]:
    """Triage `tiers` in order until an answer ships or the call is interrupted; that step has no `reason`.

    The last tier's answer ships from `last_threshold` on, if that is given.
    """
    steps: list[Step] = []
    for tier in tiers:
        limit = threshold if last_threshold is None or tier is not tiers[-1] else last_threshold
        step = yield from _triage(tier, limit, interrupts, refusals)
        steps.append(step)
        if step.reason is None:
            break
    return steps


def _with_fallback(result: CascadeResult) -> CascadeResult:
    """The result with the most confident triage answer as its answer; unchanged if there is none."""
    found = _with_best(result)
    return result if found is None else replace(found, is_fallback=True)


def _with_best(result: CascadeResult) -> CascadeResult | None:
    """The result with the most confident triage answer as its answer; None if no answer is usable."""
    # In reverse order, so that the higher tier wins at equal confidence: `max` returns the first.
    usable = [each.reply for each in reversed(result.steps) if each.reply and _is_usable(each.reply)]
    answer = max(usable, key=_confidence, default=None)
    if answer is None:
        return None
    return replace(result, answer=answer, error=None, confidence=_stated(answer))


def _is_below(step: Step, threshold: float) -> bool:
    """Whether a triage answer went out that does not ship at `threshold`."""
    verdict = step.reply.verdict if step.reply else None
    return verdict is not None and decide(verdict, threshold=threshold)[0] is Outcome.ESCALATE


def _spared(result: CascadeResult) -> CascadeResult:
    """The result whose triage answer goes out because a budget is used up: it has not left the triage tiers."""
    return replace(result, reason=Reason.BUDGET, escalated=len(result.steps) > 1, is_budgeted=True)


def _is_usable(reply: TierReply) -> bool:
    return reply.verdict is not None and reply.verdict.answer is not None and reply.verdict.problem is None


def _confidence(reply: TierReply) -> float:
    return _stated(reply) or 0.0


def _stated(reply: TierReply | None) -> float | None:
    """The confidence of a triage reply; None if it states none."""
    return reply.verdict.confidence if reply and reply.verdict else None


def _triage(
    tier: Tier, threshold: float, interrupts: Callable[[BaseException], bool], refusals: Refusals
) -> Generator[Ask, TierReply, Step]:
    """One step, also if a refused question is asked a second time."""
    ask = Ask(tier=tier, kind="triage", without=refusals.known(tier.model))
    step = yield from _question(ask, threshold, interrupts)
    suspects = NO_PARTS if step.error is None else refusals.suspected(ask, step.error)
    if not suspects:
        return step
    second = replace(ask, without=ask.without | suspects, is_second=True)
    step = yield from _question(second, threshold, interrupts)
    if step.error is None:
        refusals.proven(tier.model, suspects)
    return step


def _question(
    ask: Ask, threshold: float, interrupts: Callable[[BaseException], bool]
) -> Generator[Ask, TierReply, Step]:
    try:
        reply = yield ask
    except BaseException as error:  # noqa: BLE001 - whatever failed in the cheap call, the deep one can still answer
        return Step(ask=ask, reply=None, reason=None if interrupts(error) else _error_reason(error), error=error)
    _, reason = decide(reply.verdict or _UNREAD, threshold=threshold)
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


def revised(result: CascadeResult, tier: Tier, reply: TierReply, *, base_threshold: float) -> CascadeResult:
    """The result of a streamed call; the reply of `tier`, which escalated early, has now been read to its end."""
    steps = [replace(step, reply=reply) if step.ask.tier == tier else step for step in result.steps]
    return _result_of(steps, base_threshold)


def _result_of(steps: Sequence[Step], base_threshold: float) -> CascadeResult:
    first, last = steps[0], steps[-1]
    bypassed = first.ask.kind == "original"
    base_outcome, base_reason = base_of(first, base_threshold)
    # The answer would have shipped at base, so only the raised threshold made the call escalate.
    raised = base_outcome is Outcome.SHIP and first.reason is not None
    return CascadeResult(
        steps=tuple(steps),
        answer=last.reply,
        error=last.error,
        reason=Reason.RAISED_THRESHOLD if raised else first.reason,
        base_outcome=base_outcome,
        base_reason=base_reason,
        confidence=_stated(last.reply if last.ask.kind == "triage" and last.reply else first.reply),
        escalated=bypassed or (len(steps) > 1 and first.reason is not None),
    )


def completed(
    result: CascadeResult,
    reply: TierReply,
    *,
    base_threshold: float,
    error: BaseException | None = None,
    interrupts: Callable[[BaseException], bool] = _is_no_exception,
) -> CascadeResult:
    """The result of a streamed call whose answer has ended; `reply` is the whole answer, as far as it came.

    The threshold no longer applies to a triage answer that has begun to go out. A later fault becomes its `reason`: the
    reply's own fault, else that the connection failed. An error that `interrupts` selects is no fault of the tier.
    """
    *before, last = result.steps
    reason = last.reason
    if last.ask.kind == "triage":
        has_failed = error is not None and not interrupts(error)
        reason = (reply.verdict or _UNREAD).problem or (Reason.TRIAGE_ERROR if has_failed else None)
    step = replace(last, reply=reply, error=error, reason=reason)
    whole = _result_of([*before, step], base_threshold)
    return _spared(whole) if result.is_budgeted and reason is None else whole


def base_of(step: Step, base_threshold: float) -> tuple[Outcome | None, Reason | None]:
    """The outcome of a triage step at the base threshold, and why it escalates; None for an original request."""
    if step.ask.kind == "original":
        return None, None
    if step.error is not None and step.reason is not None:
        return Outcome.ESCALATE, step.reason
    if step.reply is None:  # an interrupted call is no evidence about the traffic
        return None, None
    return decide(step.reply.verdict or _UNREAD, threshold=base_threshold)


def candidate(steps: Sequence[Step], base_threshold: float) -> Step | None:
    """The step whose answer ships at the base threshold, in whatever tier; None if none does."""
    return next((step for step in steps if base_of(step, base_threshold)[0] is Outcome.SHIP), None)


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
