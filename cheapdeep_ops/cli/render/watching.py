"""What `watch` shows: the last status, how old it is, and why there is no newer one."""

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.styled import Styled
from rich.text import Text

from cheapdeep_ops.cli.render.status import screen
from cheapdeep_ops.guard.formatting import duration, plain, time_of_day

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.state import Status

_LONGEST: Final = 300
_TITLE_LINES: Final = 2


@dataclass(slots=True, kw_only=True)
class Watched:
    """The last reading of the guard: a status, or the error since then. Safe between threads."""

    every_s: float
    status: "Status | None" = None
    read_at: float = 0.0
    error: str = ""
    failed_since: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def keep(self, status: "Status", now: float) -> None:
        """Keep a status that was read at `now` (Unix time)."""
        with self._lock:
            self.status, self.read_at, self.error = status, now, ""

    def fail(self, error: Exception, now: float) -> None:
        """Keep why a reading at `now` (Unix time) failed; the status stays."""
        with self._lock:
            self.failed_since = self.failed_since if self.error else now
            self.error = plain(str(error) or type(error).__name__, _LONGEST)

    def now_known(self) -> tuple["Status | None", float, str, float]:
        """The status, when it was read, the error, and since when readings fail."""
        with self._lock:
            return self.status, self.read_at, self.error, self.failed_since


def drawn(watched: Watched, *, lines: int, now: float) -> RenderableType:
    """The whole view on so many lines."""
    status, read_at, error, failed_since = watched.now_known()
    parts: list[RenderableType] = [_title(status is not None, read_at, now, watched.every_s)]
    if error:
        parts.append(Text(f"No reading since {time_of_day(failed_since)} UTC: {error}", style="bold yellow"))
    if status is not None:
        # Old figures must not look like present ones.
        shown = screen(status, lines=lines - _TITLE_LINES - bool(error))
        parts.append(Styled(shown, "dim") if error else shown)
    return Group(*parts)


def _title(is_known: bool, read_at: float, now: float, every_s: float) -> Text:  # noqa: FBT001 - a private one
    title = Text("cheapdeep-ops status", style="bold")
    if not is_known:
        return title.append("  reading ...", style="dim")
    age = max(now - read_at, 0)
    is_late = age > 2 * every_s + 2
    said = f"  read {duration(round(age))} ago, at {time_of_day(read_at)} UTC; every {every_s:g} s; Ctrl-C ends"
    return title.append(said, style="yellow" if is_late else "dim")
