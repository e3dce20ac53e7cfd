"""The console, served as `serve` serves it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.listening import listen
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store


@contextmanager
def serving_console(
    store: Store, settings: Settings, clock: Callable[[], float], collector: FleetCollector, *, refresh_s: float = 0.2
) -> Iterator[str]:
    """Where the console of a store is, on a real server of this process."""
    from nicegui import Client  # noqa: PLC0415 - an extra of its own

    from cheapdeep_ops.guard.console import add_console  # noqa: PLC0415

    parts = {"settings": settings, "clock": clock}
    with listen("127.0.0.1", 0, setting="CHEAPDEEP_PORT") as listener:
        access = Access(settings, clock=clock)
        api = make_api(store, collector=collector, is_ready=str, access=access, **parts)
        add_console(api, store=store, refresh_s=refresh_s, access=access, **parts)
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", timeout_graceful_shutdown=1))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            running.join(60)
            Client.page_routes.clear()
