"""How judges are checked: labels by call and person, and grades of a second judge."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column, and make the table of labels anew: nothing has written to it yet."""
    op.add_column("grade", sa.Column("second", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_table("label")
    op.create_table(
        "label",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "author"),
    )
