"""Commands that run something: the demonstration, one call, the guard, the simulators, a replay."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import FAILED, Json, app, conditions_in, fail, filled_option
from cheapdeep_ops.cli.groups import RUN, TRY, example
from cheapdeep_ops.cli.render import runs, terminal
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.settings import Settings

_ENDS_WITHIN_S: Final = 9.0
"""How long `serve` goes on after a signal: service managers kill a process after 10 s."""

_TELEMETRY_S: Final = 1.0
SLOWEST_REPLAY: Final = 0.01
FASTEST_REPLAY: Final = 10_000.0
"""Calls a second of virtual time. A slow rate means more work of the guard between two calls."""


@app.command(rich_help_panel=TRY, epilog=example("demo --seed 3"))
def demo(
    json: Json = False,
    seed: Annotated[int, typer.Option(help="Another seed gives other questions.")] = 0,
) -> None:
    """Show how the guard detects a storm and a drift. Claude and Slack are simulated, so it needs no key."""
    from cheapdeep_ops.cli.render.live import view_for
    from cheapdeep_ops.demo.show import RATE, SAMPLE_RATE, run_demo

    progress = output.progress_console() if json else output.console()
    progress.print(
        f"Real HTTP between the real SDKs and simulated servers, {RATE:g} calls a second on a clock that runs fast. "
        f"Rules and settings are the defaults, except that {SAMPLE_RATE:.0%} of the confident answers are graded "
        "(default 1%)."
    )
    with view_for(progress) as view:
        demo_report = run_demo(view, seed=seed)
    if json:
        output.print_json(demo_report)
    else:
        runs.show_demo(output.console(), demo_report)
    raise typer.Exit(0 if all(demo_report["checks"].values()) else FAILED)


@app.command(rich_help_panel=RUN, epilog=example('ask "How do I reset a forgotten password?"'))
def ask(
    text: Annotated[str, typer.Argument(callback=filled_option, help="The question.")],
    json: Json = False,
    route: Annotated[str | None, typer.Option(callback=filled_option, help="The route of the call.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The largest number of tokens of the answer.")] = 1024,
) -> None:
    """Make one call; print the answer and its decision."""
    from dataclasses import asdict

    from cheapdeep_ops.claude.sdk import AnthropicError
    from cheapdeep_ops.router import Router
    from cheapdeep_ops.telemetry.setup import configure

    stop = configure("cheapdeep-ops ask")
    try:
        with Router() as router:
            routed = router.ask(text, route=route, max_tokens=max_tokens)
    except TypeError as error:  # the SDK raises it if it finds no key
        raise SettingsError(f"the API cannot be called: {error}") from None
    except AnthropicError as error:
        raise typer.Exit(fail(error, FAILED)) from None
    finally:
        stop()
    if json:
        output.print_json({"text": routed.text, "decision": asdict(routed.decision)})
    else:
        terminal.show_decision(output.console(), routed.text, routed.decision)


@app.command(rich_help_panel=RUN, epilog=example("serve"))
def serve() -> None:
    """Run the guard until SIGTERM. It has rules, grading, messages, HTTP API, metrics and console."""
    from cheapdeep_ops.guard.service import Service
    from cheapdeep_ops.telemetry.setup import configure

    # Commands log warnings only; a service also logs what it does.
    logging.getLogger("cheapdeep_ops").setLevel(logging.INFO)
    stop = configure("cheapdeep-ops serve")
    try:
        Service(Settings()).serve(on_signal=_end_within_limit)
    finally:
        _in_time(stop)
    _leave()


@app.command(rich_help_panel=RUN, epilog=example("gateway --port 8643"))
def gateway(
    host: Annotated[
        str | None, typer.Option(callback=filled_option, help="The address to listen on; without it, the setting.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="0: any free port; without it, the setting.")
    ] = None,
) -> None:
    """Serve the Messages API over the router until SIGTERM, for services in any language."""
    from cheapdeep_ops.gateway.service import Gateway
    from cheapdeep_ops.telemetry.setup import configure

    given = {name: value for name, value in (("gateway_host", host), ("gateway_port", port)) if value is not None}
    settings = Settings(**given)
    logging.getLogger("cheapdeep_ops").setLevel(logging.INFO)
    stop = configure("cheapdeep-ops gateway", scraped=True)
    ends_within_s = settings.gateway_stop_within_s + _ENDS_WITHIN_S
    try:
        Gateway(settings).serve(on_signal=lambda: _end_within_limit(ends_within_s))
    finally:
        _in_time(stop)
    _leave()


def _end_within_limit(seconds: float = _ENDS_WITHIN_S) -> None:
    """End the process after that time, whatever still runs then."""
    limit = threading.Timer(seconds, os._exit, [FAILED])
    limit.daemon = True
    limit.start()


def _in_time(stop: Callable[[], None]) -> None:
    """Let telemetry send the rest; a collector that hangs is not waited for."""
    thread = threading.Thread(target=stop, name="telemetry", daemon=True)
    thread.start()
    thread.join(_TELEMETRY_S)


def _leave() -> None:
    """End the process now if a thread is left."""
    # Python waits for the threads of an executor, also if they are daemons.
    main = threading.main_thread()
    if any(each is not main and not isinstance(each, threading.Timer) for each in threading.enumerate()):
        # A request to a store or to an API hangs in it. All that was to be stored is stored.
        logging.shutdown()
        os._exit(0)


@app.command(rich_help_panel=RUN, epilog=example("sim --anthropic-port 8080"))
def sim(
    json: Json = False,
    anthropic_port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 0,
    slack_port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free port.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed gives other answers.")] = 0,
) -> None:
    """Run only the simulated Claude API and Slack. The first line of the output has their addresses."""
    from cheapdeep_ops.testing.serving import serve as serve_simulators

    try:
        serve_simulators(anthropic_port=anthropic_port, slack_port=slack_port, seed=seed, as_json=json)
    except OSError as error:
        raise SettingsError(f"cannot listen: {error.strerror}; choose other ports") from None


@app.command(rich_help_panel=TRY, epilog=example("replay outcomes.csv --where domain=boolq"))
def replay(  # noqa: PLR0917 - typer passes options by name
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="A CSV file with columns cheap_confidence and cheap_correct."),
    ],
    json: Json = False,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE selects rows; repeatable.")] = None,
    rate: Annotated[float, typer.Option(help="Calls a second, in virtual time.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Another seed draws another sample.")] = 0,
    sample_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The share of confident answers to grade; without it, the setting."),
    ] = None,
    judge_tpr: Annotated[
        float, typer.Option(min=0, max=1, help="The share of wrong answers that the grader detects.")
    ] = 1.0,
    judge_tnr: Annotated[float, typer.Option(min=0, max=1, help="The share of right answers that it accepts.")] = 1.0,
) -> None:
    """Replay recorded outcomes and print the receipt. Router and guard are real; API and time are simulated."""
    from cheapdeep_ops.demo.recording import read_recording
    from cheapdeep_ops.demo.replay import Replay, ReplayOptions
    from cheapdeep_ops.testing import SimulatedGrader

    if not SLOWEST_REPLAY <= rate <= FASTEST_REPLAY:
        raise typer.BadParameter(f"needs {SLOWEST_REPLAY:g} to {FASTEST_REPLAY:g}", param_hint="--rate")
    settings = Settings() if sample_rate is None else Settings(sample_rate=sample_rate)
    rows = read_recording(file, conditions_in(where or ()))
    options = ReplayOptions(rate=rate, seed=seed, grader=SimulatedGrader(tpr=judge_tpr, tnr=judge_tnr))
    with Replay(rows, settings=settings, options=options) as played:
        output.show_progress(played.run(), total=len(rows), what="calls replayed")
        run_report = played.report()
    if json:
        output.print_json(run_report)
    else:
        runs.show_run(output.console(), run_report)
