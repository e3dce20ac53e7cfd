"""Inserts into the tables that `store/tables` declares; `inserts.py` does the work."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from sqlalchemy import JSON, Column, Connection

from cheapdeep_ops.store import inserts
from cheapdeep_ops.store.inserts import Target, Write
from cheapdeep_ops.store.tables.row import Row, table_of


def prepare_upsert(model: type[Row], rows: Sequence[Mapping[str, object]]) -> Write:
    """Prepare `rows` for inserting; a stored row with an equal primary key gets the values of these columns.

    All rows must have equal column names. In a new row, a column that they leave out gets its default. A second write
    of equal rows changes nothing.
    """
    return inserts.prepare(target_of(model), rows, "replace")


def prepare_insert_absent(model: type[Row], rows: Sequence[Mapping[str, object]]) -> Write:
    """Prepare `rows` for inserting; a row whose unique key is taken at that time is skipped."""
    return inserts.prepare(target_of(model), rows, "keep")


def upsert(connection: Connection, model: type[Row], rows: Sequence[Mapping[str, object]]) -> None:
    """Insert or update `rows`; see `prepare_upsert`."""
    prepare_upsert(model, rows)(connection)


def insert_if_absent(connection: Connection, model: type[Row], row: Mapping[str, object]) -> bool:
    """Insert `row` if its unique keys are free; returns whether it was inserted."""
    names, target = tuple(row), target_of(model)
    statement = inserts.statement(connection.dialect.name, target, names, "keep")
    # RETURNING shows whether a row was inserted: SQLAlchemy has no row count for an INSERT on PostgreSQL.
    (values,) = inserts.values_of(target, names, [row])
    return connection.exec_driver_sql(f"{statement} RETURNING 1", values).first() is not None


@cache
def target_of(model: type[Row]) -> Target:
    """The table of a model, as an insert needs it."""
    columns = table_of(model).columns
    return Target(
        name=str(model.__tablename__),
        keys=tuple(column.name for column in table_of(model).primary_key),
        json=frozenset(column.name for column in columns if isinstance(column.type, JSON)),
        defaults={column.name: _default(column) for column in columns if column.default is not None},
    )


def _default(column: Column[Any]) -> object:
    value: Any = column.default.arg  # type: ignore[union-attr]  # only asked for a column that has one
    return partial(value, None) if callable(value) else value
