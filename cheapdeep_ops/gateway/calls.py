"""What callers may ask of their calls that have ended, for ten minutes: how they were decided and what they cost."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.gateway.stored_calls import CallFacts, EndedCall, StoredCalls
from cheapdeep_ops.values import Decision

KEPT_S: Final = 600.0
"""How long a call can be asked for, in seconds."""

_MOST: Final = 100_000
_log: Final = logging.getLogger(__name__)


class RecentCalls:
    """The calls of this process, each for the caller that made it, and those of other gateways on the store.

    `clock` returns Unix seconds.
    """

    def __init__(self, stored: StoredCalls | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._stored, self._clock = stored, clock
        self._calls: OrderedDict[str, EndedCall] = OrderedDict()

    def put(self, fingerprint: str, decision: Decision) -> None:
        """Remember a call that has ended, for the caller with this fingerprint."""
        now = self._clock()
        call = EndedCall(call_id=decision.call_id, fingerprint=fingerprint, at=now, facts=facts_of(decision))
        self._calls[call.call_id] = call
        while len(self._calls) > _MOST or now - next(iter(self._calls.values())).at > KEPT_S:
            self._calls.popitem(last=False)
        if self._stored is not None:
            self._stored.put(call)

    async def find(self, call_id: str, fingerprint: str) -> CallFacts | None:
        """The facts of a call; None if it is unknown, too old, or another caller's."""
        since, own = self._clock() - KEPT_S, self._calls.get(call_id)
        if own is not None:
            return own.facts if own.fingerprint == fingerprint and own.at >= since else None
        if self._stored is None:
            return None
        try:
            return await asyncio.to_thread(self._stored.find, call_id, fingerprint, since=since)
        except CheapdeepError as error:
            _log.warning("a call cannot be looked up: %s", error)
            return None


def facts_of(decision: Decision) -> CallFacts:
    """A decision without content, as JSON has it."""
    return {
        "call_id": decision.call_id,
        "route": decision.route,
        "input_class": decision.input_class,
        "tier": decision.tier,
        "model": decision.model,
        "confidence": decision.confidence,
        "threshold": decision.threshold,
        "policy_version": decision.policy_version,
        "escalated": decision.escalated,
        "reason": decision.reason,
        "bypass_cause": decision.bypass_cause,
        "cost_usd": decision.cost_usd,
        "baseline_cost_usd": decision.baseline_cost_usd,
        "started_at": decision.started_at,
        "duration_s": decision.duration_s,
        "error": decision.error,
    }
