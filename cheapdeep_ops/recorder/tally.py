"""Folding decisions into counters, second by second."""

from collections import Counter
from dataclasses import dataclass, field
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

Key = tuple[str, str]
"""Route and input class."""


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
        """The counters as a table row, detached from further counting."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def _is_bypassed(decision: Decision) -> bool:
    """Whether no triage tier was asked; in shadow mode one may have been, beside the deep tier."""
    return decision.bypass_cause is not None and not decision.triaged


def origin_of(decision: Decision) -> str:
    """What the first tier answered with: `model|prompt version|policy version`, to be read from the right.

    The model is the configured one: a reply would name its dated snapshot, but a call that failed has no reply, and all
    failures would seem to be of another model than all answers. It is shortened, and holds nothing unprintable.
    """
    model = decision.hops[0].tier.model if decision.hops else decision.model
    printable = "".join(each if each.isprintable() else "?" for each in model[:_LONGEST_MODEL])
    return f"{printable}|{decision.prompt_version.replace('|', '?')}|{decision.policy_version}"


def confidence_bin(confidence: float) -> str:
    """The hundredth that a confidence lies in, rounded down: 0.8 and 0.7999 never share a bin.

    Floating point would put 0.29 a hair below its own hundredth, so a value within 1e-9 of the next one belongs there.
    """
    return str(int(confidence * 100 + 1e-7))


class Ledger:
    """One process's counters: seconds that are still open or unsaved, and the totals since the process began.

    Not safe between threads; its owner locks.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._closed_before = 0
        self._buckets: dict[tuple[str, str, int], Tally] = {}
        self._totals: dict[Key, Tally] = {}
        self._dirty: set[tuple[str, str, int]] = set()

    def add(self, decision: Decision, *, at: int) -> bool:
        """Count a decision in the second `at`, or in the first one still open; False where the ledger is full.

        A clock that was set back must not reopen a second that is stored and forgotten: the row would be replaced.
        """
        key = (decision.route, decision.input_class, max(at, self._closed_before))
        if key not in self._buckets and len(self._buckets) >= self._capacity:
            return False
        self._buckets.setdefault(key, Tally()).add(decision)
        self._totals.setdefault(key[:2], Tally()).add(decision)
        self._dirty.add(key)
        return True

    @property
    def is_dirty(self) -> bool:
        """Whether anything was counted since the last `saved`."""
        return bool(self._dirty)

    def unsaved(self, process: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The buckets and totals that changed, as rows of `process`."""
        names = ("route", "input_class", "at")
        buckets = [
            {**dict(zip(names, key, strict=True)), "process": process, **self._buckets[key].row()}
            for key in sorted(self._dirty)
        ]
        totals = [
            {"route": key[0], "input_class": key[1], "process": process, **self._totals[key].row()}
            for key in sorted({key[:2] for key in self._dirty})
        ]
        return buckets, totals

    def is_ahead_of(self, now: int) -> bool:
        """Whether seconds were closed that `now` says are yet to come: the clock was set back."""
        return self._closed_before > now

    @property
    def unsaved_calls(self) -> int:
        """How many calls the seconds hold that `unsaved` gives."""
        return sum(self._buckets[key].calls for key in self._dirty)

    def saved(self, *, closed_before: int) -> None:
        """All that `unsaved` gave is stored; seconds before `closed_before` will not be counted into again."""
        self._dirty.clear()
        self._closed_before = max(self._closed_before, closed_before)
        for key in [key for key in self._buckets if key[2] < self._closed_before]:
            del self._buckets[key]
