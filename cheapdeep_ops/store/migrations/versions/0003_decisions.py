"""What decisions rest on: detectors, sampling rates, people's labels, where escalations come from, models' lives."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables and columns."""
    for table in ("bucket", "total"):
        op.add_column(table, sa.Column("origins", sa.JSON(), nullable=False, server_default="{}"))
        op.add_column(table, sa.Column("base_origins", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("grade", sa.Column("model", sa.String(), nullable=False, server_default=""))
    op.add_column("grade", sa.Column("prompt_version", sa.String(), nullable=False, server_default=""))
    op.add_column("grade", sa.Column("steered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("candidate", sa.Column("steered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "detector",
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("grader_model", sa.String(), nullable=False),
        sa.Column("grader_prompt", sa.String(), nullable=False),
        sa.Column("grade_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("rule", "scope", "grader_model", "grader_prompt"),
    )
    op.create_table(
        "sampling",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sampling_route", "sampling", ["route", "since"])
    op.create_table(
        "label",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("call_id", "author"),
    )
    op.create_table(
        "model_life",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("lifecycle", sa.String(), nullable=False),
        sa.Column("retires_at", sa.Float(), nullable=True),
        sa.Column("checked_at", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model"),
    )
