"""Access to the pages: a person enters a token once, and the browser's tab stays signed in."""

import asyncio
from collections.abc import Callable
from typing import Final

from nicegui import app, ui
from pydantic import TypeAdapter, ValidationError

from cheapdeep_ops.access.tokens import Refusal, Role, Token
from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.actions.operation import FilledText
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.values import ALL_ROUTES

LONGEST_S: Final = 8 * 3_600.0
"""The time for which an unused tab stays signed in, in seconds."""

_AUTHOR: Final = "author"
_HASH: Final = "token_hash"
_FORBIDDEN: Final = 403
_PATIENCE_S: Final = 30.0
_NAME: Final = TypeAdapter[str](FilledText)


async def may_read(context: ConsoleContext) -> bool:
    """Whether the page may show reports: always on loopback, else with the role `read`. Shows the sign-in if needed."""
    if context.access.is_local:
        return True
    if not await _has(context, Role.READ):
        return False

    # An open page goes on refreshing, so it must notice that its token has been revoked or has expired.
    ui.timer(context.refresh_s, lambda: still_has(context, Role.READ), immediate=False)
    return True


async def may_change(context: ConsoleContext) -> bool:
    """Whether the page may show forms: with the role `act`. Shows the sign-in if needed."""
    return await _has(context, Role.ACT)


async def may_label(context: ConsoleContext) -> bool:
    """Whether the page may show content: with the role `content`. Shows the sign-in if needed."""
    return await _has(context, Role.CONTENT)


def still_has(context: ConsoleContext, role: Role) -> bool:
    """Whether this tab's token has the role; if not, the page is loaded again, which shows the sign-in."""
    has_role = not isinstance(_holder(context, role), Refusal)
    if not has_role:
        ui.navigate.reload()
    return has_role


async def _has(context: ConsoleContext, role: Role) -> bool:
    # The storage of a tab exists only after its browser has connected.
    await ui.context.client.connected(timeout=_PATIENCE_S)
    answer = _holder(context, role)
    if isinstance(answer, Refusal):
        _ask(context, answer)
    return not isinstance(answer, Refusal)


def _holder(context: ConsoleContext, role: Role) -> Token | Refusal:
    """The token of this tab if it has the role, else the refusal."""
    if not (token_hash := app.storage.tab.get(_HASH, "")):
        return context.access.allowed("", role)
    # Pages show all routes together, so a token that is limited to some can read them only.
    return context.access.allowed_by_hash(token_hash, role, ALL_ROUTES)


def author() -> str:
    """The name of the person who is signed in on this tab; empty if no person is."""
    return str(app.storage.tab.get(_AUTHOR, ""))


async def perform_signed_in(context: ConsoleContext, perform: Callable[[str], str | None], *, done: str) -> bool:
    """Call `perform` with the person's name in a thread, show them the result, and return whether it succeeded.

    What `perform` returns is shown too, unless it is empty.
    """
    # Checked at each call, because the session may end, or the token be revoked, while the form is open.
    who, answer = author(), _holder(context, Role.ACT)
    if isinstance(answer, Refusal):
        advice = "Please load this page again and sign in"
        ui.notify(f"{answer.detail}; {advice}" if answer.status == _FORBIDDEN else advice, type="negative")
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


def _ask(context: ConsoleContext, refusal: Refusal) -> None:
    if not context.access.may_have_tokens:
        with ui.card().classes("w-full max-w-md"), ui.row().classes("items-center no-wrap"):
            ui.icon("lock").classes("faint text-h5").props('aria-hidden="true"')
            ui.label(f"{refusal.detail[:1].upper()}{refusal.detail[1:]}.").classes("words")
        return
    with ui.card().classes("w-full max-w-md"):
        if author():
            ui.label(f"Signed in as {author()}: {refusal.detail}").classes("words")
        ui.label("Enter a token of this guard, once for this tab. If it has a name, the history shows that name.")
        name = ui.input("Your name").classes("w-full").props("autocomplete=name")
        token = ui.input("Token", password=True).classes("w-full").props("autocomplete=off")

        def sign_in() -> None:
            _sign_in(context, name.value, token.value)

        token.on("keydown.enter", sign_in)
        ui.button("Sign in", on_click=sign_in)


def _sign_in(context: ConsoleContext, name: str, secret: str) -> None:
    token = context.access.find(secret.strip())
    if token is None:
        ui.notify("This token is wrong", type="negative")
        return
    try:
        who = _NAME.validate_python(token.name or name)
    except ValidationError as error:
        ui.notify(f"name: {error.errors()[0]['msg']}", type="negative")
        return
    # The hash, so that no secret is kept, and the next look at the tokens ends the session of a revoked one.
    app.storage.tab.update({_AUTHOR: who, _HASH: token.hash})
    ui.navigate.reload()


def show_session() -> None:
    """Show who is signed in, and the button to sign out."""

    def sign_out() -> None:
        for key in (_AUTHOR, _HASH):
            app.storage.tab.pop(key, None)
        ui.navigate.reload()

    with ui.row().classes("items-center"):
        ui.label(f"Signed in as {author()}").classes("words")
        ui.button("Sign out", on_click=sign_out, color=None).props("flat")
