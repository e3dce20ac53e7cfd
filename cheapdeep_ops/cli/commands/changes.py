"""Commands that change something: thresholds, what is normal, stored content, the schema; and `alert test`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.commands.reports import show_normal, show_policy
from cheapdeep_ops.cli.commands.sending import arrival_words, attempts_json, deliver_to, fail_unless_delivered
from cheapdeep_ops.cli.common import (
    Json,
    OptionalWhyOption,
    RouteOption,
    WhyOption,
    alert_app,
    app,
    dashboards_app,
    filled_option,
    limited_seconds_in,
    normal_app,
    opened,
    seconds_in,
    threshold_app,
)
from cheapdeep_ops.cli.groups import MANAGE, example
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES


@threshold_app.command("set", epilog=example('threshold set 0.85 --route support --for 4h --why "refunds"'))
def threshold_set(  # noqa: PLR0917 - typer passes options by name
    value: Annotated[float, typer.Argument(min=0, max=1, help="The confidence from which an answer ships.")],
    why: WhyOption,
    route: RouteOption = ALL_ROUTES,
    new_route: Annotated[bool, typer.Option("--new-route", help="The route is new, and no misspelt one.")] = False,
    lasts: Annotated[
        str | None, typer.Option("--for", help="The duration, such as 30m, 4h or 7d; without it, until its release.")
    ] = None,
    json: Json = False,
) -> None:
    """Pin a threshold. While it is pinned, the rules only report."""
    from cheapdeep_ops.guard.actions.thresholds import LONGEST_PIN_S, pin

    lasting = {} if lasts is None else {"for_s": limited_seconds_in(lasts, "--for", longest_s=LONGEST_PIN_S)}
    policy = guard_client.act(pin, threshold=value, route=route, new_route=new_route, **lasting, why=why)
    show_policy(policy, as_json=json)
    if policy.get("note") and not json:
        output.console().print(f"note: {policy['note']}", markup=False)


@threshold_app.command("release", epilog=example("threshold release --route support"))
def threshold_release(
    route: RouteOption = ALL_ROUTES,
    why: OptionalWhyOption = None,
    json: Json = False,
) -> None:
    """Remove the pin of a route or of all routes. The rules decide again."""
    from cheapdeep_ops.guard.actions.thresholds import release

    show_policy(guard_client.act(release, route=route, why=why or ""), as_json=json)


@normal_app.command("relearn", epilog=example('normal relearn --route support --why "new product line"'))
def normal_relearn(
    route: Annotated[str, typer.Option("--route", callback=filled_option, help="The route.")],
    why: WhyOption,
    json: Json = False,
) -> None:
    """Learn again what is normal for a route. Only calls that begin from now on count."""
    from cheapdeep_ops.guard.actions.baselines import relearn

    show_normal(guard_client.act(relearn, route=route, why=why), as_json=json)


@normal_app.command("accept", epilog=example('normal accept --why "labels agree"'))
def normal_accept(why: WhyOption, json: Json = False) -> None:
    """Accept the grader as it is, after JudgeDrifted. How often it contradicts people is learned anew."""
    from cheapdeep_ops.guard.actions.baselines import accept_grader

    accepted = guard_client.act(accept_grader, why=why)
    if json:
        output.print_json(accepted)
    else:
        output.console().print(f"{accepted['model']} is accepted as it is", markup=False)


@app.command(rich_help_panel=MANAGE, epilog=example("purge --older-than 24h"))
def purge(
    call: Annotated[str | None, typer.Option(callback=filled_option, help="One call, by its id.")] = None,
    older_than: Annotated[str | None, typer.Option(help="All calls older than this, such as 90m, 24h or 7d.")] = None,
    json: Json = False,
) -> None:
    """Delete stored text by call or by age. Counts and grades stay."""
    from cheapdeep_ops.store import anchors

    if (call is None) == (older_than is None):
        raise typer.BadParameter("needs either --call ID or --older-than AGE", param_hint="--call")
    before = None if older_than is None else time.time() - seconds_in(older_than, "--older-than")
    with opened(Settings()) as store:
        if before is not None:
            purged = anchors.purge(store, before=before)
        else:
            purged = store.transact(lambda connection: anchors.purge_call(connection, call or ""))
    if json:
        output.print_json({"purged": purged})
    else:
        output.console().print(f"deleted the text of {purged} call{'' if purged == 1 else 's'}", markup=False)


@app.command(rich_help_panel=MANAGE, epilog=example("migrate"))
def migrate(json: Json = False) -> None:
    """Bring the store's schema up to date."""
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.schema import migrate as migrate_store

    # Not `opened`, which refuses a store that is missing or has an old schema.
    store = Store(Settings().store_url)
    try:
        revision = migrate_store(store)
    finally:
        store.close()
    if json:
        output.print_json({"store": store.shown_url, "revision": revision})
    else:
        output.console().print(f"{store.shown_url} is at {revision}", markup=False)


@alert_app.command("test", epilog=example("alert test"))
def alert_test(json: Json = False) -> None:
    """Send a test alert to every configured receiver."""
    from cheapdeep_ops.guard.notify.receivers import receivers_of
    from cheapdeep_ops.guard.rules.book import read_rulebook

    settings = Settings()
    receivers = receivers_of(read_rulebook(settings.rules_file).receivers)
    attempts = deliver_to(settings, {"kind": "test", "rule": "Test", "signal": {}}, receivers)
    if json:
        output.print_json(attempts_json(attempts))
    else:
        for line in arrival_words(attempts):
            output.console().print(line, markup=False)
    # After the output, so that it also shows which receivers got the message.
    fail_unless_delivered(attempts)


@dashboards_app.command("export", epilog=example("dashboards export boards"))
def dashboards_export(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="The folder; created if needed.")],
) -> None:
    """Copy the Grafana dashboards into a folder."""
    from shutil import copy2

    from cheapdeep_ops.resources import packaged

    directory.mkdir(parents=True, exist_ok=True)
    for board in sorted(packaged("dashboards").glob("*.json")):
        copy2(board, directory)
        output.console().print(str(directory / board.name), markup=False)
