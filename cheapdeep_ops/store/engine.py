"""Opening the store, and running short transactions that other processes may get in the way of."""

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError

__all__ = ["Connection", "Store", "absolute_url", "alone"]

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
SCHEMA: Final = "cheapdeep"
"""The PostgreSQL schema that holds all tables; SQLite has no schemas."""

_CONNECT_S: Final = 5
_PATIENCE_S: Final = 30.0
_LOCK_TIMEOUT_S: Final = 5.0
"""How long one statement waits for a lock within the database: on PostgreSQL any, on SQLite a read."""

_PAUSES_S: Final = (0.002, 0.03)
"""The shortest and the longest pause before a transaction is tried again; chosen at random for each attempt."""

_ABANDONED_S: Final = 60.0
"""How long PostgreSQL keeps a transaction open whose process does not go on; its locks would hold up all others."""

_CONTENTION: Final = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's codes for what is worth trying again: serialization failure, deadlock, lock not available.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_SQLITE_CONTENTION: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_SNAPSHOT: Final = "cheapdeep_snapshot"
"""The execution option that makes SQLite begin a transaction without the write lock."""

_SECRET_WORDS: Final = ("password", "secret", "token", "key")
"""What the name of a secret in a URL's query has in it; drivers take passwords there too."""


class Store:
    """A database that several processes share; open one per process, and never carry it over a fork.

    `patience_s` is how long a transaction waits, in all, for others to let go of the lock. A relative SQLite path is
    taken from `folder`, the working directory unless given, and that is logged. Raises StoreError where the URL is not
    understood or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        patience_s: float = _PATIENCE_S,
        folder: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = absolute_url(url, folder or Path.cwd())
        self._patience_s = patience_s
        self._sleep = sleep
        self.engine = _engine(self.url, lock_timeout_s=min(_LOCK_TIMEOUT_S, patience_s))
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self.engine.execution_options(
            **({_SNAPSHOT: True} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a SQLite file, which routers may create and migrate themselves."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL without its password and without what its query keeps secret."""
        return _shown(self.url)

    def transact(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one write transaction and commit it.

        `work` is run again, after a random pause, where another process holds the lock, so it must have no other effect
        than its statements. Raises StoreBusyError where the lock is not free within `patience_s`, RowError where the
        store refuses a row, and StoreError where the store is out of reach.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                failure = self._failure(error)
                if not isinstance(failure, StoreBusyError) or time.monotonic() >= deadline:
                    raise failure from error
            # Every waiting process has the same chance at each attempt: longer pauses would starve who waits longest.
            self._sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter

    def _failure(self, error: SQLAlchemyError) -> StoreError:
        if isinstance(error, OperationalError) and _is_contention(error):
            return StoreBusyError(f"the store {self.shown_url} is busy: {_cause(error)}")
        kind = RowError if isinstance(error, DataError | IntegrityError) else StoreError
        return kind(f"the store {self.shown_url} failed: {_cause(error)}")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads, without a transaction. Raises StoreError where the store is out of reach."""
        try:
            with self._reading.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose reads all see the store at one moment; it takes no lock that a writer waits for.

        Read what is needed and leave: while it is open, SQLite cannot reset its write-ahead log.
        Raises StoreError where the store is out of reach.
        """
        try:
            with self._snapshots.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @property
    def exists(self) -> bool:
        """Whether there is something to read: a SQLite file may not have been made yet."""
        return not self.is_sqlite or self.file_identity() is not None

    def file_identity(self) -> tuple[int, int] | None:
        """Which file a SQLite store's path leads to at present; None where there is no file."""
        if not self.is_sqlite or not self.url.database:
            return None
        try:
            found = os.stat(self.url.database)  # noqa: PTH116 - the path is a string from the URL
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def alone(connection: Connection, what: str) -> None:
    """Until the transaction ends, no other does `what`: for what is read first and written then.

    SQLite's write transactions are alone anyway; PostgreSQL takes an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": f"cheapdeep {what}"})


def absolute_url(url: str, folder: Path) -> URL:
    """`url` with a relative SQLite path taken from `folder`. Raises StoreError for what is no database URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise StoreError(
            "the store's URL (CHEAPDEEP_STORE_URL) is not of the form sqlite:///path or postgresql://user@host/name"
        ) from None
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or not path or path == ":memory:" or Path(path).is_absolute():
        return parsed
    absolute = (folder / path).resolve()
    _say_once(path, absolute)
    return parsed.set(database=str(absolute))


def _shown(url: URL) -> str:
    hidden = {name: "hidden" for name in url.query if any(word in name.casefold() for word in _SECRET_WORDS)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


@cache
def _say_once(path: str, absolute: Path) -> None:
    _log.warning(
        "the store's path %s is relative; using %s: set CHEAPDEEP_STORE_URL to an absolute path, the "
        "same for routers and guard",
        path,
        absolute,
    )


def _engine(url: URL, *, lock_timeout_s: float) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    if url.drivername == "postgresql":  # SQLAlchemy 2.0 would take psycopg2
        url = url.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {}
    if not is_sqlite:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}
        # Names in statements, because a search path that is set for a session does not survive a connection pooler.
        options["execution_options"] = {"schema_translate_map": {None: SCHEMA}}
    try:
        engine = create_engine(url, hide_parameters=True, **options)
    except ModuleNotFoundError as error:
        raise StoreError(f"{error}; for PostgreSQL run pip install 'cheapdeep_ops[postgres]'") from None
    except (SQLAlchemyError, TypeError) as error:
        raise StoreError(f"cannot open {_shown(url)}: {error}") from None
    if is_sqlite:
        event.listen(engine, "connect", partial(_prepare_sqlite, lock_timeout_s))
        event.listen(engine, "begin", partial(_begin_sqlite, lock_timeout_s))
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", partial(_prepare_postgresql, lock_timeout_s))
    return engine


def _prepare_sqlite(lock_timeout_s: float, connection: sqlite3.Connection, _record: object) -> None:
    """Write-ahead logging, and no transaction control by the driver (its legacy mode never begins before a SELECT)."""
    connection.isolation_level = None
    _use_wal(connection, time.monotonic() + lock_timeout_s)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch the file's journal, which is done once for each file; SQLite itself does not wait for its lock then."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _SQLITE_CONTENTION or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter
        else:
            return


def _prepare_postgresql(lock_timeout_s: float, connection: DBAPIConnection, _record: object) -> None:
    """No wait for a lock without end; and none that others could have for a process that was frozen or cut off.

    Outside a transaction, because a rollback would take the settings back. Not by the connection's `options`, which
    poolers refuse.
    """
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {max(lock_timeout_s * 1000, 1):.0f}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_ABANDONED_S * 1000:.0f}")
    cursor.close()
    connection.autocommit = False


def _begin_sqlite(lock_timeout_s: float, connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first and writes later could not be retried by SQLite.

    SQLite does not wait for it: its own pauses grow to 0.1 s without jitter, and processes that write often would
    starve the others. `Store.transact` waits instead.
    """
    options = connection.get_execution_options()
    is_snapshot = bool(options.get(_SNAPSHOT))
    writes = not is_snapshot and options.get("isolation_level") != "AUTOCOMMIT"
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA busy_timeout={0 if writes else lock_timeout_s * 1000:.0f}").close()
    if writes or is_snapshot:
        connection.exec_driver_sql("BEGIN" if is_snapshot else "BEGIN IMMEDIATE")


def _is_contention(error: DBAPIError) -> bool:
    """Whether another process holds a lock; told by codes, because messages may be translated."""
    state = getattr(error.orig, "sqlstate", None)
    code = getattr(error.orig, "sqlite_errorcode", None)
    return state in _CONTENTION or (code is not None and code & 0xFF in _SQLITE_CONTENTION)


def _cause(error: SQLAlchemyError) -> Any:
    """What went wrong, in the driver's words; of PostgreSQL's, the first line only: the others show whole rows."""
    orig = getattr(error, "orig", None)
    return getattr(getattr(orig, "diag", None), "message_primary", None) or orig or error
