"""What real traffic brings: shadow mode, a deep tier that fails or refuses, causes of failed triage, prompt caches."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NUMBERS = ("shadowed", "fallbacks", "replays_rejected", "deep_replies")
_LARGE_NUMBERS = (
    "shadow_cost_nusd", "shadow_baseline_nusd", "triage_cache_read_tokens", "deep_input_tokens",
    "deep_cache_read_tokens", "cold_cache_nusd",
)  # fmt: skip


def upgrade() -> None:
    """Add the columns."""
    for table in ("bucket", "total"):
        for name in _NUMBERS:
            op.add_column(table, sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        for name in _LARGE_NUMBERS:
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("triage_errors", sa.JSON(), nullable=False, server_default="{}"))
