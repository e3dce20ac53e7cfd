"""Forms that change something: pin, release, relearn; the same orders as the API's, checked in the same way."""

from collections.abc import Callable, Sequence
from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.actions.thresholds import release_threshold, set_threshold
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.console.session import ordered, show_session
from cheapdeep_ops.guard.http.requests import PinRequest, RelearnRequest, ReleaseRequest
from cheapdeep_ops.guard.reports.quality import relearn
from cheapdeep_ops.values import ALL_ROUTES

Order = Callable[[str], object]
"""What is done, given who wants it."""

_EVERY_ROUTE: Final = f"Route ({ALL_ROUTES} is all)"


def show_forms(desk: ConsoleContext) -> None:
    """The forms, for somebody who is signed in."""
    show_session()
    with ui.element("div").classes("w-full grid grid-cols-1 md:grid-cols-3 gap-4"):
        _pin_form(desk)
        _release_form(desk)
        _relearn_form(desk)


def _pin_form(desk: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input(_EVERY_ROUTE, value=ALL_ROUTES).classes("w-full").mark("pin-route")
        threshold = ui.number("Threshold", min=0, max=1, step=0.01, value=desk.settings.base_threshold)
        threshold.classes("w-full").mark("pin-threshold")
        why = ui.input("Why").classes("w-full").mark("pin-why")

        def pin(who: str) -> None:
            # A field that is empty is no number, and is refused as such.
            given = {"threshold": threshold.value, "route": route.value, "author": who, "why": why.value}
            order = PinRequest.model_validate(given)
            by = {"author": order.author, "why": order.why}
            set_threshold(desk.store, desk.settings, order.threshold, scope=order.route, now=desk.clock(), **by)

        order_button("Pin", pin, done="Pinned until it is released", clears=[why])


def _release_form(desk: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input(_EVERY_ROUTE, value=ALL_ROUTES).classes("w-full").mark("release-route")
        why = ui.input("Why (may be empty)").classes("w-full").mark("release-why")

        def release(who: str) -> None:
            order = ReleaseRequest(route=route.value, author=who, why=why.value)
            by = {"author": order.author, "why": order.why}
            release_threshold(desk.store, desk.settings, scope=order.route, now=desk.clock(), **by)

        order_button("Release", release, done="Released: the rules decide again", clears=[why])


def _relearn_form(desk: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input("Route").classes("w-full").mark("relearn-route")
        why = ui.input("Why").classes("w-full").mark("relearn-why")

        def learn_anew(who: str) -> None:
            order = RelearnRequest(route=route.value, author=who, why=why.value)
            by = {"author": order.author, "why": order.why}
            relearn(desk.store, desk.settings, order.route, now=desk.clock(), **by)

        order_button("Relearn what is normal", learn_anew, done="Learned anew, from calls that begin now", clears=[why])


def order_button(
    name: str, order: Order, *, done: str, clears: Sequence[ui.input] = (), then: Callable[[], object] = bool
) -> None:
    """A button that carries an order out; if that goes well, the fields are emptied and `then` is called."""

    async def press() -> None:
        if await ordered(order, done=done):
            for field in clears:
                field.set_value("")
            then()

    ui.button(name, on_click=press)
