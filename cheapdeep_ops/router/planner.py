"""From the caller's arguments to a call, and from a call to the requests that its tiers get. Nothing here waits."""

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cheapdeep_ops.copies import Spelling
from cheapdeep_ops.flow import Ask, Asking, Bypass, Flow, Step, cascade, triaged
from cheapdeep_ops.model_names import is_same_model
from cheapdeep_ops.partial import PartialReply
from cheapdeep_ops.policy import PolicyBook
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.conversations import Conversations
from cheapdeep_ops.router.label_limits import Labeller
from cheapdeep_ops.router.provider import AnyMessage, Params, Request, StreamProgress, TriagePrompt, claude
from cheapdeep_ops.router.refusals import CallRefusals, RefusedParts
from cheapdeep_ops.sampling import position
from cheapdeep_ops.treatment import treatments
from cheapdeep_ops.values import (
    NO_PARTS,
    BypassCause,
    Decision,
    Reason,
    Tier,
    TierReply,
    TriagePart,
    TriageParts,
)
from cheapdeep_ops.verdict import prepare, verdict_in

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_log: Final = logging.getLogger(__name__)
_FORMAT: Final = frozenset({TriagePart.FORMAT})
_NOT_OF_THE_CONVERSATION: Final = frozenset({Reason.TRIAGE_ERROR, Reason.RAISED_THRESHOLD})
"""Reasons that say nothing about the conversation's next turn."""

_GRACE_S: Final = 1.0
"""Added to the timeouts of a background task, because closing a connection takes time too."""

_SHADOW_SALT: Final = "shadow"
"""Makes the choice of shadow calls independent of the choice of calls for grading."""


class CallPlanner:
    """The settings of a router, applied to each call. Holds no connection; its only clock is `clock` (Unix seconds)."""

    def __init__(
        self,
        settings: "Settings",
        *,
        route: str,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        on_refusal: Callable[[str, TriagePart], None] = lambda _model, _part: None,
    ) -> None:
        self.settings = settings
        self.tiers = settings.cascade
        self.clock = clock
        self.prompt: TriagePrompt = claude.triage_prompt(settings.triage_template)
        self._treatments = treatments(settings.treatments)
        self._new_id = new_id
        self._on_refusal = on_refusal
        self._conversations = Conversations(turns=settings.sticky_turns, lasts_s=settings.sticky_s)
        prepare()
        self._labels = Labeller(route, max_routes=settings.max_routes, max_classes=settings.max_input_classes)

    @property
    def background_limit_s(self) -> float:
        """How many seconds the background task of a call may take."""
        return self.settings.triage_timeout_s * max(len(self.tiers) - 1, 1) + _GRACE_S

    def begin(
        self,
        params: Params,
        *,
        route: str | None,
        input_class: str,
        book: PolicyBook,
        refused: RefusedParts | None = None,
    ) -> Call:
        """A new call: its tiers, its policy, and whether it is triaged."""
        params, started_at = claude.normalize_params(params), self.clock()
        own_key = params.pop("conversation", None)
        tiers, bypass = self._choose_tiers(params)
        # Read before the call, because a text that cannot be cleared is not triaged.
        text = "" if bypass else claude.texts(params)
        spelling = verdict_in(text)
        if spelling is Spelling.UNCLEAR:
            bypass = Bypass(cause=BypassCause.SUSPICIOUS_TEXT, tier=tiers[-1])
        call_id, is_shadowed = self._new_id(), False
        if bypass is None and self.settings.mode == "shadow":
            bypass = Bypass(cause=BypassCause.SHADOW, tier=tiers[-1])
            is_shadowed = position(call_id, _SHADOW_SALT) < self.settings.shadow_share
        conversation = "" if bypass else self._conversation_key(params, own_key)
        if conversation and self._stays_deep(conversation, params, own_key, started_at):
            bypass = Bypass(tier=tiers[-1], reason=Reason.STICKY)
        # The policy is among the labels, and read once, so that a change of it cannot decide half of a call.
        return Call(
            id=call_id,
            labels=self._labels.of(route, input_class, book),
            params=params,
            tiers=tiers,
            bypass=bypass,
            user_text=text if spelling is Spelling.SPELLED else "",
            conversation=conversation,
            started_at=started_at,
            started=time.perf_counter(),
            refused=refused or RefusedParts(),
            is_shadowed=is_shadowed,
        )

    def _choose_tiers(self, params: dict[str, Any]) -> tuple[tuple[Tier, ...], Bypass | None]:
        """The tiers of a call, whose `model` may name another deep tier, and the reason not to triage it, if any."""
        tiers = self.tiers
        model = params.pop("model", None)
        if model is not None and model != tiers[-1].model:
            model = str(model)  # the API refuses any other type
            cheap = next((tier for tier in tiers[:-1] if is_same_model(model, tier.model)), None)
            if cheap is not None:
                return tiers, Bypass(cause=BypassCause.CHEAP_REQUESTED, tier=replace(cheap, model=model))
            tiers = (*tiers[:-1], replace(tiers[-1], model=model))
        cause = self._bypass_cause(params)
        return tiers, Bypass(cause=cause, tier=tiers[-1]) if cause else None

    def _bypass_cause(self, params: Params) -> BypassCause | None:
        """Why the call is not triaged; None if it is."""
        try:
            cause = claude.bypass_cause(params, self._treatments)
            if cause or len(self.tiers) == 1:
                return cause or BypassCause.NO_TRIAGE_TIER
            most = self.settings.triage_max_input_tokens
            is_too_long = claude.is_too_long(
                params, model=self.tiers[0].model, prompt=self.prompt, max_input_tokens=most
            )
        except Exception:  # noqa: BLE001 - the deep tier gets a malformed request as it is: the SDK explains it best
            return BypassCause.MALFORMED_REQUEST
        return BypassCause.TOO_LONG if is_too_long else None

    def _conversation_key(self, params: Params, own_key: object) -> str:
        """The key of the conversation: the caller's own, or one of its first turn. Empty if none is remembered."""
        if not self._conversations.are_remembered:
            return ""
        return f"id {own_key}" if own_key else claude.conversation_key(params)

    def _stays_deep(self, key: str, params: Params, own_key: object, now: float) -> bool:
        """Whether to skip triage. A first turn without a key of the caller's is always a new conversation."""
        is_going_on = bool(own_key) or len(params["messages"]) > 1
        return is_going_on and self._conversations.stays_deep(key, now)

    def remember(self, call: Call, decision: Decision) -> None:
        """Keep a conversation with the deep tier, if the cheap tier could not answer this turn of it."""
        is_answered_deep = decision.escalated and not decision.is_fallback and not decision.error
        is_of_the_conversation = decision.triaged and decision.reason not in _NOT_OF_THE_CONVERSATION
        if call.conversation and is_answered_deep and is_of_the_conversation:
            self._conversations.went_deep(call.conversation, call.started_at)

    def flow(self, call: Call) -> Flow:
        """The requests of a call, for a driver."""
        # A stream's triage answer is given up before its end, so there is nothing to fall back to.
        is_stream = bool(call.params.get("stream"))
        may_fall_back = self.settings.ship_cheap_when_deep_fails and not is_stream
        may_spare = call.spending is not None and call.spending.ships
        return cascade(
            call.tiers,
            threshold=call.labels.policy.threshold,
            base_threshold=self.settings.base_threshold,
            bypass=call.bypass,
            falls_back=claude.is_outage if may_fall_back else None,
            interrupts=call.is_interrupted_by,
            refusals=self._refusals(call),
            spares_deep=partial(call.is_over_budget, is_deep=True) if may_spare and not is_stream else None,
            last_threshold=0.0 if call.ships_any else None,
        )

    def _refusals(self, call: Call) -> CallRefusals:
        """What the models are known to refuse in the triage requests of a call, unless the setting decides it."""
        wanted = self.settings.structured_outputs
        return CallRefusals(
            refused=call.refused,
            decided=NO_PARTS if wanted == "auto" else _FORMAT,
            left_out=_FORMAT if wanted == "never" else NO_PARTS,
            sent=partial(self._parts, call),
            is_invalid=claude.is_bad_request,
            clock=time.monotonic,
            on_learned=self._learned,
        )

    def _learned(self, model: str, part: TriagePart) -> None:
        _log.warning("%s refuses %s: triage goes on without it (CHEAPDEEP_STRUCTURED_OUTPUTS)", model, part)
        self._on_refusal(model, part)

    def _parts(self, call: Call, ask: Ask) -> TriageParts:
        """The optional parts that a triage request has."""
        parts = claude.triage_parts(call.params, model=ask.tier.model)
        is_always = self.settings.structured_outputs == "always"
        return (parts | _FORMAT if is_always else parts) - ask.without

    def shadow(self, call: Call) -> Call:
        """A deep copy of a call for shadow triage; its reply is whole even if the caller's is streamed.

        Raises the error of an argument that cannot be copied.
        """
        params = deepcopy({name: value for name, value in call.params.items() if name != "stream"})
        return replace(call, params=params, bypass=None, model_s=[])

    def shadow_flow(self, shadow: Call) -> Asking[list[Step]]:
        """The triage requests of a shadow call, for a driver."""
        return triaged(shadow.tiers[:-1], threshold=shadow.labels.policy.threshold, refusals=self._refusals(shadow))

    def request(self, call: Call, ask: Ask) -> Request:
        """The keyword arguments of `messages.create` for one request, and in words what had to change in them."""
        if ask.kind == "original":
            if call.is_forwarded:
                return {**call.params}, ()
            return claude.original_request(call.params, model=ask.tier.model)
        return claude.triage_request(
            call.params,
            model=ask.tier.model,
            prompt=self.prompt,
            timeout_s=self.settings.triage_timeout_s,
            parts=self._parts(call, ask),
        )

    def read(self, call: Call, ask: Ask, message: object) -> TierReply:
        """The reply to one request. What is not a message goes to the caller unread."""
        if not isinstance(message, AnyMessage):
            return TierReply(message=message)
        user_text = call.user_text if ask.kind == "triage" else None
        return claude.read_reply(message, user_text=user_text, max_tokens=call.params.get("max_tokens"))

    def progress(self, call: Call, ask: Ask, request: Params) -> StreamProgress:
        """The reader of a stream that answers one request; `request` is what is sent."""
        if ask.kind == "original":
            return claude.original_progress()
        threshold, settings = call.labels.policy.threshold, self.settings
        if call.ships_any and ask.tier is call.tiers[-2]:
            threshold = 0.0
        partial = PartialReply(
            threshold=threshold,
            base_threshold=settings.base_threshold,
            user_text=call.user_text,
            max_tokens=call.params["max_tokens"],
            # Without a schema the reply may break off being JSON, and an answer that has begun cannot escalate.
            is_patient=settings.stream_whole or not claude.has_schema(request),
        )
        return claude.triage_progress(partial, threshold=threshold)
