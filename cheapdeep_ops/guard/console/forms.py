"""Forms that change something: pin, relearn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final

from nicegui import ui
from pydantic import BeforeValidator, Field

from cheapdeep_ops.guard.actions.baselines import relearn
from cheapdeep_ops.guard.actions.thresholds import LONGEST_PIN_S, PinRequest, pin
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.console.routes import route_select
from cheapdeep_ops.guard.console.session import perform_signed_in, show_session
from cheapdeep_ops.guard.rules.model import seconds
from cheapdeep_ops.values import ALL_ROUTES


class PinForm(PinRequest):
    """The request with a duration as people write it: `4h` for 14,400 seconds, nothing until a person releases it."""

    for_s: Annotated[float | None, BeforeValidator(lambda text: seconds(text) if text else None)] = Field(
        default=None, gt=0, le=LONGEST_PIN_S, strict=True, allow_inf_nan=False
    )


PIN_BY_FORM: Final = replace(pin, request=PinForm)
PIN_LASTS: Final = "Duration (30m, 4h, 7d; empty: until a person releases it)"
PIN_DONE: Final = "Pinned: the rules only report"
PageAction = Callable[[str], str | None]
"""The action of a button: takes the name of the person, and may return a note for them."""

_NEW: Final = "A route that no call has named yet"


def show_forms(context: ConsoleContext, routes: Mapping[str, str]) -> None:
    """Show the forms to a person who is signed in; `routes` are the known ones."""
    show_session()
    with ui.element("div").classes("panels w-full"):
        _pin_form(context, routes)
        _relearn_form(context, routes)


def _pin_form(context: ConsoleContext, routes: Mapping[str, str]) -> None:
    with ui.card().classes("w-full"):
        heading("Pin a threshold", level=3)
        ui.label("While it is pinned, the rules only report.").classes("faint")
        route = route_select(routes, value=ALL_ROUTES).mark("pin-route")
        threshold = ui.number("Threshold", min=0, max=1, step=0.01, value=context.settings.base_threshold)
        threshold.classes("w-full").mark("pin-threshold")
        lasts = ui.input(PIN_LASTS).classes("w-full").mark("pin-for")
        why = ui.input("Why").classes("w-full").mark("pin-why")
        # A deliberate act, because a misspelt name would pin nothing.
        with ui.expansion(_NEW).classes("w-full").mark("pin-new-route"):
            named = ui.input("Name of the new route").classes("w-full").mark("pin-new-name")
            is_new = ui.checkbox("It is new, although a name like it exists").mark("pin-is-new")

        def perform(who: str) -> str:
            # An empty field is None, which the operation refuses with a message.
            pinned = PIN_BY_FORM.perform(
                context,
                threshold=threshold.value,
                route=named.value or route.value,
                new_route=is_new.value,
                for_s=lasts.value.strip(),
                author=who,
                why=why.value,
            )
            return str(pinned["note"])

        action_button(context, "Pin", perform, done=PIN_DONE, clears=[why, named, lasts])


def _relearn_form(context: ConsoleContext, routes: Mapping[str, str]) -> None:
    own = {name: label for name, label in routes.items() if name != ALL_ROUTES}
    with ui.card().classes("w-full"):
        heading("Learn anew what is normal", level=3)
        ui.label("For a route whose answers have changed for good. Until enough are graded, it is not judged.").classes(
            "faint words"
        )
        if not own:
            ui.label("No call has named a route yet.")
            return
        route = route_select(own, value=next(iter(own))).mark("relearn-route")
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

    ui.button(name, on_click=press).mark(f"do-{name.lower().replace(' ', '-')}")
