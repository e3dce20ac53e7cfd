"""Forms that change something: pin, release, relearn."""

from collections.abc import Callable, Sequence
from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.actions.baselines import relearn
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.console.session import perform_signed_in, show_session
from cheapdeep_ops.values import ALL_ROUTES

PageAction = Callable[[str], str | None]
"""The action of a button: takes the name of the person, and may return a note for them."""

_ROUTE_OR_ALL: Final = f"Route ({ALL_ROUTES}: all routes)"


def show_forms(context: ConsoleContext) -> None:
    """Show the forms to a person who is signed in."""
    show_session()
    with ui.element("div").classes("w-full grid grid-cols-1 md:grid-cols-3 gap-4"):
        _pin_form(context)
        _release_form(context)
        _relearn_form(context)


def _pin_form(context: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input(_ROUTE_OR_ALL, value=ALL_ROUTES).classes("w-full").mark("pin-route")
        threshold = ui.number("Threshold", min=0, max=1, step=0.01, value=context.settings.base_threshold)
        threshold.classes("w-full").mark("pin-threshold")
        why = ui.input("Why").classes("w-full").mark("pin-why")
        is_new = ui.checkbox("The route is new (if a name like it exists)").mark("pin-new-route")

        def perform(who: str) -> str:
            # An empty field is None, which the operation refuses with a message.
            pinned = pin.perform(
                context, threshold=threshold.value, route=route.value, new_route=is_new.value, author=who, why=why.value
            )
            return str(pinned["note"])

        action_button(context, "Pin", perform, done="Pinned until a person releases it", clears=[why])


def _release_form(context: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input(_ROUTE_OR_ALL, value=ALL_ROUTES).classes("w-full").mark("release-route")
        why = ui.input("Why (may be empty)").classes("w-full").mark("release-why")

        def perform(who: str) -> None:
            release.perform(context, route=route.value, author=who, why=why.value)

        action_button(context, "Release", perform, done="Released: the rules decide again", clears=[why])


def _relearn_form(context: ConsoleContext) -> None:
    with ui.card().classes("w-full"):
        route = ui.input("Route").classes("w-full").mark("relearn-route")
        why = ui.input("Why").classes("w-full").mark("relearn-why")

        def perform(who: str) -> None:
            relearn.perform(context, route=route.value, author=who, why=why.value)

        done = "Learning again, from calls that begin now"
        action_button(context, "Relearn what is normal", perform, done=done, clears=[why])


def action_button(
    context: ConsoleContext,
    name: str,
    action: PageAction,
    *,
    done: str,
    clears: Sequence[ui.input] = (),
    then: Callable[[], object] = bool,
) -> None:
    """Show a button that performs an operation; on success it empties `clears` and calls `then`."""

    async def press() -> None:
        if await perform_signed_in(context, action, done=done):
            for field in clears:
                field.set_value("")
            then()

    ui.button(name, on_click=press)
