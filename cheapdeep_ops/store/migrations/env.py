"""Alembic's entry: runs within the transaction that it is handed."""

from alembic import context

from cheapdeep_ops.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters little; Alembic copies the table instead
)
context.run_migrations()
