"""Connections to a SQLite file, and plain causes of what SQLite reports."""

import os
import random
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

PAUSES_S: Final = (0.002, 0.03)
"""The shortest and the longest pause before a retry of a transaction; each pause is drawn at random."""

SNAPSHOT: Final = "cheapdeep_snapshot"
"""The execution option that makes SQLite begin a transaction without the write lock."""

_CONTENTION: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NOT_WRITABLE: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_MEMORY: Final = (None, "", ":memory:")
_IS_READ_ONLY: Final = "cheapdeep_read_only"


def make_engine(url: URL, *, lock_timeout_s: float) -> Engine:
    """An engine for the file of `url` whose reads wait at most `lock_timeout_s` seconds for a lock."""
    # Parameters may be content, and an error's text reaches the log.
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "do_connect", partial(_connect, lock_timeout_s, url))
    event.listen(engine, "checkin", _forget_read_only)
    event.listen(engine, "begin", partial(_begin, lock_timeout_s))
    event.listen(engine, "handle_error", _give_up_replaced)
    return engine


def _connect(
    lock_timeout_s: float, url: URL, _dialect: object, record: Any, args: list[Any], options: dict[str, Any]
) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(*args, **options)
    try:
        _prepare(connection, lock_timeout_s)
    except sqlite3.Error as error:
        connection.close()
        if url.database in _MEMORY or _code(error) not in _NOT_WRITABLE:
            raise
        connection = _open_to_read(Path(url.database), options, error)
        record.info[_IS_READ_ONLY] = True
    return connection


def _prepare(connection: sqlite3.Connection, lock_timeout_s: float) -> None:
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
            if _code(error) not in _CONTENTION or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(*PAUSES_S))  # noqa: S311 - jitter
        else:
            return


def _open_to_read(path: Path, options: dict[str, Any], cause: sqlite3.Error) -> sqlite3.Connection:
    """Open a file that this user may only read. Raises `cause` if that does not work either."""
    # Without a log, no process has the file open, and SQLite reads it without making files beside it.
    has_log = os.path.exists(f"{path}-wal")  # noqa: PTH110 - it never raises
    name = f"{path.absolute().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
    try:
        connection: sqlite3.Connection = sqlite3.connect(name, **{**options, "uri": True})
    except sqlite3.Error:
        raise cause from None
    try:
        connection.isolation_level = None
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").close()
    except sqlite3.Error:
        connection.close()
        raise cause from None
    return connection


def _forget_read_only(_connection: object, record: Any) -> None:
    """Keep no read-only connection in the pool: the next use finds what has become of the file and its rights."""
    if record.info.pop(_IS_READ_ONLY, False):
        record.invalidate()


def _give_up_replaced(context: ExceptionContext) -> None:
    if _code(context.original_exception) == sqlite3.SQLITE_READONLY:
        context.is_disconnect = True


def _begin(lock_timeout_s: float, connection: Connection) -> None:
    """Begin a transaction; one that writes takes the write lock at once, or fails at once."""
    # SQLite cannot retry a transaction that reads first and finds the lock taken when it writes.
    options = connection.get_execution_options()
    is_snapshot = bool(options.get(SNAPSHOT))
    writes = not is_snapshot and options.get("isolation_level") != "AUTOCOMMIT"
    driver: Any = connection.connection.driver_connection
    # A writer waits in `Store.transact`: SQLite's own pauses grow to 0.1 s without jitter, and starve rare writers.
    driver.execute(f"PRAGMA busy_timeout={0 if writes else lock_timeout_s * 1000:.0f}").close()
    if writes or is_snapshot:
        connection.exec_driver_sql("BEGIN" if is_snapshot else "BEGIN IMMEDIATE")


def is_contention(error: DBAPIError) -> bool:
    """Whether another process holds the lock."""
    # By the code, because messages may be translated.
    return _code(error.orig) in _CONTENTION


def advice(error: DBAPIError, url: URL) -> str:
    """The plain cause of SQLite's error, as the end of its sentence; '' if its own message is plain."""
    if url.database in _MEMORY or _code(error.orig) not in _NOT_WRITABLE:
        return ""
    path = Path(url.database)
    # `os.path` never raises, whatever the folders allow.
    if os.path.isdir(path):  # noqa: PTH112
        return f": {path} is a folder, and the store is a file"
    if not os.path.isdir(path.parent):  # noqa: PTH112
        return f": there is no folder {path.parent}, or this user may not look into it"
    if not os.path.exists(path):  # noqa: PTH110
        return f": this user may not make a file in {path.parent}"
    return f": this user may only read {path}, or may not make files beside it, where SQLite keeps its log"


def _code(error: BaseException | None) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
