"""The entry point of the command line. Exit status: 0 fine, 1 failed, 2 usage, 130 interrupted."""

import io
import logging
import os
import sys
from collections.abc import Sequence

from cheapdeep_ops.cli.commands import (  # noqa: F401 - importing a module registers its commands
    alerts,
    backtest,
    changes,
    incidents,
    keys,
    recommend,
    reports,
    review,
    routes,
    run,
    watch,
)
from cheapdeep_ops.cli.common import FAILED, INTERRUPTED, USAGE, app, fail
from cheapdeep_ops.cli.output import LogFormatter
from cheapdeep_ops.errors import CheapdeepError, RecordingError, RulesError, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Wrong input gives one line on standard error, not a traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _escape_the_unprintable()
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)  # noqa: T201 - a failed write must be an error here, not at Python's exit
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, RulesError, RecordingError) as error:
        return fail(error, USAGE)
    except CheapdeepError as error:
        return fail(error, FAILED)
    except BrokenPipeError:  # the reader of the pipe is gone, so no message can help
        return _give_up_output(FAILED)
    except (OSError, ValueError) as error:  # a full disk, or a value that the SDK refuses to send
        return _give_up_output(fail(error, FAILED))
    return status


def _run(arguments: Sequence[str]) -> int:
    # Typer ends each command by SystemExit, also a successful one.
    try:
        app(args=list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _escape_the_unprintable() -> None:
    """Print an escape for a character that the encoding of the terminal or pipe lacks."""
    # An accent in a label must not make a command fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _give_up_output(status: int) -> int:
    """Discard output that cannot be written; returns `status`."""
    # Python flushes standard output at exit, and the write would fail again.
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
