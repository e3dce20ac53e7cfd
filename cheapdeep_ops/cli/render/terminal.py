"""Reports as text, for a terminal or a pipe."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cheapdeep_ops.cli.output import table
from cheapdeep_ops.cli.render.courses import courses_of
from cheapdeep_ops.cli.render.reliability import show_confidence
from cheapdeep_ops.guard.formatting import (
    bounds,
    counts,
    coverage,
    duration,
    exact_money,
    percent,
    plain,
    rate,
    timestamp,
)
from cheapdeep_ops.guard.notify.receipt_figures import (
    basis_lines,
    compared_with,
    incident_lines,
    incidents_title,
    key_figures,
    saving_line,
)
from cheapdeep_ops.guard.notify.receipt_text import all_deep_words, cold_cache_words, false_confidence_words
from cheapdeep_ops.guard.report_types.figures import (
    CacheShares,
    Funnel,
    Receipt,
    Sampling,
    Shadow,
    Spent,
    TierFalseConfidence,
    TriageFigures,
)
from cheapdeep_ops.guard.report_types.route_labels import Routes
from cheapdeep_ops.guard.report_types.state import (
    Normal,
    Policy,
    Reach,
)
from cheapdeep_ops.guard.report_types.steps import Trends
from cheapdeep_ops.guard.state_text import NORMAL_TITLES, normal_rows, outcomes_words, threshold_cause
from cheapdeep_ops.units import WEEK_S
from cheapdeep_ops.values import Decision

_MOST_INCIDENTS: Final = 5
"""How many incidents a receipt lists in a terminal."""

_TONES: Final = {"better": "green", "worse": "red", "": ""}


def show_decision(out: Console, text: str, decision: Decision) -> None:
    """Print an answer and its decision."""
    out.print(text, markup=False)
    out.print()
    facts = {
        "answered by": decision.model,
        "escalated": f"yes: {decision.reason}" if decision.escalated else "no",
        "confidence": _stated(decision.confidence),
        "threshold": f"{decision.threshold:g} (policy version {decision.policy_version})",
        **_tiers(decision),
        "cost": f"{price(decision.cost_usd)} (all-deep {price(decision.baseline_cost_usd)}, {decision.baseline_basis})",
        "call": decision.call_id,
    }
    show_facts(out, facts)


def _stated(confidence: float | None) -> str:
    return "none" if confidence is None else f"{confidence:g}"


def _tiers(decision: Decision) -> dict[str, str]:
    """The confidence, outcome and cost of each triage tier, if there were several."""
    triage = [hop for hop in decision.hops if hop.outcome is not None]
    verdicts = [f"{hop.tier.model} {_stated(hop.confidence)}, {hop.outcome}, {price(hop.cost_usd)}" for hop in triage]
    return {"tiers": "; ".join(verdicts)} if len(triage) > 1 else {}


def show_facts(out: Console, facts: Mapping[str, str]) -> None:
    """Print names and values in two columns; a terminal wraps a long value inside its column."""
    if out.is_terminal:
        rows = Table.grid(padding=(0, 2))
        rows.add_column(no_wrap=True)
        rows.add_column(overflow="fold")
        for name, value in facts.items():
            rows.add_row(Text(name), Text(value))
        out.print(rows)
        return
    # A pipe gets one line for each value, which a program can read.
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        out.print(f"{name.ljust(width)}  {value}", markup=False)


def price(amount: float | None) -> str:
    """An amount in US dollars, or that it has no price."""
    return exact_money(amount, "unpriced")


def show_receipt(out: Console, receipt: Receipt, trends: Trends) -> None:
    """Print the receipt of a period: the saving, five figures, incidents, and then all figures."""
    out.print(saving_line(receipt), style="bold", markup=False)
    compared = f", compared with {compared_with(receipt)}" if receipt["before"] else ""
    out.print(f"{timestamp(receipt['since'])} to {timestamp(receipt['until'])}{compared}", markup=False)
    if receipt["calls"]:
        out.print()
        _show_key_figures(out, receipt, courses_of(trends) if out.encoding.startswith("utf") else {})
        out.print()
        out.print(incidents_title(receipt), markup=False)
    for line in incident_lines(receipt, _MOST_INCIDENTS):
        out.print(f"  {line}", markup=False)
    for line in basis_lines(receipt):
        out.print()
        out.print(line, markup=False)
    out.print()
    out.print("All figures", style="bold")
    show_facts(out, receipt_facts(receipt))
    show_confidence(out, receipt["confidence"])
    show_reach(out, receipt["reach"])


def _show_key_figures(out: Console, receipt: Receipt, courses: Mapping[str, str]) -> None:
    rows = Table.grid(padding=(0, 2))
    for each in key_figures(receipt):
        before = f"before {each.before}" if each.before else ""
        cells = (each.name, each.value, each.change, before, courses.get(each.name, ""), each.beside)
        styles = ("", "bold", _TONES[each.tone], "", "cyan", "dim")
        rows.add_row(*(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)))
    out.print(rows)


def receipt_facts(receipt: Receipt) -> dict[str, str]:
    """The receipt's figures by name, the most important first."""
    triage, deep = receipt["tiers"][:-1], receipt["tiers"][-1]
    unpriced = " (neither in cost nor in all-deep)" if receipt["unpriced_calls"] else ""
    over = coverage(receipt["unpriced_calls"], receipt["calls"])
    return {
        "triage model": " -> ".join(triage) or "none",
        "escalation model": deep,
        "triage": _triage(receipt),
        "blended": f"{price(receipt['cost_per_call_usd'])} a call, {price(receipt['cost_usd'])} in all{over}",
        "all-deep": f"{price(receipt['baseline_per_call_usd'])} a call, {price(receipt['baseline_cost_usd'])} in all"
        f"{over} ({receipt['baseline_basis']})",
        **({"all-deep by length": all_deep_words(receipt["all_deep"])} if receipt["all_deep"] else {}),
        "cold caches": cold_cache_words(receipt),
        "saving": f"{percent(receipt['saving'])}; {percent(receipt['saving_after_grading'])} with grading paid for"
        f"{',' if over else ''}{over}",
        "prompt caches": _caches(receipt),
        **({"in shadow": _shadow(receipt["shadow"])} if receipt["shadow"] else {}),
        "calls": f"{receipt['calls']:,} ({counts(receipt['models'])}); {receipt['shipped']:,} shipped, "
        f"{receipt['bypassed']:,} bypassed triage",
        "escalation": f"{percent(receipt['escalation_rate'])} actual ({bounds(receipt['escalation_interval'])}, "
        f"n {receipt['triaged']:,}), {percent(receipt['base_escalation_rate'])} at the base threshold "
        f"({bounds(receipt['base_escalation_interval'])})",
        "reasons": counts(receipt["reasons"]),
        "false-confident rate": false_confidence_words(receipt, receipt),
        "user outcomes": outcomes_words(receipt["outcomes"]),
        **({"false-confident by tier": _by_tier(receipt["false_confidence_by_tier"])} if len(triage) > 1 else {}),
        "samples": funnel_words(receipt["funnel"]),
        "sampling": _sampling(receipt["sampling"]),
        "added latency": _latency(receipt),
        "grading": _grading(receipt),
        "errors": _errors(receipt),
        "failed triage": counts(receipt["triage_errors"]),
        "malformed": counts(receipt["malformed_causes"]),
        "unpriced": f"{receipt['unpriced_calls']:,} calls{unpriced}",
        "policy changes": str(receipt["policy_changes"]),
    }


def _by_tier(rates: Sequence[TierFalseConfidence]) -> str:
    """The false-confident rate of the answers that each tier shipped."""
    return "; ".join(
        f"{each['model'] or 'tier ' + str(each['tier'])} "
        f"{rate(each['false_confident_rate'], each['false_confident_interval'], each['graded'])}"
        for each in rates
    )


def _triage(triage: TriageFigures) -> str:
    tokens_in, tokens_out = triage["triage_input_tokens_per_call"], triage["triage_output_tokens_per_call"]
    if tokens_in is None or tokens_out is None:
        return "unknown: no call was triaged"
    return f"{tokens_in:.0f} in + {tokens_out:.0f} out tokens, {exact_money(triage['triage_cost_per_call_usd'])} a call"


def _caches(caches: CacheShares) -> str:
    """The share of input tokens that each tier read from its prompt cache."""
    parts = (
        ("triage", caches["triage_cache_read_share"], caches["triage_replies"]),
        ("the deep tier", caches["deep_cache_read_share"], caches["deep_replies"]),
    )
    return ", ".join(f"{name} read {percent(share)} of its input tokens (n {n:,})" for name, share, n in parts)


def _shadow(shadow: Shadow) -> str:
    """The estimated saving of routing on the calls of shadow mode."""
    routed, alone = exact_money(shadow["cost_per_call_usd"]), exact_money(shadow["baseline_per_call_usd"])
    return (
        f"routing would have saved {percent(shadow['saving'])} of the deep tier's cost on {shadow['calls']:,} "
        f"calls: {routed} a call instead of {alone}{coverage(shadow['unpriced_calls'], shadow['calls'])}, "
        "without the cost of grading"
    )


def _errors(receipt: Receipt) -> str:
    causes = {
        "were refused as invalid by the deep tier after triage": receipt["replays_rejected"],
        "were answered by a triage tier because the deep tier failed": receipt["fallbacks"],
        "were answered below the threshold because a budget was used up": receipt["budget_shipped"],
        "were refused because a budget was used up": receipt["budget_refused"],
    }
    parts = [f"; {count:,} {cause}" for cause, count in causes.items() if count]
    return f"{receipt['errors']:,} calls ended in an error{''.join(parts)}"


def funnel_words(funnel: Funnel) -> str:
    """The number of confident answers in each state of grading."""
    causes = f" (skipped: {counts(funnel['skipped_causes'])})" if funnel["skipped_causes"] else ""
    return (
        f"of {funnel['answers']:,} confident answers {funnel['graded']:,} graded, {funnel['waiting']:,} waiting, "
        f"{funnel['failed']:,} failed, {funnel['expired']:,} expired, {funnel['skipped']:,} skipped, "
        f"{funnel['not_sampled']:,} not sampled{causes}"
    )


def _sampling(sampling: Sampling) -> str:
    """The share of answers that was graded, by the cause of their choice."""
    if sampling["spent_share"] is None:
        return f"unknown: there was no confident answer; the budget is {percent(sampling['budget'])}"
    share = f"{percent(sampling['spent_share'])} of {sampling['answers']:,} confident answers"
    return (
        f"{share} (budget {percent(sampling['budget'])}): {_spent(sampling['evenly'])} chosen evenly, "
        f"{_spent(sampling['suspected'])} under suspicion, {_spent(sampling['hindsight'])} in hindsight"
    )


def _spent(spent: Spent) -> str:
    unpriced = f", {spent['unpriced']:,} unpriced" if spent["unpriced"] else ""
    return f"{spent['samples']:,} ({price(spent['cost_usd'])}{unpriced})"


def _latency(triage: TriageFigures) -> str:
    p50, p95 = triage["added_latency_p50_s"], triage["added_latency_p95_s"]
    if p50 is None or p95 is None:
        return "unknown: no call escalated"
    within = f"right within {percent(triage['added_latency_precision'])}"
    return f"p50 {duration(p50)}, p95 {duration(p95)} on {triage['added_latency_calls']:,} escalated calls ({within})"


def _grading(receipt: Receipt) -> str:
    grader, by_second = receipt["grader"], receipt["second_grader_cost_usd"]
    trouble = f"; {grader['state']}: {grader['why']}" if grader["why"] else ""
    unpriced = f" ({receipt['grader_unpriced']:,} unpriced)" if receipt["grader_unpriced"] else ""
    second = f" ({price(by_second)} of it for the second grader)" if by_second else ""
    cost = f"{price(receipt['grader_cost_usd'])} by {grader['model']}{second}{unpriced}"
    return f"{cost}, not included in the cost above{trouble}"


def show_normal(out: Console, normals: Mapping[str, Normal]) -> None:
    """Print the normal false confidence of each route."""
    shown = table("Normal false confidence", NORMAL_TITLES, normal_rows(normals))
    out.print(shown if normals else "no answer was graded yet")


def show_routes(out: Console, routes: Routes) -> None:
    """Print the routes that count by name, and examples of the names that do not."""
    titles = ("route", "classes", "admitted", "by", "last called")
    rows = [
        (
            each["route"],
            str(each["classes"]),
            timestamp(each["admitted_at"]),
            each["how"],
            timestamp(each["last_called"]),
        )
        for each in routes["routes"]
    ]
    out.print(
        table(f"Routes, {len(rows)} of {routes['max_routes']}", titles, rows) if rows else "no route was called yet"
    )
    if routes["folded"]:
        out.print(f"{routes['folded']:,} calls count as `other`: there was no room for their names", markup=False)
    for name, calls in routes["folded_names"].items():
        out.print(f"  {plain(name)} ({calls:,} calls)", markup=False)


def normal_words(normal: Normal) -> str:
    """The false-confident rate that is normal for a route, in words."""
    if normal["rate"] is None:
        return f"not learned from {normal['grades']} grades, so no climb could be detected"
    return rate(normal["rate"], (normal["low"], normal["high"]), normal["grades"])


def show_reach(out: Console, reach: Mapping[str, Reach]) -> None:
    """Print the mean time to detect a climb of false confidence, a line for each route."""
    if reach:
        out.print()
        out.print("Mean time to detect a climb of false confidence", style="bold")
    for line in reach_lines(reach):
        out.print(line, markup=False)


def reach_lines(by_route: Mapping[str, Reach]) -> list[str]:
    """The mean time to detect a climb of false confidence, a line for each route."""
    return [
        f"route {plain(route)}: at {reach['answers_per_day']:,.0f} confident answers a day, {_reach_words(reach)}"
        for route, reach in by_route.items()
    ]


def _reach_words(reach: Reach) -> str:
    if reach["why"]:
        return f"unknown: {reach['why']}"
    smallest = {"day": reach["smallest_in_day"], "week": reach["smallest_in_week"]}
    parts = [f"to {percent(least)} within a {name}" for name, least in smallest.items() if least is not None]
    return "; ".join([*_climb_words(reach), f"smallest climb: {', '.join(parts)}"])


def _climb_words(reach: Reach) -> Sequence[str]:
    """The smallest of the shown climbs that is detected within a week, else the largest of them."""
    known = [(climb["rate"], climb["seconds"]) for climb in reach["climbs"] if climb["seconds"] is not None]
    shown = [climb for climb in known if climb[1] <= WEEK_S][:1] or known[-1:]
    normal = f"a climb from {percent(reach['normal'])} (n {reach['n']:,})"
    return [f"{normal} to {percent(share)} is detected after about {duration(seconds)}" for share, seconds in shown]


def show_checks(out: Console, checks: Mapping[str, bool]) -> None:
    """Print each check and whether it passed."""
    for name, passed in checks.items():
        out.print(f"{'ok  ' if passed else 'FAIL'}  {name}", style="green" if passed else "bold red", markup=False)


def in_force(policy: Policy) -> str:
    """The threshold of all routes, and of each route with a different one."""
    others = [
        f"{name} {scope['threshold']:g}"
        for name, scope in policy["scopes"].items()
        if scope["threshold"] != policy["threshold"]
    ]
    everywhere = f"{policy['threshold']:g} (base {policy['base']:g}, raised {policy['raised']:g})"
    return "; ".join([everywhere, *others])


def show_policy(out: Console, policy: Policy) -> None:
    """Print the policy of each scope that ever changed."""
    rows = [
        (name, f"{scope['threshold']:g}", threshold_cause(scope) or "base", str(scope["version"]))
        for name, scope in policy["scopes"].items()
    ]
    if rows:
        out.print()
        out.print(table("Policy", ("scope", "threshold", "why", "version"), rows))
