"""Leases: the right of one guard to do a part of the guards' work.

A row has two numbers. `number` is the fencing number: it grows with each new holder, so that an old holder is refused.
`beats` grows with each renewal, so that an observer sees a living holder without any clock.
Source: https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html (fencing tokens)
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from cheapdeep_ops.store.tables.call_tables import LeaseRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent

_LEASE: Final = table_of(LeaseRow)
_NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as it is stored; `holder` is the process that has it, '' if it is free."""

    holder: str = _NOBODY
    number: int = 0
    beats: int = 0

    @property
    def is_free(self) -> bool:
        """Whether no process has it."""
        return self.holder == _NOBODY


def states(connection: Connection) -> dict[str, LeaseState]:
    """All leases by name; a name that no guard has ever held is not among them."""
    return {
        row.name: LeaseState(holder=row.holder, number=row.number, beats=row.beats)
        for row in connection.execute(select(_LEASE))
    }


def take(connection: Connection, name: str, *, holder: str, seen: LeaseState) -> int | None:
    """Take a lease that still is as it was `seen`; returns its fencing number, or None if it has changed since.

    A lease that does not exist is seen as a blank `LeaseState`.
    """
    number = seen.number + 1
    unchanged = (_LEASE.c.name == name, _LEASE.c.number == seen.number, _LEASE.c.beats == seen.beats)
    values = {"holder": holder, "number": number, "beats": _LEASE.c.beats + 1}
    if connection.execute(update(_LEASE).where(*unchanged).values(**values)).rowcount:
        return number
    row = {"name": name, "holder": holder, "number": number, "beats": 1}
    return number if seen == LeaseState() and insert_if_absent(connection, LeaseRow, row) else None


def renew(connection: Connection, name: str, *, holder: str, number: int) -> bool:
    """Renew a lease; False if another process has taken it since.

    In a transaction that writes, no other process can take the lease until the transaction ends.
    """
    own = (_LEASE.c.name == name, _LEASE.c.holder == holder, _LEASE.c.number == number)
    return bool(connection.execute(update(_LEASE).where(*own).values(beats=_LEASE.c.beats + 1)).rowcount)


def release(connection: Connection, name: str, *, holder: str, number: int) -> None:
    """Release a lease that this process holds, so that another guard can take it at once."""
    # The row stays: its number must grow with the next holder.
    own = (_LEASE.c.name == name, _LEASE.c.holder == holder, _LEASE.c.number == number)
    connection.execute(update(_LEASE).where(*own).values(holder=_NOBODY, beats=_LEASE.c.beats + 1))
