"""The routes that forms and charts offer: those that calls have named."""

from collections.abc import Mapping

from nicegui import ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.formatting import plain
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.values import ALL_ROUTES


def shown_routes(store: Store, settings: Settings) -> list[str]:
    """The routes with counters of which there are charts, sorted. Raises StoreError if the store is unreachable."""
    with store.reading() as connection:
        return route_labels.shown_routes(connection, counters.routes(connection), most=settings.max_routes)


def known_routes(context: ConsoleContext) -> dict[str, str]:
    """By route, its name on a page; all routes together come first. Raises StoreError."""
    known = shown_routes(context.store, context.settings)
    return {ALL_ROUTES: "all routes", **{route: plain(route) for route in known}}


def known_routes_or_all(context: ConsoleContext) -> dict[str, str]:
    """The known routes; only all of them together while the store is unreachable."""
    try:
        return known_routes(context)
    except StoreError:
        return {ALL_ROUTES: "all routes"}  # the page says why


def route_select(routes: Mapping[str, str], *, value: str) -> ui.select:
    """Show a choice among routes; people may type a part of a name."""
    return ui.select(dict(routes), value=value, label="Route", with_input=True).classes("w-full")
