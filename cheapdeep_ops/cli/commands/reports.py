"""Commands that only read: the receipt, the status, the policy, what is normal, the checks of `doctor`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.commands.sending import arrival_words, deliver_to, fail_unless_delivered
from cheapdeep_ops.cli.common import FAILED, Json, app, normal_app, opened, seconds_in, threshold_app
from cheapdeep_ops.cli.groups import LOOK, example
from cheapdeep_ops.cli.render import terminal
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.figures import Receipt
    from cheapdeep_ops.guard.report_types.state import Normal, Policy
    from cheapdeep_ops.guard.report_types.steps import Trends
    from cheapdeep_ops.guard.report_types.why import Why


@app.command(rich_help_panel=LOOK, epilog=example("report --last 7d --html week.html"))
def report(
    json: Json = False,
    last: Annotated[str, typer.Option(help="The period up to now, such as 90m, 24h or 30d.")] = "24h",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    slack: Annotated[bool, typer.Option("--slack", help="Send the receipt to Slack.")] = False,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write an HTML page with plots to this file.")
    ] = None,
) -> None:
    """Print the receipt of a period: the saving, five figures with their change, incidents, then all figures."""
    if sum((json, markdown, slack, html is not None)) > 1:
        raise typer.BadParameter("cannot be combined with --markdown, --slack or --html", param_hint="--json")
    settings, period_s = Settings(), seconds_in(last)
    if not period_s:
        raise typer.BadParameter("needs a period longer than 0", param_hint="--last")
    if slack:
        return _send(settings, period_s)
    with guard_client.connected(settings) as guard:
        receipt = guard.read("report", last_s=period_s)
        trends = guard.read("report/trends", since=receipt["since"], until=receipt["until"])
    if markdown or html:
        return _write(receipt, trends, html)
    if json:
        return output.print_json({**receipt, "trends": trends})
    return terminal.show_receipt(output.console(), receipt, trends)


def _send(settings: Settings, period_s: float) -> None:
    from cheapdeep_ops.guard.notify import slack
    from cheapdeep_ops.guard.reports.weekly import message_of

    # From the store itself, because the API has no payload of messages.
    now = time.time()
    with opened(settings) as store:
        payload = message_of(store, settings, since=now - period_s, until=now)
    attempts = deliver_to(settings, payload, [slack.RECEIVER])
    fail_unless_delivered(attempts)
    for line in arrival_words(attempts):
        output.console().print(line, markup=False)


def _write(receipt: "Receipt", trends: "Trends", html: Path | None) -> None:
    """Write the receipt to the file `html`, or print it as Markdown if that is None."""
    from cheapdeep_ops.cli.render.receipt_page import html_receipt, markdown_receipt

    if html is None:
        output.console().print(markdown_receipt(receipt, trends), markup=False, end="")
    else:
        html.write_text(html_receipt(receipt, trends), encoding="utf-8")
        output.console().print(f"written to {html}", markup=False)


@app.command(rich_help_panel=LOOK, epilog=example("status --why support"))
def status(
    json: Json = False,
    why: Annotated[
        str | None, typer.Option("--why", metavar="ROUTE", help="What each rule waits for in this route; * for all.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every alert, route, silence and policy.")] = False,
) -> None:
    """Print the state of the guard on one screen: alerts first, then threshold, guard, grader, messages, routes."""
    if why is not None:
        _show_why(guard_client.read("why", route=why), as_json=json)
        return
    state = guard_client.read("status")
    if json:
        output.print_json(state)
        return
    from cheapdeep_ops.cli.render.status import show_status, show_whole_status

    show = show_whole_status if everything else show_status
    show(output.console(), state)


def _show_why(why: "Why", *, as_json: bool) -> None:
    if as_json:
        output.print_json(why)
        return
    from cheapdeep_ops.cli.render.why import show_why

    show_why(output.console(), why)


@app.command(rich_help_panel=LOOK, epilog=example("doctor --ask-grader"))
def doctor(
    json: Json = False,
    ask_grader: Annotated[
        bool, typer.Option("--ask-grader", help="Have the grader grade one answer; costs a fraction of a cent.")
    ] = False,
) -> None:
    """Check the setup and print what to repair. It covers key, store, grader, receivers, OTLP and clock."""
    from cheapdeep_ops.cli.commands.doctor import examine

    checks = examine(Settings(), asks_grader=ask_grader)
    if json:
        output.print_json({"ok": all(each.ok for each in checks), "checks": [each.as_dict() for each in checks]})
    else:
        for each in checks:
            style = "green" if each.ok else "bold red"
            output.console().print(f"{each.mark}  {each.name}: {each.found}", style=style, markup=False)
    raise typer.Exit(0 if all(each.ok for each in checks) else FAILED)


@threshold_app.command("show", epilog=example("threshold show"))
def threshold_show(json: Json = False) -> None:
    """Print the thresholds in force and their causes."""
    show_policy(guard_client.read("policy"), as_json=json)


@normal_app.command("show", epilog=example("normal show"))
def normal_show(json: Json = False) -> None:
    """Print the normal false confidence of each route."""
    show_normal(guard_client.read("normal"), as_json=json)


def show_policy(policy: "Policy", *, as_json: bool) -> None:
    """Print the policy."""
    if as_json:
        output.print_json(policy)
        return
    out = output.console()
    out.print(f"threshold {terminal.in_force(policy)}", markup=False)
    terminal.show_policy(out, policy)


def show_normal(normals: Mapping[str, "Normal"], *, as_json: bool) -> None:
    """Print the normal false confidence of each route."""
    if as_json:
        output.print_json(normals)
    else:
        terminal.show_normal(output.console(), normals)
