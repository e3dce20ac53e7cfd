"""The commands. Exit status: 0 fine, 1 failed, 2 usage, 130 interrupted."""

import io
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from getpass import getuser
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cheapdeep_ops.cli import output, texts
from cheapdeep_ops.errors import CheapdeepError, DeliveryError, RulesError, SettingsError, StoreError
from cheapdeep_ops.settings import Settings, filled_text
from cheapdeep_ops.values import ALL_ROUTES

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
alert_app = typer.Typer(help="Alerts.", no_args_is_help=True)
dashboards_app = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)
app.add_typer(threshold_app, name="threshold")
app.add_typer(alert_app, name="alert")
app.add_typer(dashboards_app, name="dashboards")


def _text(value: str | None) -> str | None:
    """What was given, where it was given. Raises BadParameter where it is blank or no text."""
    try:
        return None if value is None else filled_text(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        output.console().print(version("cheapdeep_ops"))
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Cheap-then-deep routing for Claude: watch it, tell Slack, raise the threshold, let go again."""


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RouteOption = Annotated[str, typer.Option("--route", callback=_text, help="One route; without it, all routes.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Wrong input gives one line on standard error, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _escape_the_unprintable()
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)  # noqa: T201 - what cannot be written must fail here, not when Python has ended
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, RulesError) as error:
        return _fail(error, USAGE)
    except CheapdeepError as error:
        return _fail(error, FAILED)
    except BrokenPipeError:  # whoever read has left, and knows
        return _give_up_output(FAILED)
    except (OSError, ValueError) as error:  # a full disk, or what the SDK refuses to send
        return _give_up_output(_fail(error, FAILED))
    return status


def _run(arguments: Sequence[str]) -> int:
    try:
        app(args=list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _fail(error: Exception, status: int) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).splitlines()) or type(error).__name__}\n")
    return status


def _escape_the_unprintable() -> None:
    """A terminal or pipe that lacks a character gets its escape: an answer must not fail for an accent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_output(status: int) -> int:
    """Returns `status`; what cannot be written is dropped, or Python would fail over it again on its way out."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


@app.command()
def demo(
    json: Json = False,
    seed: Annotated[int, typer.Option(help="Another seed gives other questions.")] = 0,
) -> None:
    """Watch a storm being caught: simulated Claude and Slack on loopback, no key and no services needed."""
    from cheapdeep_ops.cli.live import view_for
    from cheapdeep_ops.demo.show import SHORTENED_BY, run_demo

    progress = output.progress_console() if json else output.console()
    progress.print(
        f"Real HTTP between the real SDKs and simulated servers. The rules' windows are shortened {SHORTENED_BY:g} "
        "times: 5 min are 15 s here."
    )
    with view_for(progress) as view:
        found = run_demo(view, seed=seed)
    if json:
        output.print_json(found)
    else:
        out = output.console()
        out.print()
        texts.show_run(out, found)
        texts.show_checks(out, found["checks"])
    raise typer.Exit(0 if all(found["checks"].values()) else FAILED)


@app.command()
def ask(
    text: Annotated[str, typer.Argument(callback=_text)],
    json: Json = False,
    route: Annotated[str | None, typer.Option(callback=_text, help="The route to ask on.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 1024,
) -> None:
    """Ask one question; prints the answer and how it was decided."""
    from dataclasses import asdict

    from cheapdeep_ops.claude.sdk import AnthropicError
    from cheapdeep_ops.router import Router
    from cheapdeep_ops.telemetry.setup import configure

    stop = configure("cheapdeep-ops ask")
    try:
        with Router() as router:
            routed = router.ask(text, route=route, max_tokens=max_tokens)
    except TypeError as error:  # what the SDK raises where it finds no key
        raise SettingsError(f"the API cannot be called: {error}") from None
    except AnthropicError as error:
        raise typer.Exit(_fail(error, FAILED)) from None
    finally:
        stop()
    if json:
        output.print_json({"text": routed.text, "decision": asdict(routed.decision)})
    else:
        texts.show_decision(output.console(), routed.text, routed.decision)


@app.command()
def serve() -> None:
    """Run the guard: rules, Slack, HTTP API and metrics, until SIGTERM."""
    from cheapdeep_ops.guard.app import Service

    logging.getLogger("cheapdeep_ops").setLevel(logging.INFO)
    Service(Settings()).serve()


@app.command()
def sim(
    json: Json = False,
    anthropic_port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 0,
    slack_port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed gives other answers.")] = 0,
) -> None:
    """Run the simulated Claude API and the simulated Slack alone; the first line tells where they are."""
    from cheapdeep_ops.testing.serving import serve as serve_simulators

    try:
        serve_simulators(anthropic_port=anthropic_port, slack_port=slack_port, seed=seed, as_json=json)
    except OSError as error:
        raise SettingsError(f"cannot listen: {error.strerror}; choose other ports") from None


@app.command()
def report(
    json: Json = False,
    last: Annotated[str, typer.Option(help="The period up to now, such as 90m, 24h or 30d.")] = "24h",
) -> None:
    """Print the receipt over a period: calls, cost, saving against all-deep, escalation."""
    from cheapdeep_ops.guard.receipt import receipt

    settings, now, period_s = Settings(), time.time(), _seconds(last)
    with _open(settings) as store:
        found = receipt(store, settings, since=now - period_s, until=now)
    if json:
        output.print_json(found)
    else:
        texts.show_receipt(output.console(), found)


@app.command()
def status(json: Json = False) -> None:
    """Print policy, alerts, signals, grader, queue and watchers."""
    from cheapdeep_ops.guard.status import status as state_of

    settings = Settings()
    with _open(settings) as store:
        state = state_of(store, settings, time.time())
    if json:
        output.print_json(state)
    else:
        texts.show_status(output.console(), state)


@threshold_app.command("show")
def threshold_show(json: Json = False) -> None:
    """Print the thresholds in force, and why."""
    from cheapdeep_ops.guard.status import policy_state

    settings = Settings()
    with _open(settings) as store, store.reading() as connection:
        policy = policy_state(connection, settings)
    _show_policy(policy, as_json=json)


@threshold_app.command("set")
def threshold_set(
    value: Annotated[float, typer.Argument(min=0, max=1)],
    why: Annotated[str, typer.Option("--why", callback=_text, help="For the log.")],
    route: RouteOption = ALL_ROUTES,
    json: Json = False,
) -> None:
    """Pin a threshold: the rules only report until it is released."""
    from cheapdeep_ops.guard.thresholds import set_threshold

    settings = Settings()
    with _open(settings) as store:
        by = {"author": _author(), "why": why}
        policy = set_threshold(store, settings, value, scope=route, now=time.time(), **by)
    _show_policy(policy, as_json=json)


@threshold_app.command("release")
def threshold_release(
    route: RouteOption = ALL_ROUTES,
    why: Annotated[str | None, typer.Option("--why", callback=_text, help="For the log.")] = None,
    json: Json = False,
) -> None:
    """Take a pin off, that of a route or the one of all routes: the rules decide again."""
    from cheapdeep_ops.guard.thresholds import release_threshold

    settings = Settings()
    with _open(settings) as store:
        by = {"author": _author(), "why": why or ""}
        policy = release_threshold(store, settings, scope=route, now=time.time(), **by)
    _show_policy(policy, as_json=json)


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the store's schema up to date."""
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.schema import migrate as migrate_store

    store = Store(Settings().store_url)
    try:
        revision = migrate_store(store)
    finally:
        store.close()
    if json:
        output.print_json({"store": store.shown_url, "revision": revision})
    else:
        output.console().print(f"{store.shown_url} is at {revision}", markup=False)


@app.command()
def doctor(json: Json = False) -> None:
    """Check keys, store, Slack, OTLP endpoint, clock and rules; say what to mend."""
    from cheapdeep_ops.cli.doctor import examine

    findings = examine(Settings())
    if json:
        output.print_json({"ok": all(each.ok for each in findings), "checks": [each.as_dict() for each in findings]})
    else:
        for each in findings:
            style = "green" if each.ok else "bold red"
            output.console().print(f"{each.mark}  {each.name}: {each.found}", style=style, markup=False)
    raise typer.Exit(0 if all(each.ok for each in findings) else FAILED)


@alert_app.command("test")
def alert_test(json: Json = False) -> None:
    """Send a test alert the way incidents are sent."""
    from cheapdeep_ops.guard.notify import LogSender, Place
    from cheapdeep_ops.guard.slack import sender_for

    sender = sender_for(Settings())
    how = type(sender).__name__
    if isinstance(sender, LogSender):
        raise SettingsError(
            "no Slack is set up: CHEAPDEEP_SLACK_BOT_TOKEN with CHEAPDEEP_SLACK_CHANNEL, or CHEAPDEEP_SLACK_WEBHOOK_URL"
        )
    try:
        place = sender.send({"kind": "test", "rule": "Test", "signal": {}}, Place())
    except DeliveryError as error:
        raise typer.Exit(_fail(error, FAILED)) from None
    found = {"delivered": True, "by": how, "channel": place.channel, "ts": place.ts}
    if json:
        output.print_json(found)
    else:
        output.console().print(f"delivered {place.channel} {place.ts}".strip(), markup=False)


@dashboards_app.command("export")
def dashboards_export(directory: Annotated[Path, typer.Argument(file_okay=False)]) -> None:
    """Copy the Grafana dashboards into a folder."""
    from shutil import copy2

    from cheapdeep_ops.resources import packaged

    directory.mkdir(parents=True, exist_ok=True)
    for board in sorted(packaged("dashboards").glob("*.json")):
        copy2(board, directory)
        output.console().print(str(directory / board.name), markup=False)


@contextmanager
def _open(settings: Settings) -> Iterator["Store"]:
    """The store that the settings name.

    Raises StoreError where there is none yet, SchemaError where its schema does not fit.
    """
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.schema import require_schema

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


def _author() -> str:
    """Who gives the order; in a container that is often a number without a name."""
    try:
        return filled_text(getuser())
    except (KeyError, OSError, ValueError):
        return f"uid:{os.getuid()}"


def _seconds(period: str) -> float:
    from cheapdeep_ops.guard.receipt import LONGEST_S
    from cheapdeep_ops.guard.rulebook import seconds

    try:
        found = float(str(seconds(period)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--last") from None
    if found > LONGEST_S:
        raise typer.BadParameter(f"needs at most {LONGEST_S / 86_400:g}d", param_hint="--last")
    return found


def _show_policy(policy: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(policy)
        return
    out = output.console()
    out.print(f"threshold {texts.in_force(policy)}", markup=False)
    texts.show_policy(out, policy)
