"""The table of what callers of a gateway may ask of their calls."""

from typing import Any

from sqlalchemy import JSON, Index
from sqlmodel import Field

from cheapdeep_ops.store.tables.row import Row


class GatewayCall(Row, table=True):
    """How a call through a gateway was decided, without its content; `caller` is a keyed hash of the caller's key."""

    __tablename__ = "gateway_call"
    __table_args__ = (Index("ix_gateway_call_at", "at"),)

    call_id: str = Field(primary_key=True)
    caller: str
    at: float
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
