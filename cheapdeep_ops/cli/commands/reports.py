"""Commands that only look: the receipt, the status, policies, what is normal, and what to mend."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import FAILED, Json, app, normal_app, opened, seconds_in, threshold_app
from cheapdeep_ops.cli.guards.protocol import connected
from cheapdeep_ops.cli.render import terminal
from cheapdeep_ops.cli.sending import arrival_words, delivered
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.figures import Receipt
    from cheapdeep_ops.guard.report_types.state import Normal, Policy
    from cheapdeep_ops.guard.report_types.steps import Trends


@app.command()
def report(
    json: Json = False,
    last: Annotated[str, typer.Option(help="The period up to now, such as 90m, 24h or 30d.")] = "24h",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a ticket or a wiki.")] = False,
    slack: Annotated[bool, typer.Option("--slack", help="Send it to Slack, as the guard does each week.")] = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write one page of HTML, with plots.")] = None,
) -> None:
    """Print the receipt over a period: cost per call, saving, escalation, false confidence, grading."""
    if sum((json, markdown, slack, html is not None)) > 1:
        raise typer.BadParameter("is one of --json, --markdown, --slack and --html", param_hint="--json")
    settings, period_s = Settings(), seconds_in(last)
    if not period_s:
        raise typer.BadParameter("needs a period of some length", param_hint="--last")
    if slack:
        return _send(settings, period_s)
    with connected(settings) as guard:
        receipt = guard.report(period_s)
        if markdown or html:
            return _write(receipt, guard.trends(since=receipt["since"], until=receipt["until"]), html)
    if json:
        return output.print_json(receipt)
    return terminal.show_receipt(output.console(), receipt)


def _send(settings: Settings, period_s: float) -> None:

    from cheapdeep_ops.guard.reports.weekly import message_of

    now = time.time()
    with opened(settings) as store:
        payload = message_of(store, settings, since=now - period_s, until=now)
    output.console().print(arrival_words(delivered(settings, payload)), markup=False)


def _write(receipt: "Receipt", trends: "Trends", html: Path | None) -> None:
    """The receipt as a page in a file, or as Markdown on standard output."""
    from cheapdeep_ops.cli.render.receipt_page import html_receipt, markdown_receipt

    if html is None:
        output.console().print(markdown_receipt(receipt, trends), markup=False, end="")
    else:
        html.write_text(html_receipt(receipt, trends), encoding="utf-8")
        output.console().print(f"written to {html}", markup=False)


@app.command()
def status(json: Json = False) -> None:
    """Print policy, alerts, signals, what is normal, grader, queue and watchers."""
    with connected(Settings()) as guard:
        state = guard.status()
    if json:
        output.print_json(state)
    else:
        terminal.show_status(output.console(), state)


@app.command()
def doctor(json: Json = False) -> None:
    """Check keys, store, grader, Slack, OTLP endpoint, clock and rules; say what to mend."""
    from cheapdeep_ops.cli.commands.doctor import examine

    findings = examine(Settings())
    if json:
        output.print_json({"ok": all(each.ok for each in findings), "checks": [each.as_dict() for each in findings]})
    else:
        for each in findings:
            style = "green" if each.ok else "bold red"
            output.console().print(f"{each.mark}  {each.name}: {each.found}", style=style, markup=False)
    raise typer.Exit(0 if all(each.ok for each in findings) else FAILED)


@threshold_app.command("show")
def threshold_show(json: Json = False) -> None:
    """Print the thresholds in force, and why."""
    with connected(Settings()) as guard:
        policy = guard.policy()
    show_policy(policy, as_json=json)


@normal_app.command("show")
def normal_show(json: Json = False) -> None:
    """Print what false confidence is normal for each route."""
    with connected(Settings()) as guard:
        normals = guard.normal()
    show_normal(normals, as_json=json)


def show_policy(policy: "Policy", *, as_json: bool) -> None:
    """Print policies."""
    if as_json:
        output.print_json(policy)
        return
    out = output.console()
    out.print(f"threshold {terminal.in_force(policy)}", markup=False)
    terminal.show_policy(out, policy)


def show_normal(normals: Mapping[str, "Normal"], *, as_json: bool) -> None:
    """Print what is normal."""
    if as_json:
        output.print_json(normals)
    else:
        terminal.show_normal(output.console(), normals)
