"""Candidates, grades, what is normal, the grader's own state, and what a receipt says of triage and of waiting."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables of the quality loop, and four counters."""
    for table in ("bucket", "total"):
        op.add_column(table, sa.Column("triage_replies", sa.Integer(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("triage_input_tokens", sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("triage_output_tokens", sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("added_latency", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "candidate",
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("position", sa.Float(), nullable=False),
        sa.Column("kept_share", sa.Float(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("input_class", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("shipped", sa.Boolean(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("prompt_version", sa.String(), nullable=False),
        sa.Column("response_id", sa.String(), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("span_id", sa.String(), nullable=False),
        sa.Column("trace_sampled", sa.Boolean(), nullable=False),
        sa.Column("turns", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("inclusion", sa.Float(), nullable=True),
        sa.Column("chosen_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_index("ix_candidate_at", "candidate", ["at"])
    has_content = sa.text("answer IS NOT NULL")
    op.create_index("ix_candidate_content", "candidate", ["at"], sqlite_where=has_content, postgresql_where=has_content)
    op.create_index("ix_candidate_state", "candidate", ["state", "due_at"])
    op.create_table(
        "grade",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("grader_model", sa.String(), nullable=False),
        sa.Column("grader_prompt", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("called_at", sa.Float(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("input_class", sa.String(), nullable=False),
        sa.Column("shipped", sa.Boolean(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("inclusion", sa.Float(), nullable=False),
        sa.Column("batch", sa.Boolean(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_read_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_write_5m_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_write_1h_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("call_id", "grader_model", "grader_prompt"),
    )
    op.create_index("ix_grade_at", "grade", ["at"])
    op.create_index("ix_grade_called_at", "grade", ["called_at"])
    has_reason = sa.text("reason != ''")
    op.create_index("ix_grade_reason", "grade", ["called_at"], sqlite_where=has_reason, postgresql_where=has_reason)
    op.create_index("ix_grade_route", "grade", ["route", "called_at"])
    op.create_table(
        "grade_total",
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("route", "outcome"),
    )
    op.create_table(
        "normal",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("grader_model", sa.String(), nullable=False),
        sa.Column("grader_prompt", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("n", sa.Float(), nullable=True),
        sa.Column("grades", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=True),
        sa.Column("learned_at", sa.Float(), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "grader_model", "grader_prompt"),
    )
    op.create_table(
        "grader",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("paused_until", sa.Float(), nullable=True),
        sa.Column("paused_why", sa.String(), nullable=False),
        sa.Column("failures_in_row", sa.Integer(), nullable=False),
        sa.Column("last_failure", sa.String(), nullable=False),
        sa.Column("last_failure_at", sa.Float(), nullable=True),
        sa.Column("last_grade_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "grading_batch",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("grader_model", sa.String(), nullable=False),
        sa.Column("grader_prompt", sa.String(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
