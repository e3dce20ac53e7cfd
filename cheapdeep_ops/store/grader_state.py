"""The grader's state, and its open batches."""

from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, and_, case, func, select, update

from cheapdeep_ops.store import grades
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import GraderRow, GradingBatch
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent, upsert
from cheapdeep_ops.units import USD_PER_NUSD

_GRADER: Final = table_of(GraderRow)
_BATCH: Final = table_of(GradingBatch)
_NAME: Final = "grader"
_UNANSWERED: Final = "unanswered "
"""How the id begins that a batch without an answer gets here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderStatus:
    """The grader's last stored state; times are Unix seconds."""

    paused_until: float | None = None
    paused_why: str = ""
    failures_in_row: int = 0
    last_failure: str = ""
    last_failure_at: float | None = None
    last_grade_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch whose results have not all been read, with the version of its grader.

    `missing_since` is when the API first did not find the batch or some of its results (Unix time). `missing_reads` is
    how often in a row, `missing_why` the reason.
    """

    id: str
    grader: GraderVersion
    submitted_at: float
    unread: int
    missing_since: float | None
    missing_reads: int
    missing_why: str


def state(connection: Connection) -> GraderStatus:
    """The grader's stored state; a blank one if it has never run."""
    columns = (column for column in _GRADER.c if column.name != "name")
    row = connection.execute(select(*columns).where(_GRADER.c.name == _NAME)).mappings().one_or_none()
    return GraderStatus() if row is None else GraderStatus(**row)


def save_state(connection: Connection, status: GraderStatus) -> None:
    """Store the grader's state."""
    upsert(connection, GraderRow, [{"name": _NAME, **asdict(status)}])


def begin_batch(
    connection: Connection, batch_id: str, grader: GraderVersion, *, at: float, requests: int, nusd_each: int
) -> None:
    """Store a batch that the API has accepted; each request is estimated to cost `nusd_each`."""
    row = {"id": batch_id, "grader_model": grader.model, "grader_prompt": grader.prompt, "submitted_at": at,
           "requests": requests, "unread": requests, "nusd_each": nusd_each}  # fmt: skip
    insert_if_absent(connection, GradingBatch, row)


def note_unanswered(connection: Connection, grader: GraderVersion, *, at: float, requests: int, nusd_each: int) -> None:
    """Store that a batch was sent and not answered: its results cannot be read, but they may cost money."""
    batch_id = f"{_UNANSWERED}{at!r}"
    begin_batch(connection, batch_id, grader, at=at, requests=requests, nusd_each=nusd_each)
    end_batch(connection, batch_id, at=at)


def is_last_unanswered(connection: Connection) -> bool:
    """Whether the last batch was not answered."""
    newest = select(_BATCH.c.id).order_by(_BATCH.c.submitted_at.desc()).limit(1)
    return (connection.execute(newest).scalar() or "").startswith(_UNANSWERED)


def open_batches(connection: Connection) -> list[OpenBatch]:
    """The batches whose results have not all been read, oldest first."""
    # The version is stored, because the settings may name another grader by the time a batch ends.
    statement = select(_BATCH).where(_BATCH.c.ended_at.is_(None)).order_by(_BATCH.c.submitted_at, _BATCH.c.id)
    return [
        OpenBatch(
            id=row.id,
            grader=GraderVersion(model=row.grader_model, prompt=row.grader_prompt),
            submitted_at=row.submitted_at,
            unread=row.unread,
            missing_since=row.missing_since,
            missing_reads=row.missing_reads,
            missing_why=row.missing_why,
        )
        for row in connection.execute(statement)
    ]


def count_read(connection: Connection, batch_id: str, results: int) -> None:
    """Count results of a batch as read: their cost is known, so it is no longer estimated."""
    unread = _BATCH.c.unread
    # Two guards may read one batch: one of them may have lost the lease without knowing it.
    left = case((unread > results, unread - results), else_=0)
    connection.execute(update(_BATCH).where(_BATCH.c.id == batch_id).values(unread=left))


def mark_missing(connection: Connection, batch_id: str, *, at: float, why: str) -> None:
    """Store that the API did not find a batch or some of its results at `at`."""
    since, reads = func.coalesce(_BATCH.c.missing_since, at), _BATCH.c.missing_reads + 1
    values = {"missing_since": since, "missing_reads": reads, "missing_why": why}
    connection.execute(update(_BATCH).where(_BATCH.c.id == batch_id).values(**values))


def mark_found(connection: Connection, batch_id: str) -> None:
    """Store that the API finds a batch."""
    values = {"missing_since": None, "missing_reads": 0, "missing_why": ""}
    connection.execute(update(_BATCH).where(_BATCH.c.id == batch_id).values(**values))


def end_batch(connection: Connection, batch_id: str, *, at: float) -> None:
    """Mark a batch as read. Requests that are still unread keep their estimated cost: they were sent."""
    connection.execute(update(_BATCH).where(_BATCH.c.id == batch_id).values(ended_at=at))


def committed_usd(connection: Connection, *, since: float) -> float:
    """What gradings since `since` cost, with an estimate for requests in batches since then; in US dollars."""
    recent = and_(_BATCH.c.submitted_at >= since, _BATCH.c.unread > 0)
    unread = select(func.coalesce(func.sum(_BATCH.c.unread * _BATCH.c.nusd_each), 0)).where(recent)
    return grades.spent_usd(connection, since=since) + int(connection.execute(unread).scalar() or 0) * USD_PER_NUSD
