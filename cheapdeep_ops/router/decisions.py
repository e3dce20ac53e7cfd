"""From the result of a finished call to its decision, its costs, and what is stored of it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.costing import Contract, baseline, total_usd
from cheapdeep_ops.errors import BudgetError
from cheapdeep_ops.flow import Ask, CascadeResult, Step, base_of, candidate, shadowed
from cheapdeep_ops.pricing import PriceBook, known_sum
from cheapdeep_ops.router.calls import Call, CallRecord
from cheapdeep_ops.router.provider import AnyMessage, TriagePrompt, claude
from cheapdeep_ops.router.triage_faults import TriageFaults
from cheapdeep_ops.telemetry.handler import ChatRecord
from cheapdeep_ops.values import Decision, Exchange, Hop, Outcome, Tier, TierReply, Trace, Usage
from cheapdeep_ops.verdict import decide

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_log: Final = logging.getLogger(__name__)


class DecisionBuilder:
    """Makes the decisions of one router, with its prices and its triage prompt. `at` is in Unix seconds."""

    def __init__(self, settings: "Settings", prompt: TriagePrompt, *, at: float) -> None:
        self._base_threshold = settings.base_threshold
        self._prompt = prompt
        self._prices = PriceBook(settings.price_overrides)
        self._faults = TriageFaults()
        self._warm_prices(settings.cascade, at)

    def _warm_prices(self, tiers: Sequence[Tier], at: float) -> None:
        """Look up the tiers' prices now: the catalogue takes 0.2 s to load, and no call should wait for that."""
        for tier in tiers:
            try:
                self._prices.prices(tier.model, at=at)
            except Exception:  # noqa: BLE001 - a missing price must not prevent a start
                _log.exception("looking up the price of %s failed", tier.model)

    def record(self, call: Call, result: CascadeResult) -> CallRecord:
        """The record of a call without shadow triage."""
        return CallRecord(call=call, result=result, decision=self.decide(call, result), hop_s=call.model_s)

    def shadow_record(self, call: Call, result: CascadeResult, shadow: Call, steps: Sequence[Step]) -> CallRecord:
        """The record of a call with shadow triage, whose `steps` these are.

        It is the record of the deep tier's answer alone if the call failed or the triage was interrupted.
        """
        record = self.record(call, result)
        was_interrupted = not steps or (steps[-1].error is not None and steps[-1].reason is None)
        if was_interrupted or result.error is not None:
            return record
        routed_result = shadowed(steps, result, base_threshold=self._base_threshold)
        routed, alone = self.decide(shadow, routed_result), record.decision
        decision = replace(
            alone,
            is_shadow=True,
            confidence=routed.first_confidence,
            base_outcome=routed.base_outcome,
            base_reason=routed.base_reason,
            hops=(*routed.hops[: len(steps)], *alone.hops),
            cost_usd=known_sum((alone.cost_usd, routed.triage_cost_usd)),
            triage_cost_usd=routed.triage_cost_usd,
            triage_duration_s=routed.triage_duration_s,
            routed_cost_usd=routed.cost_usd,
            prompt_version=routed.prompt_version,
        )
        hop_s = [*shadow.model_s, *call.model_s]
        return CallRecord(call=shadow, result=routed_result, decision=decision, hop_s=hop_s)

    def decide(self, call: Call, result: CascadeResult) -> Decision:
        """The decision of a finished call."""
        hops = tuple([self._hop(call, step, is_last=step is result.steps[-1]) for step in result.steps])
        triage_hops = [hop for hop, step in zip(hops, result.steps, strict=True) if step.ask.kind == "triage"]
        contract = Contract(tokens=self._prompt.tokens, place=partial(claude.contract_place, call.params, self._prompt))
        deep = baseline(
            result,
            deep=call.tiers[-1].model,
            contract=contract,
            price=partial(self._price, call),
            inference_geo=claude.inference_geo(call.params),
        )
        cost_usd = total_usd(hops)
        last, answered, labels = result.steps[-1], result.answered, call.labels
        # `ended` is set if a background task delays the record, which must not count as the caller's time.
        ended = call.ended or time.perf_counter()
        return Decision(
            call_id=call.id,
            route=labels.text.route,
            input_class=labels.text.input_class,
            tier=answered.ask.tier.index,
            model=answered.ask.tier.model,
            confidence=result.confidence,
            threshold=labels.policy.threshold,
            policy_version=labels.policy.version,
            escalated=result.escalated,
            reason=result.reason,
            bypass_cause=call.bypass.cause if call.bypass else None,
            base_outcome=result.base_outcome,
            base_reason=result.base_reason,
            cost_usd=cost_usd,
            triage_cost_usd=cost_usd if len(triage_hops) == len(hops) else total_usd(triage_hops),
            baseline_cost_usd=deep.usd,
            baseline_basis=deep.basis,
            started_at=call.started_at,
            duration_s=ended - call.started,
            triage_duration_s=sum(call.model_s[: len(triage_hops)]),
            hops=hops,
            error=type(result.error).__name__ if result.error else "",
            prompt_version="" if call.bypass else self._prompt.version,
            cold_cache_usd=deep.cold_cache_usd,
            name=labels.name,
            counted=labels.counted,
            is_fallback=result.is_fallback,
            is_budgeted=result.is_budgeted,
            is_refused=isinstance(result.error, BudgetError),
            is_replay_rejected=len(hops) > 1 and last.error is not None and claude.is_bad_request(last.error),
        )

    def _hop(self, call: Call, step: Step, *, is_last: bool) -> Hop:
        reply = step.reply
        usage = reply.usage if reply else None
        return Hop(
            tier=step.ask.tier,
            usage=usage,
            cost_usd=self._price(call, step.ask.tier.model, usage),
            verdict=reply.verdict if reply else None,
            reason=step.reason,
            error=self._faults.name(step),
            outcome=_outcome_of(step, is_last=is_last),
            base_outcome=base_of(step, self._base_threshold)[0],
        )

    def _price(self, call: Call, model: str, usage: Usage | None) -> float | None:
        """The price of one model call in US dollars; None if it is unknown."""
        if usage is None:
            return None
        try:
            return self._prices.cost(model, claude.billed(usage, call.params), at=call.started_at)
        except Exception:  # noqa: BLE001 - a faulty price catalogue must not cost an answer
            _log.exception("pricing %s failed", model)
            return None

    def chat_record(self, call: Call, ask: Ask, reply: TierReply, *, has_shipped: bool) -> ChatRecord:
        """What the span of a model call says of its reply; `has_shipped` is whether a stream's answer goes out."""
        message = reply.message
        if not isinstance(message, AnyMessage):
            return ChatRecord()
        return ChatRecord(
            usage=reply.usage and claude.billed(reply.usage, call.params),
            cost_usd=self._price(call, ask.tier.model, reply.usage),
            confidence=reply.verdict.confidence if reply.verdict else None,
            outcome=_outcome_at(call.labels.policy.threshold, reply, has_shipped=has_shipped),
            response_id=message.id,
            response_model=message.model,
            stop_reason=message.stop_reason or "",
        )

    def exchange(self, call: Call, result: CascadeResult, trace: Trace | None) -> Exchange | None:
        """The conversation and the answer that ships at base as text, for grading; None if there is none."""
        step = candidate(result.steps, self._base_threshold)
        reply = step.reply if step else None
        if reply is None or reply.verdict is None or reply.verdict.answer is None:
            return None
        return Exchange(
            turns=claude.turns(call.params),
            answer=reply.verdict.answer,
            response_id=str(reply.message.id or "") if isinstance(reply.message, AnyMessage) else "",
            prompt_version=self._prompt.version,
            trace=trace,
        )


def _outcome_of(step: Step, *, is_last: bool) -> Outcome | None:
    """Whether a triage tier's answer went out; None for an original request, and for an interrupted one."""
    if step.ask.kind == "original" or (is_last and step.reply is None):
        return None
    return Outcome.SHIP if is_last else Outcome.ESCALATE


def _outcome_at(threshold: float, reply: TierReply, *, has_shipped: bool) -> Outcome | None:
    """The outcome of a triage reply, also if its stream went wrong after its answer went out; None for any other."""
    if reply.verdict is None:
        return None
    return Outcome.SHIP if has_shipped else decide(reply.verdict, threshold=threshold)[0]


def answer_of(result: CascadeResult) -> object:
    """What goes back to the caller. Raises the error of a call that failed, unchanged."""
    if result.answer is None:
        raise result.error or AssertionError("a call ends with an answer or an error")
    message, verdict = result.answer.message, result.answer.verdict
    if isinstance(message, AnyMessage) and verdict is not None and verdict.answer is not None:
        return claude.unwrapped(message, verdict.answer)
    return message
