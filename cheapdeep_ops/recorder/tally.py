"""What one decision adds to counters, and the sums of that."""

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from cheapdeep_ops.call_counters import COUNTERS, Counters
from cheapdeep_ops.histogram import duration_bin
from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.recorder.answer_lengths import answer_lengths
from cheapdeep_ops.units import NUSD_PER_USD
from cheapdeep_ops.values import OTHER, Decision, Hop, Outcome

_MOST: Final[Mapping[str, int]] = {"models": 50, "origins": 50, "base_origins": 0, "triage_errors": 20}
"""The largest number of names in one mapping: callers choose them, and a row must stay bounded."""

_LONGEST_MODEL: Final = 100


class Increments(NamedTuple):
    """What one decision adds to counters: amounts by counter, and one for each (mapping, name) of `names`."""

    amounts: dict[str, int]
    names: list[tuple[str, str]]


class Tally(Counters):
    """Counters of some decisions; `add` counts one more."""

    __slots__ = ()

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.apply(increments_of(decision))

    def apply(self, increments: Increments) -> None:
        """Add what one decision adds."""
        for counter, amount in increments.amounts.items():
            if amount:
                setattr(self, counter, getattr(self, counter) + amount)
        for mapping, name in increments.names:
            self._count(mapping, name, 1)

    def merge(self, other: Counters) -> None:
        """Add the counters of other decisions."""
        for name in COUNTERS:
            counted = getattr(other, name)
            if not counted:
                continue  # as most are
            if isinstance(counted, int):
                setattr(self, name, getattr(self, name) + counted)
            else:
                for each, count in counted.items():
                    self._count(name, each, count)

    def subtract(self, part: Counters) -> None:
        """Take away the counters of decisions that were counted here."""
        for name in COUNTERS:
            counted = getattr(part, name)
            if isinstance(counted, int):
                setattr(self, name, getattr(self, name) - counted)
            else:
                for each, count in counted.items():
                    self._uncount(name, each, count)

    def _uncount(self, mapping: str, name: str, count: int) -> None:
        """Take away from one name of a mapping; from `other` what was counted there because the mapping was full."""
        counts = getattr(self, mapping)
        own = min(count, counts.get(name, 0))
        for each, amount in ((name, own), (OTHER, count - own)):
            left = counts.pop(each, 0) - amount
            if left > 0:
                counts[each] = left

    def _count(self, mapping: str, name: str, count: int) -> None:
        """Add to one name of a mapping, or to `other` if the mapping is full."""
        counts = getattr(self, mapping)
        # Origins are counted first. Base origins keep to their names, because a rate needs one name in both.
        known = self.origins if mapping == "base_origins" else counts
        has_room = name in known or len(known) < _MOST.get(mapping, sys.maxsize)
        counted = name if has_room else OTHER
        counts[counted] = counts.get(counted, 0) + count


def increments_of(decision: Decision) -> Increments:
    """What `decision` adds to the counters of its second, and to those of its process."""
    triaged, escalates = decision.triaged, decision.base_outcome is Outcome.ESCALATE
    amounts = {
        "calls": 1,
        "triaged": triaged,
        "shipped": decision.shipped,
        "escalated": triaged and decision.escalated,
        "base_escalated": escalates,
        "later_answers": escalates and decision.candidate is not None,
        "withheld": decision.withheld,
        # In shadow mode, a bypassed call may be triaged too.
        "bypassed": decision.bypass_cause is not None and not triaged,
        "errors": bool(decision.error),
        "fallbacks": decision.is_fallback,
        "replays_rejected": decision.is_replay_rejected,
        "budget_shipped": decision.is_budgeted,
        "budget_refused": decision.is_refused,
    }
    names = _labels(decision)
    _add_costs(amounts, decision)
    if decision.is_shadow:
        _add_shadow(amounts, decision)
    for hop in decision.hops:
        _add_hop(amounts, names, hop, triaged=triaged)
    if triaged:
        amounts.update(answer_lengths(decision))
    return Increments(amounts, names)


def _add_costs(amounts: dict[str, int], decision: Decision) -> None:
    """Add the cost and the baseline cost of the call; if either is unknown, count the call as unpriced."""
    # Cost and baseline are compared, so they must be sums over one set of calls.
    if decision.cost_usd is None or decision.baseline_cost_usd is None:
        amounts["unpriced"] = 1
        amounts["unpriced_triaged"] = amounts["triaged"]
        amounts["unpriced_deep"] = amounts["bypassed"] or amounts["escalated"]
        return
    amounts["cost_nusd"] = round(decision.cost_usd * NUSD_PER_USD)
    amounts["triage_cost_nusd"] = round((decision.triage_cost_usd or 0.0) * NUSD_PER_USD)
    amounts["baseline_nusd"] = round(decision.baseline_cost_usd * NUSD_PER_USD)
    amounts["cold_cache_nusd"] = round(decision.cold_cache_usd * NUSD_PER_USD)


def _add_shadow(amounts: dict[str, int], decision: Decision) -> None:
    """Add the estimated cost of a shadow call if it had been routed, and its baseline, if both are known."""
    amounts["shadowed"] = 1
    routed, baseline = decision.routed_cost_usd, decision.baseline_cost_usd
    if routed is None or baseline is None:
        amounts["unpriced_shadowed"] = 1
        return
    amounts["shadow_cost_nusd"] = round(routed * NUSD_PER_USD)
    amounts["shadow_baseline_nusd"] = round(baseline * NUSD_PER_USD)


def _add_hop(amounts: dict[str, int], names: list[tuple[str, str]], hop: Hop, *, triaged: bool) -> None:
    """Add the tokens of a reply, and the failure or fault of a triage reply."""
    usage = hop.usage
    if usage is not None and hop.tier.is_deep:
        _add(amounts, "deep_replies", 1)
        _add(amounts, "deep_input_tokens", usage.total_input_tokens)
        _add(amounts, "deep_cache_read_tokens", usage.cache_read_tokens)
    if not triaged:
        return
    if usage is not None and hop.verdict is not None:
        _add(amounts, "triage_replies", 1)
        _add(amounts, "triage_input_tokens", usage.total_input_tokens)
        _add(amounts, "triage_output_tokens", usage.output_tokens)
        _add(amounts, "triage_cache_read_tokens", usage.cache_read_tokens)
    if hop.error and not hop.tier.is_deep:
        names.append(("triage_errors", hop.error))
    if hop.malformed_cause is not None:
        names.append(("malformed_causes", hop.malformed_cause.value))


def _add(amounts: dict[str, int], counter: str, amount: int) -> None:
    amounts[counter] = amounts.get(counter, 0) + amount


def _labels(decision: Decision) -> list[tuple[str, str]]:
    triaged = decision.triaged
    names = [("models", model_name(decision.model).name)]
    if decision.reason is not None:
        names.append(("reasons", decision.reason.value))
    if decision.base_reason is not None:
        names.append(("base_reasons", decision.base_reason.value))
    if decision.bypass_cause is not None and not triaged:
        names.append(("bypass_causes", decision.bypass_cause.value))
    # The first tier's, as `base_escalated`: together they show what another threshold would have done.
    confidence = decision.first_confidence
    if confidence is not None:
        names.append(("confidence", confidence_bin(confidence)))
    if triaged:
        origin = origin_of(decision)
        names.append(("origins", origin))
        if decision.base_outcome is Outcome.ESCALATE:
            names.append(("base_origins", origin))
        # In shadow mode triage runs beside the deep call, so it adds no latency.
        if decision.escalated and not decision.is_shadow:
            names.append(("added_latency", duration_bin(decision.triage_duration_s)))
    return names


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
