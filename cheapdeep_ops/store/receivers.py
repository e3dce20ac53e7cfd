"""The receivers of messages, as the guard last found them in its settings, and the pauses that they asked for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select, update

from cheapdeep_ops.store.tables.alert_tables import ReceiverRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_RECEIVER: Final = table_of(ReceiverRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReceiver:
    """A receiver: its address, the end of a pause that it asked for, and when a person last asked for an attempt."""

    target: str
    resting_until: float | None = None
    retried_at: float | None = None


def known(connection: Connection) -> dict[str, KnownReceiver]:
    """The receivers by name."""
    return {
        row.name: KnownReceiver(target=row.target, resting_until=row.resting_until, retried_at=row.retried_at)
        for row in connection.execute(select(_RECEIVER))
    }


def replace(connection: Connection, *, added: Mapping[str, str], removed: Collection[str], at: float) -> None:
    """Store new receivers, or new addresses of receivers, by name; and forget the removed ones."""
    rows = [
        {"name": name, "target": target, "since": at, "resting_until": None, "retried_at": None}
        for name, target in added.items()
    ]
    upsert(connection, ReceiverRow, rows)
    connection.execute(delete(_RECEIVER).where(_RECEIVER.c.name.in_(removed)))


def rest(connection: Connection, name: str, *, until: float) -> None:
    """Store the end of a pause that a receiver asked for."""
    connection.execute(update(_RECEIVER).where(_RECEIVER.c.name == name).values(resting_until=until))


def mark_retried(connection: Connection, names: Collection[str], *, at: float) -> None:
    """Store that a person asked for an attempt at these receivers."""
    connection.execute(update(_RECEIVER).where(_RECEIVER.c.name.in_(names)).values(retried_at=at))
