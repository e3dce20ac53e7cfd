"""The context of the pages, and the elements that they share."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from nicegui import background_tasks, ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.console.moment import Instant, Moment
from cheapdeep_ops.guard.http.access import Access

T = TypeVar("T")
Cell = str | Instant
REFRESH_S: Final = 5.0
_HEADINGS: Final = {1: "text-h5 text-bold", 2: "text-h6", 3: "text-subtitle1 text-bold"}
_SHORT: Final = 24
"""A cell with at most this many characters is not wrapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleContext(ActionContext):
    """The context of the pages: that of the operations, the access rights, and the intervals."""

    access: Access
    refresh_s: float = REFRESH_S
    """The interval in seconds at which an open page refreshes."""
    patience_s: float = 2.0
    """How long a page waits for its first reading, in seconds, before it shows that it loads."""


def heading(text: str, *, level: int = 2) -> ui.label:
    """Show a heading; `level` 1 is the page's title."""
    with ui.element(f"h{level}").classes(_HEADINGS[level]):
        return ui.label(text).classes("words")


def show_cell(cell: Cell) -> None:
    """Show a text, or a time in the reader's zone."""
    if isinstance(cell, str):
        ui.label(cell)
    elif cell.at is None:
        ui.label("never")
    else:
        Moment(cell.at)


def facts(rows: Mapping[str, Cell]) -> None:
    """Show names and values; on a narrow page each value is below its name."""
    with ui.element("dl").classes("w-full grid grid-cols-1 sm:grid-cols-[12rem_1fr] gap-x-4 gap-y-1"):
        for name, value in rows.items():
            with ui.element("dt").classes("faint max-sm:mt-2"):
                ui.label(name)
            with ui.element("dd").classes("words"):
                show_cell(value)


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, links: Sequence[str] = ()) -> None:
    """Show a table; `links` are the link targets of the first cells, empty for a cell without a link."""
    # On a narrow page only the table scrolls; the tabindex allows this by keyboard.
    whole = ui.element("q-markup-table").props('flat bordered dense wrap-cells tabindex="0" role="region"')
    whole.props["aria-label"] = name
    with whole.classes("w-full"):
        _head(columns)
        with ui.element("tbody"):
            for number, row in enumerate(rows):
                _row(row, links[number] if links else "")


def _head(columns: Sequence[str]) -> None:
    with ui.element("thead"), ui.element("tr"):
        for column in columns:
            with ui.element("th").props('scope="col"').classes("text-left whitespace-nowrap"):
                ui.label(column)


def _row(cells: Sequence[Cell], link: str) -> None:
    with ui.element("tr"):
        for number, cell in enumerate(cells):
            is_long = isinstance(cell, str) and len(cell) > _SHORT
            with ui.element("td").classes(f"align-top {'words' if is_long else 'whitespace-nowrap'}"):
                if link and number == 0 and isinstance(cell, str):
                    ui.link(cell, link)
                else:
                    show_cell(cell)


def empty(text: str, advice: str = "") -> None:
    """Say that there is nothing to show, and what to do about it."""
    with ui.card().classes("w-full items-center gap-1"):
        ui.icon("inbox").classes("faint text-h5").props('aria-hidden="true"')
        ui.label(text)
        if advice:
            ui.label(advice).classes("faint words text-center")


class PagePart:
    """A part of a page, which is drawn again only when its values change; the other parts keep the keyboard focus.

    `announces` makes screen readers read out the change.
    """

    def __init__(self, show: Callable[[Any], None], *, of: Callable[[Any], Any], announces: bool = False) -> None:
        self._show, self._of = show, of
        self._box = ui.column().classes("w-full gap-3").props('aria-live="polite"' if announces else "")
        self._shown: list[Any] = []

    def renew(self, reading: Any) -> None:
        """Show this part of a reading."""
        values = self._of(reading)
        if self._shown != [values]:
            self._shown = [values]
            self._box.clear()
            with self._box:
                self._show(values)


async def live(context: ConsoleContext, read: Callable[[], T], show: Callable[[T], None]) -> None:
    """Show the result of `read`, and show it again after each change.

    `read` runs in a thread. The page shows the error while the store is unreachable.
    """
    with ui.column().classes("w-full gap-3") as box:
        part = PagePart(show, of=lambda reading: reading, announces=True)
    await live_page(context, read, part.renew, box)


async def live_page(
    context: ConsoleContext, read: Callable[[], T], renew: Callable[[T], None], content: ui.element
) -> Callable[[], Awaitable[None]]:
    """Give each result of `read` to `renew` while the page is open; `content` is hidden until the first one is there.

    `read` runs in a thread. While it fails, the page says why in place of `content`. What is returned reads at once.
    """
    trouble = ui.column().classes("w-full").props('role="alert"')
    # Not taken out of the page, because charts need the width of their place when they are made.
    content.classes("invisible")
    shown: list[str] = []

    async def again() -> None:
        # In a thread, because a slow store must not block the other pages.
        reading = await asyncio.to_thread(_tried, read)
        fault = str(reading) if isinstance(reading, StoreError) else ""
        if shown != [fault]:
            shown[:] = [fault]
            trouble.clear()
            with trouble:
                _show_fault(fault)
        content.classes(add="invisible" if fault else "", remove="" if fault else "invisible")
        if not isinstance(reading, StoreError):
            with content:
                renew(reading)

    with trouble:
        _show_loading()
    first = background_tasks.create(again(), name="first reading")
    await asyncio.wait({first}, timeout=context.patience_s)
    ui.timer(context.refresh_s, again, immediate=False)
    return again


def _tried(read: Callable[[], T]) -> T | StoreError:
    try:
        return read()
    except StoreError as error:
        return error


def _show_loading() -> None:
    ui.label("Loading...").classes("faint")
    for _ in range(3):
        ui.skeleton(animation="none").classes("w-full h-24").props('aria-hidden="true"')


def _show_fault(fault: str) -> None:
    if not fault:
        return
    with ui.card().classes("alarm w-full gap-1"):
        with ui.row().classes("items-center no-wrap"):
            ui.icon("cloud_off").classes("bad text-h5").props('aria-hidden="true"')
            ui.label("The console cannot read the store").classes("text-bold")
        ui.label(fault).classes("words")
        ui.label("The page tries again every few seconds. cheapdeep-ops doctor says what is wrong.").classes("faint")
