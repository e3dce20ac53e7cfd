"""The context of the pages, and the elements that they share."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from nicegui import ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.http.access import Access

T = TypeVar("T")
REFRESH_S: Final = 5.0
_COLORS: Final = {"primary": "#1d5c96", "positive": "#1b6b2f", "negative": "#b3261e"}
"""Dark enough for white text: a contrast of at least 6:1."""

_SHORT: Final = 24
"""A cell with at most this many characters is not wrapped."""

_LINKS: Final = {
    "Now": "/",
    "Charts": "/charts",
    "Incidents": "/incidents",
    "Policy": "/policy",
    "Review": "/review",
}
_STYLE: Final = """
.nicegui-link { color: #1d5c96; }
.faint { color: #59636e; }
.border-t { border-color: #b9c1ca; }
.alarm { border-left: 6px solid #c62828; }
.over { border-left: 6px solid #2e7d32; }
.words { white-space: pre-wrap; overflow-wrap: break-word; }
.body--dark { background: #14181d; }
.body--dark .nicegui-link { color: #8ec3f5; }
.body--dark .faint, .body--dark .q-field__label { color: #aab4be; }
.body--dark .border-t { border-color: #3a434d; }
:focus-visible { outline: 2px solid #d97706; outline-offset: 2px; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleContext(ActionContext):
    """The context of the pages: that of the operations, the access rights, and the refresh interval."""

    access: Access
    refresh_s: float = REFRESH_S
    """The interval in seconds at which an open page refreshes."""


@contextmanager
def framed(title: str) -> Iterator[None]:
    """Show the links to all pages and the title; the block shows the content below them."""
    ui.colors(**_COLORS)
    ui.add_css(_STYLE)
    ui.page_title(f"{title} - cheapdeep_ops")
    with ui.element("nav").props('aria-label="Pages"').classes("w-full row gap-4 q-pa-sm"):
        for name, path in _LINKS.items():
            link = ui.link(name, path).classes("text-bold" if name == title else "")
            if name == title:
                link.props('aria-current="page"')
    with ui.element("div").classes("w-full column gap-4 q-px-sm") as page:
        # People who use a keyboard can skip the links.
        ui.skip_link("Skip to the page", target=page)
        heading(title, level=1)
        yield


def heading(text: str, *, level: int = 2) -> None:
    """Show a heading; `level` 1 is the page's title."""
    with ui.element(f"h{level}").classes("text-h5" if level == 1 else "text-h6"):
        ui.label(text)


def facts(rows: Mapping[str, str]) -> None:
    """Show names and values; on a narrow page each value is below its name."""
    with ui.element("dl").classes("w-full grid grid-cols-1 sm:grid-cols-[12rem_1fr] gap-x-4 gap-y-1"):
        for name, value in rows.items():
            with ui.element("dt").classes("faint max-sm:mt-2"):
                ui.label(name)
            with ui.element("dd").classes("words"):
                ui.label(value)


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, links: Sequence[str] = ()) -> None:
    """Show a table; `links` are the link targets of the first cells, empty for a cell without a link."""
    # On a narrow page only the table scrolls; the tabindex allows this by keyboard.
    with (
        ui.element("div").classes("w-full overflow-x-auto").props(f'tabindex="0" role="region" aria-label="{name}"'),
        ui.element("table").classes("w-full text-left text-sm"),
    ):
        with ui.element("thead"), ui.element("tr"):
            for column in columns:
                with ui.element("th").props('scope="col"').classes("faint pr-4 py-1 whitespace-nowrap"):
                    ui.label(column)
        with ui.element("tbody"):
            for number, row in enumerate(rows):
                _row(row, links[number] if links else "")


def _row(cells: Sequence[str], link: str) -> None:
    with ui.element("tr").classes("border-t"):
        for number, cell in enumerate(cells):
            width = "whitespace-nowrap" if len(cell) <= _SHORT else "words min-w-[14rem]"
            with ui.element("td").classes(f"pr-4 py-1 align-top {width}"):
                if link and number == 0:
                    ui.link(cell, link)
                else:
                    ui.label(cell)


class PagePart:
    """A part of a page, which is drawn again only when its values change; the other parts keep the keyboard focus.

    `announces` makes screen readers read out the change.
    """

    def __init__(self, show: Callable[[Any], None], *, of: Callable[[Any], Any], announces: bool = False) -> None:
        self._show, self._of = show, of
        self._box = ui.column().classes("w-full gap-4").props('aria-live="polite"' if announces else "")
        self._shown: list[Any] = []

    def renew(self, reading: Any) -> None:
        """Show this part of a reading."""
        self._put(self._of(reading), self._show)

    def fail(self, error: StoreError, *, is_first: bool) -> None:
        """Show the error in the first part of the page; the other parts become empty."""
        self._put(str(error) if is_first else "", _fault)

    def _put(self, values: Any, show: Callable[[Any], None]) -> None:
        if self._shown != [show, values]:
            self._shown = [show, values]
            self._box.clear()
            with self._box:
                show(values)


async def live(context: ConsoleContext, read: Callable[[], T], show: Callable[[T], None]) -> None:
    """Show the result of `read`, and show it again after each change.

    `read` runs in a thread. The page shows the error while the store is unreachable.
    """
    await live_parts(context, read, [PagePart(show, of=lambda reading: reading, announces=True)])


async def live_parts(context: ConsoleContext, read: Callable[[], object], parts: Sequence[PagePart]) -> None:
    """Show parts of one reading, which is renewed while the page is open."""

    async def renew() -> None:
        # In a thread, because a slow store must not block the other pages.
        reading = await asyncio.to_thread(_tried, read)
        for part in parts:
            if isinstance(reading, StoreError):
                part.fail(reading, is_first=part is parts[0])
            else:
                part.renew(reading)

    await renew()
    ui.timer(context.refresh_s, renew, immediate=False)


def _tried(read: Callable[[], T]) -> T | StoreError:
    try:
        return read()
    except StoreError as error:
        return error


def _fault(error: str) -> None:
    if error:
        with ui.card().classes("alarm w-full").props('role="alert"'):
            ui.label(error).classes("words")
