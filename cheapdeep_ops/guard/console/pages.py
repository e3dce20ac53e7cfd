"""The pages of the console."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Final
from urllib.parse import quote

from nicegui import ui

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.alerts_page import AlertsPanel
from cheapdeep_ops.guard.console.charts_page import show_charts
from cheapdeep_ops.guard.console.forms import show_forms
from cheapdeep_ops.guard.console.layout import ConsoleContext, PagePart, facts, framed, heading, live, live_parts, table
from cheapdeep_ops.guard.console.review_page import show_review
from cheapdeep_ops.guard.console.session import may_change, may_label, may_read
from cheapdeep_ops.guard.console.text import IncidentCard, SilenceCard
from cheapdeep_ops.guard.formatting import scope_text
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.progress_text import progress_lines, progress_summary
from cheapdeep_ops.guard.report_types.why import Why
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.guard.reports.series import latest
from cheapdeep_ops.guard.reports.status import policy_state, present
from cheapdeep_ops.guard.reports.why import why
from cheapdeep_ops.guard.state_text import NORMAL_TITLES, normal_rows
from cheapdeep_ops.store import counters, incidents, policies
from cheapdeep_ops.store.records import IncidentStory
from cheapdeep_ops.store.stories import MOST_INCIDENTS, story
from cheapdeep_ops.units import HOUR_S
from cheapdeep_ops.values import ALL_ROUTES

_MOST_ROUTES: Final = 50
_LISTED: Final = 100
_PATIENCE_S: Final = 30.0
"""The timeout of a page, in seconds, for a slow store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The text of the first page; a part of the page is drawn again when its text changes."""

    firing: tuple[IncidentCard, ...]
    alerts: text.Rows
    silences: tuple[SilenceCard, ...]
    figures: Mapping[str, str]
    routes: text.Rows
    names: tuple[str, ...]
    """The routes of those rows."""
    state: Mapping[str, str]


def add_pages(context: ConsoleContext) -> None:
    """Register all pages with NiceGUI."""
    _page(context, "/", "Now", lambda: _show_now(context))
    _page(context, "/charts", "Charts", lambda: show_charts(context))
    _page(context, "/incidents", "Incidents", lambda: live(context, lambda: _incidents_of(context), _show_incidents))
    _page(context, "/policy", "Policy", lambda: _show_policy_and_forms(context))
    _page(context, "/review", "Review", lambda: show_review(context), admits=may_label)

    @ui.page("/incidents/{incident_id}", response_timeout=_PATIENCE_S)
    async def incident(incident_id: int) -> None:
        with framed("Incidents"):
            if await may_read(context):
                panel = AlertsPanel(context)
                await live(context, lambda: _story_of(context, incident_id), lambda story: _show_story(story, panel))

    @ui.page("/why/{route:path}", response_timeout=_PATIENCE_S)
    async def why_of(route: str) -> None:
        with framed("Now"):
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
        with framed(title):
            if await admits(context):
                await show()


async def _show_policy_and_forms(context: ConsoleContext) -> None:
    await live(context, lambda: _policy_of(context), _show_policy)
    heading("Change")
    if await may_change(context):
        show_forms(context)


def _overview_of(context: ConsoleContext) -> Overview:
    """The state at this moment, with the figures of the last hour. Raises StoreError if the store is unreachable."""
    now = context.clock()
    since = now - HOUR_S
    status = present(context.store, context.settings, now)
    firing = {each["incident_id"] for each in status["alerts"] if each["state"] == "firing"}
    with context.store.reading() as connection:
        stories = [story(connection, incident_id) for incident_id in sorted(filter(None, firing), reverse=True)]
        active = active_silences(connection, now)
        # A limit, because each route adds a query and a row.
        routes = sorted(counters.by_route(connection, since=since, until=now))[:_MOST_ROUTES]
        by_route = {route: latest(connection, scope=route, since=since, until=now) for route in routes}
        overall = latest(connection, since=since, until=now)
    return Overview(
        firing=tuple(text.incident_card(each, active) for each in stories),
        alerts=text.alert_rows(status["alerts"], stories, active),
        silences=text.silence_cards(active),
        figures=text.figures(overall),
        routes=text.route_rows(status["policy"], by_route),
        names=tuple(sorted(by_route)),
        state=text.state(status),
    )


async def _show_now(context: ConsoleContext) -> None:
    """Show the parts of the first page."""
    # The button is not in a part, so a refresh does not take its keyboard focus.
    panel = AlertsPanel(context)
    heading("Alerts")
    alerts = PagePart(lambda shown: _show_alerts(shown, panel), of=attrgetter("firing", "alerts"), announces=True)
    heading("Silences")
    silences = PagePart(panel.show_silences, of=attrgetter("silences"))
    panel.show_silence_button()
    heading("The last hour")
    figures = PagePart(facts, of=attrgetter("figures"))
    heading("Routes, the last hour")
    routes = PagePart(_show_routes, of=attrgetter("routes", "names"))
    heading("The guard")
    state = PagePart(facts, of=attrgetter("state"))
    await live_parts(context, lambda: _overview_of(context), [alerts, silences, figures, routes, state])


def _show_alerts(shown: tuple[tuple[IncidentCard, ...], text.Rows], panel: AlertsPanel) -> None:
    firing, alerts = shown
    for card in firing:
        _show_card(card, panel)
    table("Alerts", text.ALERTS, alerts) if alerts else ui.label("No alert fires.")


def _show_routes(shown: tuple[text.Rows, tuple[str, ...]]) -> None:
    routes, names = shown
    links = [f"/why/{quote(name, safe='')}" for name in names]
    table("Routes", text.ROUTES, routes, links=links) if routes else ui.label("There were no calls.")


def _why_of(context: ConsoleContext, route: str) -> Why:
    return why(context.store, context.settings, route=route, now=context.clock())


def _show_why(found: Why) -> None:
    heading(f"Why the rules fire in {scope_text(found['route'])}, or do not")
    for line in progress_summary(found):
        ui.label(line).classes("words")
    for title, lines in progress_lines(found):
        heading(title)
        for line in lines:
            ui.label(line).classes("words")


def _show_card(card: IncidentCard, panel: AlertsPanel) -> None:
    with ui.card().classes(f"{'over' if card.is_over else 'alarm'} w-full gap-1"):
        ui.link(f"Incident {card.incident}: {card.title}", f"/incidents/{card.incident}").classes("words text-bold")
        for line in card.lines:
            ui.label(line).classes("words")
        panel.show_attention(card)


def _incidents_of(context: ConsoleContext) -> list[tuple[int, tuple[str, ...]]]:
    with context.store.reading() as connection:
        newest = incidents.incidents(connection, limit=_LISTED)
    return [(each["id"], tuple(row)) for each, row in zip(newest, text.incident_rows(newest), strict=True)]


def _show_incidents(rows: list[tuple[int, tuple[str, ...]]]) -> None:
    if not rows:
        ui.label("There were no incidents.")
        return
    links = [f"/incidents/{incident_id}" for incident_id, _ in rows]
    table("Incidents", text.INCIDENTS, [row for _, row in rows], links=links)


def _story_of(context: ConsoleContext, incident_id: int) -> tuple[IncidentStory, IncidentCard] | None:
    # The number comes from the page's address and may be larger than a row id.
    if not 0 < incident_id <= MOST_INCIDENTS:
        return None
    with context.store.reading() as connection:
        try:
            incident = story(connection, incident_id)
        except MissingError:
            return None
        return incident, text.incident_card(incident, active_silences(connection, context.clock()))


def _show_story(story_and_card: tuple[IncidentStory, IncidentCard] | None, panel: AlertsPanel) -> None:
    if story_and_card is None:
        ui.label("There is no such incident.")
        return
    incident, card = story_and_card
    _show_card(card, panel)
    facts(text.incident_facts(incident))
    heading("Silences")
    panel.show_silences(card.silences)
    heading("Messages")
    messages = text.message_rows(incident["messages"])
    table("Messages", ("at", "message", "delivered"), messages) if messages else ui.label("There were no messages.")
    heading("Policy changes")
    _show_changes(text.change_rows(incident["policy_changes"]))


def _show_changes(rows: text.Rows) -> None:
    table("Changes", text.CHANGES, rows) if rows else ui.label("There were no changes.")


def _policy_of(context: ConsoleContext) -> tuple[dict[str, str], text.Rows, text.Rows]:
    with context.store.reading() as connection:
        policy = policy_state(connection, context.settings)
        history = policies.history(connection, limit=_LISTED)
        normals = baselines_of(connection, context.settings)
    scopes = {scope_text(name): text.threshold(policy, name) for name in sorted({ALL_ROUTES, *policy["scopes"]})}
    return scopes, text.change_rows(history), normal_rows(normals)


def _show_policy(shown: tuple[dict[str, str], text.Rows, text.Rows]) -> None:
    scopes, changes, normals = shown
    heading("Thresholds in force")
    facts(scopes)
    heading("Changes")
    _show_changes(changes)
    heading("What is normal")
    table("Normal", NORMAL_TITLES, normals) if normals else ui.label("No answer was graded yet.")
