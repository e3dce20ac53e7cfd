"""The grader's state, and its open batches."""

from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import GraderRow, GradingBatch
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent, upsert

_GRADER: Final = table_of(GraderRow)
_BATCH: Final = table_of(GradingBatch)
_NAME: Final = "grader"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderStatus:
    """The grader's last stored state; times are Unix seconds."""

    paused_until: float | None = None
    paused_why: str = ""
    failures_in_row: int = 0
    last_failure: str = ""
    last_failure_at: float | None = None
    last_grade_at: float | None = None


def state(connection: Connection) -> GraderStatus:
    """The grader's stored state; a blank one if it has never run."""
    columns = (column for column in _GRADER.c if column.name != "name")
    row = connection.execute(select(*columns).where(_GRADER.c.name == _NAME)).mappings().one_or_none()
    return GraderStatus() if row is None else GraderStatus(**row)


def save_state(connection: Connection, status: GraderStatus) -> None:
    """Store the grader's state."""
    upsert(connection, GraderRow, [{"name": _NAME, **asdict(status)}])


def begin_batch(connection: Connection, batch_id: str, grader: GraderVersion, *, at: float, requests: int) -> None:
    """Store a batch that the API has accepted."""
    row = {"id": batch_id, "grader_model": grader.model, "grader_prompt": grader.prompt, "submitted_at": at,
           "requests": requests}  # fmt: skip
    insert_if_absent(connection, GradingBatch, row)


def open_batches(connection: Connection) -> list[tuple[str, GraderVersion]]:
    """The batches whose results have not been read, oldest first, with the version of their grader."""
    # The version is stored, because the settings may name another grader by the time a batch ends.
    statement = select(_BATCH).where(_BATCH.c.ended_at.is_(None)).order_by(_BATCH.c.submitted_at)
    rows = connection.execute(statement)
    return [(row.id, GraderVersion(model=row.grader_model, prompt=row.grader_prompt)) for row in rows]


def end_batch(connection: Connection, batch_id: str, *, at: float) -> None:
    """Mark a batch as read."""
    connection.execute(update(_BATCH).where(_BATCH.c.id == batch_id).values(ended_at=at))
