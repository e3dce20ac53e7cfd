"""A counter of changes: it shows whether the facts behind a decision have changed since they were read."""

from typing import Final

from sqlalchemy import Connection, select, update

from cheapdeep_ops.store.tables.call_tables import Revision
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent

_REVISION: Final = table_of(Revision)
_DECISIONS: Final = "decisions"
"""Counts changes of policies, alerts, incidents, silences and baselines: both rules and people change them."""


ROLLUPS: Final = "rollups"
"""Counts folds, each of which adds to rows of `rollup` that it has read before."""


def current(connection: Connection, name: str = _DECISIONS) -> int:
    """The number of the last change of the part `name`; 0 before the first."""
    number: int | None = connection.execute(select(_REVISION.c.number).where(_REVISION.c.name == name)).scalar()
    return number or 0


def advance(connection: Connection) -> None:
    """Count a change in this transaction; transactions with other changes wait until it ends."""
    # The update is the lock: PostgreSQL locks the row, and SQLite has one writer.
    row = update(_REVISION).where(_REVISION.c.name == _DECISIONS).values(number=_REVISION.c.number + 1)
    while not connection.execute(row).rowcount:
        insert_if_absent(connection, Revision, {"name": _DECISIONS, "number": 0})


def advance_from(connection: Connection, number: int, name: str = _DECISIONS) -> bool:
    """Count a change of the part `name` in this transaction if `number` is still current; returns whether it was."""
    if not number:
        insert_if_absent(connection, Revision, {"name": name, "number": 0})
    row = update(_REVISION).where(_REVISION.c.name == name, _REVISION.c.number == number)
    return bool(connection.execute(row.values(number=number + 1)).rowcount)
