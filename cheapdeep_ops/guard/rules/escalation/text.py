"""The text for an escalation storm; `cost.consequence_of` has the keys of a consequence."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import (
    coverage,
    duration,
    minute_of_day,
    money,
    percent,
    share,
    signal_interval,
)
from cheapdeep_ops.guard.rules.escalation.detection import is_sudden, shown_window_s
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText
from cheapdeep_ops.units import DAY_S


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    if is_over:
        return (
            f"back to {percent(signal['recent_rate'])} of the calls of {scope} escalating at base "
            f"({signal_interval(signal, 'recent_')}, {signal['recent_n']} calls in "
            f"{duration(signal['recent_window_s'])}; limit {percent(signal['limit'])})"
        )
    # After the sequential test fires, only its own calls count: the long window may still be full of calm ones.
    prefix, window_s = "recent_" if is_sudden(signal) else "", shown_window_s(signal, payload["window_s"])
    return (
        f"{percent(signal[f'{prefix}rate'])} of the calls of {scope} escalate at base "
        f"({signal_interval(signal, prefix)}, {signal[f'{prefix}n']} calls in {duration(window_s)}; "
        f"limit {percent(signal['limit'])}){_hourly(payload.get('consequence'))}"
    )


def _hourly(consequence: Payload | None) -> str:
    """The cost of an open storm, for the headline; empty if no cost was computed."""
    if not consequence:
        return ""
    if consequence["usd_per_hour"] is None:
        return "; cost unknown"
    if consequence["usd_per_hour"] <= 0:
        return "; costs no more than usual"
    return f"; about {money(consequence['usd_per_hour'])} an hour more than usual"


def _measured(payload: Payload) -> Iterable[str]:
    yield from _cost_lines(payload)
    yield f"Actual escalation rate: {percent(payload['signal']['actual_rate'])}"


def _cost_lines(payload: Payload) -> Iterable[str]:
    """The cost of a storm, and the rates that it follows from."""
    consequence = payload.get("consequence")
    if not consequence:
        return
    if consequence["usd"] is None:
        yield f"Cost: unknown, {consequence['why']}"
        return
    is_over = payload["kind"] == "resolved"
    name, unit, per = ("usd", "", "since") if is_over else ("usd_per_hour", " an hour", "now")
    bounds = f"95%: {money(consequence[f'{name}_low'])} to {money(consequence[f'{name}_high'])}"
    usual = f"{share(consequence['usual'])} of the calls escalated in {consequence['compared_with']}"
    rates = f"{usual}, {share(consequence['now'])} {per}"
    # A message of an older version has no coverage.
    over = coverage(consequence.get("unpriced_deep_calls") or 0, consequence.get("deep_calls") or 0)
    each = f"{money(consequence['escalation_usd'])} each{over}"
    more = f"{money(consequence[name])}{unit} more than usual, any raise included"
    yield f"Cost: about {more} ({bounds}): {rates}, at {each}"


def _figures(payload: Payload, is_over: bool) -> Iterable[tuple[str, str]]:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    is_recent = is_over or is_sudden(signal)
    prefix = "recent_" if is_recent else ""
    window_s = signal["recent_window_s"] if is_over else shown_window_s(signal, payload["window_s"])
    yield f"Rate at base{_of_when(payload)}", f"{percent(signal[f'{prefix}rate'])} ({signal_interval(signal, prefix)})"
    yield "Limit", percent(signal["limit"])
    consequence = payload.get("consequence") or {}
    if usual := consequence.get("usual"):
        yield "Usual", f"{percent(usual['rate'])} in {consequence['compared_with']}"
    yield "Calls", f"{signal[f'{prefix}n']:,} in {duration(window_s)}"
    if consequence:
        # By the calls that escalated at the threshold in force, so what a raise adds is part of it.
        yield "Cost beyond usual, any raise included", _cost(consequence, is_over=is_over)


def _of_when(payload: Payload) -> str:
    """When the figures were measured (UTC), with the day if the incident began on another one."""
    at = payload.get("measured_at")
    if at is None:  # a message of an older version
        return ""
    is_one_day = payload.get("started_at", at) // DAY_S == at // DAY_S
    return f", {minute_of_day(at, with_day=not is_one_day)} UTC"


def _cost(consequence: Payload, *, is_over: bool) -> str:
    name, unit = ("usd", " in all") if is_over else ("usd_per_hour", " an hour")
    if consequence[name] is None:
        return "unknown"
    if consequence[name] <= 0:
        return "none"
    bounds = f"{money(consequence[f'{name}_low'])} to {money(consequence[f'{name}_high'])}"
    return f"{money(consequence[name])}{unit} ({bounds})"


def _until(payload: Payload) -> str:
    return f"the base rate has been at the limit or below for {duration(payload['keep_firing_for_s'])}"


def _release(payload: Payload) -> Iterable[str]:
    yield f"Resolves when {_until(payload)}"


def _affected(payload: Payload) -> str:
    extra = (payload.get("consequence") or {}).get("extra_calls")
    return "" if extra is None else f"; about {max(round(extra), 0):,} more than usual were sent to the deep tier"


TEXT: Final = RuleText(
    headline=_headline,
    figures=_figures,
    plot="escalation",
    measured=_measured,
    release=_release,
    until=_until,
    affected=_affected,
)
