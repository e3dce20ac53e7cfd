"""The commands `incidents` and `incidents show`."""

import time
from typing import Annotated, Final

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.common import Json, app
from cheapdeep_ops.cli.groups import LOOK, example

_MOST: Final = 1_000

incidents_app = typer.Typer(
    help="List the incidents, open ones first; `show N` prints one from start to end.",
    invoke_without_command=True,
    epilog=example("incidents --limit 20"),
)
app.add_typer(incidents_app, name="incidents", rich_help_panel=LOOK)


@incidents_app.callback()
def incidents(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="How many, the newest ones.")] = 50,
    json: Json = False,
) -> None:
    """List the incidents, open ones first; `show N` prints one from start to end."""
    if context.invoked_subcommand is not None:
        return
    found = guard_client.read("incidents", limit=limit)
    if json:
        output.print_json(found)
        return
    from cheapdeep_ops.cli.render.incidents import show_incidents

    show_incidents(output.console(), found, time.time())


@incidents_app.command("show", epilog=example("incidents show 3"))
def incidents_show(
    incident_id: Annotated[int, typer.Argument(metavar="N", min=1, help="The incident's number, as messages show it.")],
    json: Json = False,
) -> None:
    """Print one incident: figures, cause, what was done, and its history."""
    found = guard_client.read("incidents/{incident_id}", incident_id=incident_id)
    if json:
        output.print_json(found)
        return
    from cheapdeep_ops.cli.render.incidents import show_incident

    show_incident(output.console(), found, time.time())
