"""The version of the store's schema, and how an older store is migrated to it.

A version is two numbers, such as `1.0`: the baseline, and the number of additions to it.

- A baseline is all of `store/tables`. Until 0.2.0, each change of the tables makes a new baseline: `_BASELINE` in
  `version.py` grows by one. A store of another baseline is refused, because there is no migration between baselines.
- From 0.2.0 on, the baseline stays. A change may add tables, indexes, and columns that are nullable or have a server
  default. `_ADDED` grows by one with each change. `migrate` adds what `store/tables` has and the store lacks.
- A store that is newer than the code therefore has everything that the code uses. So an old router can run beside a
  guard that was upgraded first, and a guard can be rolled back. An addition must be right for old and new code.
"""

from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, delete, insert, inspect, select, text, update
from sqlalchemy.schema import CreateSchema, CreateTable

from cheapdeep_ops.errors import SchemaError
from cheapdeep_ops.store.engine import SCHEMA, Store, take_lock
from cheapdeep_ops.store.tables import METADATA, VERSION
from cheapdeep_ops.store.version import HEAD, is_behind, is_of_other_baseline

__all__ = ["HEAD", "migrate", "require_schema", "require_writable", "revision", "schema_trouble"]


def revision(connection: Connection) -> str | None:
    """The store's version; None if it has none."""
    if not inspect(connection).has_table(VERSION.name, schema=_schema(connection)):
        return None
    version: str | None = connection.execute(select(VERSION.c.version)).scalar()
    return version


def require_schema(store: Store) -> None:
    """Make sure that this code can use the store's schema; a SQLite store is created or migrated if necessary.

    Raises SchemaError, and closes the store, if the schema does not fit. A router never migrates PostgreSQL: a person
    runs `cheapdeep-ops migrate`.
    """
    if store.is_sqlite:
        migrate(store)
        return
    with store.reading() as connection:
        trouble = schema_trouble(connection)
    if trouble:
        store.close()  # a router tries three times a second until somebody migrates, each time with a new store
        raise SchemaError(f"{store.shown_url} {trouble}")


def require_writable(store: Store) -> None:
    """Raises StoreError if this process may only read the store, which has its tables."""
    # Only a write finds out: SQLite begins a transaction in a file that it may only read.
    same = update(VERSION).values(version=VERSION.c.version)
    store.transact(lambda connection: connection.execute(same))


def schema_trouble(connection: Connection) -> str:
    """Why this code cannot use the store's schema, and what to do; '' if it can.

    The text continues a sentence that begins with the store's name.
    """
    stored = revision(connection)
    if refusal := _refusal(connection, stored, METADATA, HEAD):
        return refusal
    if is_behind(stored, HEAD):
        state = f"is at version {stored}" if stored else "has no tables yet"
        return f"{state}, this code needs {HEAD}: run cheapdeep-ops migrate"
    return ""


def migrate(store: Store, *, tables: MetaData = METADATA, version: str = HEAD) -> str:
    """Create the tables, or add to an older store what it lacks; returns the store's version afterwards.

    Safe to run from several processes at once. A newer store stays as it is. Raises SchemaError if the store has
    another baseline, or has tables of these names without a version.
    """
    # Most stores are up to date: a look without a transaction spares them the write lock.
    with store.reading() as connection:
        stored = revision(connection)
    if stored and not is_behind(stored, version) and not is_of_other_baseline(stored, version):
        return stored

    def upgrade(connection: Connection) -> str:
        take_lock(connection, "schema")
        stored = revision(connection)
        if refusal := _refusal(connection, stored, tables, version):
            raise SchemaError(f"{store.shown_url} {refusal}")
        if stored and not is_behind(stored, version):
            return stored
        _add_missing(connection, tables)
        connection.execute(delete(VERSION))
        connection.execute(insert(VERSION), {"version": version})
        return version

    return store.transact(upgrade)


def _refusal(connection: Connection, stored: str | None, tables: MetaData, version: str) -> str:
    """Why the store is left alone: it has another baseline, or tables of our names and no version; '' if it fits."""
    elsewhere = "move it away, or name another store in CHEAPDEEP_STORE_URL"
    if stored and is_of_other_baseline(stored, version):
        return (
            f"was made by another development version of cheapdeep_ops (schema {stored}, this code's is {HEAD}), and "
            f"there is no way from one to the other: {elsewhere}"
        )
    taken = set() if stored else tables.tables.keys() & inspect(connection).get_table_names(schema=_schema(connection))
    if taken:
        return (
            f"has tables of another application, or of cheapdeep_ops 0.1, under the names {', '.join(sorted(taken))}: "
            f"{elsewhere}"
        )
    return ""


def _add_missing(connection: Connection, tables: MetaData) -> None:
    """Create the tables, columns and indexes that the store lacks."""
    schema, inspector = _schema(connection), inspect(connection)
    # Only if the schema is absent: a role without the right to create one can still use it.
    if schema and not inspector.has_schema(schema):
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
    # SQLAlchemy itself has no ALTER TABLE: this asks it for the column's part of CREATE TABLE.
    specification = dialect.ddl_compiler(dialect, CreateTable(table)).get_column_specification(column)
    connection.execute(text(f"ALTER TABLE {name} ADD COLUMN {specification}"))


def _schema(connection: Connection) -> str | None:
    return SCHEMA if connection.dialect.name == "postgresql" else None
