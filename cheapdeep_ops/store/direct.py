"""The store as a recorder uses it: through the database's driver alone, over one connection that is kept.

A recorder needs few statements and is in every service. SQLAlchemy and SQLModel take a quarter of a second to load.
A statement through them costs several times what the database's own work costs.
"""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store import postgresql, sqlite
from cheapdeep_ops.store.announcements import Listener
from cheapdeep_ops.store.answer_limit import connection_class, unlogged
from cheapdeep_ops.store.drivers import database_of, failure_of, patiently
from cheapdeep_ops.store.inserts import Write, table_name
from cheapdeep_ops.store.log_watch import LogWatch
from cheapdeep_ops.store.url import Address, read_address
from cheapdeep_ops.store.version import VERSION_TABLE

_T = TypeVar("_T")
ANSWER_S: Final = 3.0
"""How long a statement or a transaction may take, also on a server that hangs: closing a recorder waits for it."""

_CONNECT_S: Final = 2
"""How long each host of an address has for the connection: the shortest time that PostgreSQL's library takes."""

Rows = list[tuple[Any, ...]]


class _Dialect(NamedTuple):
    name: str


class _Link(ABC):
    """One connection of a driver, with its cursor; its methods raise the driver's errors."""

    dialect: _Dialect
    is_kept = True

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        # Kept, because making a cursor costs as much as running a statement.
        self._cursor = connection.cursor()

    @abstractmethod
    def read(self, statement: str) -> Rows:
        """The rows of one statement, which sees the newest state."""

    @abstractmethod
    def poll(self, statement: str) -> object:
        """What one statement finds, in a form that is only good for comparing."""

    @abstractmethod
    def is_unchanged(self) -> bool:
        """Whether the last `poll` would find nothing else now; False if only another `poll` can tell."""

    @property
    def news_socket(self) -> int | None:
        """See `DirectStore.news_socket`."""
        return None

    @abstractmethod
    def allow(self, seconds: float) -> None:
        """Let all that follows end within `seconds`."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction that writes."""

    @abstractmethod
    def end(self, how: str) -> None:
        """End the transaction, if there is one: COMMIT or ROLLBACK."""

    @abstractmethod
    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection can no longer be used after `error`."""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Any:
        """Run a statement, as `inserts.Statements` says; the name is SQLAlchemy's."""
        run = self._cursor.executemany if isinstance(parameters, list) else self._cursor.execute
        run(statement, parameters)
        return self._cursor


class _SqliteLink(_Link):
    dialect = _Dialect("sqlite")

    def __init__(self, address: Address, lock_timeout_s: float) -> None:
        # Threads take turns on it, and the driver would refuse all threads but the first.
        options = {"lock_timeout_s": lock_timeout_s, "check_same_thread": False}
        connection, is_read_only = sqlite.connect(address.database, **options)
        super().__init__(connection)
        # A read-only connection is not kept: the file may be writable at the next use.
        self.is_kept = not is_read_only
        self._lock_timeout_s = lock_timeout_s
        self._path = address.database or ""
        self._watch: LogWatch | None = None

    def read(self, statement: str) -> Rows:
        return self._cursor.execute(statement).fetchall()  # type: ignore[no-any-return]

    poll = read

    def is_unchanged(self) -> bool:
        # Made late, because SQLite makes the log at the first read.
        self._watch = self._watch or LogWatch(self._path)
        return self._watch.is_unchanged(time.monotonic())

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        super().close()

    def allow(self, seconds: float) -> None:
        """Do nothing: a file answers at once, and locks have a limit of their own."""

    def begin(self) -> None:
        # A writer waits in `transact`: SQLite's own pauses grow to 0.1 s without jitter, and starve rare writers.
        sqlite.wait_for_lock(self.connection, 0)
        self._cursor.execute("BEGIN IMMEDIATE")

    def end(self, how: str) -> None:
        if self.connection.in_transaction:
            self._cursor.execute(how)
        sqlite.wait_for_lock(self.connection, self._lock_timeout_s)

    def is_lost(self, error: BaseException) -> bool:
        return sqlite.is_lost(error)


class _PostgresqlLink(_Link):
    dialect = _Dialect("postgresql")

    def __init__(self, address: Address, lock_timeout_s: float) -> None:
        timeout = {} if "connect_timeout" in address.options else {"connect_timeout": _CONNECT_S}
        super().__init__(postgresql.connect(address, kind=connection_class(), autocommit=True, **timeout))
        self._limits = postgresql.limits(lock_timeout_s)
        self._listener: Listener | None = None

    # Statements that are sent as one text are one transaction, so the limits hold for them alone.

    def read(self, statement: str) -> Rows:
        self._cursor.execute(f"{self._limits}; {statement}")
        self._cursor.nextset()
        return self._cursor.fetchall()  # type: ignore[no-any-return]

    def poll(self, statement: str) -> object:
        # Only who polls listens. The first read comes after that, so that it misses no change.
        self._listener = self._listener or Listener(self.connection)
        self._listener.forget()
        return self.connection.poll(f"{self._limits}; {statement}".encode())

    def is_unchanged(self) -> bool:
        return self._listener is not None and self._listener.is_uncalled

    @property
    def news_socket(self) -> int | None:
        return None if self._listener is None else self._listener.socket

    def allow(self, seconds: float) -> None:
        self.connection.allow(seconds)

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Any:
        with unlogged():
            return super().exec_driver_sql(statement, parameters)

    def begin(self) -> None:
        self._cursor.execute(f"BEGIN; {self._limits}")

    def end(self, how: str) -> None:
        self._cursor.execute(how)

    def is_lost(self, error: BaseException) -> bool:
        return self.connection.closed or postgresql.is_lost(error)


class DirectStore:
    """A store for few statements; open one in each process, and do not use it after a fork.

    `patience_s` is how long a statement or a transaction waits for a lock. A relative SQLite path starts at `folder`.
    Threads take turns. Raises StoreError if the URL is malformed or its driver is not installed.
    """

    def __init__(self, url: str, *, patience_s: float, folder: Path) -> None:
        self.address: Final = read_address(url, folder)
        self._patience_s = patience_s
        self._errors: type[Exception] = sqlite3.Error if self.address.is_sqlite else postgresql.driver().Error
        self._turn = threading.Lock()
        self._link: _Link | None = None

    @cached_property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return self.address.shown

    @property
    def dialect(self) -> str:
        """The name of the database: `sqlite` or `postgresql`."""
        return "sqlite" if self.address.is_sqlite else "postgresql"

    def read(self, statement: str) -> Rows:
        """The rows of one statement, which sees the newest state. Raises StoreError if that fails."""
        return self._use(lambda link: link.read(statement), statement)

    def poll(self, statement: str) -> object:
        """What one statement finds, only to be compared with what it found before. Raises StoreError if that fails."""
        return self._use(lambda link: link.poll(statement), statement)

    def is_unchanged(self) -> bool:
        """Whether the last `poll` would find nothing else now, except for heartbeats; False if that is unknown.

        Sends no statement, does not wait, and never raises. It may be wrong for a moment after a commit on SQLite, and
        where a proxy loses notifications: poll every few seconds in any case.
        """
        with self._turn:
            try:
                return self._link is not None and self._link.is_unchanged()
            except (self._errors, OSError):
                self._close()  # the next use connects anew
                return False

    @property
    def news_socket(self) -> int | None:
        """The number of a socket that has something to read when `is_unchanged` may be False; None if none is.

        It is closed with the connection. Never raises.
        """
        with self._turn:
            return None if self._link is None else self._link.news_socket

    def transact(self, work: Write) -> None:
        """Run `work` in one write transaction, and commit it.

        Repeats `work` while another process holds the lock, and once if a kept connection was lost. So `work` must be
        idempotent. Raises StoreBusyError if the lock is not free within `patience_s`. Raises RowError if the store
        rejects a row, and StoreError if it cannot be reached.
        """

        def write(link: _Link) -> None:
            try:
                link.begin()
                work(link)
                link.end("COMMIT")
            except BaseException:
                with suppress(self._errors):  # a lost connection cannot roll back
                    link.end("ROLLBACK")
                raise

        patiently(lambda: self._use(write, ""), self._patience_s)

    def version(self) -> str | None:
        """The version of the store's schema; None if it has none. Raises StoreError if the store cannot be read."""
        table = table_name(self.dialect, VERSION_TABLE)
        is_there = (
            f"SELECT name FROM sqlite_master WHERE name = '{VERSION_TABLE}'"  # noqa: S608 - our name
            if self.address.is_sqlite
            else f"SELECT 1 WHERE to_regclass('{table}') IS NOT NULL"
        )
        rows = self.read(is_there) and self.read(f"SELECT version FROM {table}")  # noqa: S608 - our name
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._turn:
            self._close()

    def _use(self, work: Callable[[_Link], _T], statement: str) -> _T:
        with self._turn:
            was_kept = self._link is not None
            try:
                return self._try(work, statement)
            except StoreError as error:
                # A kept connection may have been lost long ago, which says nothing about the store.
                is_stale = was_kept and self._link is None
                if not is_stale or database_of(self.address).is_unanswered(error.__cause__):
                    raise
            return self._try(work, statement)

    def _try(self, work: Callable[[_Link], _T], statement: str) -> _T:
        """What `work` returns. Raises StoreError, and closes a connection that can no longer be used."""
        try:
            link = self._link = self._link or self._connect()
            link.allow(ANSWER_S)
            return work(link)
        except self._errors as error:
            failure = failure_of(error, statement, self.address)
            if self._link is not None and self._link.is_lost(error):
                self._close()
            raise failure from error
        finally:
            if self._link is not None and not self._link.is_kept:
                self._close()

    def _connect(self) -> _Link:
        make = _SqliteLink if self.address.is_sqlite else _PostgresqlLink
        return make(self.address, self._patience_s)

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
