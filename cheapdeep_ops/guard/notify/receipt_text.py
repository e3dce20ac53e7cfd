"""What a message with a receipt says: headline and lines; how it looks is the sender's affair."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cheapdeep_ops.guard.formatting import LabelStyle, bounds, money, percent, plain
from cheapdeep_ops.guard.formatting import moment as moment_of
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

Receipt = Mapping[str, Any]

_MOST_SCOPES: Final = 5
"""How many scopes with a policy of their own are named."""

_KEPT: Final = (
    "since", "until", "calls", "triaged", "shipped", "escalated", "bypassed", "errors", "escalation_rate",
    "escalation_interval", "base_escalation_rate", "base_escalation_interval", "cost_usd", "baseline_cost_usd",
    "baseline_basis", "cost_per_call_usd", "baseline_per_call_usd", "saving", "saving_after_grading", "unpriced_calls",
    "false_confident_rate", "false_confident_interval", "graded", "grades", "judge_correction", "judge_labels",
    "corrected_false_confident_rate", "corrected_false_confident_interval", "grader_cost_usd", "grader_unpriced",
    "policy_changes", "cold_cache_usd", "cold_cache_share",
)  # fmt: skip


def receipt_message(
    found: Receipt, *, incidents: Mapping[str, Mapping[str, int]], policy: Mapping[str, Any], links: list[list[str]]
) -> dict[str, Any]:
    """The payload of a message with the receipt `found`.

    `incidents` has by rule how many `began` and how many are `open`; `policy` is what `status.policy_state` gives.
    """
    kept = {name: found[name] for name in _KEPT}
    return {"kind": "report", "rule": "Receipt", **kept, "incidents": incidents, "policy": policy, "links": links}


def receipt_headline(found: Receipt) -> str:
    """A receipt in one line."""
    title = f"Receipt, {period_words(found['since'], found['until'])}"
    if not found["calls"]:
        return f"{title}: no calls were counted"
    per_call = f"{_usd(found['cost_per_call_usd'])} a call"
    return f"{title}: {found['calls']:,} calls, {per_call}, saving {percent(found['saving'])} against all-deep"


def period_words(since: float, until: float) -> str:
    """A period in words: the days, both included, where it is whole days in UTC."""
    if since % DAY_S or until % DAY_S:
        return f"{moment_of(since)} to {moment_of(until)}"
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (since, until - DAY_S))
    return f"{first}" if first == last else f"{first} to {last}"


def receipt_lines(found: Receipt, label: LabelStyle = plain) -> list[str]:
    """What is below the headline."""
    facts = {
        "Calls": f"{found['shipped']:,} shipped, {found['escalated']:,} escalated, {found['bypassed']:,} bypassed "
        f"triage, {found['errors']:,} ended in an error",
        "Cost": f"{_usd(found['cost_per_call_usd'])} a call, {money(found['cost_usd'])} in all",
        "All-deep": f"{_usd(found['baseline_per_call_usd'])} a call, {money(found['baseline_cost_usd'])} in all "
        f"({found['baseline_basis']})",
        **_cold_caches(found),
        "Saving": _saving(found),
        "Escalation": f"{percent(found['escalation_rate'])} actual ({bounds(found['escalation_interval'])}), "
        f"{percent(found['base_escalation_rate'])} at base ({bounds(found['base_escalation_interval'])}), "
        f"n {found['triaged']:,}",
        "False confidence": false_confidence_words(found),
        "Incidents": _incidents(found["incidents"]),
        "Policy now": _policy(found["policy"], label),
        "Policy changes": f"{found['policy_changes']:,}",
    }
    return [f"{name}: {said}" for name, said in facts.items()]


def false_confidence_words(found: Receipt) -> str:
    """What is known of shipped answers that are wrong, in the judge's eyes."""
    grades = found["grades"]
    failed = sum(count for name, count in grades.items() if name not in ("correct", "incorrect", "unsure"))
    beside = f"{grades['unsure']:,} unsure, {failed:,} gradings failed"
    if not found["graded"]:
        return f"unknown: no grade of a shipped answer ({beside})"
    judged = f"{bounds(found['false_confident_interval'])}, n {found['graded']:,}"
    if found["judge_correction"] != "corrected":
        rate = percent(found["false_confident_rate"])
        return f"{rate} of shipped answers ({judged}; uncorrected for the judge's errors; {beside})"
    rate = percent(found["corrected_false_confident_rate"])
    return (
        f"{rate} of shipped answers ({bounds(found['corrected_false_confident_interval'])}; corrected for the judge's "
        f"errors by {found['judge_labels']:,} labels; the judge says {percent(found['false_confident_rate'])}, "
        f"{judged}; {beside})"
    )


def cold_cache_words(found: Receipt) -> str:
    """What cold caches cost, and why."""
    if found["cold_cache_usd"] is None:
        return "unknown"
    share = f", {percent(found['cold_cache_share'])} of the cost" if found["cold_cache_usd"] else ""
    return f"{money(found['cold_cache_usd'])}{share}: written by the deep tier, which with all calls would have read it"


def _cold_caches(found: Receipt) -> dict[str, str]:
    """A line where they cost anything; a message of before they were counted says nothing of them."""
    return {"Cold caches": cold_cache_words(found)} if found.get("cold_cache_usd") else {}


def _saving(found: Receipt) -> str:
    """What was saved, and what that leaves out."""
    grading = f"{percent(found['saving_after_grading'])} with grading paid for ({money(found['grader_cost_usd'])})"
    unpriced = {"calls": found["unpriced_calls"], "gradings": found["grader_unpriced"]}
    without = [f"; {count:,} {name} are unpriced and left out" for name, count in unpriced.items() if count]
    return f"{percent(found['saving'])}; {grading}{''.join(without)}"


def _incidents(found: Mapping[str, Mapping[str, int]]) -> str:
    counted = [f"{rule} {each['began']}{_still(each['open'])}" for rule, each in sorted(found.items())]
    return ", ".join(counted) or "none"


def _still(is_open: int) -> str:
    return f" ({is_open} still open)" if is_open else ""


def _policy(policy: Mapping[str, Any], label: LabelStyle) -> str:
    """The base threshold, and what is held elsewhere."""
    touched = {name: scope for name, scope in policy["scopes"].items() if scope["pin"] is not None or scope["causes"]}
    said = [f"{_where(name, label)} {_held(scope)}" for name, scope in list(touched.items())[:_MOST_SCOPES]]
    if rest := len(touched) - len(said):
        said.append(f"{rest:,} more: cheapdeep-ops threshold show")
    return "; ".join([f"threshold {policy['threshold']:g} (base {policy['base']:g})", *said])


def _where(scope: str, label: LabelStyle) -> str:
    return "all routes" if scope == ALL_ROUTES else f"route {label(scope)}"


def _held(scope: Mapping[str, Any]) -> str:
    by = "pinned by a person" if scope["pin"] is not None else f"held by {', '.join(scope['causes'])}"
    return f"{scope['threshold']:g}, {by}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else money(value)
