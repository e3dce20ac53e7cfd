"""SQLAlchemy's engines for the two databases."""

import sqlite3
from contextlib import closing
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection

from cheapdeep_ops.store import postgresql, sqlite
from cheapdeep_ops.store.answer_limit import connection_class
from cheapdeep_ops.store.url import Address

SNAPSHOT: Final = "cheapdeep_snapshot"
"""The execution option that makes SQLite begin a transaction without the write lock."""

_ANSWER_S: Final = 30.0
"""How long PostgreSQL may take to answer one statement."""

_IS_READ_ONLY: Final = "cheapdeep_read_only"


def make_engine(address: Address, *, lock_timeout_s: float) -> Engine:
    """An engine for the store at `address` whose statements wait at most `lock_timeout_s` seconds for a lock."""
    make = _sqlite_engine if address.is_sqlite else _postgresql_engine
    engine = make(address, lock_timeout_s)
    is_lost = (sqlite if address.is_sqlite else postgresql).is_lost
    event.listen(engine, "handle_error", partial(_give_up_lost, is_lost))
    return engine


def _give_up_lost(is_lost: Any, context: ExceptionContext) -> None:
    """Tell the pool to replace the connection if it can no longer be used."""
    if is_lost(context.original_exception):
        context.is_disconnect = True


# SQLite


def _sqlite_engine(address: Address, lock_timeout_s: float) -> Engine:
    # Parameters may be content, and an error's text reaches the log.
    engine = create_engine(address.url, hide_parameters=True)
    event.listen(engine, "do_connect", partial(_connect, lock_timeout_s))
    event.listen(engine, "checkin", _forget_read_only)
    event.listen(engine, "begin", partial(_begin_sqlite, lock_timeout_s))
    return engine


def _connect(
    lock_timeout_s: float, _dialect: object, record: Any, args: list[Any], options: dict[str, Any]
) -> sqlite3.Connection:
    connection, is_read_only = sqlite.connect(*args, lock_timeout_s=lock_timeout_s, **options)
    if is_read_only:
        record.info[_IS_READ_ONLY] = True
    return connection


def _forget_read_only(_connection: object, record: Any) -> None:
    """Keep no read-only connection in the pool: the file may be writable at the next use."""
    if record.info.pop(_IS_READ_ONLY, False):
        record.invalidate()


def _begin_sqlite(lock_timeout_s: float, connection: Connection) -> None:
    """Begin a transaction; one that writes takes the write lock at once, or fails at once."""
    # SQLite cannot retry a transaction that reads first and finds the lock taken when it writes.
    options = connection.get_execution_options()
    is_snapshot = bool(options.get(SNAPSHOT))
    writes = not is_snapshot and options.get("isolation_level") != "AUTOCOMMIT"
    # A writer waits in `Store.transact`: SQLite's own pauses grow to 0.1 s without jitter, and starve rare writers.
    sqlite.wait_for_lock(connection.connection.driver_connection, 0 if writes else lock_timeout_s)  # type: ignore[arg-type]
    if writes or is_snapshot:
        connection.exec_driver_sql("BEGIN" if is_snapshot else "BEGIN IMMEDIATE")


# PostgreSQL


def _postgresql_engine(address: Address, lock_timeout_s: float) -> Engine:
    postgresql.driver()
    engine = create_engine(
        address.url,
        hide_parameters=True,  # they may be content, and an error's text reaches the log
        pool_pre_ping=True,
        connect_args=postgresql.options_of(address),
        # Statements name the schema, because a session may have any search path.
        execution_options={"schema_translate_map": {None: postgresql.SCHEMA}},
    )
    # Before SQLAlchemy's own first look at a server, which fails on servers that it does not know.
    event.listen(engine, "connect", partial(_check, address), insert=True)
    event.listen(engine, "do_connect", _connect_patiently)
    # Here, because no statement precedes it, and an error in it is handled like that of a statement.
    engine.dialect.do_begin = partial(_begin_postgresql, lock_timeout_s)  # type: ignore[method-assign]
    return engine


def _connect_patiently(_dialect: object, _record: object, args: list[Any], options: dict[str, Any]) -> Any:
    return _patient_connection_class().connect(*args, **options)


@cache
def _patient_connection_class() -> Any:
    """A connection that gives up each statement in time, so that a server that hangs is an error like any other."""
    limited = connection_class()

    def wait(self: Any, generator: Any, *_: object, **__: object) -> Any:
        self.allow(_ANSWER_S)
        return limited.wait(self, generator)

    return type("PatientConnection", (limited,), {"wait": wait})


def _check(address: Address, connection: DBAPIConnection, _record: object) -> None:
    postgresql.check(address, connection)


def _begin_postgresql(lock_timeout_s: float, connection: PoolProxiedConnection) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(postgresql.limits(lock_timeout_s))
