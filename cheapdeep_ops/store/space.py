"""Gives the space of deleted rows back to the file system, in small steps."""

from typing import Final

from sqlalchemy import Connection

from cheapdeep_ops.store.engine import Store

_PAGES_AT_ONCE: Final = 256
"""How many pages one transaction gives back; a page has 4 kB."""

_FREE_SHARE: Final = 0.05
"""A file keeps this share of free pages, because new rows soon need some."""


def give_back(store: Store) -> None:
    """Shorten a SQLite file by some of its free pages, if it has many.

    Does nothing on PostgreSQL, whose autovacuum does this work, and in a file that was made without `auto_vacuum`.
    Source: https://www.sqlite.org/pragma.html#pragma_incremental_vacuum
    """
    if not store.is_sqlite:
        return
    with store.reading() as connection:
        free, pages = (_pragma(connection, name) for name in ("freelist_count", "page_count"))
    if free > max(_FREE_SHARE * pages, _PAGES_AT_ONCE):
        store.transact(_give_back_some)


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)


def _give_back_some(connection: Connection) -> None:
    # One page each, because Python's driver takes only the first step of this statement, whatever its argument is.
    for _ in range(_PAGES_AT_ONCE):
        connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
