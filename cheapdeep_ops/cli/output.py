"""What commands print: one JSON document on standard output, or text for people; progress goes to standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200


def print_json(document: object) -> None:
    """Print one JSON document."""
    # Where standard output is not Unicode, JSON's own escapes keep the document JSON.
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not is_unicode, default=str) + "\n")


def console() -> Console:
    """The console for text that people read. A terminal wraps long lines between words; a pipe does not."""
    # A pipe has no width, and a program that reads it needs names that are not split.
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else _PIPE_WIDTH)


def progress_console() -> Console:
    """The console for progress, on standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def show_progress(done: Iterable[int], *, total: int, what: str) -> None:
    """Consume `done`, the counts of finished items, and show the progress on standard error.

    A terminal gets a bar. Anything else gets a line at each tenth of `total`.
    """
    out = progress_console()
    if out.is_terminal:
        with Progress(console=out, transient=True) as bar:
            task = bar.add_task(what, total=total)
            for count in done:
                bar.update(task, completed=count)
        return
    tenths = 0
    for count in done:
        if count * 10 // total > tenths:
            tenths = count * 10 // total
            out.print(f"{count:,} of {total:,} {what}", markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with a title; all cells are plain text."""
    # Rich would read brackets in a caller's label as markup.
    made = Table(*columns, title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for row in rows:
        made.add_row(*map(Text, row))
    return made
