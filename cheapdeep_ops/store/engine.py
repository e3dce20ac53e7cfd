"""Opening the store, and running short transactions that are repeated while another process holds the lock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store import drivers, postgresql
from cheapdeep_ops.store.engines import SNAPSHOT, make_engine
from cheapdeep_ops.store.postgresql import SCHEMA
from cheapdeep_ops.store.url import read_address

__all__ = ["SCHEMA", "Connection", "Store", "take_lock"]

_T = TypeVar("_T")
_PATIENCE_S: Final = 30.0
_LOCK_TIMEOUT_S: Final = 5.0
"""How long one statement waits for a lock inside the database: any statement on PostgreSQL, a read on SQLite."""


class Store:
    """A database that several processes share; open one in each process, and do not use it after a fork.

    `patience_s` is how long a transaction waits for the lock in total. A relative SQLite path starts at `folder`, or at
    the working directory, and is logged. Raises StoreError if the URL is malformed or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        patience_s: float = _PATIENCE_S,
        folder: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = read_address(url, folder or Path.cwd())
        self.url = self._address.url
        self._patience_s = patience_s
        self._sleep = sleep
        self._fence: Callable[[Connection], None] | None = None
        # A lock inside the database may not take more than the caller's whole patience.
        self.engine = self._make_engine(min(_LOCK_TIMEOUT_S, patience_s))
        # On PostgreSQL, reads need a transaction too: outside of one, nothing would bound their wait for a lock.
        self._reading = self.engine.execution_options(
            isolation_level="AUTOCOMMIT" if self.is_sqlite else "READ COMMITTED"
        )
        self._snapshots = self.engine.execution_options(
            **({SNAPSHOT: True} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    def _make_engine(self, lock_timeout_s: float) -> Engine:
        try:
            return make_engine(self._address, lock_timeout_s=lock_timeout_s)
        except (SQLAlchemyError, TypeError) as error:
            raise StoreError(f"cannot open {self.shown_url}: {error}") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a SQLite file, which routers may create and migrate."""
        return self._address.is_sqlite

    @property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return self._address.shown

    def fenced(self, fence: Callable[[Connection], None]) -> Self:
        """This store with `fence` run at the start of each write transaction; an error of it prevents the write."""
        view = copy(self)
        view._fence = fence  # noqa: SLF001 - the class's own
        return view

    def transact(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one write transaction, commit it, and return its result.

        Repeats `work` after a random pause while another process holds the lock, so `work` may have no effect beside
        its statements. Raises StoreBusyError if the lock is not free within `patience_s`. Raises RowError if the store
        rejects a row, and StoreError if it cannot be reached.
        """
        return drivers.patiently(lambda: self._transact_once(work), self._patience_s, self._sleep)

    def _transact_once(self, work: Callable[[Connection], _T], *, may_reconnect: bool = True) -> _T:
        try:
            with self.engine.begin() as connection:
                if self._fence is not None:
                    self._fence(connection)
                return work(connection)
        except SQLAlchemyError as error:
            # The server has become a standby. The pool has dropped its connections to it, and makes others.
            if not (may_reconnect and postgresql.is_read_only(_driver_error(error))):
                raise self._failure(error) from error
        return self._transact_once(work, may_reconnect=False)

    def _failure(self, error: SQLAlchemyError) -> StoreError:
        statement = isinstance(error, DBAPIError) and error.statement
        return drivers.failure_of(_driver_error(error) or error, statement or "", self._address)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads, each of which sees the newest state. Raises StoreError if that fails."""
        try:
            with self._reading.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose reads all see the store at one moment; it blocks no writer.

        Keep it short: while it is open, SQLite cannot reset its write-ahead log. Raises StoreError if the store cannot
        be reached.
        """
        try:
            with self._snapshots.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @property
    def exists(self) -> bool:
        """Whether the store can be read: False if the SQLite file has not been created."""
        return not self.is_sqlite or self.file_identity() is not None

    def file_identity(self) -> tuple[int, int] | None:
        """Device and inode of the file at a SQLite store's path; None if there is no file."""
        return self._address.file_identity()

    def close(self) -> None:
        """Close all connections; one that a thread still uses is closed once it gives it back."""
        event.listen(self.engine, "checkin", lambda _connection, record: record.invalidate())
        self.engine.dispose()


def take_lock(connection: Connection, what: str) -> None:
    """Hold the lock named `what` until the transaction ends, for work that reads before it writes.

    Takes an advisory lock on PostgreSQL; on SQLite, a write transaction already excludes all others.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": f"cheapdeep {what}"})


def _driver_error(error: SQLAlchemyError) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else None
