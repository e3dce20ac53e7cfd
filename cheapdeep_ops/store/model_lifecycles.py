"""The lifecycles of models, as the API last reported them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store.tables.grade_tables import ModelLife
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_LIFECYCLE: Final = table_of(ModelLife)


def save_lifecycles(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Store lifecycles, one row for each model: `model`, `lifecycle`, `retires_at`, `checked_at`, `error`."""
    upsert(connection, ModelLife, rows)


def lifecycles(connection: Connection) -> list[dict[str, Any]]:
    """The rows of all models that were ever checked, ordered by name."""
    statement = select(_LIFECYCLE).order_by(_LIFECYCLE.c.model)
    return [dict(row) for row in connection.execute(statement).mappings()]
