"""Outcomes: what users, or programs for them, say about answers.

Users report what bothers them, so outcomes are no random sample. No rule and no estimate of false confidence reads
them.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from cheapdeep_ops.store.tables.grade_tables import Candidate, GradeRow, OutcomeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_OUTCOME: Final = table_of(OutcomeRow)
_CANDIDATE: Final = table_of(Candidate)
_GRADE: Final = table_of(GradeRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """Facts of a call: None or empty where they are not known. `called_at` is when it began (Unix time)."""

    route: str = ""
    tier: int | None = None
    confidence: float | None = None
    called_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedOutcome:
    """What a source says about an answer, and the facts that the sender claims of the call."""

    call_id: str
    source: str
    is_wrong: bool
    claimed: CallFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeTally:
    """The number of outcomes with one combination of route, verdict, and whether the store has the call."""

    route: str
    is_wrong: bool
    is_known: bool
    count: int


def calls_of(connection: Connection, call_ids: Collection[str]) -> dict[str, CallFacts]:
    """What the store knows of these calls, from answers that were kept for grading or were graded."""
    known = {}
    for table, began in ((_GRADE, _GRADE.c.called_at), (_CANDIDATE, _CANDIDATE.c.at)):
        columns = (table.c.call_id, table.c.route, table.c.tier, table.c.confidence, began.label("called_at"))
        for row in connection.execute(select(*columns).where(table.c.call_id.in_(call_ids))).mappings():
            facts = {name: value for name, value in row.items() if name != "call_id"}
            known[row["call_id"]] = CallFacts(**facts)
    return known


def put(connection: Connection, outcomes: Sequence[ReportedOutcome], *, now: float) -> int:
    """Store outcomes; returns how many of their calls the store does not have.

    The last verdict of a source on a call replaces its earlier one. A repeat of the stored verdict changes nothing.
    """
    # Of two for one key the last wins. In the order of the keys, so that two batches cannot wait for each other.
    last = {(each.call_id, each.source): each for each in outcomes}
    ids = {call_id for call_id, _ in last}
    known = calls_of(connection, ids)
    stored = select(_OUTCOME.c.call_id, _OUTCOME.c.source, _OUTCOME.c.is_wrong).where(_OUTCOME.c.call_id.in_(ids))
    before = {(row.call_id, row.source): row.is_wrong for row in connection.execute(stored)}
    rows = [
        {
            "call_id": each.call_id, "source": each.source, "is_wrong": each.is_wrong, "at": now,
            "is_known": each.call_id in known, **asdict(known.get(each.call_id, each.claimed)),
        }
        for key, each in sorted(last.items())
        if before.get(key) is not each.is_wrong
    ]  # fmt: skip
    if rows:
        upsert(connection, OutcomeRow, rows)
    return len(ids - known.keys())


def tallies(connection: Connection, *, since: float, until: float) -> list[OutcomeTally]:
    """The outcomes that came in `[since, until)`, counted by the database."""
    kinds = (_OUTCOME.c.route, _OUTCOME.c.is_wrong, _OUTCOME.c.is_known)
    counted = select(*kinds, func.count().label("count")).where(_OUTCOME.c.at >= since, _OUTCOME.c.at < until)
    return [OutcomeTally(**row) for row in connection.execute(counted.group_by(*kinds)).mappings()]
