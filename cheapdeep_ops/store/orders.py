"""Orders of people that were carried out: each once, whichever guard gets it and however often it arrives."""

from typing import Final

from sqlalchemy import Connection, delete

from cheapdeep_ops.store.tables.alert_tables import OrderRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent
from cheapdeep_ops.units import DAY_S

_ORDER: Final = table_of(OrderRow)
_KEPT_S: Final = 7.0 * DAY_S


def claim(connection: Connection, key: str, *, author: str, at: float) -> bool:
    """Mark the order `key` as carried out by this transaction; returns False if it was carried out before.

    A transaction of another guard with an equal key waits until this one ends.
    """
    connection.execute(delete(_ORDER).where(_ORDER.c.at < at - _KEPT_S))
    return insert_if_absent(connection, OrderRow, {"key": key, "at": at, "author": author})
