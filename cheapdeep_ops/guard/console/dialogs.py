"""Acknowledgements, silences and pins: how pages show them, and the dialogs that create them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Final

from nicegui import ui
from pydantic import BeforeValidator, Field

from cheapdeep_ops.errors import CheapdeepError, PolicyError, RulesError, StoreError
from cheapdeep_ops.guard.actions.alerts import LONGEST_SILENCE_S, SilenceRequest, acknowledge, silence, unsilence
from cheapdeep_ops.guard.actions.baselines import blindness, relearn
from cheapdeep_ops.guard.actions.thresholds import release
from cheapdeep_ops.guard.console.forms import PIN_BY_FORM, PIN_DONE, PIN_LASTS, PageAction, action_button
from cheapdeep_ops.guard.console.incident_text import LONGEST, Attention, SilenceCard
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.console.moment import Moment
from cheapdeep_ops.guard.console.routes import known_routes, route_select
from cheapdeep_ops.guard.console.session import can_act, may_change, show_session
from cheapdeep_ops.guard.formatting import plain, scope_text
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.model import seconds
from cheapdeep_ops.guard.state_text import blindness_text
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES

_USUAL: Final = "2h"
_NOT_ALLOWED: Final = "Not signed in for changes: asks for a token first"


class SilenceForm(SilenceRequest):
    """The request with a duration as people write it: `2h` for 7200 seconds."""

    for_s: Annotated[float, BeforeValidator(seconds)] = Field(
        gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False
    )


_SILENCE_BY_FORM: Final = replace(silence, request=SilenceForm)


class Dialogs:
    """The controls of a page, with one dialog. The page does not refresh the dialog, so its input stays."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._dialog = ui.dialog()

    def show_attention(self, shown: Attention) -> None:
        """Show the acknowledgement and the silences of an incident, and buttons while it is open."""
        with ui.row().classes("items-center gap-x-2 gap-y-1"):
            if shown.acknowledged is None:
                ui.label("Not acknowledged").classes("text-bold" if shown.is_over else "text-bold bad")
            else:
                known = shown.acknowledged
                ui.label(f"Acknowledged by {plain(known['author'])}: {plain(known['why'], LONGEST)}").classes("words")
                Moment(known["at"])
        for each in shown.silences:
            self._show_silence(each)
        if shown.is_over:
            return
        of = f"incident {shown.incident}"
        with ui.row().classes("gap-2 no-print"):
            # One main button: what is to be done first.
            is_first = shown.acknowledged is None
            self._opener("Acknowledge", of, lambda: self._ask_acknowledgement(shown), is_main=is_first)
            self._opener("Silence", of, lambda: self._ask_silence(shown.rule, shown.scope, shown.incident))
            self._opener("Pin threshold", of, lambda: self._ask_pin(shown.scope))
            if (pinned := shown.pin_scope) is not None:
                self._opener("Release pin", of, lambda: self._ask_release(pinned))
            if shown.may_relearn:
                self._opener("Learn as normal", of, lambda: self._ask_relearn(shown))

    def show_silences(self, silences: Sequence[SilenceCard]) -> None:
        """Show the active silences, each with a button to end it."""
        for each in silences:
            self._show_silence(each)
        if not silences:
            ui.label("No rule is silenced.").classes("faint")

    def show_silence_button(self) -> None:
        """Show the button to silence any rule."""
        with ui.row():
            self._opener("Silence a rule", "", lambda: self._ask_silence("", ""))

    def _show_silence(self, card: SilenceCard) -> None:
        with ui.row().classes("items-center gap-x-4 gap-y-1"):
            ui.label(card.line).classes("words")
            if card.until is not None:
                Moment(card.until)
            self._opener("End", f"silence {card.id}", lambda: self._ask_end(card))

    async def _ask_acknowledgement(self, shown: Attention) -> None:
        def form() -> None:
            why = ui.input("Why").classes("w-full").props("autofocus").mark("ack-why")

            def put(who: str) -> None:
                acknowledge.perform(self._context, incident_id=shown.incident, author=who, why=why.value)

            self._buttons("Acknowledge it", put, done=f"Incident {shown.incident} is acknowledged")

        await self._open(f"Acknowledge incident {shown.incident}", form)

    async def _ask_silence(self, rule: str, route: str, incident: int | None = None) -> None:
        try:
            rules, routes = await asyncio.to_thread(self._choices)
        except (RulesError, StoreError) as error:  # the file may have changed since the guard started
            ui.notify(str(error), type="negative")
            return

        def form() -> None:
            chosen = ui.select(rules, label="Rule", value=rule if rule in rules else rules[0]).classes("w-full")
            where = route_select({route: plain(route), **routes} if route else routes, value=route or ALL_ROUTES)
            where.mark("silence-route")
            lasts = ui.input("Duration (30m, 2h, 7d)", value=_USUAL).classes("w-full").mark("silence-for")
            is_bound = ui.checkbox(f"End it when incident {incident} is over").mark("silence-until-over")
            is_bound.set_visibility(incident is not None)
            why = ui.input("Why").classes("w-full").props("autofocus").mark("silence-why")

            def put(who: str) -> None:
                # The operation expects None for all routes.
                silenced = {"rule": chosen.value, "for_s": lasts.value}
                silenced["route"] = None if where.value == ALL_ROUTES else where.value
                # The incident's message says so, unless another rule or route was chosen.
                if is_bound.value or (chosen.value == rule and where.value in (ALL_ROUTES, route)):
                    silenced |= {"incident_id": incident, "ends_with_incident": is_bound.value}
                _SILENCE_BY_FORM.perform(self._context, **silenced, author=who, why=why.value)

            self._buttons("Silence it", put, done="Silenced: the rule still raises thresholds")

        await self._open("Silence a rule", form)

    async def _ask_pin(self, scope: str) -> None:
        settings = self._context.settings
        base, raised = settings.base_threshold, settings.raised_threshold
        choices = {base: f"{base:g}: as in calm times", raised: f"{raised:g}: raised, more calls go to the deep tier"}

        def form() -> None:
            ui.label("While it is pinned, the rules only report.").classes("faint")
            chosen = ui.radio(choices, value=raised).mark("pin-choice")
            lasts = ui.input(PIN_LASTS).classes("w-full").mark("pin-dialog-for")
            why = ui.input("Why").classes("w-full").props("autofocus").mark("pin-dialog-why")

            def put(who: str) -> str:
                pinned = PIN_BY_FORM.perform(
                    self._context,
                    threshold=chosen.value,
                    route=scope,
                    for_s=lasts.value.strip(),
                    author=who,
                    why=why.value,
                )
                return str(pinned["note"])

            self._buttons("Pin it", put, done=PIN_DONE)

        await self._open(f"Pin the threshold of {scope_text(scope)}", form)

    def show_release(self, scope: str) -> None:
        """Show the button that releases the pin of a scope."""
        self._opener("Release", f"the pin of {scope_text(scope)}", lambda: self._ask_release(scope))

    async def _ask_release(self, scope: str) -> None:
        try:
            seen = await asyncio.to_thread(self._context.read, lambda connection: self._version(connection, scope))
        except StoreError as error:
            ui.notify(str(error), type="negative")
            return

        def unchanged(connection: Connection) -> None:
            if self._version(connection, scope) != seen:
                raise PolicyError("the threshold was changed meanwhile, and nothing was done: look at it again")

        def form() -> None:
            ui.label("The rules decide again from their next evaluation on.").classes("faint")
            why = ui.input("Why (may be empty)").classes("w-full").props("autofocus").mark("release-why")

            def put(who: str) -> None:
                release.perform(replace(self._context, before=unchanged), route=scope, author=who, why=why.value)

            self._buttons("Release it", put, done="Released: the rules decide again")

        await self._open(f"Release the pin of {scope_text(scope)}", form)

    def _version(self, connection: Connection, scope: str) -> int:
        """The number of the last change of the policy in force for a scope."""
        settings = self._context.settings
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        return book.for_route(scope).version

    async def _ask_relearn(self, shown: Attention) -> None:
        def blind(connection: Connection) -> tuple[int, float | None]:
            now = self._context.clock()
            return blindness(connection, self._context.settings, shown.rule, shown.scope, now=now)

        try:
            needed, blind_s = await asyncio.to_thread(self._context.read, blind)
        except CheapdeepError as error:
            ui.notify(str(error), type="negative")
            return

        def form() -> None:
            ui.label(blindness_text(needed, blind_s)).classes("words")
            why = ui.input("Why").classes("w-full").props("autofocus").mark("relearn-dialog-why")

            def put(who: str) -> None:
                relearn.perform(self._context, route=shown.scope, author=who, why=why.value)

            self._buttons("Learn it", put, done="Learning again, from calls that begin now")

        await self._open(f"Learn as normal: {scope_text(shown.scope)}", form)

    async def _ask_end(self, card: SilenceCard) -> None:
        def form() -> None:
            ui.label(card.line).classes("words")
            why = ui.input("Why (may be empty)").classes("w-full").props("autofocus").mark("unsilence-why")

            def put(who: str) -> None:
                unsilence.perform(self._context, silence_id=card.id, author=who, why=why.value)

            self._buttons("End it", put, done=f"Silence {card.id} has ended")

        await self._open(f"End silence {card.id}", form)

    def _choices(self) -> tuple[list[str], dict[str, str]]:
        """The rules, and the routes that calls have named."""
        rules = [each.alert for each in read_rulebook(self._context.settings.rules_file).rules]
        return rules, known_routes(self._context)

    def _buttons(self, name: str, action: PageAction, *, done: str) -> None:
        with ui.row():
            action_button(self._context, name, action, done=done, then=self._dialog.close)
            self._show_cancel()
        show_session()

    def _show_cancel(self) -> None:
        ui.button("Cancel", on_click=self._dialog.close, color=None).props("flat")

    async def _open(self, title: str, form: Callable[[], None]) -> None:
        """Open the dialog, with the form for a person who is signed in, else with the fields to sign in."""
        self._dialog.clear()
        # Not by a text of properties: a route may have quotes in its name.
        self._dialog.props["aria-label"] = title
        with self._dialog, ui.card().classes("w-full"):
            heading(title)
            if await may_change(self._context):
                form()
            else:
                self._show_cancel()
        self._dialog.open()

    def _opener(self, name: str, of: str, ask: Callable[[], object], *, is_main: bool = False) -> None:
        """Show a button that opens a dialog; `of` is the incident or silence.

        To a person who is not signed in, the button says that its dialog first asks for that.
        """
        is_allowed = can_act(self._context)
        button = ui.button(name, on_click=ask, color="primary" if is_main and is_allowed else None)
        button.props("unelevated padding='xs md'" if is_main and is_allowed else "outline padding='xs md'")
        if not is_allowed:
            button.props["icon"] = "lock"
            button.props["title"] = _NOT_ALLOWED
        # Screen readers list buttons without their surroundings, so the label names the incident or silence.
        label = f"{name} {of}".strip()
        button.props["aria-label"] = label
        button.mark(label.replace(" ", "-").lower())
