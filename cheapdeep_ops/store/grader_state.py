"""The grader's state, and its open batches."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, and_, case, delete, func, select, update

from cheapdeep_ops.store import grades, regradings
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import GraderRow, GradingBatch
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent, upsert
from cheapdeep_ops.units import DAY_S, USD_PER_NUSD

_GRADER: Final = table_of(GraderRow)
_BATCH: Final = table_of(GradingBatch)
_NAME: Final = "grader"
_INTENT: Final = "intent"
_SENT: Final = "batch"
_DIRECT: Final = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIntent:
    """A batch that was about to be sent at `at` (Unix time), and perhaps was."""

    name: str
    at: float
    requests: int


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
    intent: str
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


def begin_intent(
    connection: Connection, intent: str, grader: GraderVersion, *, at: float, requests: int, nusd_each: int
) -> None:
    """Store that a batch is about to be sent; until the API accepts it, each request counts as `nusd_each`."""
    _insert(connection, intent, _INTENT, grader, at=at, requests=requests, nusd_each=nusd_each)


def accept_intent(connection: Connection, intent: str, batch_id: str, *, nusd_each: int | None = None) -> None:
    """Store the id of the batch that an intent has become; each request is then estimated to cost `nusd_each`."""
    values: dict[str, object] = {"id": batch_id, "kind": _SENT}
    if nusd_each is not None:
        values["nusd_each"] = nusd_each
    connection.execute(update(_BATCH).where(_BATCH.c.id == intent, _BATCH.c.kind == _INTENT).values(**values))


def remove(connection: Connection, *names: str) -> None:
    """Delete intents that have not become a batch, and reservations whose requests are all answered."""
    connection.execute(delete(_BATCH).where(_BATCH.c.id.in_(names), _BATCH.c.kind != _SENT))


def open_intents(connection: Connection) -> list[OpenIntent]:
    """The batches that the API may or may not have accepted, oldest first."""
    statement = select(_BATCH).where(_BATCH.c.kind == _INTENT).order_by(_BATCH.c.submitted_at, _BATCH.c.id)
    return [
        OpenIntent(name=row.id, at=row.submitted_at, requests=row.requests) for row in connection.execute(statement)
    ]


def is_newest_unanswered(connection: Connection) -> bool:
    """Whether it is unknown if the API has accepted the newest batch."""
    newest = select(_BATCH.c.kind).where(_BATCH.c.kind != _DIRECT).order_by(_BATCH.c.submitted_at.desc()).limit(1)
    return connection.execute(newest).scalar() == _INTENT


def known_batches(connection: Connection, batch_ids: Collection[str]) -> set[str]:
    """Those of these batches that are stored."""
    return set(connection.execute(select(_BATCH.c.id).where(_BATCH.c.id.in_(batch_ids))).scalars())


def reserve(
    connection: Connection, name: str, grader: GraderVersion, *, at: float, requests: int, nusd_each: int
) -> None:
    """Store that single requests are about to be sent; each counts as `nusd_each` until it is answered.

    What a guard that was killed had reserved counts for a day, because its requests may cost money.
    """
    forgotten = and_(_BATCH.c.kind == _DIRECT, _BATCH.c.submitted_at < at - DAY_S)
    connection.execute(delete(_BATCH).where(forgotten))
    _insert(connection, name, _DIRECT, grader, at=at, requests=requests, nusd_each=nusd_each)


def _insert(
    connection: Connection, name: str, kind: str, grader: GraderVersion, *, at: float, requests: int, nusd_each: int
) -> None:
    row = {"id": name, "kind": kind, "intent": name if kind == _INTENT else "", "grader_model": grader.model,
           "grader_prompt": grader.prompt, "submitted_at": at, "requests": requests, "unread": requests,
           "nusd_each": nusd_each}  # fmt: skip
    insert_if_absent(connection, GradingBatch, row)


def open_batches(connection: Connection) -> list[OpenBatch]:
    """The batches whose results have not all been read, oldest first."""
    # The version is stored, because the settings may name another grader by the time a batch ends.
    is_open = and_(_BATCH.c.kind == _SENT, _BATCH.c.ended_at.is_(None))
    statement = select(_BATCH).where(is_open).order_by(_BATCH.c.submitted_at, _BATCH.c.id)
    return [
        OpenBatch(
            id=row.id,
            intent=row.intent,
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
    """Count results of a batch, or of a reservation, as read: their cost is no longer estimated."""
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
    """What gradings since `since` cost, with an estimate for requests since then without a result; in US dollars."""
    recent = and_(_BATCH.c.submitted_at >= since, _BATCH.c.unread > 0)
    unread = select(func.coalesce(func.sum(_BATCH.c.unread * _BATCH.c.nusd_each), 0)).where(recent)
    known = grades.spent_usd(connection, since=since) + regradings.spent_usd(connection, since=since)
    return known + int(connection.execute(unread).scalar() or 0) * USD_PER_NUSD
