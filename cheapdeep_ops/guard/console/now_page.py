"""The first page: the state in one glance, five figures, open incidents, routes and the guard itself."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.dialogs import Dialogs
from cheapdeep_ops.guard.console.incident_text import IncidentCard
from cheapdeep_ops.guard.console.incident_view import IncidentView
from cheapdeep_ops.guard.console.layout import ConsoleContext, PagePart, facts, heading, live_page, table
from cheapdeep_ops.guard.console.overview import Headline, Overview, overview_of
from cheapdeep_ops.guard.console.routes_table import RoutesTable
from cheapdeep_ops.guard.console.tiles import Tile

_ICONS: Final = {"good": "check_circle", "bad": "warning", "stale": "pause_circle"}
_EDGES: Final = {"good": "over", "bad": "alarm", "stale": ""}


class TileView:
    """One figure, whose elements are renewed in place."""

    def __init__(self, tile: Tile) -> None:
        with ui.card().classes("gap-1 w-full"):
            ui.label(tile.name).classes("faint")
            self._value = ui.label("").classes("figure words")
            self._spark = ui.echart({}, renderer="svg").classes("w-full h-10").props('aria-hidden="true"')
            self._note = ui.label("").classes("faint words text-caption")
        self.renew(tile)

    def renew(self, tile: Tile) -> None:
        """Show the present figure."""
        self._value.set_text(tile.value)
        self._value.classes(add="bad" if tile.is_bad else "", remove="" if tile.is_bad else "bad")
        self._note.set_text(tile.note)
        if dict(self._spark.options) != tile.spark:
            self._spark.options.clear()
            self._spark.options.update(tile.spark)


class NowPage:
    """The parts of the first page; each is renewed in place, so that it keeps the keyboard focus."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._dialogs = Dialogs(context)
        self._incidents: dict[int, IncidentView] = {}
        self._tiles: list[TileView] = []
        with ui.column().classes("w-full gap-4") as self._content:
            self._headline = PagePart(_show_headline, of=attrgetter("headline"), announces=True)
            with ui.column().classes("w-full gap-4 fades"):
                self._tile_box = ui.element("div").classes("tiles w-full")
                # On a phone the style sheet shows it above the figures.
                self._open = ui.column().classes("w-full gap-4 incidents")
                with self._open:
                    heading("Open incidents")
                    self._incident_box = ui.column().classes("w-full gap-3")
                heading("Routes")
                self._routes = RoutesTable()
                heading("Alerts and silences")
                self._alerts = PagePart(_show_alerts, of=attrgetter("alerts"))
                self._silences = PagePart(self._dialogs.show_silences, of=attrgetter("silences"))
                self._dialogs.show_silence_button()
                heading("The guard")
                with ui.card().classes("w-full"):
                    self._state = PagePart(facts, of=attrgetter("state"))

    async def show(self) -> None:
        """Show the page, and go on renewing it."""
        await live_page(self._context, lambda: overview_of(self._context), self._renew, self._content)

    def _renew(self, overview: Overview) -> None:
        self._headline.renew(overview)
        self._renew_tiles(overview.tiles)
        self._renew_incidents(overview.cards)
        self._routes.renew(overview.routes)
        for part in (self._alerts, self._silences, self._state):
            part.renew(overview)

    def _renew_tiles(self, tiles: Sequence[Tile]) -> None:
        if not self._tiles:
            with self._tile_box:
                self._tiles = [TileView(tile) for tile in tiles]
        for view, tile in zip(self._tiles, tiles, strict=True):
            view.renew(tile)

    def _renew_incidents(self, cards: Sequence[IncidentCard]) -> None:
        self._open.set_visibility(bool(cards))
        shown = {card.incident for card in cards}
        for gone in self._incidents.keys() - shown:
            self._incidents.pop(gone).box.delete()
        for place, card in enumerate(cards):
            if card.incident in self._incidents:
                self._incidents[card.incident].renew(card)
                continue
            with self._incident_box:
                view = self._incidents[card.incident] = IncidentView(card, self._dialogs)
            view.box.move(target_index=place)


def _show_headline(headline: Headline) -> None:
    with (
        ui.card().classes(f"state w-full {_EDGES[headline.level]}").props('role="status"'),
        ui.row().classes("items-center no-wrap gap-4"),
    ):
        ui.icon(_ICONS[headline.level]).classes(headline.level).props('aria-hidden="true"')
        with ui.column().classes("gap-0"):
            with ui.element("h2").classes("text-h5 text-bold"):
                ui.label(headline.title).classes("words")
            ui.label(headline.advice).classes("words")


def _show_alerts(alerts: text.Rows) -> None:
    if alerts:
        links = [f"/incidents/{row[0]}" if row[0] else "" for row in alerts]
        table("Alerts", text.ALERTS, alerts, links=links)
    else:
        ui.label("No alert fires.").classes("faint")
