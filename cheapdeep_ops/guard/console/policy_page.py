"""The page about thresholds: those in force, their history, and what is normal."""

import asyncio
from dataclasses import dataclass
from typing import Final

from nicegui import ui

from cheapdeep_ops.guard.console import text
from cheapdeep_ops.guard.console.dialogs import Dialogs
from cheapdeep_ops.guard.console.forms import show_forms
from cheapdeep_ops.guard.console.layout import Cell, ConsoleContext, PagePart, heading, live_page, table
from cheapdeep_ops.guard.console.moment import Instant
from cheapdeep_ops.guard.console.routes import known_routes_or_all
from cheapdeep_ops.guard.console.session import may_change
from cheapdeep_ops.guard.formatting import scope_text
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.guard.reports.status import policy_state
from cheapdeep_ops.guard.state_text import NORMAL_TITLES, normal_rows
from cheapdeep_ops.store import policies
from cheapdeep_ops.values import ALL_ROUTES

_LISTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReading:
    """The texts of the page; `scopes` have a name, a threshold in words, and whether a person has pinned it."""

    scopes: tuple[tuple[str, str, bool], ...]
    changes: text.Rows
    normals: text.Rows


async def show_policy(context: ConsoleContext) -> None:
    """Show the policy, and forms to change it."""
    dialogs = Dialogs(context)
    with ui.column().classes("w-full gap-3 fades") as content:
        heading("Thresholds in force")
        scopes = PagePart(lambda shown: _show_scopes(shown, dialogs), of=lambda reading: reading.scopes)
        forms = ui.column().classes("w-full gap-3 no-print")
        heading("Changes")
        changes = PagePart(show_changes, of=lambda reading: reading.changes)
        heading("What is normal")
        normals = PagePart(_show_normals, of=lambda reading: reading.normals)

    def renew(reading: PolicyReading) -> None:
        for part in (scopes, changes, normals):
            part.renew(reading)

    await live_page(context, lambda: _policy_of(context), renew, content)
    with forms:
        heading("Change")
        if await may_change(context):
            show_forms(context, await asyncio.to_thread(known_routes_or_all, context))


def _policy_of(context: ConsoleContext) -> PolicyReading:
    with context.store.reading() as connection:
        policy = policy_state(connection, context.settings)
        history = policies.history(connection, limit=_LISTED)
        normals = baselines_of(connection, context.settings)
    names = (ALL_ROUTES, *sorted(policy["scopes"].keys() - {ALL_ROUTES}))
    pinned = {name for name, scope in policy["scopes"].items() if scope["pin"] is not None}
    learned = NORMAL_TITLES.index("learned")
    rows: list[list[Cell]] = [
        [*row[:learned], Instant(normal["learned_at"]), *row[learned + 1 :]]
        for row, normal in zip(normal_rows(normals), normals.values(), strict=True)
    ]
    return PolicyReading(
        scopes=tuple((name, text.threshold(policy, name), name in pinned) for name in names),
        changes=text.change_rows(history),
        normals=rows,
    )


def _show_scopes(scopes: tuple[tuple[str, str, bool], ...], dialogs: Dialogs) -> None:
    with ui.card().classes("w-full gap-2"):
        for name, threshold, is_pinned in scopes:
            with ui.row().classes("items-center gap-x-4 gap-y-1"):
                ui.label(scope_text(name)).classes("faint words min-w-[10rem]")
                ui.label(threshold).classes("words")
                if is_pinned:
                    dialogs.show_release(name)


def show_changes(rows: text.Rows) -> None:
    """Show changes of policy."""
    if rows:
        table("Changes", text.CHANGES, rows)
    else:
        ui.label("There were no changes.").classes("faint")


def _show_normals(rows: text.Rows) -> None:
    if rows:
        table("Normal", NORMAL_TITLES, rows)
    else:
        ui.label("No answer was graded yet.").classes("faint")
