"""The text of a message with a receipt: headline and lines. Each receiver formats them in its own way."""

from typing import Final, cast

from cheapdeep_ops.guard.formatting import LabelStyle, bounds, money, percent, period, plain, scope_text
from cheapdeep_ops.guard.notify.receipt_figures import (
    basis_lines,
    figure_words,
    incident_lines,
    incidents_title,
    key_figures,
    saving_line,
)
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
from cheapdeep_ops.guard.report_types.state import Policy
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.guard.state_text import threshold_cause
from cheapdeep_ops.store.records import record_of

_NEARLY_NOTHING: Final = 0.0005

_MOST_INCIDENTS: Final = 5
"""How many incidents a message lists."""

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
    line = saving_line(receipt)
    return f"Receipt, {period(receipt['since'], receipt['until'])}: {line[0].lower()}{line[1:]}"


def receipt_lines(payload: Payload, label: LabelStyle = plain) -> list[str]:
    """The lines below the headline: five figures, what the saving rests on, incidents, and the policy."""
    receipt = cast("ReceiptMessage", payload)
    if not receipt["calls"]:
        return [_policy(receipt, label)]
    return [
        *(f"{each.name.capitalize()}: {figure_words(each)}" for each in key_figures(receipt)),
        *basis_lines(receipt),
        *([f"All-deep by length: {all_deep_words(receipt['all_deep'])}"] if receipt["all_deep"] else []),
        *([f"Cold caches: {cold_cache_words(receipt)}"] if receipt["cold_cache_usd"] else []),
        *([f"Errors: {receipt['errors']:,} calls ended in an error"] if receipt["errors"] else []),
        *([f"{incidents_title(receipt)}:"] if receipt["incident_list"] else []),
        *(f"\u2022 {line}" for line in incident_lines(receipt, _MOST_INCIDENTS, label)),
        _policy(receipt, label),
    ]


def false_confidence_words(quality: Quality, correction: Correction | None = None) -> str:
    """The false-confident rate, by the grader; corrected for its errors if labels suffice."""
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


def _policy(receipt: ReceiptMessage, label: LabelStyle) -> str:
    """The base threshold, the scopes whose threshold is pinned or raised, and how many changes there were."""
    policy, changes = receipt["policy"], receipt["policy_changes"]
    changed = {name: scope for name, scope in policy["scopes"].items() if scope["pin"] is not None or scope["causes"]}
    thresholds = [
        f"{scope_text(name, label)} {scope['threshold']:g}, {threshold_cause(scope, label)}"
        for name, scope in list(changed.items())[:_MOST_SCOPES]
    ]
    if rest := len(changed) - len(thresholds):
        thresholds.append(f"{rest:,} more: cheapdeep-ops threshold show")
    counted = f"{changes or 'no'} change{'' if changes == 1 else 's'} in the period"
    return "; ".join([f"Threshold now: {policy['threshold']:g} (base {policy['base']:g}, {counted})", *thresholds])
