"""Heartbeats of routers and guards."""

from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from cheapdeep_ops.store.clock import StoreClock, StoreTime
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.recording import Heartbeat, Kind, prepare_beat, time_query
from cheapdeep_ops.store.tables.call_tables import Process
from cheapdeep_ops.store.tables.row import table_of

__all__ = [
    "Heartbeat",
    "any_router",
    "beat",
    "clock_of",
    "dropped",
    "evaluated_at",
    "last_seen",
    "late",
    "mark_evaluated",
    "mark_stopped",
    "processes",
    "running_guards",
    "store_time",
]

_PROCESS: Final = table_of(Process)


def beat(connection: Connection, heartbeat: Heartbeat) -> None:
    """Store the heartbeat of this process."""
    prepare_beat(heartbeat)(connection)


def mark_stopped(connection: Connection, process: str) -> None:
    """Mark a process as stopped; its counters stay."""
    connection.execute(update(_PROCESS).where(_PROCESS.c.process == process).values(kind="stopped"))


def last_seen(connection: Connection, kind: Kind) -> float | None:
    """When a running process of this kind last wrote a heartbeat (Unix time); None if none did."""
    seen: float | None = connection.execute(
        select(func.max(_PROCESS.c.seen_at)).where(_PROCESS.c.kind == kind)
    ).scalar()
    return seen


def mark_evaluated(connection: Connection, process: str, *, at: float) -> None:
    """Note that this guard has evaluated all rules, and that the last changes are stored with this note."""
    connection.execute(update(_PROCESS).where(_PROCESS.c.process == process).values(evaluated_at=at))


def evaluated_at(connection: Connection) -> float | None:
    """When a guard last evaluated all rules, and stored what it found (Unix time); None if none ever did."""
    last: float | None = connection.execute(select(func.max(_PROCESS.c.evaluated_at))).scalar()
    return last


def store_time(connection: Connection) -> StoreTime:
    """What the store says about time."""
    return StoreTime(*connection.exec_driver_sql(time_query(connection.dialect.name)).one())


def clock_of(store: Store) -> StoreClock:
    """The store's time, which was read now. Raises StoreError."""
    clock = StoreClock()
    asked_at = clock.steady()
    with store.reading() as connection:
        clock.note(store_time(connection), asked_at=asked_at)
    return clock


def running_guards(connection: Connection, *, since: float) -> list[str]:
    """The guards with a heartbeat since `since`."""
    runs = (_PROCESS.c.kind == "guard", _PROCESS.c.seen_at >= since)
    return list(connection.execute(select(_PROCESS.c.process).where(*runs)).scalars())


def any_router(connection: Connection) -> bool:
    """Whether a router has ever written a heartbeat."""
    # By any kind but the guard's: a router's row becomes `stopped` or `retired` later.
    other_than_guard = select(_PROCESS.c.process).where(_PROCESS.c.kind != "guard").limit(1)
    return connection.execute(other_than_guard).first() is not None


def dropped(connection: Connection) -> int:
    """The number of decisions that could not be counted, over all processes so far."""
    total: int | None = connection.execute(select(func.sum(_PROCESS.c.dropped))).scalar()
    return total or 0


def late(connection: Connection) -> int:
    """The number of calls that came after their second was sealed, and were refused; over all processes so far."""
    total: int | None = connection.execute(select(func.sum(_PROCESS.c.late))).scalar()
    return int(total or 0)


def processes(connection: Connection, *, since: float) -> list[dict[str, Any]]:
    """The processes with a heartbeat since `since`, the latest first."""
    statement = select(_PROCESS).where(_PROCESS.c.seen_at >= since).order_by(_PROCESS.c.seen_at.desc())
    return [dict(row) for row in connection.execute(statement).mappings()]
