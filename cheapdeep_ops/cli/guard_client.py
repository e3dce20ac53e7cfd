"""How commands reach the guard: over HTTP, or in this process if CHEAPDEEP_GUARD_URL is not set."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json, to_json

from cheapdeep_ops.cli.common import author, opened
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.guard.actions.operation import ActionContext, Operation


class GuardClient(Protocol):
    """The reports and operations of a guard.

    Both methods return JSON. They raise StoreError, PolicyError or MissingError if the guard refuses the request, and
    RemoteError if no guard of a fitting version responds.
    """

    def read(self, path: str, **fields: object) -> Any:
        """Return the report at a path below `/api/v1`. Names in braces are fields, and so are what it asks for."""

    def act(self, operation: "Operation[Any]", **fields: object) -> Any:
        """Have the guard perform an operation. The author is the user of this process, unless `fields` name another."""


class LocalGuard:
    """What a guard does, done in this process on the store itself."""

    def __init__(self, context: "ActionContext") -> None:
        self._context = context

    def read(self, path: str, **fields: object) -> Any:
        """Return the report at a path below `/api/v1`."""
        from cheapdeep_ops.guard.actions.reports import REPORTS

        return _json(REPORTS[path].read(self._context, fields))

    def act(self, operation: "Operation[Any]", **fields: object) -> Any:
        """Perform an operation."""
        return _json(operation.perform(self._context, **{"author": author(), **fields}))


def _json(answer: object) -> Any:
    """An answer as a guard elsewhere would send it."""
    return from_json(to_json(answer))


@contextmanager
def connected(settings: Settings) -> Iterator[GuardClient]:
    """A client of the guard at CHEAPDEEP_GUARD_URL, or at CHEAPDEEP_STORE_URL if that is a guard's.

    Without either, it works on the settings' store. Raises StoreError if there is no store yet, SchemaError if its
    schema does not fit.
    """
    if settings.asked_guard is not None:
        from cheapdeep_ops.cli.remote_guard import over_http

        with over_http(settings.asked_guard, settings) as guard:
            yield guard
        return
    # The objects that a command loads stay alive; garbage collection would take a tenth of the command's time.
    gc.disable()
    try:
        # Loaded here, because a command that asks a guard elsewhere needs no database driver.
        from cheapdeep_ops.guard.actions.operation import ActionContext
        from cheapdeep_ops.store import processes

        with opened(settings) as store:
            yield LocalGuard(ActionContext(store=store, settings=settings, clock=processes.clock_of(store)))
    finally:
        gc.enable()


def read(path: str, **fields: object) -> Any:
    """Return the report at a path below `/api/v1`, from the guard that the settings name."""
    with connected(Settings()) as guard:
        return guard.read(path, **fields)


def act(operation: "Operation[Any]", **fields: object) -> Any:
    """Have the guard that the settings name perform an operation; returns the JSON of the response."""
    with connected(Settings()) as guard:
        return guard.act(operation, **fields)
