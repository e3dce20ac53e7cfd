"""What all commands share: the Typer applications, the common options, and access to the store."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.groups import ACT, MANAGE, GroupedCommands
from cheapdeep_ops.errors import SettingsError, StoreError
from cheapdeep_ops.settings import Settings, filled_text
from cheapdeep_ops.units import DAY_S

if TYPE_CHECKING:
    from cheapdeep_ops.store.engine import Store

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    help="Ask a cheap Claude model first and escalate to a deep one; a guard grades answers and sends alerts.",
    cls=GroupedCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
threshold_app = typer.Typer(help="Show the thresholds, pin one, or release a pin.", no_args_is_help=True)
normal_app = typer.Typer(help="Show which false confidence is normal, or learn it again.", no_args_is_help=True)
alert_app = typer.Typer(help="Acknowledge incidents, silence rules, send a test alert.", no_args_is_help=True)
keys_app = typer.Typer(help="Make, list and revoke tokens of the HTTP API.", no_args_is_help=True)
dashboards_app = typer.Typer(help="Export the Grafana dashboards.", no_args_is_help=True)
app.add_typer(threshold_app, name="threshold", rich_help_panel=ACT)
app.add_typer(normal_app, name="normal", rich_help_panel=ACT)
app.add_typer(alert_app, name="alert", rich_help_panel=ACT)
app.add_typer(keys_app, name="keys", rich_help_panel=MANAGE)
app.add_typer(dashboards_app, name="dashboards", rich_help_panel=MANAGE)


def filled_option(value: str | None) -> str | None:
    """The text of an option; None if the option is absent. Raises BadParameter if the text is blank or not valid."""
    try:
        return None if value is None else filled_text(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_WHY = typer.Option("--why", callback=filled_option, help="The reason, for the history.")
WhyOption = Annotated[str, _WHY]
OptionalWhyOption = Annotated[str | None, _WHY]
RouteOption = Annotated[str, typer.Option("--route", callback=filled_option, help="One route; without it, all routes.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer passes the value by position
    if wanted:
        from importlib.metadata import version

        output.console().print(version("cheapdeep_ops"))
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of the program itself."""


def fail(error: Exception, status: int) -> int:
    """Print an error on one line of standard error; returns `status`."""
    line = " ".join(str(error).splitlines()) or type(error).__name__
    sys.stderr.write(f"error: {output.visible(line)}\n")
    return status


@contextmanager
def opened(settings: Settings) -> Iterator["Store"]:
    """The store that the settings name.

    Raises SettingsError if the settings name a guard over HTTP, StoreError if there is no store yet, SchemaError if its
    schema does not fit.
    """
    # Loaded here, because a command that asks a guard elsewhere needs no database driver.
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.schema import require_schema

    # A guard elsewhere has a store of its own, so this command would read or change the wrong one.
    if settings.asked_guard is not None:
        raise SettingsError(
            "this command works on the store itself: unset CHEAPDEEP_GUARD_URL, and name the store (sqlite:///path or "
            "postgresql://user@host/name) in CHEAPDEEP_STORE_URL"
        )
    store = Store(settings.store_url)
    try:
        if not store.exists:
            raise StoreError(
                f"there is no store at {store.shown_url} yet; a router or cheapdeep-ops serve creates it "
                "(CHEAPDEEP_STORE_URL says where)"
            )
        require_schema(store)
        yield store
    finally:
        store.close()


def author() -> str:
    """The name of the user of this process, or `uid:NUMBER`; changes are recorded with it."""
    # In a container the user is often a number without a name.
    try:
        return filled_text(getuser())
    except (KeyError, OSError, ValueError):
        return f"uid:{os.getuid()}"


def seconds_in(period: str, option: str = "--last") -> float:
    """A period such as `24h`, in seconds. Raises BadParameter if it is malformed or too long."""
    from cheapdeep_ops.guard.reports.receipt import LONGEST_S
    from cheapdeep_ops.guard.rules.model import seconds

    try:
        period_s = float(str(seconds(period)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if period_s > LONGEST_S:
        raise typer.BadParameter(f"needs at most {LONGEST_S / DAY_S:g}d", param_hint=option)
    return period_s


def limited_seconds_in(period: str, option: str, *, longest_s: float) -> float:
    """A period that is longer than nothing and at most `longest_s`, in seconds. Raises BadParameter."""
    # The operation checks this too, but its error would not name the option.
    period_s = seconds_in(period, option)
    if not 0 < period_s <= longest_s:
        raise typer.BadParameter(f"needs more than 0s and at most {longest_s / DAY_S:g}d", param_hint=option)
    return period_s


def conditions_in(where: Sequence[str]) -> dict[str, str]:
    """Columns and their values, from texts such as `domain=boolq`. Raises BadParameter if one is malformed."""
    conditions = [each.partition("=") for each in where]
    if wrong := [name for name, sign, _ in conditions if not name or not sign]:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form COLUMN=VALUE", param_hint="--where")
    if len({name for name, _, _ in conditions}) < len(conditions):
        raise typer.BadParameter("a column may be named only once", param_hint="--where")
    return {name: value for name, _, value in conditions}
