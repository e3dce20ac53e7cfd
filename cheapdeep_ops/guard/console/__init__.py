"""The web console of `serve`: present state, history, and changes by people. Needs the extra `console`."""

from collections.abc import Callable
from typing import Final

from fastapi import FastAPI
from nicegui import ui

from cheapdeep_ops.guard.console.door import ConsoleDoor
from cheapdeep_ops.guard.console.frame import PRODUCT
from cheapdeep_ops.guard.console.layout import REFRESH_S, ConsoleContext
from cheapdeep_ops.guard.console.pages import add_pages
from cheapdeep_ops.guard.console.session import SESSIONS
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store

_RECONNECT_S: Final = 30.0
"""For how long a browser may be away, in seconds, before its page is loaded again and loses what was typed."""


def add_console(
    api: FastAPI,
    *,
    store: Store,
    settings: Settings,
    clock: Callable[[], float],
    access: Access,
    refresh_s: float = REFRESH_S,
) -> None:
    """Serve the console under `/`, beside the API; it loads nothing from other servers.

    Open pages refresh every `refresh_s` seconds. NiceGUI has one application for each process, so only one `api` at a
    time can have a console.
    """
    add_pages(ConsoleContext(store=store, settings=settings, clock=clock, access=access, refresh_s=refresh_s))
    api.add_middleware(ConsoleDoor, sessions=SESSIONS)
    ui.run_with(
        api,
        title=PRODUCT,
        dark=None,  # follows the browser
        language="en-US",
        reconnect_timeout=_RECONNECT_S,
        show_welcome_message=False,  # `serve` logs its own address
    )
