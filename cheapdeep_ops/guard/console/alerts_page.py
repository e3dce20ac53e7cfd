"""Acknowledgements and silences: how pages show them, and the dialogs that create them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Final

from nicegui import ui
from pydantic import BeforeValidator, Field

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.actions.alerts import LONGEST_SILENCE_S, SilenceRequest, acknowledge, silence, unsilence
from cheapdeep_ops.guard.console.forms import PageAction, action_button
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.console.session import may_change, show_session
from cheapdeep_ops.guard.console.text import IncidentCard, SilenceCard
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.model import seconds

_USUAL: Final = "2h"


class SilenceForm(SilenceRequest):
    """The request with a duration as people write it: `2h` for 7200 seconds."""

    for_s: Annotated[float, BeforeValidator(seconds)] = Field(
        gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False
    )


_SILENCE_BY_FORM: Final = replace(silence, request=SilenceForm)


class AlertsPanel:
    """The alert controls of a page, with one dialog. The page does not refresh the dialog, so its input stays."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._dialog = ui.dialog()

    def show_attention(self, card: IncidentCard) -> None:
        """Show the acknowledgement and the silences of an incident, and buttons while it is open."""
        for line in (card.acknowledged, *(each.line for each in card.silences)):
            ui.label(line).classes("words text-bold")
        if card.is_over:
            return
        with ui.row():
            _opener("Acknowledge", f"incident {card.incident}", lambda: self._ask_acknowledgement(card))
            _opener("Silence", f"incident {card.incident}", lambda: self._ask_silence(card.rule, card.scope))

    def show_silences(self, silences: Sequence[SilenceCard]) -> None:
        """Show the active silences, each with a button to end it."""
        for each in silences:
            self._show_silence(each)
        if not silences:
            ui.label("No rule is silenced.")

    def show_silence_button(self) -> None:
        """Show the button to silence any rule."""
        with ui.row():
            _opener("Silence a rule", "", lambda: self._ask_silence("", ""))

    def _show_silence(self, card: SilenceCard) -> None:
        with ui.row().classes("items-center gap-x-4 gap-y-1"):
            ui.label(card.line).classes("words")
            _opener("End", f"silence {card.id}", lambda: self._ask_end(card))

    async def _ask_acknowledgement(self, card: IncidentCard) -> None:
        def form() -> None:
            why = ui.input("Why").classes("w-full").props("autofocus").mark("ack-why")

            def put(who: str) -> None:
                acknowledge.perform(self._context, incident_id=card.incident, author=who, why=why.value)

            self._buttons("Acknowledge it", put, done=f"Incident {card.incident} is acknowledged")

        await self._open(f"Acknowledge incident {card.incident}", form)

    async def _ask_silence(self, rule: str, route: str) -> None:
        try:
            rules = await asyncio.to_thread(self._rules)
        except RulesError as error:  # the file has changed since the guard started
            ui.notify(str(error), type="negative")
            return

        def form() -> None:
            chosen = ui.select(rules, label="Rule", value=rule if rule in rules else rules[0]).classes("w-full")
            where = ui.input("Route (empty: all routes)", value=route).classes("w-full").mark("silence-route")
            lasts = ui.input("Duration (30m, 2h, 7d)", value=_USUAL).classes("w-full").mark("silence-for")
            why = ui.input("Why").classes("w-full").props("autofocus").mark("silence-why")

            def put(who: str) -> None:
                # An empty field means all routes, and the operation expects None for that.
                silenced = {"rule": chosen.value, "route": where.value or None, "for_s": lasts.value}
                _SILENCE_BY_FORM.perform(self._context, **silenced, author=who, why=why.value)

            self._buttons("Silence it", put, done="Silenced: the rule still raises thresholds")

        await self._open("Silence a rule", form)

    async def _ask_end(self, card: SilenceCard) -> None:
        def form() -> None:
            ui.label(card.line).classes("words")
            why = ui.input("Why (may be empty)").classes("w-full").props("autofocus").mark("unsilence-why")

            def put(who: str) -> None:
                unsilence.perform(self._context, silence_id=card.id, author=who, why=why.value)

            self._buttons("End it", put, done=f"Silence {card.id} has ended")

        await self._open(f"End silence {card.id}", form)

    def _rules(self) -> list[str]:
        return [each.alert for each in read_rulebook(self._context.settings.rules_file).rules]

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
        self._dialog.props(f'aria-label="{title}"')
        with self._dialog, ui.card().classes("w-full"):
            heading(title)
            if await may_change(self._context):
                form()
            else:
                self._show_cancel()
        self._dialog.open()


def _opener(name: str, of: str, ask: Callable[[], object]) -> None:
    """Show a button that opens a dialog; `of` is the incident or silence."""
    # Screen readers list buttons without their surroundings, so the label names the incident or silence.
    button = ui.button(name, on_click=ask, color=None).props("outline padding='xs md'")
    label = f"{name} {of}".strip()
    button.props(f'aria-label="{label}"').mark(label.replace(" ", "-").lower())
