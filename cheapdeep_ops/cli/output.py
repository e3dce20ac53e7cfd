"""What commands print: one JSON document on standard output, or text for people; progress goes to standard error."""

import json
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey instead of showing it, without tabs and line feeds."""


def visible(text: str) -> str:
    """`text` with each control character as its escape, so that no label can change the terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LogFormatter(logging.Formatter):
    """Writes a message on one line, without control characters; a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a record."""
        return super().formatMessage(record).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and its traceback."""
        return visible(super().format(record))


class _SafeConsole(Console):
    """A console that shows control characters in a text, instead of obeying them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as Rich prints it."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what Rich prints; those of a `Text` and of tables too."""
        for each in super().render(renderable, options):
            # Rich's own pieces that move the cursor are marked as such.
            yield each if each.control else each._replace(text=visible(each.text))


def print_json(document: object) -> None:
    """Print one JSON document."""
    # Where standard output is not Unicode, JSON's own escapes keep the document JSON.
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(document, indent=2, ensure_ascii=not is_unicode, default=str)
    # JSON escapes only the control characters of ASCII.
    sys.stdout.write(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def console() -> Console:
    """The console for text that people read. A terminal wraps long lines between words; a pipe does not."""
    # A pipe has no width, and a program that reads it needs names that are not split.
    is_terminal = sys.stdout.isatty()
    return _SafeConsole(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else _PIPE_WIDTH)


def progress_console() -> Console:
    """The console for progress, on standard error."""
    return _SafeConsole(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def show_progress(done: Iterable[int], *, total: int, what: str) -> None:
    """Consume `done`, the counts of finished items, and show the progress on standard error.

    A terminal gets a bar. Anything else gets a line at each tenth of `total`.
    """
    out = progress_console()
    if out.is_terminal:
        # Loaded here, because few commands show a bar.
        from rich.progress import Progress

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
        made.add_row(*(Text(visible(cell)) for cell in row))
    return made
