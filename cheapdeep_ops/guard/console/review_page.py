"""The page on which a person labels graded answers, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from cheapdeep_ops.access.tokens import Role
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.actions.labels import label
from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.layout import ConsoleContext, facts, heading
from cheapdeep_ops.guard.console.session import perform_signed_in, show_session, still_has
from cheapdeep_ops.guard.formatting import plain, timestamp
from cheapdeep_ops.guard.report_types.labels import Sample
from cheapdeep_ops.guard.reports.review import next_sample, review_of, shown
from cheapdeep_ops.values import Grade

_KEYS: Final = {Grade.CORRECT: "c", Grade.INCORRECT: "i", Grade.UNSURE: "u"}


class ReviewPanel:
    """The answer that a person sees, and the answers that they have skipped."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._skipped: set[str] = set()
        self._sample: Sample | None = None
        self._content = ui.column().classes("w-full gap-2").props('aria-live="polite"')
        # The buttons are not redrawn, so they keep the keyboard focus.
        with ui.row():
            for verdict, key in _KEYS.items():
                ui.button(verdict.value.capitalize(), on_click=self._labeller(verdict)).props(f"accesskey={key}")
            ui.button("Skip", on_click=self._skip, color=None).props("flat accesskey=s")
        self._figures = ui.column().classes("w-full gap-2")

    async def show(self) -> None:
        """Show the next answer, and how far the grader agrees with the labels."""
        if not still_has(self._context, Role.CONTENT):
            return
        try:
            self._sample, figures = await asyncio.to_thread(self._read)
        except StoreError as error:
            ui.notify(str(error), type="negative")
            return
        self._content.clear()
        with self._content:
            _show_sample(self._sample) if self._sample else ui.label("There is no answer left to label.")
        self._figures.clear()
        with self._figures:
            heading("Agreement of grader and people")
            facts(figures)

    def _read(self) -> tuple[Sample | None, dict[str, str]]:
        with self._context.store.reading() as connection:
            sample = next_sample(connection, self._context.settings, skipped=self._skipped)
            figures = text.review_facts(review_of(connection, self._context.settings))
        return (None if sample is None else shown(sample)), figures

    def _labeller(self, verdict: Grade) -> Callable[[], Awaitable[None]]:
        async def put_label() -> None:
            if self._sample is None:
                return
            # Read here, because another press may show the next answer before the thread runs.
            call_id = self._sample["call_id"]

            def put(who: str) -> None:
                label.perform(self._context, call_id=call_id, verdict=verdict, author=who)

            if await perform_signed_in(self._context, put, done=f"Labelled {verdict.value}"):
                await self.show()

        return put_label

    async def _skip(self) -> None:
        if self._sample is not None:
            self._skipped.add(self._sample["call_id"])
            await self.show()


async def show_review(context: ConsoleContext) -> None:
    """Show answers to label to a person who is signed in."""
    # Without the grader's verdict, because it would bias the person.
    show_session()
    await ReviewPanel(context).show()


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
        ui.label(text).classes("words").mark(f"text-{who}")
