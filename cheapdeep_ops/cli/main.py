"""The commands' way in. Exit status: 0 fine, 1 failed, 2 usage, 130 interrupted."""

import io
import logging
import os
import sys
from collections.abc import Sequence

from cheapdeep_ops.cli.commands import (  # noqa: F401 - loading them registers their commands
    alerts,
    backtest,
    changes,
    recommend,
    reports,
    review,
    run,
)
from cheapdeep_ops.cli.common import FAILED, INTERRUPTED, USAGE, app, fail
from cheapdeep_ops.errors import CheapdeepError, RecordingError, RulesError, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Wrong input gives one line on standard error, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _escape_the_unprintable()
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)  # noqa: T201 - what cannot be written must fail here, not when Python has ended
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, RulesError, RecordingError) as error:
        return fail(error, USAGE)
    except CheapdeepError as error:
        return fail(error, FAILED)
    except BrokenPipeError:  # the reader has closed the pipe, and needs no message
        return _give_up_output(FAILED)
    except (OSError, ValueError) as error:  # a full disk, or what the SDK refuses to send
        return _give_up_output(fail(error, FAILED))
    return status


def _run(arguments: Sequence[str]) -> int:
    try:
        app(args=list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _escape_the_unprintable() -> None:
    """Write an escape where the terminal or pipe lacks a character: an accent must not make a command fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_output(status: int) -> int:
    """Drop output that cannot be written, because Python would fail again at exit; returns `status`."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
