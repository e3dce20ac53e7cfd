"""What the API says of the models' lives."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store.tables import ModelLife, table_of
from cheapdeep_ops.store.upsert import upsert

_LIFE: Final = table_of(ModelLife)


def save_lives(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store what was learned of models: `model`, `lifecycle`, `retires_at`, `checked_at`, `error`."""
    upsert(connection, ModelLife, rows)


def lives(connection: Connection) -> list[dict[str, Any]]:
    """Every model that was ever asked for, by name."""
    statement = select(_LIFE).order_by(_LIFE.c.model)
    return [dict(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name
