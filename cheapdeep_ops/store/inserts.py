"""`INSERT ... ON CONFLICT` for SQLite and PostgreSQL, with cached statements and rows that are prepared in advance.

SQLAlchemy builds such a statement from its columns at each use, which takes longer than the database's work.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, Protocol, TypeVar

from cheapdeep_ops.errors import RowError, StoreError
from cheapdeep_ops.store.postgresql import SCHEMA

_T = TypeVar("_T")
_Values = tuple[Any, ...]
OnConflict = Literal["replace", "keep"]
_NO_ENTRIES: Final = "{}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """A table as an insert needs it: its primary key, its JSON columns, and the columns that have defaults.

    A default is a value, or a function that makes one.
    """

    name: str
    keys: tuple[str, ...]
    json: frozenset[str] = frozenset()
    defaults: Mapping[str, object] = field(default_factory=dict)


class Statements(Protocol):
    """What a write needs of a connection: SQLAlchemy's has it, and so has that of a `DirectStore`."""

    @property
    def dialect(self) -> Any:
        """Has the name of the database: `sqlite` or `postgresql`."""

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Any:
        """Run a statement in the driver's own SQL: once for each tuple in a list, or once with one tuple.

        What it returns has the number of changed rows as `rowcount`; with one tuple, `fetchone` has the first row.
        """


Write = Callable[[Statements], None]
"""Stores rows that were prepared before the transaction began."""


class Transacting(Protocol):
    """A store that can be written to."""

    def transact(self, work: Write) -> None:
        """Run `work` in one transaction."""


def prepare(target: Target, rows: Sequence[Mapping[str, object]], on_conflict: OnConflict) -> Write:
    """Prepare `rows` for inserting; all must have equal column names.

    With `replace`, a stored row with an equal primary key gets the values of these columns; with `keep`, a row whose
    unique key is taken at that time is skipped. In a new row, a column that they leave out gets its default.
    """
    names = tuple(rows[0]) if rows else ()
    values = values_of(target, names, rows)

    def write(connection: Statements) -> None:
        if values:
            connection.exec_driver_sql(statement(connection.dialect.name, target, names, on_conflict), values)

    return write


def combined(*writes: Write) -> Write:
    """One write that does all `writes` in their order."""

    def write(connection: Statements) -> None:
        for each in writes:
            each(connection)

    return write


def write_accepted(
    store: Transacting, rows: Sequence[_T], prepare: Callable[[Sequence[_T]], Write]
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


def values_of(target: Target, names: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> list[_Values]:
    """The parameters of `statement` for each row."""
    kinds = [(name, name in target.json) for name in names]
    made = [(name, default) for name, default in target.defaults.items() if name not in names]
    defaults = [_column(target, name, default() if callable(default) else default) for name, default in made]
    return [(*[_text(row[name]) if is_json else row[name] for name, is_json in kinds], *defaults) for row in rows]


def _column(target: Target, name: str, value: object) -> object:
    return _text(value) if name in target.json else value


def _text(value: object) -> str | None:
    """`value` as JSON; None stays None, which the database stores as NULL."""
    if value is None:
        return None
    # Most mappings of counters are empty, and a constant costs less than an encoder.
    return _NO_ENTRIES if value == {} else json.dumps(value)


@cache
def statement(dialect: str, target: Target, names: tuple[str, ...], on_conflict: OnConflict) -> str:
    """The statement that inserts one row with the columns `names`, and the defaults of all others."""
    is_postgresql = dialect == "postgresql"
    columns = [f'"{name}"' for name in (*names, *(name for name in target.defaults if name not in names))]
    marks = ", ".join(["%s" if is_postgresql else "?"] * len(columns))
    action = "DO NOTHING"
    if on_conflict == "replace":
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in target.keys)
        action = f"({', '.join(target.keys)}) DO UPDATE SET {changed}"
    return (
        f"INSERT INTO {table_name(dialect, target.name)} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 - our names
        f"ON CONFLICT {action}"
    )


def table_name(dialect: str, name: str) -> str:
    """A table's name as the database's SQL writes it."""
    # SQLAlchemy does not see this text, so it cannot put the schema's name in.
    return f'{SCHEMA}."{name}"' if dialect == "postgresql" else f'"{name}"'
