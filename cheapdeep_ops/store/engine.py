"""Opening the store, and running short transactions that are repeated while another process holds the lock."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError
from cheapdeep_ops.store import postgresql, sqlite
from cheapdeep_ops.store.postgresql import SCHEMA
from cheapdeep_ops.store.url import URL, read_url, shown

__all__ = ["SCHEMA", "Connection", "Store", "take_lock"]

_T = TypeVar("_T")
_PATIENCE_S: Final = 30.0
_LOCK_TIMEOUT_S: Final = 5.0
"""How long one statement waits for a lock inside the database: any statement on PostgreSQL, a read on SQLite."""


class _Database(Protocol):
    """What the modules of the two databases have in common."""

    def make_engine(self, url: URL, *, lock_timeout_s: float) -> Engine: ...

    def is_contention(self, error: DBAPIError) -> bool: ...

    def advice(self, error: DBAPIError, url: URL) -> str: ...


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
        self.url = read_url(url, folder or Path.cwd())
        self._patience_s = patience_s
        self._sleep = sleep
        self._database: _Database = sqlite if self.is_sqlite else postgresql
        # A lock inside the database may not take more than the caller's whole patience.
        self.engine = self._make_engine(min(_LOCK_TIMEOUT_S, patience_s))
        # On PostgreSQL, reads need a transaction too: outside of one, nothing would bound their wait for a lock.
        self._reading = self.engine.execution_options(
            isolation_level="AUTOCOMMIT" if self.is_sqlite else "READ COMMITTED"
        )
        self._snapshots = self.engine.execution_options(
            **({sqlite.SNAPSHOT: True} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    def _make_engine(self, lock_timeout_s: float) -> Engine:
        try:
            return self._database.make_engine(self.url, lock_timeout_s=lock_timeout_s)
        except ModuleNotFoundError as error:
            raise StoreError(f"{error}; for PostgreSQL run pip install 'cheapdeep_ops[postgres]'") from None
        except (SQLAlchemyError, TypeError) as error:
            raise StoreError(f"cannot open {self.shown_url}: {error}") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a SQLite file, which routers may create and migrate."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return shown(self.url)

    def transact(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one write transaction, commit it, and return its result.

        Repeats `work` after a random pause while another process holds the lock, so `work` may have no effect beside
        its statements. Raises StoreBusyError if the lock is not free within `patience_s`. Raises RowError if the store
        rejects a row, and StoreError if it cannot be reached.
        """
        deadline, has_reconnected = time.monotonic() + self._patience_s, False
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                failure = self._failure(error)
                # The pool has dropped its connections to a server that has become a standby, and connects anew.
                may_retry = _is_read_only(error) and not has_reconnected
                if not may_retry and (not isinstance(failure, StoreBusyError) or time.monotonic() >= deadline):
                    raise failure from error
                has_reconnected |= may_retry
            # All waiting processes draw from one range. Growing pauses would starve the one that waits longest.
            self._sleep(random.uniform(*sqlite.PAUSES_S))  # noqa: S311 - jitter

    def _failure(self, error: SQLAlchemyError) -> StoreError:
        advice = ""
        if isinstance(error, DBAPIError):
            if isinstance(error, OperationalError) and self._database.is_contention(error):
                return StoreBusyError(f"the store {self.shown_url} is busy: {_cause(error)}")
            advice = self._database.advice(error, self.url)
        kind = RowError if isinstance(error, DataError | IntegrityError) else StoreError
        return kind(f"the store {self.shown_url} failed: {_cause(error)}{advice}")

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
        if not self.is_sqlite or not self.url.database:
            return None
        try:
            status = os.stat(self.url.database)  # noqa: PTH116 - the path is a string from the URL
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def take_lock(connection: Connection, what: str) -> None:
    """Hold the lock named `what` until the transaction ends, for work that reads before it writes.

    Takes an advisory lock on PostgreSQL; on SQLite, a write transaction already excludes all others.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": f"cheapdeep {what}"})


def _is_read_only(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and postgresql.is_read_only(error)


def _cause(error: SQLAlchemyError) -> Any:
    """The driver's message."""
    # Only the first line of PostgreSQL's: the other lines may show whole rows.
    orig = getattr(error, "orig", None)
    return getattr(getattr(orig, "diag", None), "message_primary", None) or orig or error
