"""An incident as a card, whose elements are made once and renewed in place, so that its buttons keep the focus."""

from nicegui import ui

from cheapdeep_ops.guard.console.dialogs import Dialogs
from cheapdeep_ops.guard.console.incident_text import IncidentCard
from cheapdeep_ops.guard.console.layout import PagePart, facts
from cheapdeep_ops.guard.console.moment import Moment
from cheapdeep_ops.guard.formatting import duration, plain


class IncidentView:
    """The card of one incident; with `is_page`, without the link to the page of the incident."""

    def __init__(self, card: IncidentCard, dialogs: Dialogs, *, is_page: bool = False) -> None:
        with ui.card().classes("w-full gap-2") as self.box:
            with ui.row().classes("items-center gap-x-3 gap-y-1 w-full"):
                if not is_page:
                    with ui.element("h3").classes("text-h6"):
                        ui.link(f"Incident {card.incident}: {card.title}", f"/incidents/{card.incident}")
                self._state = PagePart(_show_state, of=lambda shown: (shown.severity, shown.since, shown.until))
            self._figures = ui.label("").classes("words")
            self._age = PagePart(_show_age, of=_ages)
            with ui.element("div").classes("panels w-full"):
                with ui.column().classes("gap-2"):
                    self._facts = PagePart(facts, of=lambda shown: shown.facts)
                self._chart = ui.echart({}).classes("w-full h-56")
                self._chart.props(f'role="img" aria-label="Chart of incident {card.incident}"')
            self._runbook = PagePart(_show_runbook, of=lambda shown: shown.runbook)
            self._attention = PagePart(dialogs.show_attention, of=lambda shown: shown.attention)
        self.renew(card)

    def renew(self, card: IncidentCard) -> None:
        """Show the present figures."""
        self.box.classes(add="over" if card.until else "alarm", remove="alarm" if card.until else "over")
        self._state.renew(card)
        self._figures.set_text(card.figures)
        self._age.renew(card)
        self._facts.renew(card)
        self._runbook.renew(card)
        self._attention.renew(card)
        self._chart.set_visibility(card.chart is not None)
        # Only on a change, because an update sends the whole chart to the browser.
        if card.chart is not None and dict(self._chart.options) != card.chart:
            self._chart.options.clear()
            self._chart.options.update(card.chart)


def _show_state(shown: tuple[str, float, float | None]) -> None:
    severity, since, until = shown
    with ui.row().classes("items-center gap-x-2 gap-y-1"):
        if until is None:
            ui.badge("open", color="negative")
            ui.label("since")
            Moment(since)
        else:
            ui.badge("over", color="positive")
            ui.label(f"after {duration(until - since)};")
            ui.label("it began")
            Moment(since)
        if severity:
            ui.label(f"severity {plain(severity)}").classes("faint")


def _ages(card: IncidentCard) -> tuple[float, float | None] | None:
    """Of when the figures are, and of when the cause and the cost; None if the incident is over."""
    return None if card.until is not None else (card.figures_at, card.facts_at)


def _show_age(ages: tuple[float, float | None] | None) -> None:
    if ages is None:
        return
    figures_at, facts_at = ages
    with ui.row().classes("faint gap-x-4 gap-y-0"):
        _show_when("These figures are of", figures_at)
        # They are computed for a message, which is sent when much has changed: they may be older.
        if facts_at is not None:
            _show_when("Cause and cost are of", facts_at)


def _show_when(what: str, at: float) -> None:
    with ui.row().classes("gap-x-1 gap-y-0"):
        ui.label(what)
        Moment(at)


def _show_runbook(address: str) -> None:
    if address:
        ui.link("Runbook", address, new_tab=True)
