"""What the first page shows: one reading of the store, as values that the page's elements take over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.incident_text import IncidentCard, SilenceCard, incident_card, silence_cards
from cheapdeep_ops.guard.console.layout import Cell, ConsoleContext
from cheapdeep_ops.guard.console.readings import chart_of
from cheapdeep_ops.guard.console.tiles import Tile, tiles_of
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.report_types.figures import CallFigures
from cheapdeep_ops.guard.report_types.state import Present
from cheapdeep_ops.guard.reports.costs import call_figures
from cheapdeep_ops.guard.reports.quality import rates_by_route
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.store import counters, incidents, policies, route_labels
from cheapdeep_ops.store.counts import RouteCounts, Sums
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S

MOST_CARDS: Final = 8
"""How many incidents have a card; the others are in the list of alerts."""

Level = Literal["good", "bad", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The state in one glance, and what to do."""

    level: Level
    title: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The values of the first page."""

    now: float
    headline: Headline
    tiles: tuple[Tile, ...]
    cards: tuple[IncidentCard, ...]
    alerts: text.Rows
    silences: tuple[SilenceCard, ...]
    routes: tuple[Mapping[str, Any], ...]
    state: Mapping[str, Cell]


def overview_of(context: ConsoleContext) -> Overview:
    """The state at this moment, with the figures of the last hour. Raises StoreError if the store is unreachable."""
    now = context.clock()
    status = present(context.store, context.settings, now)
    firing = sorted((each for each in status["alerts"] if each["state"] == "firing"), key=lambda each: -each["since"])
    with context.store.reading() as connection:
        active = active_silences(connection, now)
        known = [
            (each, incidents.shown(connection, each["incident_id"]))
            for each in firing
            if each["incident_id"] is not None
        ]
        settings = context.settings
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        cards = tuple(
            incident_card(
                incident,
                active,
                alert=alert,
                chart=chart_of(connection, incident, now=now),
                pin_scope=book.pin_scope(incident["scope"]),
            )
            for alert, incident in known[:MOST_CARDS]
        )
        tiles = tiles_of(connection, context.settings, status, now)
        routes = _route_rows(connection, context, status, now)
    return Overview(
        now=now,
        headline=headline_of(cards, status),
        tiles=tiles,
        cards=cards,
        alerts=text.alert_rows(status["alerts"], [incident for _, incident in known], active),
        silences=silence_cards(active),
        routes=routes,
        state=text.state(status),
    )


def headline_of(cards: Sequence[IncidentCard], status: Present) -> Headline:
    """The state in a few words; pure."""
    firing = [each for each in status["alerts"] if each["state"] == "firing"]
    if not status["watchers"]["evaluates"]:
        known = f" {_count(len(firing), 'alert')} fired then." if firing else ""
        return Headline(
            level="stale",
            title="The guard does not evaluate",
            advice=f"The alerts and thresholds below are not of now.{known} Look at the log of cheapdeep-ops serve.",
        )
    if not firing:
        pending = sum(each["state"] == "pending" for each in status["alerts"])
        waiting = f" {_count(pending, 'rule')} may fire soon." if pending else ""
        return Headline(level="good", title="All well", advice=f"No alert fires.{waiting}{_mode(status)}")
    # The pages of people on call come first.
    first = sorted(cards, key=lambda card: (card.severity != "page", -card.since))[:1]
    title = first[0].title if first else _count(len(firing), "alert")
    more = f", and {_count(len(firing) - 1, 'more alert')}" if len(firing) > 1 else ""
    return Headline(level="bad", title=f"{title}{more}", advice=f"{_done(first)}{_to_do(cards)}{_mode(status)}")


def _done(first: Sequence[IncidentCard]) -> str:
    done = first[0].facts.get("Done", "") if first else ""
    return f"{done}. " if done else ""


def _to_do(cards: Sequence[IncidentCard]) -> str:
    waiting = [card.incident for card in cards if card.attention.acknowledged is None]
    if not waiting:
        return "Every incident is acknowledged."
    named = ", ".join(map(str, sorted(waiting)))
    return f"Read the cause below, then acknowledge incident {named}."


def _mode(status: Present) -> str:
    return "" if status["mode"] == "enforce" else f" In {status['mode']} mode the rules only report."


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _route_rows(
    connection: Connection, context: ConsoleContext, status: Present, now: float
) -> tuple[Mapping[str, Any], ...]:
    """The figures of all routes: two queries, however many routes there are."""
    period = {"since": now - HOUR_S, "until": now}
    most = context.settings.max_routes
    by_route = route_labels.by_shown_route(connection, counters.by_route(connection, **period), most=most)
    wrong = rates_by_route(connection, context.settings, since=now - DAY_S, until=now)
    return tuple(
        text.route_row(
            status["policy"],
            route,
            _figures(counts),
            wrong=wrong.get(route),
            normal=status["normal"].get(route),
            limit=context.settings.max_escalation_rate,
        )
        for route, counts in sorted(by_route.items(), key=lambda item: (-item[1].calls, item[0]))
    )


def _figures(counts: RouteCounts) -> CallFigures:
    names = ("calls", "triaged", "escalated", "base_escalated")
    return call_figures(Sums(**{name: getattr(counts, name) for name in names}))
