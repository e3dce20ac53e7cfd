"""Folds the totals of dead processes, so that the time to read all totals does not grow with past processes."""

from typing import Final

from sqlalchemy import Connection, and_, delete, func, select, tuple_

from cheapdeep_ops.store.counters import totals_where
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.store.engine import Store, take_lock
from cheapdeep_ops.store.recording import FOREVER
from cheapdeep_ops.store.tables.call_tables import DeadSecond, Process, Total
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_TOTAL: Final = table_of(Total)
_PROCESS: Final = table_of(Process)
_DEAD_SECOND: Final = table_of(DeadSecond)
RETIRED: Final = ""
"""The process name under which the totals of all retired processes are stored."""

_FOLDED_AT_ONCE: Final = 400
"""The largest number of totals that one transaction folds into rows of `RETIRED`."""

_RETIRED_PROCESS: Final = {
    "process": RETIRED, "kind": "retired", "host": "", "pid": 0, "started_at": 0.0, "seen_at": 0.0,
    "package_version": "", "base_threshold": 0.0, "policy_version": 0,
}  # fmt: skip
_IS_DEAD: Final = and_(_PROCESS.c.sealed_before == FOREVER, _PROCESS.c.process != RETIRED)
"""Selects processes that are sealed for good: the store refuses their totals, so none is counted twice."""


def retire(store: Store, *, unseen_since: float) -> int:
    """Fold the totals of each dead process into one row for each route and class; returns how many processes had some.

    The sums stay equal after each transaction. The process's own row is deleted only if it had no heartbeat since
    `unseen_since` (Unix time): until then the store knows that the process is dead, and refuses what comes late.
    """
    with_totals = select(_TOTAL.c.process).join(_PROCESS, _PROCESS.c.process == _TOTAL.c.process).where(_IS_DEAD)
    long_gone = select(_PROCESS.c.process).where(_IS_DEAD, _PROCESS.c.seen_at < unseen_since)
    with store.reading() as connection:
        names = connection.execute(with_totals.distinct()).scalars().all()
    for name in names:
        while store.transact(lambda connection, name=name: _fold_some(connection, name)):  # type: ignore[misc]
            pass
    with store.reading() as connection:
        gone = connection.execute(long_gone).scalars().all()
    for name in gone:
        store.transact(lambda connection, name=name: _retire_process(connection, name))  # type: ignore[misc]
    return len(names)


def _fold_some(connection: Connection, name: str) -> bool:
    """Fold some totals of a process; returns whether there were any."""
    # Two guards at once must not add one total to the retired row twice.
    take_lock(connection, "retirement")
    key = tuple_(_TOTAL.c.route, _TOTAL.c.input_class)
    own = select(_TOTAL.c.route, _TOTAL.c.input_class).where(_TOTAL.c.process == name)
    some = own.order_by(_TOTAL.c.route, _TOTAL.c.input_class).limit(_FOLDED_AT_ONCE)
    keys = [tuple(row) for row in connection.execute(some)]
    if not keys:
        return False
    folded = totals_where(connection, and_(_TOTAL.c.process.in_([name, RETIRED]), key.in_(keys)))
    connection.execute(delete(_TOTAL).where(_TOTAL.c.process == name, key.in_(keys)))
    upsert(connection, Total, [_as_row(key, sums) for key, sums in folded.items()])
    return True


def _retire_process(connection: Connection, name: str) -> None:
    """Delete the row of a process, and add its dropped, late and folded calls to the retired row."""
    take_lock(connection, "retirement")
    both = _PROCESS.c.process.in_([name, RETIRED])
    names = ("dropped", "late", "folded")
    counted = select(*(func.sum(_PROCESS.c[each]) for each in names))
    sums = {
        each: int(count or 0) for each, count in zip(names, connection.execute(counted.where(both)).one(), strict=True)
    }
    connection.execute(delete(_DEAD_SECOND).where(_DEAD_SECOND.c.process == name))
    connection.execute(delete(_PROCESS).where(_PROCESS.c.process == name))
    upsert(connection, Process, [{**_RETIRED_PROCESS, **sums}])


def _as_row(key: tuple[str, str], sums: Sums) -> dict[str, object]:
    return {"route": key[0], "input_class": key[1], "process": RETIRED, **sums.row()}
