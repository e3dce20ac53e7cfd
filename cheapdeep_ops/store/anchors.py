"""Anchors: labelled answers that can be graded again, and their kept content."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from cheapdeep_ops.store import candidates
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.expiry import delete_some
from cheapdeep_ops.store.tables.grade_tables import AnchorRow, Candidate, GradeRow, LabelRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent
from cheapdeep_ops.values import Grade, TextTurn

_ANCHOR: Final = table_of(AnchorRow)
_CANDIDATE: Final = table_of(Candidate)
_GRADE: Final = table_of(GradeRow)
_LABEL: Final = table_of(LabelRow)
_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCall:
    """The labels of one call by all people, and the call's first grade."""

    call_id: str
    labels: tuple[str, ...]
    first: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorContent:
    """The redacted content of an answer."""

    call_id: str
    turns: tuple[TextTurn, ...]
    answer: str = field(repr=False)  # content stays out of logs


def labelled(connection: Connection) -> list[LabelledCall]:
    """The labelled calls, in the order of their first grades; a second grader's grades do not count."""
    decided = (_GRADE.c.verdict.in_(_DECIDED), _GRADE.c.second.is_(False))
    graded = (
        select(_LABEL.c.call_id, _LABEL.c.verdict.label("label"), _GRADE.c.id, _GRADE.c.verdict)
        .join_from(_LABEL, _GRADE, _LABEL.c.call_id == _GRADE.c.call_id)
        .where(*decided)
        .order_by(_GRADE.c.id, _LABEL.c.author)
    )
    calls: dict[str, tuple[int, str, list[str]]] = {}
    for row in connection.execute(graded):
        # A later grade of the call, by another version of the grader, has the labels once more.
        first = calls.setdefault(row.call_id, (row.id, row.verdict, []))
        if first[0] == row.id:
            first[2].append(row.label)
    return [
        LabelledCall(call_id=call_id, labels=tuple(labels), first=verdict)
        for call_id, (_, verdict, labels) in calls.items()
    ]


def stored(connection: Connection) -> set[str]:
    """The labelled calls whose content is stored, as an anchor or for grading."""
    for_grading = (
        select(_CANDIDATE.c.call_id)
        .join_from(_LABEL, _CANDIDATE, _LABEL.c.call_id == _CANDIDATE.c.call_id)
        .where(_CANDIDATE.c.answer.is_not(None))
    )
    return set(connection.execute(select(_ANCHOR.c.call_id).union(for_grading)).scalars())


def content(connection: Connection, call_id: str) -> AnchorContent | None:
    """The stored content of a call; None if there is none."""
    for table in (_ANCHOR, _CANDIDATE):
        row = connection.execute(select(table.c.turns, table.c.answer).where(table.c.call_id == call_id)).first()
        if row is not None and row.answer is not None:
            turns = tuple(TextTurn(role=turn["role"], text=turn["text"]) for turn in row.turns or ())
            return AnchorContent(call_id=call_id, turns=turns, answer=row.answer)
    return None


def kept(connection: Connection) -> set[str]:
    """The calls whose content is kept."""
    return set(connection.execute(select(_ANCHOR.c.call_id)).scalars())


def keep(connection: Connection, call_ids: Collection[str], *, now: float) -> int:
    """Copy the content of these calls that is stored for grading; returns how many copies are new."""
    columns = (_CANDIDATE.c.call_id, _CANDIDATE.c.at, _CANDIDATE.c.turns, _CANDIDATE.c.answer)
    stored = select(*columns).where(_CANDIDATE.c.call_id.in_(call_ids), _CANDIDATE.c.answer.is_not(None))
    # Locked on PostgreSQL, so that a purge of the call either comes first or finds the copy.
    rows: Sequence[Any] = connection.execute(stored.with_for_update()).all()
    return sum(
        insert_if_absent(
            connection,
            AnchorRow,
            {"call_id": row.call_id, "at": row.at, "kept_at": now, "turns": row.turns or [], "answer": row.answer},
        )
        for row in rows
    )


def remove(connection: Connection, call_ids: Collection[str]) -> int:
    """Delete the kept content of these calls; returns how many had some."""
    return connection.execute(delete(_ANCHOR).where(_ANCHOR.c.call_id.in_(call_ids))).rowcount


def forget(store: Store, *, before: float) -> int:
    """Delete the kept content of calls that began before `before` (Unix time); returns the number of calls."""
    return delete_some(store, _ANCHOR, _ANCHOR.c.at < before)


def purge(store: Store, *, before: float) -> int:
    """Delete all content of calls that began before `before` (Unix time), kept or not; returns the number of calls."""
    with store.reading() as connection:
        both = _ANCHOR.c.call_id == _CANDIDATE.c.call_id
        twice = select(func.count()).join_from(_ANCHOR, _CANDIDATE, both)
        twice = twice.where(_ANCHOR.c.at < before, _CANDIDATE.c.answer.is_not(None))
        in_both = int(connection.execute(twice).scalar() or 0)
    # Copies go last, because until then another one may be made.
    return candidates.forget(store, before=before) + forget(store, before=before) - in_both


def purge_call(connection: Connection, call_id: str) -> int:
    """Delete all content of one call, kept or not; returns 1, or 0 if none was stored."""
    forgotten = candidates.forget_call(connection, call_id)
    return max(forgotten, remove(connection, [call_id]))


def count(connection: Connection) -> int:
    """The number of anchors whose content is kept."""
    return int(connection.execute(select(func.count()).select_from(_ANCHOR)).scalar() or 0)
