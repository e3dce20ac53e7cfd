"""What all commands share: the applications, their common options, and the store that they open."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.errors import SettingsError, StoreError
from cheapdeep_ops.settings import Settings, filled_text
from cheapdeep_ops.units import DAY_S

if TYPE_CHECKING:
    from cheapdeep_ops.store.engine import Store

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    help="Cheap-then-deep routing for Claude: watch it, tell Slack, raise the threshold, let go again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
threshold_app = typer.Typer(help="Show the thresholds, pin one, or let the rules decide again.", no_args_is_help=True)
normal_app = typer.Typer(
    help="What false confidence is normal for a route: show it, or have it learned anew.", no_args_is_help=True
)
alert_app = typer.Typer(help="Alerts.", no_args_is_help=True)
dashboards_app = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)
app.add_typer(threshold_app, name="threshold")
app.add_typer(normal_app, name="normal")
app.add_typer(alert_app, name="alert")
app.add_typer(dashboards_app, name="dashboards")


def text_given(value: str | None) -> str | None:
    """What was given, where it was given. Raises BadParameter where it is blank or no text."""
    try:
        return None if value is None else filled_text(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RouteOption = Annotated[str, typer.Option("--route", callback=text_given, help="One route; without it, all routes.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        output.console().print(version("cheapdeep_ops"))
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Cheap-then-deep routing for Claude: watch it, tell Slack, raise the threshold, let go again."""


def fail(error: Exception, status: int) -> int:
    """Tell an error in one line; returns `status`."""
    sys.stderr.write(f"error: {' '.join(str(error).splitlines()) or type(error).__name__}\n")
    return status


@contextmanager
def opened(settings: Settings) -> Iterator["Store"]:
    """The store that the settings name.

    Raises StoreError where there is none yet, SchemaError where its schema does not fit, SettingsError where they name
    a guard elsewhere: it has another store than the one that they would come to.
    """
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.schema import require_schema

    if settings.guard_url is not None:
        raise SettingsError(
            "this command works on the store itself: unset CHEAPDEEP_GUARD_URL, and name the store in "
            "CHEAPDEEP_STORE_URL"
        )
    store = Store(settings.store_url)
    try:
        if not store.exists:
            raise StoreError(
                f"there is no store at {store.shown_url} yet; a router or cheapdeep-ops serve makes it "
                "(CHEAPDEEP_STORE_URL says where)"
            )
        require_schema(store)
        yield store
    finally:
        store.close()


def author() -> str:
    """Who gives the order; in a container that is often a number without a name."""
    try:
        return filled_text(getuser())
    except (KeyError, OSError, ValueError):
        return f"uid:{os.getuid()}"


def seconds_in(period: str, option: str = "--last") -> float:
    """A period such as 24h in seconds. Raises BadParameter."""
    from cheapdeep_ops.guard.reports.receipt import LONGEST_S
    from cheapdeep_ops.guard.rules.model import seconds

    try:
        found = float(str(seconds(period)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if found > LONGEST_S:
        raise typer.BadParameter(f"needs at most {LONGEST_S / DAY_S:g}d", param_hint=option)
    return found


def conditions_in(where: Sequence[str]) -> dict[str, str]:
    """Columns and their values from texts like `domain=boolq`. Raises BadParameter."""
    found = [each.partition("=") for each in where]
    if wrong := [name for name, sign, _ in found if not name or not sign]:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form COLUMN=VALUE", param_hint="--where")
    if len({name for name, _, _ in found}) < len(found):
        raise typer.BadParameter("a column may be named once only", param_hint="--where")
    return {name: value for name, _, value in found}
