"""Access to the pages: a person enters a token once, and the browser stays signed in."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from nicegui import ui
from pydantic import TypeAdapter, ValidationError

from cheapdeep_ops.access.tokens import Refusal, Role, Token
from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.actions.operation import Author
from cheapdeep_ops.guard.console.door import cookie_of, new_cookie, with_ticket
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.console.sessions import Session, Sessions
from cheapdeep_ops.guard.http.access import peer_of
from cheapdeep_ops.values import ALL_ROUTES

SESSIONS: Final = Sessions(time.monotonic, new_cookie)
"""Of the process, because NiceGUI has one application for each process."""

_FORBIDDEN: Final = 403
_NAME: Final = TypeAdapter[str](Author)


async def may_read(context: ConsoleContext) -> bool:
    """Whether the page may show reports: always on loopback, else with the role `read`. Shows the sign-in if needed."""
    if context.access.is_local:
        return True
    if not await _has(context, Role.READ):
        return False

    def check() -> None:
        if not still_has(context, Role.READ):
            watch.cancel()  # the page is being loaded again, once

    # An open page goes on refreshing, so it must notice that its token has been revoked or has expired.
    watch = ui.timer(context.refresh_s, check, immediate=False)
    return True


async def may_change(context: ConsoleContext) -> bool:
    """Whether the page may show forms: with the role `act`. Shows the sign-in if needed."""
    return await _has(context, Role.ACT)


def can_act(context: ConsoleContext) -> bool:
    """Whether this browser's token has the role `act`; shows nothing."""
    return not isinstance(_holder(context, Role.ACT), Refusal)


async def may_label(context: ConsoleContext) -> bool:
    """Whether the page may show content: with the role `content`. Shows the sign-in if needed."""
    return await _has(context, Role.CONTENT)


def still_has(context: ConsoleContext, role: Role) -> bool:
    """Whether this browser's token has the role; if not, the page is loaded again, which shows the sign-in."""
    has_role = not isinstance(_holder(context, role), Refusal)
    if not has_role:
        ui.navigate.reload()
    return has_role


async def _has(context: ConsoleContext, role: Role) -> bool:
    answer = _holder(context, role)
    if isinstance(answer, Refusal):
        _ask(context, answer)
    return not isinstance(answer, Refusal)


def _holder(context: ConsoleContext, role: Role) -> Token | Refusal:
    """The token of this browser if it has the role, else the refusal."""
    session = _session()
    if session is None:
        return context.access.allowed("", role)
    # Pages show all routes together, so a token that is limited to some can read them only.
    return context.access.allowed_by_hash(session.token_hash, role, ALL_ROUTES)


def _cookie() -> str:
    return cookie_of(ui.context.client.request.headers)


def _session() -> Session | None:
    return SESSIONS.of(_cookie())


def author() -> str:
    """The name of the person who is signed in in this browser; empty if no person is."""
    session = _session()
    return "" if session is None else session.author


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
        ui.label("Enter a token of this guard, once for this browser. If it has a name, the history shows that too.")
        name = ui.input("Your name").classes("w-full").props("autocomplete=name")
        token = ui.input("Token", password=True).classes("w-full").props("autocomplete=off")

        def sign_in() -> None:
            _sign_in(context, name.value, token.value)

        token.on("keydown.enter", sign_in)
        ui.button("Sign in", on_click=sign_in)


def _sign_in(context: ConsoleContext, name: str, secret: str) -> None:
    token = context.access.find_from(peer_of(ui.context.client.request.scope), secret.strip())
    if not isinstance(token, Token):
        ui.notify("This token is wrong" if token is None else token.detail, type="negative")
        return
    try:
        who = token.author(_NAME.validate_python(name if name.strip() or not token.name else token.name))
    except ValidationError as error:
        ui.notify(f"name: {error.errors()[0]['msg']}", type="negative")
        return
    # The hash, so that no secret is kept, and the next look at the tokens ends the session of a revoked one.
    ticket = SESSIONS.start(author=who, token_hash=token.hash)
    ui.navigate.to(with_ticket(ui.context.client.request.url, ticket))


def show_session() -> None:
    """Show who is signed in, and the button to sign out."""

    def sign_out() -> None:
        SESSIONS.end(_cookie())
        ui.navigate.reload()

    with ui.row().classes("items-center"):
        ui.label(f"Signed in as {author()}").classes("words")
        ui.button("Sign out", on_click=sign_out, color=None).props("flat")
