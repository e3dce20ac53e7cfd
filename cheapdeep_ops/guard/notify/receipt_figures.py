"""The first line of a receipt, its five figures with their change, and its incidents: words for every form of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from cheapdeep_ops.guard.formatting import (
    LabelStyle,
    bounds,
    coverage,
    duration,
    money,
    percent,
    plain,
    scope_text,
)
from cheapdeep_ops.guard.report_types.figures import PeriodBefore, PeriodIncident, ReceiptFacts

_BASES: Final = {
    "compared": "estimated from {compared:,} calls that both tiers answered",
    "estimated": "estimated from the length of the cheap answers",
}
_UNCHANGED: Final = 0.0005
"""A change of a share or of a ratio that would be shown as 0.0."""

Interval = Sequence[float]
Tone = Literal["better", "worse", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """One figure of a period: `beside` says how sure it is, `change` compares it with `before`.

    Texts that are not known are empty. `tone` says whether a clear change is good.
    """

    name: str
    value: str
    beside: str = ""
    change: str = ""
    before: str = ""
    tone: Tone = ""


def saving_line(receipt: ReceiptFacts) -> str:
    """What was saved, and what that rests on, on one line."""
    return ", ".join(filter(None, saving_words(receipt)))


def saving_words(receipt: ReceiptFacts) -> tuple[str, str]:
    """What was saved; and what that rests on, empty if nothing is known."""
    if not receipt["calls"]:
        return "No calls were counted", ""
    if is_shadow(receipt):
        return _shadow_words(receipt)
    saved, of_usd = receipt["saved_usd"], receipt["saved_of_usd"]
    if saved is None or of_usd is None:
        priced = receipt["calls"] - receipt["unpriced_calls"]
        return f"The saving is unknown: {priced:,} of {receipt['calls']:,} calls have a price", ""
    compared = receipt["all_deep"]["compared"] if receipt["all_deep"] else 0
    basis = _BASES[receipt["saving_basis"]].format(compared=compared) + coverage(
        receipt["unpriced_calls"], receipt["calls"]
    )
    if saved < 0:
        return f"Routing cost {money(-saved)} more than the {money(of_usd)} of the deep tier alone", basis
    return f"Saved {money(saved)} of {money(of_usd)} ({percent(receipt['saved_share'])})", basis


def is_shadow(receipt: ReceiptFacts) -> bool:
    """Whether no answer of a triage tier shipped, and shadow mode tried some."""
    return not receipt["shipped"] and receipt["shadow"] is not None


def _shadow_words(receipt: ReceiptFacts) -> tuple[str, str]:
    """What routing would have saved, and on how many calls."""
    shadow = receipt["shadow"]
    if shadow is None:
        return "", ""
    calls, cost, alone = shadow["calls"], shadow["cost_per_call_usd"], shadow["baseline_per_call_usd"]
    if cost is None or alone is None:
        return "Shadow mode: the saving is unknown", f"because too few of {calls:,} tried calls have a price"
    priced = calls - shadow["unpriced_calls"]
    saved = f"{money((alone - cost) * priced)} of {money(alone * priced)} ({percent(shadow['saving'])})"
    return f"Shadow mode: routing would have saved {saved}", f"by {priced:,} calls that triage was tried on"


def basis_lines(receipt: ReceiptFacts) -> list[str]:
    """What the saving rests on, in full: the estimate, its interval, grading, and calls without a price."""
    of_usd, interval = receipt["saved_of_usd"], receipt["saved_interval_usd"]
    if of_usd is None or is_shadow(receipt):
        return []
    sure = f" The saving is {money(interval[0])} to {money(interval[1])} (95%)." if interval else ""
    unpriced = receipt["unpriced_calls"]
    left_out = f" {unpriced:,} of {receipt['calls']:,} calls have no price and are left out." if unpriced else ""
    paid = f"{money(receipt['cost_usd'])} was paid for calls and {money(receipt['grader_cost_usd'])} for grading."
    return [f"{money(of_usd)} is what the deep tier alone would have cost.{sure} {paid}{left_out}"]


def key_figures(receipt: ReceiptFacts) -> list[KeyFigure]:
    """Saving, calls, cost of a call, escalation and false-confident rate, each with its change."""
    before = receipt["before"]
    return [
        _saving(receipt, before),
        _calls(receipt, before),
        _cost(receipt, before),
        _escalation(receipt, before),
        _false_confidence(receipt, before),
    ]


def _saving(receipt: ReceiptFacts, before: PeriodBefore | None) -> KeyFigure:
    saved, share = receipt["saved_usd"], percent(receipt["saved_share"])
    beside = f"{share} of the deep tier alone" if saved is not None else ""
    earlier = before["saved_usd"] if before else None
    # A change of the basis would look like a change of the saving.
    is_like = before is not None and before["saving_basis"] == receipt["saving_basis"]
    if before is None or saved is None or earlier is None or not is_like:
        return KeyFigure(name="saving", value=money(saved), beside=beside)
    figure = KeyFigure(name="saving", value=money(saved), beside=beside, before=money(earlier))
    if abs(saved - earlier) < _UNCHANGED * abs(earlier):
        return _total(figure, before, "no change")
    return _total(figure, before, _signed_money(saved - earlier), _tone(saved - earlier))


def _calls(receipt: ReceiptFacts, before: PeriodBefore | None) -> KeyFigure:
    calls = receipt["calls"]
    beside = f"{receipt['shipped']:,} shipped by a triage tier"
    if before is None:
        return KeyFigure(name="calls", value=f"{calls:,}", beside=beside)
    earlier = before["calls"]
    change = f"{(calls / earlier - 1) * 100:+.1f}%" if earlier else ""
    return _total(KeyFigure(name="calls", value=f"{calls:,}", beside=beside, before=f"{earlier:,}"), before, change)


def _cost(receipt: ReceiptFacts, before: PeriodBefore | None) -> KeyFigure:
    cost = receipt["cost_per_call_usd"]
    beside = f"the deep tier alone {money(receipt['baseline_per_call_usd'])}"
    earlier = before["cost_per_call_usd"] if before else None
    if not cost or not earlier:
        return KeyFigure(name="cost of a call", value=money(cost), beside=beside)
    change = cost / earlier - 1
    return KeyFigure(
        name="cost of a call",
        value=money(cost),
        beside=beside,
        change=f"{change * 100:+.1f}%" if abs(change) >= _UNCHANGED else "no change",
        before=money(earlier),
        tone=_tone(-change),
    )


def _escalation(receipt: ReceiptFacts, before: PeriodBefore | None) -> KeyFigure:
    # In shadow mode no answer ships, and only the rate at base says anything.
    if is_shadow(receipt):
        rate, interval = receipt["base_escalation_rate"], receipt["base_escalation_interval"]
        earlier, change = (before["base_escalation_rate"], before["base_escalation_change"]) if before else (None, None)
        return _rate("escalation at base", rate, f"{bounds(interval)}, n {receipt['triaged']:,}", earlier, change)
    at_base = f"at base {percent(receipt['base_escalation_rate'])}"
    beside = f"{bounds(receipt['escalation_interval'])}, n {receipt['triaged']:,}; {at_base}"
    earlier, change = (before["escalation_rate"], before["escalation_change"]) if before else (None, None)
    return _rate("escalation", receipt["escalation_rate"], beside, earlier, change)


def _false_confidence(receipt: ReceiptFacts, before: PeriodBefore | None) -> KeyFigure:
    corrected = f"corrected {percent(receipt['corrected_false_confident_rate'])}"
    by_grader = corrected if receipt["judge_correction"] == "corrected" else "uncorrected"
    n = f"{bounds(receipt['false_confident_interval'])}, n {receipt['graded']:,}; by the grader, {by_grader}"
    beside = n if receipt["graded"] else "no shipped answer was graded"
    earlier, change = (before["false_confident_rate"], before["false_confident_change"]) if before else (None, None)
    return _rate("false-confident rate", receipt["false_confident_rate"], beside, earlier, change)


def _rate(name: str, rate: float | None, beside: str, earlier: float | None, change: Interval | None) -> KeyFigure:
    """A rate that is better if it is lower; `change` is the interval of its change."""
    if rate is None or earlier is None or change is None:
        return KeyFigure(name=name, value=percent(rate), beside=beside)
    moved = rate - earlier
    is_clear = change[0] > 0 or change[1] < 0
    points = f"{moved * 100:+.1f} points" if abs(moved) >= _UNCHANGED else "no change"
    chance = "" if is_clear or points == "no change" else ", may be chance"
    return KeyFigure(
        name=name,
        value=percent(rate),
        beside=beside,
        change=f"{points}{chance}",
        before=percent(earlier),
        tone=_tone(-moved) if is_clear else "",
    )


def _total(figure: KeyFigure, before: PeriodBefore, change: str, tone: Tone = "") -> KeyFigure:
    """The figure with its change; without it if the store has calls of only a part of the period before."""
    if before["counted_since"] is None:
        return replace(figure, change=change, tone=tone)
    return replace(figure, before=f"{figure.before}, counted from {_minute(before['counted_since'])} on")


def figure_words(figure: KeyFigure) -> str:
    """A figure on one line."""
    change = "; ".join(filter(None, (figure.change, figure.before and f"before {figure.before}")))
    return f"{figure.value}{f' ({change})' if change else ''}{f', {figure.beside}' if figure.beside else ''}"


def _tone(gain: float) -> Tone:
    return "better" if gain > 0 else "worse" if gain < 0 else ""


def _signed_money(amount: float) -> str:
    return money(amount) if amount < 0 else f"+{money(amount)}"


def compared_with(receipt: ReceiptFacts) -> str:
    """The name of the period before, such as `the 7 days before`; says so if there is none to compare with."""
    if receipt["before"] is None:
        return "no earlier call to compare with"
    return f"the {duration(receipt['until'] - receipt['since'])} before"


def incident_lines(receipt: ReceiptFacts, most: int, label: LabelStyle = plain) -> list[str]:
    """The incidents that were open in the period, open ones first, a line each; at most `most`, then how many more."""
    ordered = sorted(receipt["incident_list"], key=lambda each: each["resolved_at"] is not None)
    lines = [_incident(each, receipt["until"], label) for each in ordered[:most]]
    rest = len(ordered) - len(lines)
    return [*lines, f"and {rest} more: cheapdeep-ops incidents"] if rest else lines


def incidents_title(receipt: ReceiptFacts) -> str:
    """How many incidents were open in the period, and how many of them still are."""
    found = receipt["incident_list"]
    still = sum(each["resolved_at"] is None for each in found)
    if not found:
        return "No incident"
    return f"{len(found)} incident{'' if len(found) == 1 else 's'}, {still or 'none'} still open"


def _incident(each: PeriodIncident, now: float, label: LabelStyle) -> str:
    summary = f": {plain(each['summary'])}" if each["summary"] else ""
    return f"#{each['id']} {each['rule']}, {scope_text(each['scope'], label)}{summary}; {_course(each, now, label)}"


def _course(each: PeriodIncident, now: float, label: LabelStyle) -> str:
    began, end = _minute(each["started_at"]), each["resolved_at"]
    if end is not None:
        return f"{began}, lasted {duration(end - each['started_at'])}"
    by = f"acknowledged by {label(each['acknowledged_by'])}" if each["acknowledged_by"] else "not acknowledged"
    return f"open since {began} ({duration(max(now - each['started_at'], 0))}), {by}"


def _minute(at: float) -> str:
    """A Unix time to the minute (UTC)."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b %H:%M} UTC"
