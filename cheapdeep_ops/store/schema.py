"""The version of the store's schema, and bringing an older store up to it.

A version is two numbers, such as `1.0`: the baseline, and how often something was added to it.

- A baseline is all of `tables.py`. Until 0.2.0 each change of the tables is a new baseline: `_BASELINE` grows by one.
  A store of another baseline is refused, because nothing leads from one baseline to another.
- From 0.2.0 on the baseline stays, and changes only add: tables, indexes, and columns that may be null or have a server
  default. `_ADDED` grows by one with each. `migrate` adds to a store what `tables.py` has and the store lacks.
- So a store that is newer than the code has all that the code uses, and old code goes on with it: a router beside a
  guard that was upgraded first, and a guard that was rolled back. What is added must be right for both.
"""

from typing import Any, Final

from sqlalchemy import Column, Connection, MetaData, Table, delete, insert, inspect, select, text
from sqlalchemy.schema import CreateSchema, CreateTable

from cheapdeep_ops.errors import SchemaError
from cheapdeep_ops.store.engine import SCHEMA, Store, alone
from cheapdeep_ops.store.tables import METADATA, VERSION

_BASELINE: Final = 2
_ADDED: Final = 0
HEAD: Final = f"{_BASELINE}.{_ADDED}"
"""The version of this code's tables."""


def revision(connection: Connection) -> str | None:
    """The version that the store is at; None where it has no version."""
    if not inspect(connection).has_table(VERSION.name, schema=_schema(connection)):
        return None
    found: str | None = connection.execute(select(VERSION.c.version)).scalar()
    return found


def require_schema(store: Store) -> None:
    """Make sure that this code can use the store's schema; a SQLite store is made or migrated where it must be.

    Raises SchemaError where the schema does not fit, and closes the store: on PostgreSQL a person runs
    `cheapdeep-ops migrate`, never a router.
    """
    if store.is_sqlite:
        migrate(store)
        return
    with store.reading() as connection:
        trouble = schema_trouble(connection)
    if trouble:
        store.close()  # routers ask four times a second until somebody migrates, each time with a store of their own
        raise SchemaError(f"{store.shown_url} {trouble}")


def schema_trouble(connection: Connection) -> str:
    """Why this code cannot use the store's schema and what to do, to be read after the store's name; or ''."""
    found = revision(connection)
    if _is_other(connection, found, METADATA, HEAD):
        return _refusal(found)
    if _is_behind(found, HEAD):
        state = f"is at version {found}" if found else "has no tables yet"
        return f"{state}, this code needs {HEAD}: run cheapdeep-ops migrate"
    return ""


def migrate(store: Store, *, tables: MetaData = METADATA, version: str = HEAD) -> str:
    """Make the tables, or add to an older store what it lacks; returns the version that the store is at then.

    Safe to run from several processes at once. A newer store is left as it is. Raises SchemaError where the store is of
    another baseline, or where tables of these names are there without a version.
    """
    with store.reading() as connection:
        found = revision(connection)
    if found and not _is_behind(found, version) and not _is_of_other_baseline(found, version):
        return found

    def upgrade(connection: Connection) -> str:
        alone(connection, "schema")
        found = revision(connection)
        if _is_other(connection, found, tables, version):
            raise SchemaError(f"{store.shown_url} {_refusal(found)}")
        if found and not _is_behind(found, version):
            return found
        _add_missing(connection, tables)
        connection.execute(delete(VERSION))
        connection.execute(insert(VERSION), {"version": version})
        return version

    return store.transact(upgrade)


def _refusal(found: str | None) -> str:
    return (
        f"was made by another development version of cheapdeep_ops (schema {found or 'of 0.1 or unknown'}, this "
        f"code's is {HEAD}), and there is no way from one to the other: move it away, or name another store in "
        "CHEAPDEEP_STORE_URL"
    )


def _is_other(connection: Connection, found: str | None, tables: MetaData, version: str) -> bool:
    """Whether the store was made from another baseline; one without a version has tables of our names."""
    if found:
        return _is_of_other_baseline(found, version)
    present = inspect(connection).get_table_names(schema=_schema(connection))
    return not tables.tables.keys().isdisjoint(present)


def _is_of_other_baseline(found: str, version: str) -> bool:
    return _numbers(found)[0] != _numbers(version)[0]


def _is_behind(found: str | None, version: str) -> bool:
    return found is None or _numbers(found) < _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))


def _add_missing(connection: Connection, tables: MetaData) -> None:
    """Make the tables, columns and indexes that are not there yet."""
    schema, inspector = _schema(connection), inspect(connection)
    if schema and not inspector.has_schema(schema):  # a role may lack the right to make one, and not need it
        connection.execute(CreateSchema(schema))
    present = set(inspector.get_table_names(schema=schema))
    for table in tables.sorted_tables:
        if table.name not in present:
            table.create(connection, checkfirst=False)
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name, schema=schema)}
        indexes = {index["name"] for index in inspector.get_indexes(table.name, schema=schema)}
        for column in table.columns:
            if column.name not in columns:
                _add_column(connection, table, column)
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection, checkfirst=False)


def _add_column(connection: Connection, table: Table, column: Column[Any]) -> None:
    dialect, schema = connection.dialect, _schema(connection)
    quote = dialect.identifier_preparer.quote
    name = f"{quote(schema)}.{quote(table.name)}" if schema else quote(table.name)
    column_words = dialect.ddl_compiler(dialect, CreateTable(table)).get_column_specification(column)
    connection.execute(text(f"ALTER TABLE {name} ADD COLUMN {column_words}"))


def _schema(connection: Connection) -> str | None:
    return SCHEMA if connection.dialect.name == "postgresql" else None
