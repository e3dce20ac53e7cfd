"""Adds decisions to counters, one set of counters for each second."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cheapdeep_ops.histogram import duration_bin
from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.units import NUSD_PER_USD
from cheapdeep_ops.values import Counters, Decision, Outcome

_MAX_MODELS: Final = 50
"""The largest number of models in one row: callers choose the names, and a row must stay bounded."""

_MAX_ORIGINS: Final = 50
_MAX_ERRORS: Final = 20
_LONGEST_MODEL: Final = 100
_OTHER: Final = "other"

Second = tuple[str, str, int]
"""The key of a bucket: route, input class, and the second (Unix time)."""


@dataclass(slots=True, kw_only=True)
class Tally(Counters):
    """Counters of some decisions; `add` counts one more."""

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.calls += 1
        self.triaged += decision.triaged
        self.shipped += decision.shipped
        self.escalated += decision.triaged and decision.escalated
        self.base_escalated += decision.base_outcome is Outcome.ESCALATE
        self.later_answers += decision.base_outcome is Outcome.ESCALATE and decision.candidate is not None
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
        """Add the cost and the baseline cost of the call; if either is unknown, count the call as unpriced."""
        # Cost and baseline are compared, so they must be sums over one set of calls.
        if decision.cost_usd is None or decision.baseline_cost_usd is None:
            self.unpriced += 1
            self.unpriced_triaged += decision.triaged
            self.unpriced_deep += _is_bypassed(decision) or (decision.triaged and decision.escalated)
            return
        self.cost_nusd += round(decision.cost_usd * NUSD_PER_USD)
        self.triage_cost_nusd += round((decision.triage_cost_usd or 0.0) * NUSD_PER_USD)
        self.baseline_nusd += round(decision.baseline_cost_usd * NUSD_PER_USD)
        self.cold_cache_nusd += round(decision.cold_cache_usd * NUSD_PER_USD)

    def _add_shadow(self, decision: Decision) -> None:
        """Add the estimated cost of a shadow call if it had been routed, and its baseline, if both are known."""
        if not decision.is_shadow:
            return
        self.shadowed += 1
        routed, baseline = decision.routed_cost_usd, decision.baseline_cost_usd
        if routed is None or baseline is None:
            self.unpriced_shadowed += 1
            return
        self.shadow_cost_nusd += round(routed * NUSD_PER_USD)
        self.shadow_baseline_nusd += round(baseline * NUSD_PER_USD)

    def _add_triage(self, decision: Decision) -> None:
        """Add the tokens, failures and faults of triage replies, and the latency that they add to an escalated call."""
        for hop in decision.hops if decision.triaged else ():
            if hop.verdict is not None and hop.usage is not None:
                self.triage_replies += 1
                self.triage_input_tokens += hop.usage.total_input_tokens
                self.triage_output_tokens += hop.usage.output_tokens
                self.triage_cache_read_tokens += hop.usage.cache_read_tokens
            if hop.error and not hop.tier.is_deep:
                self._count(self.triage_errors, hop.error, _MAX_ERRORS)
            if hop.malformed_cause is not None:
                self.malformed_causes[hop.malformed_cause.value] += 1
        # In shadow mode triage runs beside the deep call, so it adds no latency.
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
        # The first tier's, as `base_escalated`: the two tell what another threshold would have done.
        if decision.first_confidence is not None:
            self.confidence[confidence_bin(decision.first_confidence)] += 1
        self._count(self.models, model_name(decision.model).name, _MAX_MODELS)

    def _add_origin(self, decision: Decision) -> None:
        """Count the origin of a triaged call, and of a base escalation."""
        origin = self._count(self.origins, origin_of(decision), _MAX_ORIGINS)
        # Under the name that its call has, which may be `other`: a rate needs one name in both counts.
        if decision.base_outcome is Outcome.ESCALATE:
            self.base_origins[origin] += 1

    @staticmethod
    def _count(counts: Counter[str], name: str, most: int) -> str:
        """Count `name`, or `other` if `most` different names are counted already; returns the counted name."""
        counted = name if name in counts or len(counts) < most else _OTHER
        counts[counted] += 1
        return counted


def _is_bypassed(decision: Decision) -> bool:
    """Whether the call was bypassed and not triaged; in shadow mode, a bypassed call may be triaged too."""
    return decision.bypass_cause is not None and not decision.triaged


def origin_of(decision: Decision) -> str:
    """The origin of a triaged call: `model|prompt version|policy version` of the first tier; split it from the right.

    The model's name is shortened and printable.
    """
    # The configured name, because a failed call has no reply with a snapshot's name: one model would appear as two.
    model = decision.hops[0].tier.model if decision.hops else decision.model
    return f"{_printable(model_name(model).name)}|{decision.prompt_version.replace('|', '?')}|{decision.policy_version}"


@lru_cache(maxsize=128)  # a service uses few models, and the bound limits the memory for odd names
def _printable(model: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in model[:_LONGEST_MODEL])


def confidence_bin(confidence: float) -> str:
    """A confidence in hundredths, rounded down, as the name of its bin: "80" for 0.8, "79" for 0.7999."""
    # Floating point puts 0.29 slightly below 29 hundredths, so values within 1e-9 of a hundredth belong to it.
    return str(int(confidence * 100 + 1e-7))


class CounterBuffer:
    """One process's counters: the seconds that are open or unsaved, and the totals since the process began.

    Not thread-safe: the owner holds a lock.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._closed_before = 0
        self._buckets: dict[Second, Tally] = {}
        self._totals: dict[tuple[str, str], Tally] = {}
        self._unsaved: set[Second] = set()

    def add(self, decision: Decision, *, at: int) -> bool:
        """Count a decision in the second `at`, or in the first open one; False if the buffer is full."""
        # A clock that was set back must not reopen a second that is stored and deleted: its row would be replaced.
        key = (decision.route, decision.input_class, max(at, self._closed_before))
        if key not in self._buckets and len(self._buckets) >= self._capacity:
            return False
        self._buckets.setdefault(key, Tally()).add(decision)
        self._totals.setdefault(key[:2], Tally()).add(decision)
        self._unsaved.add(key)
        return True

    @property
    def is_dirty(self) -> bool:
        """Whether any counters are not stored yet."""
        return bool(self._unsaved)

    @property
    def unsaved(self) -> list[Second]:
        """The seconds that changed since they were last stored, sorted."""
        return sorted(self._unsaved)

    def rows(self, seconds: Sequence[Second], process: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """The buckets of these seconds and their totals, as rows of `process`."""
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
        """Whether seconds after `now` are closed already, which means that the clock was set back."""
        return self._closed_before > now

    def saved(self, seconds: Sequence[Second]) -> None:
        """Mark these seconds as stored."""
        self._unsaved.difference_update(seconds)

    def discard(self, seconds: Sequence[Second]) -> int:
        """Remove the seconds that the store rejected, and their totals; returns the number of lost calls."""
        self._unsaved.difference_update(seconds)
        for key in seconds:
            self._totals.pop(key[:2], None)
        return sum(self._buckets.pop(key).calls for key in seconds)

    def close(self, *, before: int) -> None:
        """Close all seconds before `before`, and delete the stored ones among them."""
        self._closed_before = max(self._closed_before, before)
        for key in [key for key in self._buckets if key[2] < self._closed_before and key not in self._unsaved]:
            del self._buckets[key]
