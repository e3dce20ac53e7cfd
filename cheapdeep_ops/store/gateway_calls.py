"""What callers of a gateway may ask of their calls, so that any gateway on the store can tell it."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from cheapdeep_ops.store.tables.call_tables import SecretRow
from cheapdeep_ops.store.tables.gateway_tables import GatewayCall
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent, prepare_insert_absent

_CALL: Final = table_of(GatewayCall)
_SECRET: Final = table_of(SecretRow)
_NAME: Final = "gateway"
_BYTES: Final = 32


def caller_key(connection: Connection) -> bytes:
    """The store's key for the hashes of callers' keys; this transaction makes it if there is none."""
    row = {"name": _NAME, "value": secrets.token_bytes(_BYTES).hex()}
    insert_if_absent(connection, SecretRow, row)
    value: str = connection.execute(select(_SECRET.c.value).where(_SECRET.c.name == _NAME)).scalar_one()
    return bytes.fromhex(value)


def keep(connection: Connection, rows: Sequence[Mapping[str, object]], *, forget_before: float) -> None:
    """Store calls, and delete those that ended before `forget_before` (Unix time)."""
    connection.execute(delete(_CALL).where(_CALL.c.at < forget_before))
    if rows:
        prepare_insert_absent(GatewayCall, rows)(connection)


def find(connection: Connection, call_id: str, *, caller: str, since: float) -> dict[str, Any] | None:
    """The facts of a call of this caller that ended at `since` or later; None if there is none."""
    wanted = (_CALL.c.call_id == call_id, _CALL.c.caller == caller, _CALL.c.at >= since)
    facts: dict[str, Any] | None = connection.execute(select(_CALL.c.facts).where(*wanted)).scalar()
    return facts
