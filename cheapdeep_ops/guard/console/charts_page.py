"""The page with the charts of one route and one period; it refreshes while it is open."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from nicegui import ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.console import charts
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.formatting import plain
from cheapdeep_ops.guard.report_types.steps import Series
from cheapdeep_ops.guard.reports.series import series
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES


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
    """A chart's title, its drawing function, and whether it shows grades."""

    title: str
    draw: Callable[[Series], charts.Options]
    is_graded: bool = False


_PLOTS: Final = (
    ChartSpec("Escalation rate, in percent", charts.escalation),
    ChartSpec("Calls in each step", charts.calls),
    ChartSpec("Wrong among shipped, in percent, with its 95% interval", charts.false_confidence, is_graded=True),
    ChartSpec("Cost of a call, in US dollars", charts.cost),
)


async def show_charts(context: ConsoleContext) -> None:
    """Show the charts, at first for all routes and the last hour."""
    with ui.row().classes("items-end"):
        route = ui.select(await _routes_of(context), value=ALL_ROUTES, label="Route").classes("min-w-[10rem]")
        period = ui.select(list(PERIODS), value=next(iter(PERIODS)), label="Period").classes("min-w-[10rem]")
    problem = ui.label("").classes("words").props('role="status"')
    canvases = {plot: _canvas(plot) for plot in _PLOTS}

    async def renew() -> None:
        try:
            drawn = await asyncio.to_thread(drawn_of, context, route.value, PERIODS[period.value])
        except StoreError as error:
            problem.set_text(str(error))
            return
        problem.set_text("")
        for plot, canvas in canvases.items():
            # Only on a change, because an update sends the whole chart to the browser.
            if dict(canvas.options) != drawn[plot]:
                canvas.options.clear()
                canvas.options.update(drawn[plot])

    await renew()
    route.on_value_change(renew)
    period.on_value_change(renew)
    ui.timer(context.refresh_s, renew, immediate=False)


def drawn_of(context: ConsoleContext, route: str, period: ChartPeriod) -> dict[ChartSpec, charts.Options]:
    """The options of each chart. Raises StoreError if the store is unreachable."""
    now = context.clock()
    # Charts with the same steps share one read of the store.
    by_step = {
        step_s: series(context.store, context.settings, scope=route, now=now, last_s=period.last_s, step_s=step_s)
        for step_s in (period.step_s, period.graded_step_s)
    }
    return {plot: plot.draw(by_step[period.graded_step_s if plot.is_graded else period.step_s]) for plot in _PLOTS}


async def _routes_of(context: ConsoleContext) -> dict[str, str]:
    """The name on the page of each route with counters."""
    try:
        known = await asyncio.to_thread(shown_routes, context.store, context.settings)
    except StoreError:
        known = []  # the charts show this error
    return {ALL_ROUTES: "all routes", **{route: plain(route) for route in known}}


def shown_routes(store: Store, settings: Settings) -> list[str]:
    """The routes with counters of which there are charts, sorted. Raises StoreError if the store is unreachable."""
    with store.reading() as connection:
        return route_labels.shown_routes(connection, counters.routes(connection), most=settings.max_routes)


def _canvas(plot: ChartSpec) -> ui.echart:
    heading(plot.title)
    return ui.echart({}).classes("w-full h-64").props(f'role="img" aria-label="{plot.title}"')
