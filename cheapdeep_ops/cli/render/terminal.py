"""The reports in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cheapdeep_ops.cli.output import counts, moment, table, usd
from cheapdeep_ops.cli.render.reliability import show_confidence
from cheapdeep_ops.guard.formatting import bounds, duration, money, percent, plain
from cheapdeep_ops.guard.notify.receipt_text import cold_cache_words, false_confidence_words
from cheapdeep_ops.units import WEEK_S
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
    """Names and values, aligned; a value that is too long for a terminal goes on below itself."""
    if out.is_terminal:
        rows = Table.grid(padding=(0, 2))
        rows.add_column(no_wrap=True)
        rows.add_column(overflow="fold")
        for name, value in facts.items():
            rows.add_row(Text(name), Text(value))
        out.print(rows)
        return
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        out.print(f"{name.ljust(width)}  {value}", markup=False)


def show_receipt(out: Console, found: Mapping[str, Any]) -> None:
    """The receipt over a period."""
    out.print(f"Receipt, {moment(found['since'])} to {moment(found['until'])}", style="bold")
    show_facts(out, receipt_facts(found))
    show_confidence(out, found["confidence"])
    show_reach(out, found["reach"])


def receipt_facts(found: Mapping[str, Any]) -> dict[str, str]:
    """The receipt's figures in words, in the order of what it is read for."""
    triage, deep = found["tiers"][:-1], found["tiers"][-1]
    shadow = {"in shadow": _shadow(found["shadow"])} if found["shadow"] else {}
    return {
        "triage model": " -> ".join(triage) or "none",
        "escalation model": deep,
        "triage": _triage(found),
        "blended": f"{usd(found['cost_per_call_usd'])} a call, {usd(found['cost_usd'])} in all",
        "all-deep": f"{usd(found['baseline_per_call_usd'])} a call, {usd(found['baseline_cost_usd'])} in all "
        f"({found['baseline_basis']})",
        "cold caches": cold_cache_words(found),
        "saving": f"{percent(found['saving'])}; {percent(found['saving_after_grading'])} with grading paid for",
        "prompt caches": _caches(found),
        **shadow,
        "calls": f"{found['calls']:,} ({counts(found['models'])}); {found['shipped']:,} shipped, "
        f"{found['bypassed']:,} bypassed triage",
        "escalation": f"{percent(found['escalation_rate'])} actual ({bounds(found['escalation_interval'])}, "
        f"n {found['triaged']:,}), {percent(found['base_escalation_rate'])} at the base threshold "
        f"({bounds(found['base_escalation_interval'])})",
        "reasons": counts(found["reasons"]),
        "false confidence": false_confidence_words(found),
        "samples": _funnel(found["funnel"]),
        "sampling": _sampling(found["sampling"]),
        "added latency": _latency(found),
        "grading": _grading(found),
        "errors": _errors(found),
        "failed triage": counts(found["triage_errors"]),
        "unpriced": f"{found['unpriced_calls']:,} calls"
        + (" (neither in cost nor in all-deep)" if found["unpriced_calls"] else ""),
        "policy changes": str(found["policy_changes"]),
    }


def _triage(found: Mapping[str, Any]) -> str:
    if found["triage_input_tokens_per_call"] is None:
        return "unknown: nothing was triaged"
    tokens = f"{found['triage_input_tokens_per_call']:.0f} in + {found['triage_output_tokens_per_call']:.0f} out tokens"
    return f"{tokens}, {_known(found['triage_cost_per_call_usd'])} a call"


def _caches(found: Mapping[str, Any]) -> str:
    """What was read from the cache at either end of the cascade."""
    tiers = {"triage": "triage", "the deep tier": "deep"}
    parts = [
        f"{name} read {percent(found[f'{key}_cache_read_share'])} of its input tokens (n {found[f'{key}_replies']:,})"
        for name, key in tiers.items()
    ]
    return ", ".join(parts)


def _shadow(shadow: Mapping[str, Any]) -> str:
    """What routing would have cost where it was only tried."""
    routed, alone = _known(shadow["cost_per_call_usd"]), _known(shadow["baseline_per_call_usd"])
    return (
        f"routing would have saved {percent(shadow['saving'])} of what the deep tier did cost on {shadow['calls']:,} "
        f"calls: {routed} a call instead of {alone}, grading aside"
    )


def _errors(found: Mapping[str, Any]) -> str:
    beside = {
        "were refused as invalid by the deep tier after triage": found["replays_rejected"],
        "were answered by a triage tier because the deep tier failed": found["fallbacks"],
    }
    told = [f"; {count:,} {what}" for what, count in beside.items() if count]
    return f"{found['errors']:,} calls ended in an error{''.join(told)}"


def _funnel(funnel: Mapping[str, Any]) -> str:
    """What became of the confident answers."""
    states = ("graded", "waiting", "failed", "expired", "skipped", "not_sampled")
    parts = ", ".join(f"{funnel[state]:,} {state.replace('_', ' ')}" for state in states)
    causes = f" (skipped: {counts(funnel['skipped_causes'])})" if funnel["skipped_causes"] else ""
    return f"of {funnel['answers']:,} confident answers {parts}{causes}"


def _sampling(found: Mapping[str, Any]) -> str:
    """What was graded, and why it was chosen."""
    if found["spent_share"] is None:
        return f"unknown: there was no confident answer; the budget is {percent(found['budget'])}"
    kinds = {"chosen evenly": "evenly", "under suspicion": "suspected", "in hindsight": "hindsight"}
    parts = ", ".join(f"{_spent(found[key])} {name}" for name, key in kinds.items())
    share = f"{percent(found['spent_share'])} of {found['answers']:,} confident answers"
    return f"{share} (budget {percent(found['budget'])}): {parts}"


def _spent(found: Mapping[str, Any]) -> str:
    unpriced = f", {found['unpriced']:,} unpriced" if found["unpriced"] else ""
    return f"{found['samples']:,} ({usd(found['cost_usd'])}{unpriced})"


def _latency(found: Mapping[str, Any]) -> str:
    if not found["added_latency_calls"]:
        return "unknown: nothing escalated"
    p50, p95 = (duration(found[f"added_latency_{name}_s"]) for name in ("p50", "p95"))
    within = f"right within {percent(found['added_latency_precision'])}"
    return f"p50 {p50}, p95 {p95} on {found['added_latency_calls']:,} escalated calls ({within})"


def _grading(found: Mapping[str, Any]) -> str:
    grader = found["grader"]
    trouble = f"; {grader['state']}: {grader['why']}" if grader["why"] else ""
    unpriced = f" ({found['grader_unpriced']:,} unpriced)" if found["grader_unpriced"] else ""
    second = (
        f" ({usd(found['second_grader_cost_usd'])} of it the second judge's)" if found["second_grader_cost_usd"] else ""
    )
    return (
        f"{usd(found['grader_cost_usd'])} by {grader['model']}{second}{unpriced}, not part of the cost above{trouble}"
    )


def _known(value: float | None) -> str:
    return "unknown" if value is None else usd(value)


def show_run(out: Console, found: Mapping[str, Any]) -> None:
    """The receipt of a demonstration or a replay."""
    facts = {
        "calls": f"{found['calls']:,}, shipped {found['shipped']:,}",
        "escalation": f"{percent(found['escalation_rate'])} (n {found['calls']:,}; {counts(found['reasons'])})",
        "false confidence": false_confidence_words(found),
        "in truth": f"{percent(found['true_false_confident_rate'])} of shipped answers are wrong",
        "samples": _funnel(found["funnel"]),
        "normal": "; ".join(f"{route}: {_normal_words(normal)}" for route, normal in found["normal"].items())
        or "unknown: nothing was graded, so that nothing could be seen to climb",
        "answers right": percent(found["cascade_accuracy"]),
        "cost": f"{usd(found['cost_usd'])}, {_known(found['cost_per_call_usd'])} a call; all-deep "
        f"{usd(found['baseline_cost_usd'])} (estimate); grading {usd(found['grader_cost_usd'])} apart",
        "saving": f"{percent(found['saving'])} (what it is depends on how long questions and answers are)",
    }
    show_facts(out, facts)
    _show_acts(out, found)


def _show_acts(out: Console, found: Mapping[str, Any]) -> None:
    """What the guard did, and when."""
    for change in found["policy_changes"]:
        would = "" if change["applied"] else "would have been: "
        out.print(
            f"call {change['at_call']}: {would}{change['act']} {change['from']:g} -> {change['to']:g} "
            f"({change['cause']})",
            markup=False,
        )
    for alert in found["alerts"]:
        out.print(f"call {alert['at_call']}: {alert['rule']} {alert['state']}", markup=False)


def show_demo(out: Console, found: Mapping[str, Any]) -> None:
    """The receipt of a demonstration: what happened, what was checked, and at the end what a month would save."""
    columns = ("phase", "lasted", "calls", "escalated", "a call", "saved")
    out.print(table("Phases", columns, [_phase_row(phase) for phase in found["phases"]]))
    out.print()
    show_facts(
        out,
        {
            "escalation": f"{percent(found['escalation_rate'])} (n {found['calls']:,}; {counts(found['reasons'])})",
            "false confidence": false_confidence_words(found),
            "in truth": f"{percent(found['true_false_confident_rate'])} of shipped answers are wrong",
            "answers right": percent(found["cascade_accuracy"]),
            "grading": _sampled_words(found),
        },
    )
    _show_acts(out, found)
    show_checks(out, found["checks"])
    out.print()
    _show_month(out, found["month"])


def _phase_row(phase: Mapping[str, Any]) -> Sequence[str]:
    return (
        phase["name"],
        duration(phase["virtual_seconds"]),
        f"{phase['calls']:,}",
        percent(phase["escalation_rate"]),
        "unknown" if phase["cost_per_call_usd"] is None else money(phase["cost_per_call_usd"]),
        percent(phase["saving"]),
    )


def _sampled_words(found: Mapping[str, Any]) -> str:
    """What was graded here, and what a team's usual share would have cost."""
    spent, rate, usual = found["grader_cost_usd"], found["sample_rate"], found["month"].get("sample_rate", 0.0)
    return (
        f"{found['funnel']['graded']:,} answers, {rate:.0%} of the confident ones, for {money(spent)}; {usual:.0%}, "
        f"the default, would cost {money(spent * usual / rate)}"
    )


def _show_month(out: Console, month: Mapping[str, Any]) -> None:
    """What a million calls a month would cost and save."""
    if "saving" not in month:
        return
    out.print(
        f"A million calls a month like those of the calm phase (n {month['n']:,}; storm and drift are left out)",
        style="bold",
        markup=False,
    )
    low, high = month["saving_usd_interval"]
    grading = month["grading_usd"]
    facts = {
        "all-deep": f"{_dollars(month['baseline_cost_usd'])} (estimate)",
        "routed": f"{_dollars(month['cost_usd'])}, {money(month['cost_per_call_usd'])} a call",
        "grading": "unknown: nothing was graded"
        if grading is None
        else f"{_dollars(grading)} for {month['sample_rate']:.0%} of the confident answers, not part of the cost",
        "saving": f"{_dollars(month['saving_usd'])} a month ({_dollars(low)} to {_dollars(high)}), "
        f"{percent(month['saving'])} ({bounds(month['saving_interval'])})",
    }
    show_facts(out, facts)


def _dollars(value: float) -> str:
    return f"${value:,.0f}"


def show_normal(out: Console, found: Mapping[str, Any]) -> None:
    """What is normal for each route."""
    rows = [(scope, *_normal_row(normal)) for scope, normal in found.items()]
    columns = ("route", "wrong among confident answers", "grades", "alarm level", "learned", "anew, because")
    out.print(table("Normal false confidence", columns, rows) if rows else "nothing was graded yet")


def _normal_words(normal: Mapping[str, Any]) -> str:
    if normal["rate"] is None:
        return f"not learned from {normal['grades']} grades, so that nothing could be seen to climb"
    return f"{percent(normal['rate'])} ({bounds((normal['low'], normal['high']))}, n {normal['grades']})"


def _normal_row(normal: Mapping[str, Any]) -> Sequence[str]:
    order = f"{normal['why']} ({normal['author']})" if normal["author"] else ""
    if normal["rate"] is None:
        return ("being learned", str(normal["grades"]), "", "", order)
    rate = f"{percent(normal['rate'])} ({bounds((normal['low'], normal['high']))})"
    return (rate, str(normal["grades"]), percent(normal["alarm_level"]), moment(normal["learned_at"]), order)


def show_reach(out: Console, found: Mapping[str, Mapping[str, Any]]) -> None:
    """How soon a climb of each route would be found, a line each."""
    if found:
        out.print()
        out.print("How soon a climb of false confidence is seen, on average", style="bold")
    for line in reach_lines(found):
        out.print(line, markup=False)


def reach_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same as lines."""
    return [
        f"route {plain(route)}: at {reach['answers_per_day']:,.0f} confident answers a day, {_reach_words(reach)}"
        for route, reach in found.items()
    ]


def _reach_words(found: Mapping[str, Any]) -> str:
    if found["why"]:
        return f"unknown: {found['why']}"
    smallest = [
        f"within a {name} one to {percent(found[f'smallest_in_{name}'])}"
        for name in ("day", "week")
        if found[f"smallest_in_{name}"] is not None
    ]
    return "; ".join([*_climb_words(found), f"the smallest seen: {', '.join(smallest)}"])


def _climb_words(found: Mapping[str, Any]) -> Sequence[str]:
    """The smallest of the shown climbs that is seen within a week, or else the largest."""
    known = [climb for climb in found["climbs"] if climb["seconds"] is not None]
    normal = f"a climb from {percent(found['normal'])} (n {found['n']:,})"
    shown = [climb for climb in known if climb["seconds"] <= WEEK_S][:1] or known[-1:]
    return [f"{normal} to {percent(climb['rate'])} is seen after about {duration(climb['seconds'])}" for climb in shown]


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
        "grader": _grader(state["grader"]),
        "messages": f"{queue['waiting']} waiting, {queue['delivered']} delivered"
        + (f"; last error: {queue['last_error']}" if queue["last_error"] else ""),
    }
    show_facts(out, facts)
    if state["alerts"]:
        out.print()
        out.print(
            table("Alerts", ("rule", "scope", "state", "signal", "since"), [_alert_row(a) for a in state["alerts"]])
        )
    for each in state["silences"]:
        where = "every route" if each["route"] is None else plain(each["route"])
        out.print(f"silenced until {moment(each['until'])}: {each['rule']} of {where}", markup=False)
    if state["normal"]:
        out.print()
        show_normal(out, state["normal"])
    show_reach(out, state["reach"])
    show_policy(out, policy)


def _grader(grader: Mapping[str, Any]) -> str:
    why = f": {grader['why']}" if grader["why"] else ""
    spent = f"{usd(grader['spent_24h_usd'])} of {usd(grader['limit_24h_usd'])} spent in 24 h"
    last = f"last grade {moment(grader['last_grade_at'])}"
    return f"{grader['state']}{why}; {grader['waiting']:,} samples wait, {last}, {spent}"


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
    return (alert["rule"], alert["scope"], alert["state"], _signal(alert["signal"]), moment(alert["since"] or None))


def _signal(signal: Mapping[str, Any]) -> str:
    if signal.get("why"):
        return str(signal["why"])
    if not signal.get("n") or "rate" not in signal:
        return "no data"
    return f"{percent(signal['rate'])} ({bounds((signal['low'], signal['high']))}, n {signal['n']})"


def _why(scope: Mapping[str, Any]) -> str:
    if scope["pin"] is not None:
        return "pinned by a person"
    return f"raised by {', '.join(scope['causes'])}" if scope["causes"] else "base"
