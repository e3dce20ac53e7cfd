"""One call, from the caller's arguments to the decision: what both routers share, with no waiting in it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from cheapdeep_ops.claude.arguments import normalize_params
from cheapdeep_ops.claude.cache_breakpoints import contract_place
from cheapdeep_ops.claude.clients import is_bad_request, is_outage
from cheapdeep_ops.claude.conversion import read_reply, unwrapped
from cheapdeep_ops.claude.features import bypass_cause
from cheapdeep_ops.claude.prompt import TriagePrompt, triage_prompt
from cheapdeep_ops.claude.sdk import Message
from cheapdeep_ops.claude.stream_events import OriginalProgress, TriageProgress
from cheapdeep_ops.claude.tier_requests import (
    conversation_key,
    is_too_long,
    original_request,
    texts,
    triage_request,
    turns,
)
from cheapdeep_ops.flow import Ask, Asking, Bypass, CascadeResult, Flow, Step, cascade, shadowed, triaged
from cheapdeep_ops.partial import PartialReply
from cheapdeep_ops.policy import EffectivePolicy, PolicyBook
from cheapdeep_ops.pricing import (
    ContractPlace,
    PriceBook,
    baseline_usage,
    known_sum,
    share_read,
    tokenizer_ratio,
    warmed,
    without_contract,
)
from cheapdeep_ops.router.conversations import Conversations
from cheapdeep_ops.router.label_limits import LabelLimiter
from cheapdeep_ops.sampling import position
from cheapdeep_ops.telemetry.handler import ChatRecord
from cheapdeep_ops.treatment import treatments
from cheapdeep_ops.values import ALL_ROUTES, BypassCause, Decision, Exchange, Hop, Reason, Tier, TierReply, Trace, Usage

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_MAX_ROUTES: Final = 200
_MAX_INPUT_CLASSES: Final = 200
_SAY_NOTHING_OF_IT: Final = frozenset({Reason.TRIAGE_ERROR, Reason.RAISED_THRESHOLD})
"""Reasons for an escalation that are not the conversation's own."""

_GRACE_S: Final = 1.0
"""How much longer than its timeouts triage beside a call may take: closing a connection takes time too."""

_SHADOWS: Final = "shadow"
"""The salt that draws the calls to be tried in shadow mode, independent of those to be graded."""

_NAMED_STAR: Final = "all"
"""What a caller's route named `*` becomes: the star is the scope of all routes."""

MEASURED: Final = "measured: the deep tier answered"
_LESS_COLD_CACHE: Final = ", less what its cold prompt cache cost"


class Sink(Protocol):
    """Where decisions go and policies come from."""

    book: PolicyBook

    def put(self, decision: Decision, tell: Callable[[], Exchange | None]) -> None:
        """Take a decision; never blocks, never raises. `tell` says what the call was about, if that is wanted."""

    def close(self) -> None:
        """Store what was taken."""


_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The answer to one call, and how it came about."""

    message: Message
    decision: Decision

    @property
    def text(self) -> str:
        """All text of the answer."""
        return "".join(block.text for block in self.message.content if block.type == "text")


@dataclass(slots=True, kw_only=True)
class Call:
    """One call under way; `model_s` are the seconds spent waiting for each model so far."""

    id: str
    route: str
    input_class: str
    params: Mapping[str, Any]
    tiers: tuple[Tier, ...]
    policy: EffectivePolicy
    bypass: Bypass | None
    user_text: str
    conversation: str
    started_at: float
    started: float
    is_shadowed: bool = False
    ended: float | None = None
    model_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """What a call came to: its course and its decision for the record, and the seconds that each of its hops took.

    `call` is the call as it was asked: whoever asked may have changed since what it was made of.
    """

    call: Call
    course: CascadeResult
    decision: Decision
    hop_s: Sequence[float]


class CallPlanner:
    """The settings of a router turned into what each call needs; holds no connection and reads no clock but its own."""

    def __init__(
        self,
        settings: "Settings",
        *,
        route: str,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.settings = settings
        self.tiers = settings.cascade
        self.prompt: TriagePrompt = triage_prompt(settings.triage_template)
        self._treatments = treatments(settings.treatments)
        self._prices = PriceBook(settings.price_overrides)
        self._warm_prices(clock())
        self._route = route
        self._clock = clock
        self._new_id = new_id
        self._conversations = Conversations(turns=settings.sticky_turns, lasts_s=settings.sticky_s)
        self._routes, self._classes = LabelLimiter(_MAX_ROUTES), LabelLimiter(_MAX_INPUT_CLASSES)

    @property
    def most_beside_s(self) -> float:
        """For how many seconds something may go on beside a call."""
        return self.settings.triage_timeout_s * max(len(self.tiers) - 1, 1) + _GRACE_S

    def _warm_prices(self, at: float) -> None:
        """Look the tiers' prices up now: loading the catalogue takes a fifth of a second, which no call should wait."""
        for tier in self.tiers:
            try:
                self._prices.prices(tier.model, at=at)
            except Exception:  # noqa: BLE001 - a price must never cost an answer, nor a start
                _log.exception("looking the price of %s up failed", tier.model)

    def begin(self, params: Mapping[str, Any], *, route: str | None, input_class: str, book: PolicyBook) -> Call:
        """A new call: its tiers, its policy, and whether it is triaged."""
        named = self._routes.bounded(route or self._route)
        named = _NAMED_STAR if named == ALL_ROUTES else named
        params, started_at = normalize_params(params), self._clock()
        own = params.pop("conversation", None)
        tiers, bypass = self._choose(params)
        call_id, is_shadowed = self._new_id(), False
        if bypass is None and self.settings.mode == "shadow":
            bypass = Bypass(cause=BypassCause.SHADOW, tier=tiers[-1])
            is_shadowed = position(call_id, _SHADOWS) < self.settings.shadow_share
        conversation = "" if bypass else self._conversation(params, own)
        if conversation and self._stays_deep(conversation, params, own, started_at):
            bypass = Bypass(tier=tiers[-1], reason=Reason.STICKY)
        return Call(
            id=call_id,
            route=named,
            input_class=self._classes.bounded(input_class),
            params=params,
            tiers=tiers,
            policy=book.for_route(named),
            bypass=bypass,
            user_text="" if bypass and not is_shadowed else texts(params),
            conversation=conversation,
            started_at=started_at,
            started=time.perf_counter(),
            is_shadowed=is_shadowed,
        )

    def shadow(self, call: Call) -> Call:
        """The call as triage is tried on it: whole, where the caller's is streamed, and a copy of what it is made of.

        Raises whatever an argument raises that cannot be copied.
        """
        params = deepcopy({name: value for name, value in call.params.items() if name != "stream"})
        return replace(call, params=params, bypass=None, model_s=[])

    def triage(self, shadow: Call) -> Asking[list[Step]]:
        """The triage of a call without its deep tier, ready to be driven."""
        return triaged(shadow.tiers[:-1], threshold=shadow.policy.threshold)

    def _conversation(self, params: Mapping[str, Any], own: object) -> str:
        """The key of the conversation, by the caller's own id or by its beginning; nothing where it does not matter."""
        if not self._conversations.are_remembered:
            return ""
        return f"id {own}" if own else conversation_key(params)

    def _stays_deep(self, key: str, params: Mapping[str, Any], own: object, now: float) -> bool:
        """Whether it goes deep at once; a first turn is nobody's second, however often it is asked."""
        is_going_on = bool(own) or len(params["messages"]) > 1
        return is_going_on and self._conversations.stays_deep(key, now)

    def remember(self, call: Call, decision: Decision) -> None:
        """Keep a conversation with the deep tier where the cheap one could not answer a turn of it."""
        is_answered_deep = decision.escalated and not decision.is_fallback and not decision.error
        if call.conversation and decision.triaged and is_answered_deep and decision.reason not in _SAY_NOTHING_OF_IT:
            self._conversations.went_deep(call.conversation, call.started_at)

    def flow(self, call: Call) -> Flow:
        """The call's course, ready to be driven."""
        return cascade(
            call.tiers,
            threshold=call.policy.threshold,
            base_threshold=self.settings.base_threshold,
            bypass=call.bypass,
            falls_back=is_outage if self._may_fall_back(call) else None,
        )

    def _may_fall_back(self, call: Call) -> bool:
        """Whether a triage tier's answer may take the place of the deep tier's error; a stream's is given up early."""
        return self.settings.ship_cheap_when_deep_fails and not call.params.get("stream")

    def request(self, call: Call, ask: Ask) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The keyword arguments of `messages.create` for one ask, and what was translated in them."""
        if ask.kind == "original":
            return original_request(call.params, model=ask.tier.model)
        timeout_s = self.settings.triage_timeout_s
        return triage_request(call.params, model=ask.tier.model, prompt=self.prompt, timeout_s=timeout_s)

    def read(self, call: Call, ask: Ask, message: object) -> TierReply:
        """What came back to one ask, for the flow; what is no message is handed on unread."""
        if not isinstance(message, Message):
            return TierReply(message=message)
        return read_reply(message, user_text=call.user_text if ask.kind == "triage" else None)

    def reading(self, call: Call, ask: Ask) -> OriginalProgress | TriageProgress:
        """How a stream that answers one ask is read."""
        if ask.kind == "original":
            return OriginalProgress()
        threshold, settings = call.policy.threshold, self.settings
        partial = PartialReply(
            threshold=threshold,
            base_threshold=settings.base_threshold,
            user_text=call.user_text,
            is_patient=settings.stream_whole,
        )
        return TriageProgress(partial, threshold=threshold)

    def record(self, call: Call, ask: Ask, reply: TierReply) -> ChatRecord:
        """What a span learns of a reply."""
        message = reply.message
        if not isinstance(message, Message):
            return ChatRecord()
        return ChatRecord(
            usage=reply.usage,
            cost_usd=self._cost(call, ask.tier.model, reply.usage),
            response_id=message.id,
            response_model=message.model,
            stop_reason=message.stop_reason or "",
        )

    def settle(self, call: Call, course: CascadeResult) -> CallRecord:
        """What a call comes to beside which nothing went on."""
        return CallRecord(call=call, course=course, decision=self.decide(call, course), hop_s=call.model_s)

    def settle_shadow(self, call: Call, course: CascadeResult, shadow: Call, steps: Sequence[Step]) -> CallRecord:
        """What a call comes to on which triage was tried; as without, where that was interrupted or the call failed."""
        settled = self.settle(call, course)
        was_interrupted = not steps or (steps[-1].error is not None and steps[-1].reason is None)
        if was_interrupted or course.error is not None:
            return settled
        routed_course = shadowed(steps, course, base_threshold=self.settings.base_threshold)
        routed, alone = self.decide(shadow, routed_course), settled.decision
        decision = replace(
            alone,
            is_shadow=True,
            confidence=routed.confidence,
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
        return CallRecord(call=shadow, course=routed_course, decision=decision, hop_s=hop_s)

    def decide(self, call: Call, course: CascadeResult) -> Decision:
        """The decision that a finished course amounts to."""
        hops = tuple(self._hop(call, step) for step in course.steps)
        last, answered = course.steps[-1], course.answered
        baseline, basis = self._baseline(call, last)
        if (cold := self._cold_cache_usd(call, course)) and baseline is not None:
            baseline, basis = baseline - cold, basis + _LESS_COLD_CACHE
        return Decision(
            call_id=call.id,
            route=call.route,
            input_class=call.input_class,
            tier=answered.ask.tier.index,
            model=answered.ask.tier.model,
            confidence=course.confidence,
            threshold=call.policy.threshold,
            policy_version=call.policy.version,
            escalated=course.escalated,
            reason=course.reason,
            bypass_cause=call.bypass.cause if call.bypass else None,
            base_outcome=course.base_outcome,
            base_reason=course.base_reason,
            cost_usd=known_sum(hop.cost_usd for hop in hops if _has_cost(hop)),
            triage_cost_usd=known_sum(hop.cost_usd for hop in _triage_hops(hops, course) if _has_cost(hop)),
            baseline_cost_usd=baseline,
            baseline_basis=basis,
            started_at=call.started_at,
            duration_s=(call.ended or time.perf_counter()) - call.started,
            triage_duration_s=sum(call.model_s[: len(_triage_hops(hops, course))]),
            hops=hops,
            error=type(course.error).__name__ if course.error else "",
            prompt_version="" if call.bypass else self.prompt.version,
            cold_cache_usd=cold,
            is_fallback=course.is_fallback,
            is_replay_rejected=len(hops) > 1 and last.error is not None and is_bad_request(last.error),
        )

    def exchange(self, call: Call, course: CascadeResult, place: Trace | None) -> Exchange | None:
        """What the first tier was asked and said, as text; None where it gave no answer."""
        reply = course.steps[0].reply
        if reply is None or reply.verdict is None or reply.verdict.answer is None:
            return None
        return Exchange(
            turns=turns(call.params),
            answer=reply.verdict.answer,
            response_id=str(reply.message.id or "") if isinstance(reply.message, Message) else "",
            prompt_version=self.prompt.version,
            trace=place,
        )

    def answer(self, course: CascadeResult) -> object:
        """What goes back to the caller.

        Raises the course's own error, unchanged, where there is no answer.
        """
        if course.answer is None:
            raise course.error or AssertionError("a course ends with an answer or an error")
        message, verdict = course.answer.message, course.answer.verdict
        if isinstance(message, Message) and verdict is not None and verdict.answer is not None:
            return unwrapped(message, verdict.answer)
        return message

    def _choose(self, params: dict[str, Any]) -> tuple[tuple[Tier, ...], Bypass | None]:
        """The call's tiers, with `model` naming another deep tier, and the reason not to triage it, if any."""
        tiers = self.tiers
        model = params.pop("model", None)
        if model is not None and model != tiers[-1].model:
            model = str(model)  # what else it may be, the API refuses
            cheap = next((tier for tier in tiers[:-1] if _names(model, tier)), None)
            if cheap is not None:
                return tiers, Bypass(cause=BypassCause.CHEAP_REQUESTED, tier=replace(cheap, model=model))
            tiers = (*tiers[:-1], replace(tiers[-1], model=model))
        cause = self._cause(params)
        return tiers, Bypass(cause=cause, tier=tiers[-1]) if cause else None

    def _cause(self, params: Mapping[str, Any]) -> BypassCause | None:
        """Why not to triage; a request that cannot even be looked at goes to the deep tier as it is."""
        try:
            cause = bypass_cause(params, self._treatments)
            if cause or len(self.tiers) == 1:
                return cause or BypassCause.NO_TRIAGE_TIER
            return BypassCause.TOO_LONG if self._is_too_long(params) else None
        except Exception:  # noqa: BLE001 - what is wrong with a request, the SDK says better
            return BypassCause.MALFORMED_REQUEST

    def _is_too_long(self, params: Mapping[str, Any]) -> bool:
        most = self.settings.triage_max_input_tokens
        return is_too_long(params, model=self.tiers[0].model, prompt=self.prompt, max_input_tokens=most)

    def _hop(self, call: Call, step: Step) -> Hop:
        reply, model = step.reply, step.ask.tier.model
        return Hop(
            tier=step.ask.tier,
            usage=reply.usage if reply else None,
            cost_usd=self._cost(call, model, reply.usage) if reply else None,
            verdict=reply.verdict if reply else None,
            reason=step.reason,
            error=type(step.error).__name__ if step.error else "",
        )

    def _baseline(self, call: Call, last: Step) -> tuple[float | None, str]:
        """What the deep tier alone would have cost, and how that is known."""
        deep, model = call.tiers[-1].model, last.ask.tier.model
        usage = last.reply.usage if last.reply else None
        if last.error is not None and usage is None:
            return 0.0, "none: the call failed, and would have at the deep tier alone"
        if usage is None:
            return None, "unknown: no usage was reported"
        if last.ask.tier.is_deep:
            return self._cost(call, deep, usage), MEASURED
        ratio = tokenizer_ratio(model, deep)
        contract_tokens = self.prompt.tokens if last.ask.kind == "triage" else 0
        place = self._contract_place(call, usage) if contract_tokens else ContractPlace.UNCACHED
        estimate = baseline_usage(usage, ratio=ratio, contract_tokens=contract_tokens, contract_place=place)
        less = " less the triage contract" if contract_tokens else ""
        basis = f"estimated: tokens of {model}{less}, times {ratio:.2f} for the tokenizer"
        return self._cost(call, deep, estimate), basis

    def _cold_cache_usd(self, call: Call, course: CascadeResult) -> float:
        """What the deep tier's answer cost more than it would have, had that tier got all calls before it, in dollars.

        Triage read a share of this prompt from its own cache, so the prompt's beginning had been asked lately; what the
        deep tier wrote of that beginning, it would have read. Nothing where the deep tier does get all calls.
        """
        last = course.steps[-1]
        usage = last.reply.usage if last.reply else None
        if call.bypass or not last.ask.tier.is_deep or usage is None or not usage.cache_write_tokens:
            return 0.0
        share = max((self._share_read(call, step) for step in course.steps[:-1]), default=0.0)
        model = last.ask.tier.model
        paid, warm = (self._cost(call, model, each) for each in (usage, warmed(usage, share=share)))
        return max(paid - warm, 0.0) if paid is not None and warm is not None else 0.0

    def _share_read(self, call: Call, step: Step) -> float:
        """The share of the caller's prompt that a triage call read from the cache; nothing where that is not known."""
        usage = step.reply.usage if step.reply else None
        if usage is None or not usage.cache_read_tokens:
            return 0.0
        place = self._contract_place(call, usage)
        return share_read(without_contract(usage, tokens=self.prompt.tokens, place=place))

    def _contract_place(self, call: Call, usage: Usage) -> ContractPlace:
        is_cache_used = usage.cache_read_tokens or usage.cache_write_tokens
        return contract_place(call.params, self.prompt) if is_cache_used else ContractPlace.UNCACHED

    def _cost(self, call: Call, model: str, usage: Usage | None) -> float | None:
        """The cost in US dollars; a price catalogue that fails leaves the call unpriced, never unanswered."""
        if usage is None:
            return None
        try:
            return self._prices.cost(model, usage, at=call.started_at)
        except Exception:  # noqa: BLE001 - a price must never cost an answer
            _log.exception("pricing %s failed", model)
            return None


def _names(model: str, tier: Tier) -> bool:
    """Whether `model` is the tier's model, by its name or by that of a dated snapshot (`...-20251001`)."""
    return model == tier.model or model.startswith(f"{tier.model}-20")


def random_id() -> str:
    """A call id that no other call has."""
    return uuid4().hex


def _has_cost(hop: Hop) -> bool:
    """Whether the API charges for a hop: one that failed before anything came of it is free."""
    return hop.usage is not None or not hop.error


def _triage_hops(hops: tuple[Hop, ...], course: CascadeResult) -> list[Hop]:
    return [hop for hop, step in zip(hops, course.steps, strict=True) if step.ask.kind == "triage"]
