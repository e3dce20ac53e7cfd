"""`INSERT ... ON CONFLICT` for both engines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from cheapdeep_ops.store.tables import table_of


def upsert(connection: Connection, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, replacing rows of the same primary key; writing the same rows again changes nothing.

    Source: https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#insert-on-conflict-upsert
    """
    if not rows:
        return
    table = table_of(model)
    statement = _insert(connection)(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(map(dict, rows)))


def insert_if_absent(connection: Connection, model: type[SQLModel], row: Mapping[str, Any]) -> bool:
    """Insert `row` unless one of its unique keys is taken; tells whether it was inserted."""
    table = table_of(model)
    statement = _insert(connection)(table).on_conflict_do_nothing().returning(*table.primary_key)
    # What comes back, and not how many rows: SQLAlchemy has no such number for an INSERT on PostgreSQL.
    return connection.execute(statement, dict(row)).first() is not None


def insert_absent(connection: Connection, model: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those of `rows` whose unique keys are free."""
    if rows:
        connection.execute(_insert(connection)(table_of(model)).on_conflict_do_nothing(), list(map(dict, rows)))


def _insert(connection: Connection) -> Callable[[Table], sqlite.Insert | postgresql.Insert]:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
