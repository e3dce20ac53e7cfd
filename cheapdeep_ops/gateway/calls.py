"""What callers may ask of their finished calls, for ten minutes: how they were decided and what they cost."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.values import Decision

KEPT_S: Final = 600.0
"""How long a call can be asked for, in seconds."""

_MOST: Final = 100_000

CallFacts = dict[str, object]


class RecentCalls:
    """The calls of this process, each for the caller that made it. `monotonic` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._calls: OrderedDict[str, tuple[float, str, CallFacts]] = OrderedDict()

    def put(self, key_hash: str, decision: Decision) -> None:
        """Remember a finished call."""
        now = self._monotonic()
        self._calls[decision.call_id] = (now, key_hash, facts_of(decision))
        while self._calls:
            oldest, (at, _, _) = next(iter(self._calls.items()))
            if now - at <= KEPT_S and len(self._calls) <= _MOST:
                break
            del self._calls[oldest]

    def find(self, call_id: str, key_hash: str) -> CallFacts | None:
        """The facts of a call; None if it is unknown, too old, or another caller's."""
        at, owner, facts = self._calls.get(call_id, (0.0, "", {}))
        return facts if owner == key_hash and self._monotonic() - at <= KEPT_S else None


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
