"""The addresses of the console's pages."""

from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.console.charts_page import show_charts
from cheapdeep_ops.guard.console.frame import framed
from cheapdeep_ops.guard.console.incident_pages import IncidentPage, show_incidents
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading, live
from cheapdeep_ops.guard.console.now_page import NowPage
from cheapdeep_ops.guard.console.policy_page import show_policy
from cheapdeep_ops.guard.console.review_page import show_review
from cheapdeep_ops.guard.console.session import may_label, may_read
from cheapdeep_ops.guard.formatting import scope_text
from cheapdeep_ops.guard.progress_text import progress_lines, progress_summary
from cheapdeep_ops.guard.report_types.why import Why
from cheapdeep_ops.guard.reports.why import why

_PATIENCE_S: Final = 30.0
"""The timeout of a page, in seconds, for a slow store."""


def add_pages(context: ConsoleContext) -> None:
    """Register all pages with NiceGUI."""
    _page(context, "/", "Now", lambda: NowPage(context).show())
    _page(context, "/charts", "Charts", lambda: show_charts(context))
    _page(context, "/incidents", "Incidents", lambda: show_incidents(context))
    _page(context, "/policy", "Policy", lambda: show_policy(context))
    _page(context, "/review", "Review", lambda: show_review(context), admits=may_label)

    @ui.page("/incidents/{incident_id}", response_timeout=_PATIENCE_S)
    async def incident(incident_id: int) -> None:
        with framed(context, "Incidents", title=f"Incident {incident_id}") as title:
            if await may_read(context):
                await IncidentPage(context, incident_id, title).show()

    @ui.page("/why/{route:path}", response_timeout=_PATIENCE_S)
    async def why_of(route: str) -> None:
        with framed(context, "Now", title=f"Why the rules fire in {scope_text(route)}, or do not"):
            if await may_read(context):
                await live(context, lambda: _why_of(context, route), _show_why)


def _page(
    context: ConsoleContext,
    path: str,
    title: str,
    show: Callable[[], Awaitable[None]],
    *,
    admits: Callable[[ConsoleContext], Awaitable[bool]] = may_read,
) -> None:
    @ui.page(path, response_timeout=_PATIENCE_S)
    async def page() -> None:
        with framed(context, title):
            if await admits(context):
                await show()


def _why_of(context: ConsoleContext, route: str) -> Why:
    return why(context.store, context.settings, route=route, now=context.clock())


def _show_why(found: Why) -> None:
    for line in progress_summary(found):
        ui.label(line).classes("words")
    for title, lines in progress_lines(found):
        with ui.card().classes("w-full gap-1"):
            heading(title)
            for line in lines:
                ui.label(line).classes("words")
