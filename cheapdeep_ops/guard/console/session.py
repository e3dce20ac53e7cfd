"""Who may read and who may change, on a page: people give a token once, and the browser's tab keeps it."""

import asyncio
from collections.abc import Callable
from typing import Final

from nicegui import app, ui
from pydantic import TypeAdapter, ValidationError

from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.actions.operation import FilledText
from cheapdeep_ops.guard.console.layout import ConsoleContext

LONGEST_S: Final = 8 * 3_600.0
"""How long a tab that is not used stays signed in."""

_AUTHOR: Final = "author"
_PATIENCE_S: Final = 30.0
_NAME: Final = TypeAdapter[str](FilledText)


async def may_read(desk: ConsoleContext) -> bool:
    """Whether the page may show reports: on loopback always, else to people who are signed in. Asks for the token."""
    return desk.access.is_local or await may_change(desk)


async def may_change(desk: ConsoleContext) -> bool:
    """Whether the page may show content and forms: to people who are signed in. Asks for the token otherwise."""
    # The storage of a tab is there once its browser has connected.
    await ui.context.client.connected(timeout=_PATIENCE_S)
    if author():
        return True
    _ask(desk)
    return False


def author() -> str:
    """The name that a person gave when they signed in on this tab; empty where nobody is signed in."""
    return str(app.storage.tab.get(_AUTHOR, ""))


async def ordered(perform: Callable[[str], object], *, done: str) -> bool:
    """Call `perform` in a thread, with the name of the person who is signed in; notifies them, returns the success."""
    # Asked here each time, because a form may outlive its session.
    who = author()
    if not who:
        ui.notify("Please sign in again: load this page anew", type="negative")
        return False
    try:
        await asyncio.to_thread(perform, who)
    except CheapdeepError as error:
        ui.notify(str(error), type="negative")
    else:
        ui.notify(done, type="positive")
        return True
    return False


def _ask(desk: ConsoleContext) -> None:
    if not desk.access.has_tokens:
        ui.label("Set CHEAPDEEP_API_TOKENS to allow this over HTTP, or use the command line.")
        return
    with ui.card().classes("w-full max-w-md"):
        ui.label("This needs one of the tokens in CHEAPDEEP_API_TOKENS, once for this tab.")
        name = ui.input("Your name").classes("w-full").props("autocomplete=name")
        token = ui.input("Token", password=True).classes("w-full").props("autocomplete=off")

        def sign_in() -> None:
            _sign_in(desk, name.value, token.value)

        token.on("keydown.enter", sign_in)
        ui.button("Sign in", on_click=sign_in)


def _sign_in(desk: ConsoleContext, name: str, token: str) -> None:
    if not desk.access.is_known(token.strip()):
        ui.notify("This is none of the tokens", type="negative")
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
