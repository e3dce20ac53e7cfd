"""What commands print: one JSON document on standard output, or text for people; progress goes to standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200


def print_json(document: Any) -> None:
    """Print one JSON document."""
    # Where standard output is not Unicode, JSON's own escapes keep the document JSON.
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not is_unicode, default=str) + "\n")


def console() -> Console:
    """Where text for people goes: lines break between words in a terminal, and nowhere elsewhere."""
    # A pipe has no width: what reads it wants whole names.
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else _PIPE_WIDTH)


def progress_console() -> Console:
    """Where progress goes."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def show_progress(done: Iterable[int], *, total: int, what: str) -> None:
    """Follow work to its end: a bar in a terminal, a line at every tenth elsewhere; on standard error."""
    out = progress_console()
    if out.is_terminal:
        with Progress(console=out, transient=True) as bar:
            task = bar.add_task(what, total=total)
            for count in done:
                bar.update(task, completed=count)
        return
    told = 0
    for count in done:
        if count * 10 // total > told:
            told = count * 10 // total
            out.print(f"{count:,} of {total:,} {what}", markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with a title; what its cells say is text, whatever brackets a caller's label has."""
    made = Table(*columns, title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def usd(value: float | None) -> str:
    """US dollars with as many digits as small amounts need, or `unpriced`."""
    if value is None:
        return "unpriced"
    return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.6f}"


def moment(at: float | None) -> str:
    """A time (UTC), or `never`."""
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def clock(at: float) -> str:
    """The time of day (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def counts(values: Mapping[str, int]) -> str:
    """Counts by name, largest first."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"
