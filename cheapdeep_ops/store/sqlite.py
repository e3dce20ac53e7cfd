"""Connections to a SQLite file, and plain causes of what SQLite reports."""

import os
import random
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from cheapdeep_ops.store.url import Address

_PAUSES_S: Final = (0.002, 0.03)
"""The shortest and the longest pause before a retry of the switch; each pause is drawn at random."""

_CONTENTION: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NOT_WRITABLE: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_TROUBLES: Final = {
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_FULL: "has no room left on its disk",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is no SQLite file",
}
"""What is the matter with the store, by the code of the error. Source: https://www.sqlite.org/rescode.html"""

_MEMORY: Final = (None, "", ":memory:")


def connect(path: str | None, *, lock_timeout_s: float, **options: Any) -> tuple[sqlite3.Connection, bool]:
    """A connection to the file at `path`, and whether this user may only read it.

    It has no transaction control of the driver's. Its reads wait at most `lock_timeout_s` seconds for a lock.
    """
    connection: sqlite3.Connection = sqlite3.connect(path or ":memory:", **options)
    try:
        _prepare(connection, lock_timeout_s)
    except sqlite3.Error as error:
        connection.close()
        if path in _MEMORY or _code(error) not in _NOT_WRITABLE:
            raise
        return _open_to_read(Path(path), options, error), True
    return connection, False


def _prepare(connection: sqlite3.Connection, lock_timeout_s: float) -> None:
    """Switch to write-ahead logging, and turn the driver's transaction control off."""
    # The driver's legacy mode never begins a transaction before a SELECT.
    connection.isolation_level = None
    # Only a file without any page takes it, so it comes before the switch, which writes the first one.
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL").close()
    _use_wal(connection, time.monotonic() + lock_timeout_s)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()
    wait_for_lock(connection, lock_timeout_s)


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch the file to write-ahead logging; retries until `deadline` (monotonic clock) while the file is locked."""
    # SQLite does not apply its busy timeout to this switch, which happens once in the life of a file.
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if _code(error) not in _CONTENTION or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter
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


def wait_for_lock(connection: sqlite3.Connection, seconds: float) -> None:
    """Let the statements that follow wait at most `seconds` for a lock."""
    connection.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}").close()


def is_contention(error: BaseException | None) -> bool:
    """Whether another process holds the lock."""
    # By the code, because messages may be translated.
    return _code(error) in _CONTENTION


def is_unanswered(_error: BaseException | None) -> bool:
    """Whether the database did not answer in time: never, because it is a file."""
    return False


def trouble(error: BaseException | None) -> str:
    """What is the matter with the store, as the verb of its sentence."""
    return _TROUBLES.get(_code(error) or 0, "failed")


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection can no longer be used, because the file behind it was replaced."""
    return _code(error) == sqlite3.SQLITE_READONLY


def advice(error: BaseException | None, _statement: str, address: Address) -> str:
    """The plain cause of SQLite's error, as the end of its sentence; '' if its own message is plain."""
    if address.database in _MEMORY or _code(error) not in _NOT_WRITABLE:
        return ""
    path = Path(address.database)
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
