"""The command `watch`: a live view of `status`."""

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.common import app
from cheapdeep_ops.cli.groups import LOOK, example
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.cli.render.watching import Watched

_REDRAWN_EVERY_S: Final = 0.5


@app.command(rich_help_panel=LOOK, epilog=example("watch --every 5"))
def watch(
    every: Annotated[float, typer.Option("--every", min=0.5, max=3600, help="Seconds between two readings.")] = 2.0,
) -> None:
    """Show the status live, until Ctrl-C. Without a terminal it prints the status once."""
    out = output.console()
    if not out.is_terminal or out.is_dumb_terminal:
        from cheapdeep_ops.cli.render.status import show_status

        show_status(out, guard_client.read("status"))
        return
    from rich.live import Live

    from cheapdeep_ops.cli.render.watching import Watched, drawn

    settings, watched = Settings(), Watched(every_s=every)
    # A store that hangs must not delay a key or the clock of the view, so it is read beside them.
    threading.Thread(target=_follow, args=(settings, watched), daemon=True, name="watch").start()
    # The terminal gets its own screen and its cursor back, however the view ends.
    signal.signal(signal.SIGTERM, _end)
    is_terminated = False
    try:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(drawn(watched, lines=out.height, now=time.time()), refresh=True)
                time.sleep(_REDRAWN_EVERY_S)
    except KeyboardInterrupt:
        pass
    except _TerminatedError:
        is_terminated = True
    sys.stdout.flush()
    if is_terminated:
        # Who sent the signal sees that this process ended by it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    # Not by `sys.exit`, which would wait for a reading that hangs.
    os._exit(0)


class _TerminatedError(Exception):
    """SIGTERM has come."""


def _end(_number: int, _frame: object) -> None:
    raise _TerminatedError


def _follow(settings: Settings, watched: "Watched") -> None:
    """Read the status again and again."""
    while True:
        try:
            # A connection of its own for each reading: an open SQLite file could be read long after it was deleted.
            with guard_client.connected(settings) as guard:
                watched.keep(guard.read("status"), time.time())
        except Exception as error:  # noqa: BLE001 - the view says it, and the next reading may succeed
            watched.fail(error, time.time())
        time.sleep(watched.every_s)
