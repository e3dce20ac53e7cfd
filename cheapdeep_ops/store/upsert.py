"""`INSERT ... ON CONFLICT` for SQLite and PostgreSQL, with cached statements and rows that are prepared in advance.

SQLAlchemy builds such a statement from its columns at each use, which takes longer than the database's work.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import JSON, Column, Connection

from cheapdeep_ops.errors import RowError, StoreError
from cheapdeep_ops.store.engine import SCHEMA, Store
from cheapdeep_ops.store.tables.row import Row, table_of

Write = Callable[[Connection], None]
"""Stores rows that were prepared before the transaction began."""

_T = TypeVar("_T")
_Values = tuple[Any, ...]
_OnConflict = Literal["replace", "keep"]
_NO_ENTRIES: Final = "{}"


def prepare_upsert(model: type[Row], rows: Sequence[Mapping[str, object]]) -> Write:
    """Prepare `rows` for inserting; a stored row with an equal primary key gets the values of these columns.

    All rows must have equal column names. In a new row, a column that they leave out gets its default. A second write
    of equal rows changes nothing.
    """
    return _prepared(model, rows, "replace")


def prepare_insert_absent(model: type[Row], rows: Sequence[Mapping[str, object]]) -> Write:
    """Prepare `rows` for inserting; a row whose unique key is taken at that time is skipped."""
    return _prepared(model, rows, "keep")


def upsert(connection: Connection, model: type[Row], rows: Sequence[Mapping[str, object]]) -> None:
    """Insert or update `rows`; see `prepare_upsert`."""
    prepare_upsert(model, rows)(connection)


def insert_if_absent(connection: Connection, model: type[Row], row: Mapping[str, object]) -> bool:
    """Insert `row` if its unique keys are free; returns whether it was inserted."""
    names = tuple(row)
    statement = _statement(connection.dialect.name, model, names, "keep")
    # RETURNING shows whether a row was inserted: SQLAlchemy has no row count for an INSERT on PostgreSQL.
    (values,) = _values(model, names, [row])
    return connection.exec_driver_sql(f"{statement} RETURNING 1", values).first() is not None


def combined(*writes: Write) -> Write:
    """One write that does all `writes` in their order."""

    def write(connection: Connection) -> None:
        for each in writes:
            each(connection)

    return write


def write_accepted(
    store: Store, rows: Sequence[_T], prepare: Callable[[Sequence[_T]], Write]
) -> list[tuple[_T, Exception]]:
    """Store `rows` as `prepare` makes them; returns the rows that the store or its driver rejects, each with its error.

    Raises StoreError if the store is busy or cannot be reached; some of the rows may be stored by then.
    """
    try:
        store.transact(prepare(rows))
    except Exception as error:  # drivers raise errors of many kinds for a value that they cannot send
        if isinstance(error, StoreError) and not isinstance(error, RowError):
            raise
        # A database rejects all rows of a statement for one bad row. Halving finds it in few transactions.
        if len(rows) <= 1:
            return [(row, error) for row in rows]
        half = len(rows) // 2
        return [*write_accepted(store, rows[:half], prepare), *write_accepted(store, rows[half:], prepare)]
    return []


def _prepared(model: type[Row], rows: Sequence[Mapping[str, object]], on_conflict: _OnConflict) -> Write:
    names = tuple(rows[0]) if rows else ()
    values = _values(model, names, rows)

    def write(connection: Connection) -> None:
        if values:
            connection.exec_driver_sql(_statement(connection.dialect.name, model, names, on_conflict), values)

    return write


def _values(model: type[Row], names: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> list[_Values]:
    kinds = _kinds(model, names)
    defaults = [_default(column) for column in _left_out(model, names)]
    return [(*[_text(row[name]) if is_json else row[name] for name, is_json in kinds], *defaults) for row in rows]


def _text(value: object) -> str | None:
    """`value` as JSON; None stays None, which the database stores as NULL."""
    if value is None:
        return None
    # Most mappings of counters are empty, and a constant costs less than encoding.
    return _NO_ENTRIES if value == {} else json.dumps(value)


@cache
def _kinds(model: type[Row], names: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """(name, is JSON) of each column."""
    columns = table_of(model).columns
    return tuple((name, isinstance(columns[name].type, JSON)) for name in names)


@cache
def _left_out(model: type[Row], names: tuple[str, ...]) -> tuple[Column[Any], ...]:
    """The columns that have a default and are not in `names`."""
    return tuple(each for each in table_of(model).columns if each.default is not None and each.name not in names)


def _default(column: Column[Any]) -> object:
    value: Any = column.default.arg  # type: ignore[union-attr]  # `_left_out` selects columns that have one
    value = value(None) if callable(value) else value
    return _text(value) if isinstance(column.type, JSON) else value


@cache
def _statement(dialect: str, model: type[Row], names: tuple[str, ...], on_conflict: _OnConflict) -> str:
    table = table_of(model)
    is_postgresql = dialect == "postgresql"
    columns = [f'"{name}"' for name in (*names, *(column.name for column in _left_out(model, names)))]
    marks = ", ".join(["%s" if is_postgresql else "?"] * len(columns))
    keys = [column.name for column in table.primary_key]
    action = "DO NOTHING"
    if on_conflict == "replace":
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in keys)
        action = f"({', '.join(keys)}) DO UPDATE SET {changed}"
    # This text bypasses SQLAlchemy, and so its translation of schema names too.
    target = f'{SCHEMA}."{table.name}"' if is_postgresql else f'"{table.name}"'
    return f"INSERT INTO {target} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {action}"  # noqa: S608 - our names
