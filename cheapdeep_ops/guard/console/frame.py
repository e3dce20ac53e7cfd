"""The frame of every page: the header with environment, pages, age of the data and person; and the title."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from nicegui import ui

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.console import theme
from cheapdeep_ops.guard.console.door import NO_SESSION
from cheapdeep_ops.guard.console.layout import ConsoleContext, heading
from cheapdeep_ops.guard.console.moment import LiveMoment, Zone
from cheapdeep_ops.guard.console.session import author
from cheapdeep_ops.guard.formatting import plain, without_markup
from cheapdeep_ops.guard.reports.liveness import stale_after_s
from cheapdeep_ops.store.processes import evaluated_at

PRODUCT: Final = "cheapdeep_ops"
_LINKS: Final = {
    "Now": "/",
    "Charts": "/charts",
    "Incidents": "/incidents",
    "Policy": "/policy",
    "Review": "/review",
}
_PATIENCE_S: Final = 30.0
_RELOADS: Final = f"""<script>
  window.WebSocket = class extends WebSocket {{
    constructor(...given) {{
      super(...given);
      this.addEventListener("close", (event) => {{ if (event.code === {NO_SESSION}) location.reload(); }});
    }}
  }};
</script>"""
"""Loads the page again, which brings a new cookie, once its session has ended: such as after a restart of the guard."""


@contextmanager
def framed(context: ConsoleContext, page: str, *, title: str = "") -> Iterator[ui.label]:
    """Show the header and the title, which is given; the block shows the content below them.

    `title` is the name of `page` if empty.
    """
    theme.dress()
    ui.add_head_html(_RELOADS)
    page_title(context, title or page)
    with ui.header(fixed=False).classes("row items-center gap-x-4 gap-y-1 q-px-md q-py-sm"):
        with ui.row().classes("items-center gap-2 no-wrap"):
            ui.label(PRODUCT).classes("text-bold")
            if context.settings.environment:
                ui.badge(plain(context.settings.environment), color="primary").classes("text-body2")
        with ui.element("nav").props('aria-label="Pages"').classes("pages row gap-x-1"):
            for name, path in _LINKS.items():
                link = ui.link(name, path)
                if name == page:
                    link.props('aria-current="page"')
        ui.space()
        with ui.row().classes("items-center gap-3 text-body2"):
            Zone(context.clock()).classes("faint")
            starts = (_show_age(context), _show_person())
    with ui.element("main").classes("w-full column gap-4 q-px-sm q-pb-lg") as content:
        # People who use a keyboard can skip the links.
        ui.skip_link("Skip to the page", target=content)
        yield heading(title or page, level=1)
    # Last, because a timer waits for the browser, and NiceGUI sends a page that waits before it is complete.
    for start in starts:
        start()


def page_title(context: ConsoleContext, title: str) -> None:
    """Set what the browser's tab says; without markup, because a script of the page may repeat it."""
    where = f" ({without_markup(context.settings.environment)})" if context.settings.environment else ""
    ui.page_title(f"{without_markup(title)} - {PRODUCT}{where}")


def _show_age(context: ConsoleContext) -> Callable[[], object]:
    """Show how long ago a guard evaluated the rules, and say when that is too long ago. Returns what starts it."""
    age = LiveMoment(context.clock(), limit_s=stale_after_s(context.settings.evaluate_every_s))
    unknown = ui.label("No guard evaluates").classes("live is-stale").props('role="status"')
    for each in (age, unknown):
        each.set_visibility(False)

    async def renew() -> None:
        # Off loopback, data are for those who are signed in; the page itself notices a token that was revoked.
        if not context.access.is_local and not author():
            return
        try:
            evaluated = await asyncio.to_thread(context.read, evaluated_at)
        except StoreError:
            evaluated = None  # the page says why
        age.set_visibility(evaluated is not None)
        unknown.set_visibility(evaluated is None)
        if evaluated is not None:
            age.renew(evaluated, context.clock())

    return lambda: ui.timer(context.refresh_s, renew)


def _show_person() -> Callable[[], object]:
    """Show who is signed in on this tab, or how to sign in. Returns what starts it."""
    who = ui.label("").classes("words")
    sign_in = ui.link("Not signed in", "/policy")
    for each in (who, sign_in):
        each.set_visibility(False)

    async def show() -> None:
        # The storage of a tab exists only after its browser has connected.
        await ui.context.client.connected(timeout=_PATIENCE_S)
        name = author()
        who.set_text(f"Signed in: {name}" if name else "")
        who.set_visibility(bool(name))
        sign_in.set_visibility(not name)

    return lambda: ui.timer(0, show, once=True)
