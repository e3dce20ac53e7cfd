"""Lets a test step the wall clock of a process: SIGUSR1 makes it read its offset, in seconds, from a file."""

import os
import signal
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "CHAOS_CLOCK"
"""The variable that names the file."""


def install() -> None:
    """Replace `time.time`. Call it before the product is imported, whose defaults hold the function itself."""
    real, offset, path = time.time, [0.0], Path(os.environ[VARIABLE])

    def read(*_: object) -> None:
        offset[0] = float(path.read_text())

    time.time = lambda: real() + offset[0]
    read()
    signal.signal(signal.SIGUSR1, read)
