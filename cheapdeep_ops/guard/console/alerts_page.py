"""Acknowledging and silencing: what people have said of alerts, and the dialogs in which they say it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from nicegui import ui
from pydantic import BeforeValidator, Field

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.console.forms import Order, order_button
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.console.session import may_change, show_session
from cheapdeep_ops.guard.console.text import IncidentCard, SilenceCard
from cheapdeep_ops.guard.http.requests import AcknowledgeRequest, SilenceRequest, UnsilenceRequest
from cheapdeep_ops.guard.incidents.attention import LONGEST_SILENCE_S, acknowledge, silence, unsilence
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.model import seconds

_USUAL: Final = "2h"


class SilenceForm(SilenceRequest):
    """The API's order, with its duration as people write it: `2h` for 7200 seconds."""

    for_s: Annotated[float, BeforeValidator(seconds)] = Field(
        gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False
    )


class AlertsPanel:
    """One page's dialog. It is no part of what the page renews, so that nothing typed into it is lost."""

    def __init__(self, desk: ConsoleContext) -> None:
        self._desk = desk
        self._dialog = ui.dialog()

    def show_attention(self, told: IncidentCard) -> None:
        """Who looks after an incident and what is silenced of it, with buttons to say so while it is open."""
        for line in (told.acknowledged, *(each.line for each in told.silences)):
            ui.label(line).classes("words text-bold")
        if told.is_over:
            return
        with ui.row():
            _opener("Acknowledge", f"incident {told.incident}", lambda: self._ask_acknowledgement(told))
            _opener("Silence", f"incident {told.incident}", lambda: self._ask_silence(told.rule, told.scope))

    def show_silences(self, silences: Sequence[SilenceCard]) -> None:
        """The silences that last, each with a button to end it."""
        for each in silences:
            self._show_silence(each)
        if not silences:
            ui.label("Nothing is silenced.")

    def show_silence_button(self) -> None:
        """The way to a silence of any rule."""
        with ui.row():
            _opener("Silence a rule", "", lambda: self._ask_silence("", ""))

    def _show_silence(self, found: SilenceCard) -> None:
        with ui.row().classes("items-center gap-x-4 gap-y-1"):
            ui.label(found.line).classes("words")
            _opener("End", f"silence {found.id}", lambda: self._ask_end(found))

    async def _ask_acknowledgement(self, told: IncidentCard) -> None:
        def form() -> None:
            why = ui.input("Why").classes("w-full").props("autofocus").mark("ack-why")

            def put(who: str) -> None:
                order = AcknowledgeRequest(author=who, why=why.value)
                by = {"author": order.author, "why": order.why}
                acknowledge(self._desk.store, self._desk.settings, told.incident, now=self._desk.clock(), **by)

            self._buttons("Acknowledge it", put, done=f"Incident {told.incident} is acknowledged")

        await self._open(f"Acknowledge incident {told.incident}", form)

    async def _ask_silence(self, rule: str, route: str) -> None:
        try:
            rules = await asyncio.to_thread(self._rules)
        except RulesError as error:  # the file has changed since the guard began
            ui.notify(str(error), type="negative")
            return

        def form() -> None:
            chosen = ui.select(rules, label="Rule", value=rule if rule in rules else rules[0]).classes("w-full")
            where = ui.input("Route (empty: every one)", value=route).classes("w-full").mark("silence-route")
            lasts = ui.input("For how long (30m, 2h, 7d)", value=_USUAL).classes("w-full").mark("silence-for")
            why = ui.input("Why").classes("w-full").props("autofocus").mark("silence-why")

            def put(who: str) -> None:
                said = {"author": who, "why": why.value, "for_s": lasts.value}
                order = SilenceForm.model_validate({"rule": chosen.value, "route": where.value or None, **said})
                self._silence(order)

            self._buttons("Silence it", put, done="Silenced: the rule itself goes on")

        await self._open("Silence a rule", form)

    def _silence(self, order: SilenceRequest) -> None:
        silence(
            self._desk.store,
            self._desk.settings,
            rule=order.rule,
            route=order.route,
            lasts_s=order.for_s,
            author=order.author,
            why=order.why,
            now=self._desk.clock(),
        )

    async def _ask_end(self, found: SilenceCard) -> None:
        def form() -> None:
            ui.label(found.line).classes("words")
            why = ui.input("Why (may be empty)").classes("w-full").props("autofocus").mark("unsilence-why")

            def put(who: str) -> None:
                order = UnsilenceRequest(author=who, why=why.value)
                by = {"author": order.author, "why": order.why}
                unsilence(self._desk.store, found.id, now=self._desk.clock(), **by)

            self._buttons("End it", put, done=f"Silence {found.id} is over")

        await self._open(f"End silence {found.id}", form)

    def _rules(self) -> list[str]:
        return [each.alert for each in read_rulebook(self._desk.settings.rules_file).rules]

    def _buttons(self, name: str, order: Order, *, done: str) -> None:
        with ui.row():
            order_button(name, order, done=done, then=self._dialog.close)
            self._show_cancel()
        show_session()

    def _show_cancel(self) -> None:
        ui.button("Cancel", on_click=self._dialog.close, color=None).props("flat")

    async def _open(self, title: str, form: Callable[[], None]) -> None:
        """Open the dialog with a form for who is signed in, else with the way to sign in."""
        self._dialog.clear()
        self._dialog.props(f'aria-label="{title}"')
        with self._dialog, ui.card().classes("w-full"):
            heading(title)
            if await may_change(self._desk):
                form()
            else:
                self._show_cancel()
        self._dialog.open()


def _opener(name: str, of: str, ask: Callable[[], object]) -> None:
    """A button that asks for more; who only hears it is told what it is of as well."""
    button = ui.button(name, on_click=ask, color=None).props("outline padding='xs md'")
    label = f"{name} {of}".strip()
    button.props(f'aria-label="{label}"').mark(label.replace(" ", "-").lower())
