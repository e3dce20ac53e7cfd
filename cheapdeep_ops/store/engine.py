"""Opening the store, and running short transactions that are repeated while another process holds the lock."""

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

__all__ = ["Connection", "Store", "absolute_url", "take_lock"]

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
SCHEMA: Final = "cheapdeep"
"""The PostgreSQL schema that holds all tables; SQLite has no schemas."""

_CONNECT_S: Final = 5
_PATIENCE_S: Final = 30.0
_LOCK_TIMEOUT_S: Final = 5.0
"""How long one statement waits for a lock inside the database: any statement on PostgreSQL, a read on SQLite."""

_PAUSES_S: Final = (0.002, 0.03)
"""The shortest and the longest pause before a retry of a transaction; each pause is drawn at random."""

_ABANDONED_S: Final = 60.0
"""How long PostgreSQL keeps the transaction of a process that hangs: its locks block all other processes."""

_CONTENTION: Final = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's error codes that a retry can cure: serialization failure, deadlock, lock not available.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_SQLITE_CONTENTION: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_SNAPSHOT: Final = "cheapdeep_snapshot"
"""The execution option that makes SQLite begin a transaction without the write lock."""

_SECRET_WORDS: Final = ("password", "secret", "token", "key")
"""Words in the names of secret parameters: drivers accept passwords in a URL's query too."""


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
        self.url = absolute_url(url, folder or Path.cwd())
        self._patience_s = patience_s
        self._sleep = sleep
        # A lock inside the database may not take more than the caller's whole patience.
        self.engine = _engine(self.url, lock_timeout_s=min(_LOCK_TIMEOUT_S, patience_s))
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self.engine.execution_options(
            **({_SNAPSHOT: True} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a SQLite file, which routers may create and migrate."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return _shown(self.url)

    def transact(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one write transaction, commit it, and return its result.

        Repeats `work` after a random pause while another process holds the lock, so `work` may have no effect beside
        its statements. Raises StoreBusyError if the lock is not free within `patience_s`. Raises RowError if the store
        rejects a row, and StoreError if it cannot be reached.
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
            # All waiting processes draw from one range. Growing pauses would starve the one that waits longest.
            self._sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter

    def _failure(self, error: SQLAlchemyError) -> StoreError:
        if isinstance(error, OperationalError) and _is_contention(error):
            return StoreBusyError(f"the store {self.shown_url} is busy: {_cause(error)}")
        kind = RowError if isinstance(error, DataError | IntegrityError) else StoreError
        return kind(f"the store {self.shown_url} failed: {_cause(error)}")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads, without a transaction. Raises StoreError if the store cannot be reached."""
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


def absolute_url(url: str, folder: Path) -> URL:
    """`url` with a relative SQLite path made absolute from `folder`. Raises StoreError for a malformed URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # SQLAlchemy raises ValueError for a port that is not a number
        raise StoreError(
            "the store's URL (CHEAPDEEP_STORE_URL) is not of the form sqlite:///path or postgresql://user@host/name"
        ) from None
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or not path or path == ":memory:" or Path(path).is_absolute():
        return parsed
    absolute = (folder / path).resolve()
    _warn_once(path, absolute)
    return parsed.set(database=str(absolute))


def _shown(url: URL) -> str:
    hidden = {name: "hidden" for name in url.query if any(word in name.casefold() for word in _SECRET_WORDS)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


@cache
def _warn_once(path: str, absolute: Path) -> None:
    _log.warning(
        "the store's path %s is relative; using %s: set CHEAPDEEP_STORE_URL to one absolute path for routers and guard",
        path,
        absolute,
    )


def _engine(url: URL, *, lock_timeout_s: float) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    if url.drivername == "postgresql":  # SQLAlchemy 2.0 would choose psycopg2
        url = url.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {}
    if not is_sqlite:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}
        # Statements name the schema, because a connection pooler may lose a session's search path.
        options["execution_options"] = {"schema_translate_map": {None: SCHEMA}}
    try:
        # Parameters may be content, and an error's text reaches the log.
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
    """Switch to write-ahead logging, and turn the driver's transaction control off."""
    # The driver's legacy mode never begins a transaction before a SELECT.
    connection.isolation_level = None
    _use_wal(connection, time.monotonic() + lock_timeout_s)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch the file to write-ahead logging; retries until `deadline` (monotonic clock) while the file is locked."""
    # SQLite does not apply its busy timeout to this switch, which happens once in the life of a file.
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
    """Bound the wait for locks, and end the transactions of processes that hang."""
    # Not with the connection's `options`, which poolers refuse; outside a transaction, because a rollback undoes SET.
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {max(lock_timeout_s * 1000, 1):.0f}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_ABANDONED_S * 1000:.0f}")
    cursor.close()
    connection.autocommit = False


def _begin_sqlite(lock_timeout_s: float, connection: Connection) -> None:
    """Begin a transaction; one that writes takes the write lock at once, or fails at once."""
    # SQLite cannot retry a transaction that reads first and finds the lock taken when it writes.
    options = connection.get_execution_options()
    is_snapshot = bool(options.get(_SNAPSHOT))
    writes = not is_snapshot and options.get("isolation_level") != "AUTOCOMMIT"
    driver: Any = connection.connection.driver_connection
    # A writer waits in `Store.transact`: SQLite's own pauses grow to 0.1 s without jitter, and starve rare writers.
    driver.execute(f"PRAGMA busy_timeout={0 if writes else lock_timeout_s * 1000:.0f}").close()
    if writes or is_snapshot:
        connection.exec_driver_sql("BEGIN" if is_snapshot else "BEGIN IMMEDIATE")


def _is_contention(error: DBAPIError) -> bool:
    """Whether another process holds a lock."""
    # By the codes, because messages may be translated.
    state = getattr(error.orig, "sqlstate", None)
    code = getattr(error.orig, "sqlite_errorcode", None)
    return state in _CONTENTION or (code is not None and code & 0xFF in _SQLITE_CONTENTION)


def _cause(error: SQLAlchemyError) -> Any:
    """The driver's message."""
    # Only the first line of PostgreSQL's: the other lines may show whole rows.
    orig = getattr(error, "orig", None)
    return getattr(getattr(orig, "diag", None), "message_primary", None) or orig or error
