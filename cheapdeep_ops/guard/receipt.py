"""The receipt over a period: calls, cost per call, saving against all-deep, escalation."""

from typing import Any, Final

from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, policies
from cheapdeep_ops.store.counters import Sums
from cheapdeep_ops.store.engine import Store

LONGEST_S: Final = 100 * 365 * 86_400.0
"""The longest period of a receipt; what lies beyond is a slip of the hand, and no calendar has it."""

BASELINE_NOTE = (
    "estimate: escalated calls at what the deep tier really used; shipped calls from the cheap tier's tokens, less the "
    "triage contract, times the tokenizer's ratio"
)


def receipt(store: Store, settings: Settings, *, since: float, until: float) -> dict[str, Any]:
    """What was counted in `[since, until)`, as one plain object; rates without data are None. Raises StoreError."""
    with store.reading() as connection:
        sums = counters.summed(connection, since=since, until=until)
        by_route = counters.by_route(connection, since=since, until=until)
        changes = policies.count_applied(connection, since=since, until=until)
    return {
        "since": since,
        "until": until,
        "models": dict(sums.models),
        "tiers": list(settings.tiers),
        **counts_of(sums),
        **money_of(sums),
        "false_confident_rate": None,
        "false_confident_interval": [0.0, 1.0],
        "graded": 0,
        "grader_cost_usd": 0.0,
        "routes": {name: counts.calls for name, counts in sorted(by_route.items())},
        "policy_changes": changes,
    }


def counts_of(sums: Sums) -> dict[str, Any]:
    """Calls, and what became of them."""
    actual = Proportion(hits=sums.escalated, n=sums.triaged)
    base = Proportion(hits=sums.base_escalated, n=sums.triaged)
    return {
        "calls": sums.calls,
        "triaged": sums.triaged,
        "shipped": sums.shipped,
        "escalated": sums.escalated,
        "escalation_rate": actual.rate,
        "escalation_interval": list(actual.interval()),
        "base_escalation_rate": base.rate,
        "base_escalation_interval": list(base.interval()),
        "withheld": sums.withheld,
        "bypassed": sums.bypassed,
        "errors": sums.errors,
        "reasons": dict(sums.reasons),
        "base_reasons": dict(sums.base_reasons),
        "bypass_causes": dict(sums.bypass_causes),
    }


def money_of(sums: Sums) -> dict[str, Any]:
    """Cost and saving in US dollars, over the calls of which cost and baseline are both known."""
    priced = sums.calls - sums.unpriced
    saving = 1 - sums.cost_usd / sums.baseline_usd if sums.baseline_nusd else None
    return {
        "cost_usd": sums.cost_usd,
        "triage_cost_usd": sums.triage_cost_usd,
        # Which of the unpriced calls were triaged is not counted, so with any of them this is not known.
        "triage_cost_per_call_usd": sums.triage_cost_usd / sums.triaged if sums.triaged and not sums.unpriced else None,
        "baseline_cost_usd": sums.baseline_usd,
        "baseline_basis": BASELINE_NOTE,
        "cost_per_call_usd": sums.cost_usd / priced if priced else None,
        "baseline_per_call_usd": sums.baseline_usd / priced if priced else None,
        "saving": saving,
        "unpriced_calls": sums.unpriced,
    }
