"""Whether what a decision rests on has changed since it was read."""

from typing import Final

from sqlalchemy import Connection, select, update

from cheapdeep_ops.store.tables import Revision, table_of
from cheapdeep_ops.store.upsert import insert_if_absent

_REVISION: Final = table_of(Revision)
_DECISIONS: Final = "decisions"
"""Policies, alerts, incidents, silences and baselines: all that an evaluation decides on and people change too."""


def current(connection: Connection) -> int:
    """The number of the last change; 0 before the first."""
    found: int | None = connection.execute(select(_REVISION.c.number).where(_REVISION.c.name == _DECISIONS)).scalar()
    return found or 0


def advance(connection: Connection) -> None:
    """Say that something changes in this transaction.

    Other transactions that change something wait for its end: PostgreSQL locks the row, SQLite has one writer.
    """
    row = update(_REVISION).where(_REVISION.c.name == _DECISIONS).values(number=_REVISION.c.number + 1)
    while not connection.execute(row).rowcount:
        insert_if_absent(connection, Revision, {"name": _DECISIONS, "number": 0})


def advance_from(connection: Connection, number: int) -> bool:
    """Say that something changes in this transaction, if nothing has since `number` was read; else False."""
    if not number:
        insert_if_absent(connection, Revision, {"name": _DECISIONS, "number": 0})
    row = update(_REVISION).where(_REVISION.c.name == _DECISIONS, _REVISION.c.number == number)
    return bool(connection.execute(row.values(number=number + 1)).rowcount)
