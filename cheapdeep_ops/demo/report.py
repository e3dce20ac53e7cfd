"""The report of a demonstration or a replay: one plain object, the same keys for both."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cheapdeep_ops.demo.world import Answered
from cheapdeep_ops.pricing import known_sum
from cheapdeep_ops.values import Decision


def report_of(
    outcomes: Sequence[Answered], *, changes: Sequence[Mapping[str, Any]], incidents: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What became of the calls, what they cost, and what the guard did; rates without data are None."""
    decisions = [outcome.routed.decision for outcome in outcomes]
    shipped = [outcome for outcome in outcomes if outcome.routed.decision.shipped]
    finished = sorted(outcome.finished_at for outcome in outcomes)
    calls, escalated = len(decisions), sum(decision.escalated for decision in decisions)
    return {
        "calls": calls,
        "shipped": len(shipped),
        "escalated": escalated,
        "escalation_rate": _share(escalated, calls),
        "reasons": dict(sorted(Counter(str(each.reason) for each in decisions if each.reason).items())),
        "graded": 0,
        "false_confident_rate": None,
        "false_confident_interval": [0.0, 1.0],
        "true_false_confident_rate": _share(sum(each.correct is False for each in shipped), len(shipped)),
        "cascade_accuracy": _share(sum(each.correct is True for each in outcomes), calls),
        **_money(decisions),
        "policy_changes": [_change(change, finished) for change in changes],
        "alerts": _alerts(incidents, finished),
    }


def _money(decisions: Sequence[Decision]) -> dict[str, Any]:
    cost, baseline = (
        known_sum(each.cost_usd for each in decisions),
        known_sum(each.baseline_cost_usd for each in decisions),
    )
    return {
        "cost_usd": cost,
        "baseline_cost_usd": baseline,
        "cost_per_call_usd": cost / len(decisions) if cost is not None and decisions else None,
        "saving": 1 - cost / baseline if cost is not None and baseline else None,
    }


def _change(change: Mapping[str, Any], finished: Sequence[float]) -> dict[str, Any]:
    return {
        "at_call": bisect_right(finished, change["at"]),
        "from": change["from_threshold"],
        "to": change["to_threshold"],
        "cause": change["cause"] or f"{change['author']}: {change['why']}",
        "act": change["act"],
        "scope": change["scope"],
    }


def _alerts(incidents: Sequence[Mapping[str, Any]], finished: Sequence[float]) -> list[dict[str, Any]]:
    found = [(each["started_at"], each["rule"], "firing") for each in incidents]
    found += [(each["resolved_at"], each["rule"], "resolved") for each in incidents if each["resolved_at"]]
    return [{"rule": rule, "state": state, "at_call": bisect_right(finished, at)} for at, rule, state in sorted(found)]


def _share(hits: int, n: int) -> float | None:
    return hits / n if n else None
