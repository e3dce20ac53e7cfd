"""What `Store` and `DirectStore` share: the choice of the database, repeats while a lock is held, and errors."""

import random
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError
from cheapdeep_ops.store import postgresql, sqlite
from cheapdeep_ops.store.url import Address

_T = TypeVar("_T")
_PAUSES_S: Final = (0.002, 0.03)
"""The shortest and the longest pause before a retry of a transaction; each pause is drawn at random."""

_ROW_ERRORS: Final = frozenset({"DataError", "IntegrityError"})
"""The classes of errors, by their names in every driver, that a row's own values cause.

Source: https://peps.python.org/pep-0249/#exceptions
"""


class Database(Protocol):
    """The functions that the modules of both databases have; `error` is the driver's."""

    def is_contention(self, error: BaseException | None) -> bool:
        """Whether another process holds a lock."""

    def is_lost(self, error: BaseException | None) -> bool:
        """Whether the connection can no longer be used."""

    def is_unanswered(self, error: BaseException | None) -> bool:
        """Whether the database did not answer in time."""

    def trouble(self, error: BaseException | None) -> str:
        """What is the matter with the store, as the verb of its sentence: `failed` if nothing is known."""

    def advice(self, error: BaseException | None, statement: str, address: Address) -> str:
        """What a person can do about the error, as the end of its sentence; '' if nothing is known."""


def database_of(address: Address) -> Database:
    """The module of the database at `address`."""
    return sqlite if address.is_sqlite else postgresql


def patiently(attempt: Callable[[], _T], patience_s: float, sleep: Callable[[float], None] = time.sleep) -> _T:
    """The result of `attempt`, which is repeated after a random pause while another process holds the lock.

    Raises StoreBusyError if the lock is not free within `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except StoreBusyError:
            if time.monotonic() >= deadline:
                raise
        # All waiting processes draw from one range. Growing pauses would starve the one that waits longest.
        sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter


def failure_of(error: BaseException, statement: str, address: Address) -> StoreError:
    """The store's error for an error of the driver."""
    database, cause = database_of(address), _cause(error)
    if database.is_contention(error):
        return StoreBusyError(f"the store {address.shown} is busy: {cause}")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    kind = RowError if kinds & _ROW_ERRORS else StoreError
    advice = database.advice(error, statement, address)
    return kind(f"the store {address.shown} {database.trouble(error)}: {cause}{advice}")


def _cause(error: BaseException) -> Any:
    """The driver's message in one line."""
    # Of PostgreSQL's message only the first line, because the others may show whole rows.
    return getattr(getattr(error, "diag", None), "message_primary", None) or " ".join(str(error).split())
