"""The reports in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from cheapdeep_ops.cli.output import counts, interval, moment, table, usd
from cheapdeep_ops.guard.messages import duration, percent
from cheapdeep_ops.values import Decision


def show_decision(out: Console, text: str, decision: Decision) -> None:
    """An answer and how it came about."""
    out.print(text, markup=False)
    out.print()
    facts = {
        "answered by": decision.model,
        "escalated": f"yes: {decision.reason}" if decision.escalated else "no",
        "confidence": "none" if decision.confidence is None else f"{decision.confidence:g}",
        "threshold": f"{decision.threshold:g} (policy version {decision.policy_version})",
        "cost": f"{usd(decision.cost_usd)} (all-deep {usd(decision.baseline_cost_usd)}, {decision.baseline_basis})",
        "call": decision.call_id,
    }
    show_facts(out, facts)


def show_facts(out: Console, facts: Mapping[str, str]) -> None:
    """Names and values, aligned."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        out.print(f"{name.ljust(width)}  {value}", markup=False)


def show_receipt(out: Console, found: Mapping[str, Any]) -> None:
    """The receipt over a period."""
    out.print(f"Receipt, {moment(found['since'])} to {moment(found['until'])}", style="bold")
    facts = {
        "calls": f"{found['calls']:,} ({counts(found['models'])})",
        "shipped": f"{found['shipped']:,} of {found['triaged']:,} triaged; {found['bypassed']:,} bypassed triage",
        "escalation": f"{percent(found['escalation_rate'])} actual ({interval(found['escalation_interval'])}, "
        f"n {found['triaged']:,}), {percent(found['base_escalation_rate'])} at the base threshold "
        f"({interval(found['base_escalation_interval'])})",
        "reasons": counts(found["reasons"]),
        "false confidence": "unknown: nothing is graded yet",
        "cost": f"{usd(found['cost_usd'])}, {usd(found['cost_per_call_usd'])} a call; triage "
        f"{_known(found['triage_cost_per_call_usd'])} a call",
        "all-deep": f"{usd(found['baseline_cost_usd'])}, {usd(found['baseline_per_call_usd'])} a call "
        f"({found['baseline_basis']})",
        "saving": percent(found["saving"]),
        "errors": f"{found['errors']:,} calls ended in an error",
        "unpriced": f"{found['unpriced_calls']:,} calls"
        + (" (neither in cost nor in all-deep)" if found["unpriced_calls"] else ""),
        "policy changes": str(found["policy_changes"]),
    }
    show_facts(out, facts)


def _known(value: float | None) -> str:
    return "unknown" if value is None else usd(value)


def show_run(out: Console, found: Mapping[str, Any]) -> None:
    """The receipt of a demonstration or a replay."""
    facts = {
        "calls": f"{found['calls']:,}, shipped {found['shipped']:,}",
        "escalation": f"{percent(found['escalation_rate'])} (n {found['calls']:,}; {counts(found['reasons'])})",
        "false confidence": f"{percent(found['true_false_confident_rate'])} of shipped answers, by the simulator's own "
        f"knowledge; nothing is graded yet",
        "cost": f"{usd(found['cost_usd'])}, {usd(found['cost_per_call_usd'])} a call; all-deep "
        f"{usd(found['baseline_cost_usd'])} (estimate)",
        "saving": percent(found["saving"]),
    }
    show_facts(out, facts)
    for change in found["policy_changes"]:
        out.print(
            f"call {change['at_call']}: {change['act']} {change['from']:g} -> {change['to']:g} ({change['cause']})",
            markup=False,
        )


def show_checks(out: Console, checks: Mapping[str, bool]) -> None:
    """What was checked, and how it came out."""
    for name, passed in checks.items():
        out.print(f"{'ok  ' if passed else 'FAIL'}  {name}", style="green" if passed else "bold red", markup=False)


def show_status(out: Console, state: Mapping[str, Any]) -> None:
    """What is so right now."""
    watchers, queue, policy = state["watchers"], state["queue"], state["policy"]
    facts = {
        "store": state["store"],
        "mode": state["mode"],
        "threshold": in_force(policy),
        "guard": _guard(watchers, state["at"]),
        "routers": f"{watchers['routers']} seen in the last minute, {watchers['dropped']} decisions not counted",
        "grader": f"{state['grader']['state']}: {state['grader']['why']}",
        "messages": f"{queue['waiting']} waiting, {queue['delivered']} delivered"
        + (f"; last error: {queue['last_error']}" if queue["last_error"] else ""),
    }
    show_facts(out, facts)
    if state["alerts"]:
        out.print()
        out.print(
            table("Alerts", ("rule", "scope", "state", "signal", "since"), [_alert_row(a) for a in state["alerts"]])
        )
    show_policy(out, policy)


def in_force(policy: Mapping[str, Any]) -> str:
    """The threshold of all routes, and of those that have another one."""
    others = [
        f"{name} {scope['threshold']:g}"
        for name, scope in policy["scopes"].items()
        if scope["threshold"] != policy["threshold"]
    ]
    everywhere = f"{policy['threshold']:g} (base {policy['base']:g}, raised {policy['raised']:g})"
    return "; ".join([everywhere, *others])


def show_policy(out: Console, policy: Mapping[str, Any]) -> None:
    """The policy of every scope that was ever touched."""
    rows = [
        (name, f"{scope['threshold']:g}", _why(scope), str(scope["version"]))
        for name, scope in policy["scopes"].items()
    ]
    if rows:
        out.print()
        out.print(table("Policy", ("scope", "threshold", "why", "version"), rows))


def _guard(watchers: Mapping[str, Any], now: float) -> str:
    seen = watchers["guard_last_seen"]
    if seen is None:
        return "none runs on this store: run cheapdeep-ops serve"
    return f"{watchers['guards']} running, last seen {duration(max(now - seen, 0))} ago"


def _alert_row(alert: Mapping[str, Any]) -> Sequence[str]:
    signal = alert["signal"]
    shown = (
        "no data"
        if not signal.get("n")
        else f"{percent(signal['rate'])} ({interval((signal['low'], signal['high']))}, n {signal['n']})"
    )
    return (alert["rule"], alert["scope"], alert["state"], shown, moment(alert["since"] or None))


def _why(scope: Mapping[str, Any]) -> str:
    if scope["pin"] is not None:
        return "pinned by a person"
    return f"raised by {', '.join(scope['causes'])}" if scope["causes"] else "base"
