"""Heartbeats of routers and guards, and the lease of the guard that may act."""

from typing import Any, Final

from sqlalchemy import Connection, case, func, or_, select, update

from cheapdeep_ops.store.recording import Heartbeat, Kind, prepare_beat
from cheapdeep_ops.store.tables.call_tables import Lease, Process
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent

__all__ = [
    "Heartbeat",
    "any_router",
    "beat",
    "dropped",
    "last_seen",
    "late",
    "mark_stopped",
    "processes",
    "release_lease",
    "renew_lease",
    "take_lease",
]

_PROCESS: Final = table_of(Process)
_LEASE: Final = table_of(Lease)


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


def take_lease(connection: Connection, *, name: str, holder: str, now: float, lasts_s: float) -> int | None:
    """Take or renew a lease until `now + lasts_s`; returns its fencing number, or None if another process holds it.

    The number grows with each change of holder. Run it in a write transaction.
    """
    # A lease that ends much later than any valid one was taken with a wrong clock: it counts as free.
    free = or_(_LEASE.c.holder == holder, _LEASE.c.until < now, _LEASE.c.until > now + 2 * lasts_s)
    number = _LEASE.c.number + case((_LEASE.c.holder == holder, 0), else_=1)
    until = now + lasts_s
    take = update(_LEASE).where(_LEASE.c.name == name, free).values(holder=holder, until=until, number=number)
    taken = connection.execute(take.returning(_LEASE.c.number)).scalar()
    if taken is not None:
        return int(taken)
    is_first = insert_if_absent(connection, Lease, {"name": name, "holder": holder, "until": until, "number": 1})
    return 1 if is_first else None


def renew_lease(connection: Connection, *, name: str, holder: str, number: int, until: float) -> bool:
    """Renew a lease, even after its end; False if another process has taken it since."""
    own = (_LEASE.c.name == name, _LEASE.c.holder == holder, _LEASE.c.number == number)
    return bool(connection.execute(update(_LEASE).where(*own).values(until=until)).rowcount)


def release_lease(connection: Connection, *, name: str, holder: str) -> None:
    """Release a lease, so that another guard can take it at once."""
    # The row stays: its number must grow with the next holder.
    own = (_LEASE.c.name == name, _LEASE.c.holder == holder)
    connection.execute(update(_LEASE).where(*own).values(holder="", until=0.0))
