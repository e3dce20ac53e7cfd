"""Reports of a demonstration or a replay in words, for a terminal or a pipe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console

from cheapdeep_ops.cli.output import table
from cheapdeep_ops.cli.render.terminal import funnel_words, normal_words, price, show_checks, show_facts
from cheapdeep_ops.guard.formatting import (
    bounded,
    counts,
    coverage,
    duration,
    exact_money,
    money,
    percent,
    whole_dollars,
)
from cheapdeep_ops.guard.notify.receipt_text import false_confidence_words

if TYPE_CHECKING:  # the demonstration loads the simulators, which a report does not need
    from cheapdeep_ops.demo.report import DemoReport, MonthReport, PhaseReport, RunReport


_PLACEHOLDERS: Final = "placeholder lengths"
"""The words in a cost's basis if a file has no tokens; not imported, because that would load the simulators."""


def show_run(out: Console, run: "RunReport") -> None:
    """Print the receipt of a demonstration or a replay."""
    facts = {
        "calls": f"{run['calls']:,}, shipped {run['shipped']:,}",
        **_run_facts(run),
        "samples": funnel_words(run["funnel"]),
        "normal": "; ".join(f"{route}: {normal_words(normal)}" for route, normal in run["normal"].items())
        or "unknown: no answer was graded, so no climb could be detected",
        "answers right": percent(run["cascade_accuracy"]),
        **_costs(run),
    }
    show_facts(out, facts)
    _show_acts(out, run)


def _costs(run: "RunReport") -> dict[str, str]:
    """The cost and the saving; a saving from placeholders would say nothing about the file's calls."""
    cost = (
        f"{price(run['cost_usd'])}, {exact_money(run['cost_per_call_usd'])} a call"
        f"{coverage(run['unpriced_calls'], run['calls'])}; all-deep "
        f"{price(run['baseline_cost_usd'])} (estimate); grading costs {price(run['grader_cost_usd'])} more"
    )
    if is_known(run["cost_basis"]):
        return {"cost": f"{cost}; by {run['cost_basis']}", "saving": percent(run["saving"])}
    return {
        "cost": f"unknown; in the replay {cost}; by {run['cost_basis']}",
        "saving": "unknown: it depends on the length of questions and answers",
    }


def is_known(cost_basis: str) -> bool:
    """Whether costs rest on tokens of questions and answers, and not on placeholders for them."""
    return _PLACEHOLDERS not in cost_basis


def _run_facts(run: "RunReport") -> dict[str, str]:
    # Only a demonstration or a recording knows which answers are wrong in truth.
    return {
        "escalation": f"{percent(run['escalation_rate'])} (n {run['calls']:,}; {counts(run['reasons'])})",
        "false-confident rate": false_confidence_words(run),
        "in truth": f"{percent(run['true_false_confident_rate'])} of shipped answers are wrong",
    }


def _show_acts(out: Console, run: "RunReport") -> None:
    """Print the policy changes and alerts, with the number of the call at which they happened."""
    for change in run["policy_changes"]:
        would = "" if change["applied"] else "would have been: "
        moved = f"{change['from']:g} -> {change['to']:g}"
        out.print(f"call {change['at_call']}: {would}{change['act']} {moved} ({change['cause']})", markup=False)
    for alert in run["alerts"]:
        out.print(f"call {alert['at_call']}: {alert['rule']} {alert['state']}", markup=False)


def show_demo(out: Console, demo: "DemoReport") -> None:
    """Print the receipt of a demonstration: its phases, its checks, and the saving of a month."""
    columns = ("phase", "lasted", "calls", "escalated", "a call", "saved")
    out.print(table("Phases", columns, [_phase_row(phase) for phase in demo["phases"]]))
    out.print()
    facts = {"answers right": percent(demo["cascade_accuracy"]), "grading": _sampled_words(demo)}
    show_facts(out, {**_run_facts(demo), **facts})
    _show_acts(out, demo)
    show_checks(out, demo["checks"])
    out.print()
    _show_month(out, demo["month"])


def _phase_row(phase: "PhaseReport") -> Sequence[str]:
    return (
        phase["name"],
        duration(phase["virtual_seconds"]),
        f"{phase['calls']:,}",
        percent(phase["escalation_rate"]),
        money(phase["cost_per_call_usd"]),
        percent(phase["saving"]),
    )


def _sampled_words(demo: "DemoReport") -> str:
    """The number of graded answers and their cost, and the cost at the default sample rate."""
    spent, share, usual = demo["grader_cost_usd"], demo["sample_rate"], demo["month"].get("sample_rate", 0.0)
    return (
        f"{demo['funnel']['graded']:,} answers, {share:.0%} of the confident ones, for {money(spent)}; {usual:.0%}, "
        f"the default, would cost {money(spent * usual / share)}"
    )


def _show_month(out: Console, month: "MonthReport") -> None:
    """Print the cost and the saving of a million calls a month."""
    if "saving" not in month:
        return
    out.print(
        f"A million calls a month like those of the calm phase (n {month['n']:,}; storm and drift are left out)",
        style="bold",
        markup=False,
    )
    low, high = map(whole_dollars, month["saving_usd_interval"])
    grading = month["grading_usd"]
    facts = {
        "all-deep": f"{whole_dollars(month['baseline_cost_usd'])} (estimate)",
        "routed": f"{whole_dollars(month['cost_usd'])}, {money(month['cost_per_call_usd'])} a call",
        "grading": "unknown: no answer was graded"
        if grading is None
        else f"{whole_dollars(grading)} for {month['sample_rate']:.0%} of the confident answers, not in the cost",
        "saving": f"{whole_dollars(month['saving_usd'])} a month ({low} to {high}), "
        f"{bounded(month['saving'], month['saving_interval'])}",
    }
    show_facts(out, facts)
