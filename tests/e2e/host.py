"""A host whose clock differs: what a process on it sees. A file has the seconds to add, and a test may change it."""

import time
from collections.abc import Callable
from pathlib import Path


def wall(path: str | Path) -> Callable[[], float]:
    """The clock of the host whose difference is in the file at `path`."""
    return lambda: time.time() + float(Path(path).read_text())


def set_clock(path: Path, seconds: float) -> None:
    """Let the host's clock differ by `seconds` from now on."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(path)
