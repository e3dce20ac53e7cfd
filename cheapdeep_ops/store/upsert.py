"""`INSERT ... ON CONFLICT` for both engines, as text that is made once and rows that are made ready beforehand.

SQLAlchemy would build such a statement from its columns at each use, which takes longer than the database does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import JSON, Column, Connection

from cheapdeep_ops.errors import RowError, StoreError
from cheapdeep_ops.store.engine import SCHEMA, Store
from cheapdeep_ops.store.tables import Row, table_of

Write = Callable[[Connection], None]
"""Stores rows that were made ready before the transaction began."""

_T = TypeVar("_T")
_Values = tuple[Any, ...]
_OnConflict = Literal["replace", "keep"]
_NO_ENTRIES: Final = "{}"


def prepare_upsert(model: type[Row], rows: Sequence[Mapping[str, Any]]) -> Write:
    """Make `rows` ready to be inserted; a row of the same primary key is replaced in the columns that `rows` name.

    All rows name the same columns; a column that they leave out gets its default where the row is new. Writing the same
    rows again changes nothing.
    """
    return _prepared(model, rows, "replace")


def prepare_insert_absent(model: type[Row], rows: Sequence[Mapping[str, Any]]) -> Write:
    """Make ready to be inserted those of `rows` whose unique keys are free then."""
    return _prepared(model, rows, "keep")


def upsert(connection: Connection, model: type[Row], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows` as `prepare_upsert` says."""
    prepare_upsert(model, rows)(connection)


def insert_if_absent(connection: Connection, model: type[Row], row: Mapping[str, Any]) -> bool:
    """Insert `row` unless one of its unique keys is taken; returns whether it was inserted."""
    names = tuple(row)
    statement = _statement(connection.dialect.name, model, names, "keep")
    # What comes back, and not how many rows: SQLAlchemy has no such number for an INSERT on PostgreSQL.
    (values,) = _values(model, names, [row])
    return connection.exec_driver_sql(f"{statement} RETURNING 1", values).first() is not None


def together(*writes: Write) -> Write:
    """All of them, in this order."""

    def write(connection: Connection) -> None:
        for each in writes:
            each(connection)

    return write


def write_accepted(
    store: Store, rows: Sequence[_T], prepare: Callable[[Sequence[_T]], Write]
) -> list[tuple[_T, Exception]]:
    """Store what `prepare` makes of `rows`; returns those that the store or its driver refuses, found by halving.

    Raises StoreError where the store is busy or out of reach: some of the rows may be stored then.
    """
    try:
        store.transact(prepare(rows))
    except Exception as error:  # drivers raise errors of many kinds for a value that they cannot send
        if isinstance(error, StoreError) and not isinstance(error, RowError):
            raise
        if len(rows) <= 1:
            return [(row, error) for row in rows]
        half = len(rows) // 2
        return [*write_accepted(store, rows[:half], prepare), *write_accepted(store, rows[half:], prepare)]
    return []


def _prepared(model: type[Row], rows: Sequence[Mapping[str, Any]], on_conflict: _OnConflict) -> Write:
    names = tuple(rows[0]) if rows else ()
    values = _values(model, names, rows)

    def write(connection: Connection) -> None:
        if values:
            connection.exec_driver_sql(_statement(connection.dialect.name, model, names, on_conflict), values)

    return write


def _values(model: type[Row], names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> list[_Values]:
    kinds = _kinds(model, names)
    defaults = [_default(column) for column in _left_out(model, names)]
    return [(*[_text(row[name]) if is_json else row[name] for name, is_json in kinds], *defaults) for row in rows]


def _text(value: Any) -> str | None:
    """JSON, with None as NULL; most mappings of counters have no entry."""
    if value is None:
        return None
    return _NO_ENTRIES if value == {} else json.dumps(value)


@cache
def _kinds(model: type[Row], names: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """Each column's name, and whether it holds JSON."""
    columns = table_of(model).columns
    return tuple((name, isinstance(columns[name].type, JSON)) for name in names)


@cache
def _left_out(model: type[Row], names: tuple[str, ...]) -> tuple[Column[Any], ...]:
    """The columns with a default that rows with these columns leave out."""
    return tuple(each for each in table_of(model).columns if each.default is not None and each.name not in names)


def _default(column: Column[Any]) -> Any:
    value: Any = column.default.arg  # type: ignore[union-attr]  # `_left_out` picks columns that have one
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
    place = f'{SCHEMA}."{table.name}"' if is_postgresql else f'"{table.name}"'
    return f"INSERT INTO {place} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {action}"  # noqa: S608 - our names
