"""The text of a message with a receipt: headline and lines. Each receiver formats them in its own way."""

from collections.abc import Mapping
from typing import Final, cast

from cheapdeep_ops.guard.formatting import LabelStyle, bounds, coverage, money, percent, period, plain, scope_text
from cheapdeep_ops.guard.report_types.figures import (
    AllDeep,
    ColdCaches,
    Correction,
    IncidentCounts,
    Quality,
    Receipt,
    ReceiptFacts,
    ReceiptMessage,
)
from cheapdeep_ops.guard.report_types.state import Policy, ScopePolicy
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store.records import record_of

_NEARLY_NOTHING: Final = 0.0005

_MOST_SCOPES: Final = 5
"""How many scopes with a policy of their own are named."""


def receipt_message(
    receipt: Receipt, *, incidents: dict[str, IncidentCounts], policy: Policy, links: list[list[str]]
) -> ReceiptMessage:
    """The payload of a message with a receipt; `incidents` are by rule."""
    facts = record_of(ReceiptFacts, receipt)
    return {"kind": "report", "rule": "Receipt", **facts, "incidents": incidents, "policy": policy, "links": links}


def receipt_headline(payload: Payload) -> str:
    """A receipt in one line."""
    receipt = cast("ReceiptMessage", payload)
    title = f"Receipt, {period(receipt['since'], receipt['until'])}"
    if not receipt["calls"]:
        return f"{title}: no calls were counted"
    over = coverage(receipt["unpriced_calls"], receipt["calls"])
    per_call = f"{money(receipt['cost_per_call_usd'])} a call{over}"
    # A message of an older version has no figure by length.
    by_length = receipt.get("all_deep")
    saving = by_length["saving"] if by_length else receipt["saving"]
    return f"{title}: {receipt['calls']:,} calls, {per_call}, saving {percent(saving)} against all-deep"


def receipt_lines(payload: Payload, label: LabelStyle = plain) -> list[str]:
    """The lines below the headline."""
    receipt = cast("ReceiptMessage", payload)
    over = coverage(receipt["unpriced_calls"], receipt["calls"])
    facts = {
        "Calls": f"{receipt['shipped']:,} shipped, {receipt['escalated']:,} escalated, {receipt['bypassed']:,} "
        f"bypassed triage, {receipt['errors']:,} ended in an error",
        "Cost": f"{money(receipt['cost_per_call_usd'])} a call, {money(receipt['cost_usd'])} in all{over}",
        "All-deep": f"{money(receipt['baseline_per_call_usd'])} a call, {money(receipt['baseline_cost_usd'])} in all"
        f"{over} ({receipt['baseline_basis']})",
        **_measured(receipt),
        # A message of an older version has no cold caches.
        **({"Cold caches": cold_cache_words(receipt)} if receipt.get("cold_cache_usd") else {}),
        "Saving": _saving(receipt),
        "Escalation": f"{percent(receipt['escalation_rate'])} actual ({bounds(receipt['escalation_interval'])}), "
        f"{percent(receipt['base_escalation_rate'])} at base ({bounds(receipt['base_escalation_interval'])}), "
        f"n {receipt['triaged']:,}",
        "False confidence": false_confidence_words(receipt, receipt),
        "Incidents": _incidents(receipt["incidents"]),
        "Policy now": _policy(receipt["policy"], label),
        "Policy changes": f"{receipt['policy_changes']:,}",
    }
    return [f"{name}: {text}" for name, text in facts.items()]


def false_confidence_words(quality: Quality, correction: Correction | None = None) -> str:
    """The share of shipped answers that are wrong, by the grader; corrected for its errors if labels suffice."""
    grades = quality["grades"]
    failed = sum(count for name, count in grades.items() if name not in ("correct", "incorrect", "unsure"))
    beside = f"{grades['unsure']:,} unsure, {failed:,} gradings failed"
    if not quality["graded"]:
        return f"unknown: no grade of a shipped answer ({beside})"
    graded = f"{bounds(quality['false_confident_interval'])}, n {quality['graded']:,}"
    rate = percent(quality["false_confident_rate"])
    if correction is None or quality["judge_correction"] != "corrected":
        return f"{rate} of shipped answers ({graded}; uncorrected for the grader's errors; {beside})"
    return (
        f"{percent(correction['corrected_false_confident_rate'])} of shipped answers "
        f"({bounds(correction['corrected_false_confident_interval'])}; corrected for the grader's errors with "
        f"{correction['judge_labels']:,} labels; the grader's own rate is {rate}, {graded}; {beside})"
    )


def _measured(receipt: ReceiptFacts) -> dict[str, str]:
    # A message of an older version has no such figure.
    all_deep = receipt.get("all_deep")
    return {"All-deep by length": all_deep_words(all_deep)} if all_deep else {}


def all_deep_words(all_deep: AllDeep) -> str:
    """All-deep and the saving with their intervals, and what is known of the length of deep answers."""
    low, high = map(money, all_deep["interval_usd"])
    times = f"{all_deep['length_ratio']:.2f} times as long as cheap ones, by {all_deep['compared']:,} calls with both"
    doubtful = f"{percent(all_deep['doubtful_share'])} of the shipped text rests on doubtful cheap answers"
    unknown = 1 - all_deep["sure_share"] - all_deep["doubtful_share"]
    limits = [
        *([doubtful] if all_deep["doubtful_share"] else []),
        *([f"{percent(unknown)} is estimated from the cheap answer's length"] if unknown > _NEARLY_NOTHING else []),
    ]
    saving = f"{percent(all_deep['saving'])} ({bounds(all_deep['saving_interval'] or (0.0, 1.0))})"
    known = "; ".join([f"deep answers are {times}", *limits])
    return f"{money(all_deep['usd'])} ({low} to {high}), saving {saving}; {known}"


def cold_cache_words(caches: ColdCaches) -> str:
    """The cost of cold caches, and its reason."""
    if caches["cold_cache_usd"] is None:
        return "unknown"
    share = f", {percent(caches['cold_cache_share'])} of the cost" if caches["cold_cache_usd"] else ""
    cost = money(caches["cold_cache_usd"])
    return f"{cost}{share}: the deep tier wrote this to its cache; with all calls, it would have read it"


def _saving(receipt: ReceiptFacts) -> str:
    """The saving, and the number of unpriced calls that it leaves out."""
    grading = (
        f"{percent(receipt['saving_after_grading'])} after the cost of grading ({money(receipt['grader_cost_usd'])})"
    )
    unpriced = {"calls": receipt["unpriced_calls"], "gradings": receipt["grader_unpriced"]}
    without = [f"; {count:,} {name} are unpriced and left out" for name, count in unpriced.items() if count]
    return f"{percent(receipt['saving'])}; {grading}{''.join(without)}"


def _incidents(by_rule: Mapping[str, IncidentCounts]) -> str:
    counted = [f"{rule} {each['began']}{_still(each['open'])}" for rule, each in sorted(by_rule.items())]
    return ", ".join(counted) or "none"


def _still(is_open: int) -> str:
    return f" ({is_open} still open)" if is_open else ""


def _policy(policy: Policy, label: LabelStyle) -> str:
    """The base threshold, and the scopes whose threshold is pinned or raised."""
    changed = {name: scope for name, scope in policy["scopes"].items() if scope["pin"] is not None or scope["causes"]}
    thresholds = [
        f"{scope_text(name, label)} {_threshold(scope)}" for name, scope in list(changed.items())[:_MOST_SCOPES]
    ]
    if rest := len(changed) - len(thresholds):
        thresholds.append(f"{rest:,} more: cheapdeep-ops threshold show")
    return "; ".join([f"threshold {policy['threshold']:g} (base {policy['base']:g})", *thresholds])


def _threshold(scope: ScopePolicy) -> str:
    by = "pinned by a person" if scope["pin"] is not None else f"held by {', '.join(scope['causes'])}"
    return f"{scope['threshold']:g}, {by}"
