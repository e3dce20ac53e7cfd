"""The list of incidents, and the page of one incident."""

from dataclasses import dataclass
from typing import Final

from nicegui import ui

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.dialogs import Dialogs
from cheapdeep_ops.guard.console.frame import page_title
from cheapdeep_ops.guard.console.incident_text import (
    Entry,
    IncidentCard,
    details_of,
    incident_card,
    labels_of,
    timeline,
)
from cheapdeep_ops.guard.console.incident_view import IncidentView
from cheapdeep_ops.guard.console.layout import Cell, ConsoleContext, PagePart, empty, heading, live, live_page, table
from cheapdeep_ops.guard.console.moment import Moment
from cheapdeep_ops.guard.console.readings import chart_of
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.records import Alert, record_of
from cheapdeep_ops.store.stories import MOST_INCIDENTS, story

_LISTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentReading:
    """The page of one incident."""

    card: IncidentCard
    labels: tuple[str, ...]
    entries: tuple[Entry, ...]
    details: tuple[str, ...]


async def show_incidents(context: ConsoleContext) -> None:
    """Show the newest incidents."""
    await live(context, lambda: _incidents_of(context), _show_incidents)


def _incidents_of(context: ConsoleContext) -> list[tuple[int, tuple[Cell, ...]]]:
    with context.store.reading() as connection:
        newest = incidents.incidents(connection, limit=_LISTED)
    return [(each["id"], tuple(row)) for each, row in zip(newest, text.incident_rows(newest), strict=True)]


def _show_incidents(rows: list[tuple[int, tuple[Cell, ...]]]) -> None:
    if not rows:
        empty("There were no incidents.", "cheapdeep-ops alert test sends a message to see that alerts arrive.")
        return
    links = [f"/incidents/{incident_id}" for incident_id, _ in rows]
    table("Incidents", text.INCIDENTS, [row for _, row in rows], links=links)


class IncidentPage:
    """The page of one incident, renewed in place."""

    def __init__(self, context: ConsoleContext, incident_id: int, title: ui.label) -> None:
        self._context, self._incident_id, self._title = context, incident_id, title
        self._dialogs = Dialogs(context)
        self._view: IncidentView | None = None
        with ui.column().classes("w-full gap-4") as self._content:
            self._missing = ui.column().classes("w-full")
            with self._missing:
                empty("There is no such incident.", "The list of incidents has all of them.")
            self._box = ui.column().classes("w-full gap-4 fades")
            with self._box:
                self._top = ui.column().classes("w-full gap-3")
                self._labels = PagePart(_show_labels, of=lambda reading: reading.labels)
                heading("Timeline, newest first")
                self._timeline = PagePart(_show_timeline, of=lambda reading: reading.entries, announces=True)
                heading("What the last message said")
                self._details = PagePart(_show_details, of=lambda reading: reading.details)

    async def show(self) -> None:
        """Show the page, and go on renewing it."""
        await live_page(self._context, self._read, self._renew, self._content)

    def _read(self) -> IncidentReading | None:
        # The number comes from the page's address and may be larger than a row id.
        if not 0 < self._incident_id <= MOST_INCIDENTS:
            return None
        now, settings = self._context.clock(), self._context.settings
        with self._context.store.reading() as connection:
            try:
                incident = story(connection, self._incident_id)
            except MissingError:
                return None
            of_it = [each for each in incidents.alerts(connection) if each["incident_id"] == self._incident_id]
            chart = chart_of(connection, incident, now=now)
            silences = active_silences(connection, now)
            book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        alert = record_of(Alert, of_it[0]) if of_it else None
        return IncidentReading(
            card=incident_card(
                incident, silences, alert=alert, chart=chart, pin_scope=book.pin_scope(incident["scope"])
            ),
            labels=labels_of(incident),
            entries=timeline(incident),
            details=details_of(incident),
        )

    def _renew(self, reading: IncidentReading | None) -> None:
        self._missing.set_visibility(reading is None)
        self._box.set_visibility(reading is not None)
        if reading is None:
            return
        if self._view is None:
            title = f"Incident {reading.card.incident}: {reading.card.title}"
            self._title.set_text(title)
            page_title(self._context, title)
            with self._top:
                self._view = IncidentView(reading.card, self._dialogs, is_page=True)
        self._view.renew(reading.card)
        for part in (self._labels, self._timeline, self._details):
            part.renew(reading)


def _show_labels(labels: tuple[str, ...]) -> None:
    with ui.row().classes("gap-1"):
        for label in labels:
            ui.chip(label, color=None).props("outline dense square")


def _show_timeline(entries: tuple[Entry, ...]) -> None:
    with ui.timeline(side="right").classes("w-full"):
        for entry in entries:
            item = ui.timeline_entry(title=entry.title, icon=entry.icon).classes("words")
            with item, ui.column().classes("gap-0"):
                Moment(entry.at).classes("faint")
                for line in entry.lines:
                    ui.label(line).classes("words")


def _show_details(lines: tuple[str, ...]) -> None:
    if not lines:
        ui.label("Nothing was said of it.").classes("faint")
        return
    with ui.card().classes("w-full gap-1"):
        for line in lines:
            ui.label(line).classes("words")
