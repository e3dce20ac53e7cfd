"""What people say of graded answers, and what judges said of them."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.records import Judged
from cheapdeep_ops.store.tables import Candidate, GradeRow, LabelRow, table_of
from cheapdeep_ops.store.upsert import upsert
from cheapdeep_ops.values import ALL_ROUTES, Grade

_LABEL: Final = table_of(LabelRow)
_GRADE: Final = table_of(GradeRow)
_CANDIDATE: Final = table_of(Candidate)
_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGrade:
    """One person's label of an answer that a judge has decided on."""

    call_id: str
    author: str
    verdict: str
    judged: str
    called_at: float
    inclusion: float


def put(connection: Connection, call_id: str, verdict: Grade, *, author: str, at: float) -> bool:
    """Store a label in place of one that this person gave before; False where no judge has decided on the call."""
    graded = select(_GRADE.c.id).where(_GRADE.c.call_id == call_id, _GRADE.c.verdict.in_(_DECIDED)).limit(1)
    if connection.execute(graded).first() is None:
        return False
    upsert(connection, LabelRow, [{"call_id": call_id, "author": author, "verdict": verdict.value, "at": at}])
    return True


def votes(connection: Connection, judge: GraderVersion, scope: str = ALL_ROUTES) -> list[LabelledGrade]:
    """All labels of answers that `judge` has decided on, by call and person."""
    columns = (_LABEL.c.call_id, _LABEL.c.author, _LABEL.c.verdict, _GRADE.c.called_at, _GRADE.c.inclusion)
    statement = (
        select(*columns, _GRADE.c.verdict.label("judged"))
        .join_from(_LABEL, _GRADE, _LABEL.c.call_id == _GRADE.c.call_id)
        .where(_decided_by(judge, scope))
        .order_by(_LABEL.c.call_id, _LABEL.c.author)
    )
    return [LabelledGrade(**dict(row._mapping)) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def unlabelled(connection: Connection, judge: GraderVersion, scope: str = ALL_ROUTES) -> dict[str, str]:
    """The calls that nobody has labelled and whose content is still stored, with what `judge` says of each.

    What was graded in hindsight is left out: it was chosen for what else was known.
    """
    labelled = select(_LABEL.c.call_id)
    statement = (
        select(_GRADE.c.call_id, _GRADE.c.verdict)
        .join_from(_GRADE, _CANDIDATE, _GRADE.c.call_id == _CANDIDATE.c.call_id)
        .where(_decided_by(judge, scope), _GRADE.c.steered.is_(False), _CANDIDATE.c.answer.is_not(None))
        .where(_GRADE.c.call_id.not_in(labelled))
    )
    return {row.call_id: row.verdict for row in connection.execute(statement)}


def said(connection: Connection, judge: GraderVersion, call_id: str) -> Judged:
    """The verdict of `judge` on one call, or its failure; empty where it has not graded the call."""
    of_call = and_(_GRADE.c.call_id == call_id, _by(judge))
    row = connection.execute(select(_GRADE.c.verdict, _GRADE.c.failure, _GRADE.c.reason).where(of_call)).first()
    return {} if row is None else {"verdict": row.verdict, "failure": row.failure, "reason": row.reason}


def judges(connection: Connection) -> list[GraderVersion]:
    """All who ever decided on an answer, those with the most grades first."""
    names = (_GRADE.c.grader_model, _GRADE.c.grader_prompt)
    decided = (
        select(*names).where(_GRADE.c.verdict.in_(_DECIDED)).group_by(*names).order_by(func.count().desc(), *names)
    )
    return [GraderVersion(model=model, prompt=prompt) for model, prompt in connection.execute(decided)]


def graded_once(connection: Connection, judge: GraderVersion, other: GraderVersion, *, since: float) -> list[str]:
    """The evenly chosen calls that `judge` has decided on since then and `other` was not asked about, oldest first."""
    second = _GRADE.alias()
    by_other = and_(second.c.grader_model == other.model, second.c.grader_prompt == other.prompt)
    asked = select(second.c.id).where(second.c.call_id == _GRADE.c.call_id, by_other).exists()
    fresh = and_(_decided_by(judge, ALL_ROUTES), _GRADE.c.at >= since, _GRADE.c.steered.is_(False), ~asked)
    return list(connection.execute(select(_GRADE.c.call_id).where(fresh).order_by(_GRADE.c.id)).scalars())


def both(
    connection: Connection, one: GraderVersion, other: GraderVersion, scope: str = ALL_ROUTES
) -> dict[tuple[str, str], int]:
    """How often two judges said what of the same answers: counts by (what `one` says, what `other` says)."""
    second = _GRADE.alias()
    by_other = and_(second.c.grader_model == other.model, second.c.grader_prompt == other.prompt)
    statement = (
        select(_GRADE.c.verdict, second.c.verdict, func.count())
        .join_from(_GRADE, second, _GRADE.c.call_id == second.c.call_id)
        .where(_decided_by(one, scope), by_other, second.c.verdict.in_(_DECIDED))
        .group_by(_GRADE.c.verdict, second.c.verdict)
    )
    return {(first, then): int(count) for first, then, count in connection.execute(statement)}


def _decided_by(judge: GraderVersion, scope: str) -> ColumnElement[bool]:
    decided = and_(_GRADE.c.verdict.in_(_DECIDED), _by(judge))
    return decided if scope == ALL_ROUTES else and_(decided, _GRADE.c.route == scope)


def _by(judge: GraderVersion) -> ColumnElement[bool]:
    return and_(_GRADE.c.grader_model == judge.model, _GRADE.c.grader_prompt == judge.prompt)
