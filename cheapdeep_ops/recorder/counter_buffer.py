"""Folding decisions into counters, second by second."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cheapdeep_ops.histogram import duration_bin
from cheapdeep_ops.values import Decision, Outcome

_NANO: Final = 1_000_000_000
_MAX_MODELS: Final = 50
"""Callers name models as they like; a row must stay bounded."""
_MAX_ORIGINS: Final = 50
_MAX_ERRORS: Final = 20
_LONGEST_MODEL: Final = 100
_OTHER: Final = "other"

Second = tuple[str, str, int]
"""Route, input class, and the second (Unix time): what a bucket counts."""


@dataclass(slots=True)
class Tally:
    """Counters of some decisions; `add` takes one more in."""

    calls: int = 0
    triaged: int = 0
    shipped: int = 0
    escalated: int = 0
    base_escalated: int = 0
    withheld: int = 0
    bypassed: int = 0
    errors: int = 0
    unpriced: int = 0
    cost_nusd: int = 0
    triage_cost_nusd: int = 0
    baseline_nusd: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    base_reasons: Counter[str] = field(default_factory=Counter)
    bypass_causes: Counter[str] = field(default_factory=Counter)
    confidence: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    triage_replies: int = 0
    triage_input_tokens: int = 0
    triage_output_tokens: int = 0
    added_latency: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    base_origins: Counter[str] = field(default_factory=Counter)
    shadowed: int = 0
    shadow_cost_nusd: int = 0
    shadow_baseline_nusd: int = 0
    fallbacks: int = 0
    replays_rejected: int = 0
    triage_errors: Counter[str] = field(default_factory=Counter)
    triage_cache_read_tokens: int = 0
    deep_replies: int = 0
    deep_input_tokens: int = 0
    deep_cache_read_tokens: int = 0
    cold_cache_nusd: int = 0

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.calls += 1
        self.triaged += decision.triaged
        self.shipped += decision.shipped
        self.escalated += decision.triaged and decision.escalated
        self.base_escalated += decision.base_outcome is Outcome.ESCALATE
        self.withheld += decision.withheld
        self.bypassed += _is_bypassed(decision)
        self.errors += bool(decision.error)
        self.fallbacks += decision.is_fallback
        self.replays_rejected += decision.is_replay_rejected
        self._add_costs(decision)
        self._add_shadow(decision)
        self._add_triage(decision)
        self._add_deep(decision)
        self._add_labels(decision)
        if decision.triaged:
            self._add_origin(decision)

    def _add_costs(self, decision: Decision) -> None:
        """Add what the call cost and what it would have; where either is unknown, both stay out and it is counted.

        Cost and baseline are compared, so they must be sums over the same calls.
        """
        if decision.cost_usd is None or decision.baseline_cost_usd is None:
            self.unpriced += 1
            return
        self.cost_nusd += round(decision.cost_usd * _NANO)
        self.triage_cost_nusd += round((decision.triage_cost_usd or 0.0) * _NANO)
        self.baseline_nusd += round(decision.baseline_cost_usd * _NANO)
        self.cold_cache_nusd += round(decision.cold_cache_usd * _NANO)

    def _add_shadow(self, decision: Decision) -> None:
        """Add what a call would have cost, routed, and what it did cost at the deep tier, where both are known."""
        self.shadowed += decision.is_shadow
        routed, alone = decision.routed_cost_usd, decision.baseline_cost_usd
        if decision.is_shadow and routed is not None and alone is not None:
            self.shadow_cost_nusd += round(routed * _NANO)
            self.shadow_baseline_nusd += round(alone * _NANO)

    def _add_triage(self, decision: Decision) -> None:
        """Add the tokens of the triage replies, and what asking first has cost an escalated call in time."""
        for hop in decision.hops if decision.triaged else ():
            if hop.verdict is not None and hop.usage is not None:
                self.triage_replies += 1
                self.triage_input_tokens += hop.usage.total_input_tokens
                self.triage_output_tokens += hop.usage.output_tokens
                self.triage_cache_read_tokens += hop.usage.cache_read_tokens
            if hop.error and not hop.tier.is_deep:
                self._count(self.triage_errors, hop.error, _MAX_ERRORS)
        if decision.triaged and decision.escalated and not decision.is_shadow:
            self.added_latency[duration_bin(decision.triage_duration_s)] += 1

    def _add_deep(self, decision: Decision) -> None:
        """Add the tokens of the deep tier's replies."""
        for hop in decision.hops:
            if hop.tier.is_deep and hop.usage is not None:
                self.deep_replies += 1
                self.deep_input_tokens += hop.usage.total_input_tokens
                self.deep_cache_read_tokens += hop.usage.cache_read_tokens

    def _add_labels(self, decision: Decision) -> None:
        if decision.reason is not None:
            self.reasons[decision.reason.value] += 1
        if decision.base_reason is not None:
            self.base_reasons[decision.base_reason.value] += 1
        if decision.bypass_cause is not None and _is_bypassed(decision):
            self.bypass_causes[decision.bypass_cause.value] += 1
        if decision.confidence is not None:
            self.confidence[confidence_bin(decision.confidence)] += 1
        self._count(self.models, decision.model, _MAX_MODELS)

    def _add_origin(self, decision: Decision) -> None:
        """Count what the first tier answered with; a base escalation goes where its call went, or rates would lie."""
        origin = self._count(self.origins, origin_of(decision), _MAX_ORIGINS)
        if decision.base_outcome is Outcome.ESCALATE:
            self.base_origins[origin] += 1

    @staticmethod
    def _count(counts: Counter[str], name: str, most: int) -> str:
        """Count `name`, as other where `most` different ones are counted already; the name it was counted under."""
        counted = name if name in counts or len(counts) < most else _OTHER
        counts[counted] += 1
        return counted

    def row(self) -> dict[str, Any]:
        """The counters as a table row; its mappings go on counting."""
        return {name: getattr(self, name) for name in self.__slots__}


def _is_bypassed(decision: Decision) -> bool:
    """Whether no triage tier was asked; in shadow mode one may have been, beside the deep tier."""
    return decision.bypass_cause is not None and not decision.triaged


def origin_of(decision: Decision) -> str:
    """What the first tier answered with: `model|prompt version|policy version`, to be read from the right.

    The model is the configured one: a reply would name its dated snapshot, but a call that failed has no reply, and all
    failures would seem to be of another model than all answers. It is shortened, and holds nothing unprintable.
    """
    model = decision.hops[0].tier.model if decision.hops else decision.model
    return f"{_printable(model)}|{decision.prompt_version.replace('|', '?')}|{decision.policy_version}"


@lru_cache(maxsize=128)  # a service names few models, and a bounded number of odd ones costs no memory
def _printable(model: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in model[:_LONGEST_MODEL])


def confidence_bin(confidence: float) -> str:
    """The hundredth that a confidence lies in, rounded down: 0.8 and 0.7999 never share a bin.

    Floating point would put 0.29 a hair below its own hundredth, so a value within 1e-9 of the next one belongs there.
    """
    return str(int(confidence * 100 + 1e-7))


class CounterBuffer:
    """One process's counters: seconds that are still open or unsaved, and the totals since the process began.

    Not safe between threads; its owner locks.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._closed_before = 0
        self._buckets: dict[Second, Tally] = {}
        self._totals: dict[tuple[str, str], Tally] = {}
        self._unsaved: set[Second] = set()

    def add(self, decision: Decision, *, at: int) -> bool:
        """Count a decision in the second `at`, or in the first one still open; False where the ledger is full.

        A clock that was set back must not reopen a second that is stored and forgotten: the row would be replaced.
        """
        key = (decision.route, decision.input_class, max(at, self._closed_before))
        if key not in self._buckets and len(self._buckets) >= self._capacity:
            return False
        self._buckets.setdefault(key, Tally()).add(decision)
        self._totals.setdefault(key[:2], Tally()).add(decision)
        self._unsaved.add(key)
        return True

    @property
    def is_dirty(self) -> bool:
        """Whether anything was counted that is not stored."""
        return bool(self._unsaved)

    @property
    def unsaved(self) -> list[Second]:
        """The seconds that changed since they were stored, sorted."""
        return sorted(self._unsaved)

    def rows(self, seconds: Sequence[Second], process: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """These buckets and their totals, as rows of `process`."""
        buckets = [
            {"route": key[0], "input_class": key[1], "at": key[2], "process": process, **self._buckets[key].row()}
            for key in seconds
        ]
        totals = [
            {"route": route, "input_class": name, "process": process, **self._totals[route, name].row()}
            for route, name in dict.fromkeys(key[:2] for key in seconds)
        ]
        return buckets, totals

    def is_ahead_of(self, now: int) -> bool:
        """Whether seconds were closed that `now` says are yet to come: the clock was set back."""
        return self._closed_before > now

    def saved(self, seconds: Sequence[Second]) -> None:
        """Note that these are stored."""
        self._unsaved.difference_update(seconds)

    def refused(self, seconds: Sequence[Second]) -> int:
        """Give up what the store refuses, with its totals; returns how many calls that were."""
        self._unsaved.difference_update(seconds)
        for key in seconds:
            self._totals.pop(key[:2], None)
        return sum(self._buckets.pop(key).calls for key in seconds)

    def close(self, *, before: int) -> None:
        """Count into no second before then again, and forget those that are stored."""
        self._closed_before = max(self._closed_before, before)
        for key in [key for key in self._buckets if key[2] < self._closed_before and key not in self._unsaved]:
            del self._buckets[key]
