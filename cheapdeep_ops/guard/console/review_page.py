"""Graded answers, one after the other, for a person to judge."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.layout import ConsoleContext, facts, heading
from cheapdeep_ops.guard.console.session import ordered, show_session
from cheapdeep_ops.guard.formatting import plain, timestamp
from cheapdeep_ops.guard.http.requests import LabelRequest
from cheapdeep_ops.guard.report_types.labels import Sample
from cheapdeep_ops.guard.reports.review import label, next_sample, review_of, shown
from cheapdeep_ops.values import Grade

_KEYS: Final = {Grade.CORRECT: "c", Grade.INCORRECT: "i", Grade.UNSURE: "u"}


class ReviewPanel:
    """One person's way through the answers: the one in view, and those that they have passed over."""

    def __init__(self, desk: ConsoleContext) -> None:
        self._desk = desk
        self._skipped: set[str] = set()
        self._sample: Sample | None = None
        self._content = ui.column().classes("w-full gap-2").props('aria-live="polite"')
        # Outside of what is renewed, so that the keyboard stays where it is.
        with ui.row():
            for verdict, key in _KEYS.items():
                ui.button(verdict.value.capitalize(), on_click=self._sayer(verdict)).props(f"accesskey={key}")
            ui.button("Skip", on_click=self._skip, color=None).props("flat accesskey=s")
        self._figures = ui.column().classes("w-full gap-2")

    async def show(self) -> None:
        """Show the next answer, and what the labels say so far."""
        try:
            self._sample, figures = await asyncio.to_thread(self._read)
        except StoreError as error:
            ui.notify(str(error), type="negative")
            return
        self._content.clear()
        with self._content:
            _show_sample(self._sample) if self._sample else ui.label("There is nothing left to label.")
        self._figures.clear()
        with self._figures:
            heading("What the labels say")
            facts(figures)

    def _read(self) -> tuple[Sample | None, dict[str, str]]:
        with self._desk.store.reading() as connection:
            sample = next_sample(connection, self._desk.settings, skipped=self._skipped)
            figures = text.review_facts(review_of(connection, self._desk.settings))
        return (None if sample is None else shown(sample)), figures

    def _sayer(self, verdict: Grade) -> Callable[[], Awaitable[None]]:
        async def say() -> None:
            if self._sample is None:
                return
            call_id = self._sample["call_id"]

            def put(who: str) -> None:
                order = LabelRequest(call_id=call_id, verdict=verdict, author=who)
                label(self._desk.store, order.call_id, order.verdict, author=order.author, now=self._desk.clock())

            if await ordered(put, done=f"Labelled {verdict.value}"):
                await self.show()

        return say

    async def _skip(self) -> None:
        if self._sample is not None:
            self._skipped.add(self._sample["call_id"])
            await self.show()


async def show_review(desk: ConsoleContext) -> None:
    """The answers to label, for somebody who is signed in; the judge's verdict is not shown, for it would sway them."""
    show_session()
    await ReviewPanel(desk).show()


def _show_sample(sample: Sample) -> None:
    facts(
        {
            "call": plain(sample["call_id"]),
            "route": plain(sample["route"]),
            "input class": plain(sample["input_class"]) if sample["input_class"] else "none",
            "at": timestamp(sample["at"]),
        }
    )
    for turn in sample["turns"]:
        _show_text(turn["role"], turn["text"])
    _show_text("answer", sample["answer"])


def _show_text(who: str, text: str) -> None:
    with ui.card().classes("w-full gap-1"):
        ui.label(who).classes("faint")
        ui.label(text).classes("words")
