"""Commands on the routes and input classes that count by name."""

from typing import TYPE_CHECKING, Annotated

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.common import Json, app, filled_option
from cheapdeep_ops.cli.groups import MANAGE, example

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.route_labels import Routes

routes_app = typer.Typer(help="List the routes that count by name, admit one, or forget one.", no_args_is_help=True)
app.add_typer(routes_app, name="routes", rich_help_panel=MANAGE)

RouteArgument = Annotated[str, typer.Argument(callback=filled_option, help="The route.")]
ClassOption = Annotated[str | None, typer.Option(callback=filled_option, help="One input class of the route.")]


@routes_app.command("list", epilog=example("routes list"))
def routes_list(json: Json = False) -> None:
    """Print the routes that count by name, and examples of those that count as `other`."""
    _show(guard_client.read("routes"), as_json=json)


@routes_app.command("admit", epilog=example("routes admit returns --input-class refund"))
def routes_admit(route: RouteArgument, input_class: ClassOption = None, json: Json = False) -> None:
    """Count a route or an input class by name from now on, if there is room."""
    from cheapdeep_ops.guard.actions.route_labels import admit

    _show(guard_client.act(admit, route=route, input_class=input_class or ""), as_json=json)


@routes_app.command("forget", epilog=example("routes forget returns"))
def routes_forget(route: RouteArgument, input_class: ClassOption = None, json: Json = False) -> None:
    """Free the place of a route or an input class. Its counts stay, and a call asks for a place again."""
    from cheapdeep_ops.guard.actions.route_labels import forget

    _show(guard_client.act(forget, route=route, input_class=input_class or ""), as_json=json)


def _show(routes: "Routes", *, as_json: bool) -> None:
    from cheapdeep_ops.cli.render import terminal

    if as_json:
        output.print_json(routes)
    else:
        terminal.show_routes(output.console(), routes)
