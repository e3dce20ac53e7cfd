"""The page with the charts of one route and one period; it refreshes while it is open."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from nicegui import ui

from cheapdeep_ops.guard.console import charts
from cheapdeep_ops.guard.console.charts import Marks
from cheapdeep_ops.guard.console.layout import ConsoleContext, PagePart, heading, live_page, table
from cheapdeep_ops.guard.console.moment import Instant
from cheapdeep_ops.guard.console.readings import marks_of
from cheapdeep_ops.guard.console.routes import known_routes_or_all
from cheapdeep_ops.guard.notify.buttons import FALSE_CONFIDENCE
from cheapdeep_ops.guard.report_types.steps import Series
from cheapdeep_ops.guard.reports.series import series
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

ESCALATION: Final = "base_escalation_rate"
"""The signal of the rules whose incidents are marked in the chart of escalation."""


class ChartPeriod(NamedTuple):
    """The length of a chart and of its steps, in seconds; grades are few, so their charts have longer steps."""

    last_s: int
    step_s: int
    graded_step_s: int


PERIODS: Final[Mapping[str, ChartPeriod]] = {
    "1 hour": ChartPeriod(HOUR_S, MINUTE_S, 6 * MINUTE_S),
    "6 hours": ChartPeriod(6 * HOUR_S, 5 * MINUTE_S, 30 * MINUTE_S),
    "1 day": ChartPeriod(DAY_S, 15 * MINUTE_S, 90 * MINUTE_S),
    "7 days": ChartPeriod(7 * DAY_S, 2 * HOUR_S, 12 * HOUR_S),
    # Whole days, because the store keeps their sums: a chart of a month reads a row a day.
    "30 days": ChartPeriod(30 * DAY_S, DAY_S, 2 * DAY_S),
}


class ChartSpec(NamedTuple):
    """A chart's title, its drawing function, and whether it shows grades.

    `about` names the rules' signals whose incidents it marks; empty: all of them.
    """

    title: str
    draw: Callable[[Series, Marks], charts.Options]
    is_graded: bool = False
    about: str = ""


_PLOTS: Final = (
    ChartSpec("Escalation rate, in percent", charts.escalation, about=ESCALATION),
    ChartSpec("False-confident rate, in percent", charts.false_confidence, is_graded=True, about=FALSE_CONFIDENCE),
    ChartSpec("Calls in each step", charts.calls),
    ChartSpec("Cost of a call, in US dollars", charts.cost),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The options of each chart, and what they mark."""

    options: dict[ChartSpec, charts.Options]
    marks: Marks


async def show_charts(context: ConsoleContext) -> None:
    """Show the charts, at first for all routes and the last hour."""
    known = await asyncio.to_thread(known_routes_or_all, context)
    with ui.row().classes("items-end no-print"):
        route = ui.select(known, value=ALL_ROUTES, label="Route").classes("min-w-[10rem]")
        period = ui.select(list(PERIODS), value=next(iter(PERIODS)), label="Period").classes("min-w-[10rem]")
    with ui.column().classes("w-full gap-3 fades") as content:
        with ui.element("div").classes("panels w-full"):
            canvases = {plot: _canvas(plot) for plot in _PLOTS}
        heading("What is marked")
        marked = PagePart(_show_marks, of=lambda drawn: drawn.marks)

    def show(drawn: Drawn) -> None:
        for plot, canvas in canvases.items():
            # Only on a change, because an update sends the whole chart to the browser.
            if dict(canvas.options) != drawn.options[plot]:
                canvas.options.clear()
                canvas.options.update(drawn.options[plot])
        marked.renew(drawn)

    again = await live_page(context, lambda: drawn_of(context, route.value, PERIODS[period.value]), show, content)
    route.on_value_change(again)
    period.on_value_change(again)


def drawn_of(context: ConsoleContext, route: str, period: ChartPeriod) -> Drawn:
    """The charts of a route and a period. Raises StoreError if the store is unreachable."""
    now = context.clock()
    # Charts with the same steps share one read of the store.
    by_step = {
        step_s: series(context.store, context.settings, scope=route, now=now, last_s=period.last_s, step_s=step_s)
        for step_s in (period.step_s, period.graded_step_s)
    }
    marks = context.read(lambda connection: marks_of(connection, scope=route, since=now - period.last_s, until=now))
    options = {
        plot: plot.draw(by_step[period.graded_step_s if plot.is_graded else period.step_s], _marks_for(plot, marks))
        for plot in _PLOTS
    }
    return Drawn(options, marks)


def _marks_for(plot: ChartSpec, marks: Marks) -> Marks:
    own = tuple(each for each in marks.incidents if not plot.about or each.about == plot.about)
    return Marks(changes=marks.changes, incidents=own)


def _show_marks(marks: Marks) -> None:
    """Show the marks as a list, for those who cannot see the charts."""
    changes = [
        (Instant(each.at), f"threshold {each.threshold:g}", "set by a person" if each.is_human else "set by a rule")
        for each in marks.changes
    ]
    begun = [(Instant(each.since), f"incident {each.incident}", "began or was open") for each in marks.incidents]
    over = [
        (Instant(each.until), f"incident {each.incident}", "was over")
        for each in marks.incidents
        if each.until is not None
    ]
    rows = sorted([*changes, *begun, *over], key=lambda row: -(row[0].at or 0))
    if rows:
        table("What is marked", ("at", "what", "how"), rows)
    else:
        ui.label("No threshold changed, and there was no incident.").classes("faint")


def _canvas(plot: ChartSpec) -> ui.echart:
    with ui.card().classes("w-full gap-1"):
        heading(plot.title)
        return ui.echart({}).classes("w-full h-64").props(f'role="img" aria-label="{plot.title}"')
