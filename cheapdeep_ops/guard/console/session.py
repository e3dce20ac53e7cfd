"""Access to the pages: a person enters a token once, and the browser's tab stays signed in."""

import asyncio
from collections.abc import Callable
from typing import Final

from nicegui import app, ui
from pydantic import TypeAdapter, ValidationError

from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.actions.operation import FilledText
from cheapdeep_ops.guard.console.layout import ConsoleContext

LONGEST_S: Final = 8 * 3_600.0
"""The time for which an unused tab stays signed in, in seconds."""

_AUTHOR: Final = "author"
_PATIENCE_S: Final = 30.0
_NAME: Final = TypeAdapter[str](FilledText)


async def may_read(context: ConsoleContext) -> bool:
    """Whether the page may show reports: always on loopback, else after a sign-in. Shows the sign-in if needed."""
    return context.access.is_local or await may_change(context)


async def may_change(context: ConsoleContext) -> bool:
    """Whether the page may show content and forms: after a sign-in. Shows the sign-in if needed."""
    # The storage of a tab exists only after its browser has connected.
    await ui.context.client.connected(timeout=_PATIENCE_S)
    if author():
        return True
    _ask(context)
    return False


def author() -> str:
    """The name of the person who is signed in on this tab; empty if no person is."""
    return str(app.storage.tab.get(_AUTHOR, ""))


async def perform_signed_in(perform: Callable[[str], str | None], *, done: str) -> bool:
    """Call `perform` with the person's name in a thread, show them the result, and return whether it succeeded.

    What `perform` returns is shown too, unless it is empty.
    """
    # Read at each call, because the session may end while the form is open.
    who = author()
    if not who:
        ui.notify("Please load this page again and sign in", type="negative")
        return False
    try:
        note = await asyncio.to_thread(perform, who)
    except CheapdeepError as error:
        ui.notify(str(error), type="negative")
    else:
        ui.notify(done, type="positive")
        if note:
            ui.notify(note, type="warning")
        return True
    return False


def _ask(context: ConsoleContext) -> None:
    if not context.access.has_tokens:
        ui.label("Set CHEAPDEEP_API_TOKENS to allow this over HTTP, or use the command line.")
        return
    with ui.card().classes("w-full max-w-md"):
        ui.label("Enter one of the tokens in CHEAPDEEP_API_TOKENS, once for this tab.")
        name = ui.input("Your name").classes("w-full").props("autocomplete=name")
        token = ui.input("Token", password=True).classes("w-full").props("autocomplete=off")

        def sign_in() -> None:
            _sign_in(context, name.value, token.value)

        token.on("keydown.enter", sign_in)
        ui.button("Sign in", on_click=sign_in)


def _sign_in(context: ConsoleContext, name: str, token: str) -> None:
    if not context.access.is_known(token.strip()):
        ui.notify("This token is wrong", type="negative")
        return
    try:
        app.storage.tab[_AUTHOR] = _NAME.validate_python(name)
    except ValidationError as error:
        ui.notify(f"name: {error.errors()[0]['msg']}", type="negative")
        return
    ui.navigate.reload()


def show_session() -> None:
    """Show who is signed in, and the button to sign out."""

    def sign_out() -> None:
        app.storage.tab.pop(_AUTHOR, None)
        ui.navigate.reload()

    with ui.row().classes("items-center"):
        ui.label(f"Signed in as {author()}").classes("words")
        ui.button("Sign out", on_click=sign_out, color=None).props("flat")
