"""People's labels of graded answers, and how graders compare with them and with each other."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.records import Judged
from cheapdeep_ops.store.tables.grade_tables import Candidate, GradeRow, LabelRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert
from cheapdeep_ops.values import ALL_ROUTES, Grade

_LABEL: Final = table_of(LabelRow)
_GRADE: Final = table_of(GradeRow)
_CANDIDATE: Final = table_of(Candidate)
_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGrade:
    """One person's label of an answer, and the grader's verdict on it (`judged`): correct or incorrect."""

    call_id: str
    author: str
    verdict: str
    judged: str
    called_at: float
    inclusion: float


def put(connection: Connection, call_id: str, verdict: Grade, *, author: str, at: float) -> bool:
    """Store a label, which replaces an earlier one by the author; False if the call has no decided grade."""
    # A label is only a check of a grader's verdict, so there must be one.
    graded = select(_GRADE.c.id).where(_GRADE.c.call_id == call_id, _GRADE.c.verdict.in_(_DECIDED)).limit(1)
    if connection.execute(graded).first() is None:
        return False
    upsert(connection, LabelRow, [{"call_id": call_id, "author": author, "verdict": verdict.value, "at": at}])
    return True


def votes(connection: Connection, grader: GraderVersion, scope: str = ALL_ROUTES) -> list[LabelledGrade]:
    """All labels of the answers that have a decided grade by `grader`, ordered by call and author."""
    columns = (_LABEL.c.call_id, _LABEL.c.author, _LABEL.c.verdict, _GRADE.c.called_at, _GRADE.c.inclusion)
    statement = (
        select(*columns, _GRADE.c.verdict.label("judged"))
        .join_from(_LABEL, _GRADE, _LABEL.c.call_id == _GRADE.c.call_id)
        .where(_decided_by(grader, scope))
        .order_by(_LABEL.c.call_id, _LABEL.c.author)
    )
    return [LabelledGrade(**row) for row in connection.execute(statement).mappings()]


def unlabelled(connection: Connection, grader: GraderVersion, scope: str = ALL_ROUTES) -> dict[str, str]:
    """The verdicts of `grader` on the calls without a label whose content is still stored, by call.

    Steered grades are left out.
    """
    labelled = select(_LABEL.c.call_id)
    # Earlier grades led to the choice of steered answers: labels of them would bias the grader's error rates.
    statement = (
        select(_GRADE.c.call_id, _GRADE.c.verdict)
        .join_from(_GRADE, _CANDIDATE, _GRADE.c.call_id == _CANDIDATE.c.call_id)
        .where(_decided_by(grader, scope), _GRADE.c.steered.is_(False), _CANDIDATE.c.answer.is_not(None))
        .where(_GRADE.c.call_id.not_in(labelled))
    )
    return {row.call_id: row.verdict for row in connection.execute(statement)}


def grade_of(connection: Connection, grader: GraderVersion, call_id: str) -> Judged:
    """The grade of one call by `grader`; empty if it has none."""
    of_call = and_(_GRADE.c.call_id == call_id, _by(grader))
    row = connection.execute(select(_GRADE.c.verdict, _GRADE.c.failure, _GRADE.c.reason).where(of_call)).first()
    return {} if row is None else {"verdict": row.verdict, "failure": row.failure, "reason": row.reason}


def graders(connection: Connection) -> list[GraderVersion]:
    """All grader versions with decided grades, the one with the most grades first."""
    names = (_GRADE.c.grader_model, _GRADE.c.grader_prompt)
    decided = (
        select(*names).where(_GRADE.c.verdict.in_(_DECIDED)).group_by(*names).order_by(func.count().desc(), *names)
    )
    return [GraderVersion(model=model, prompt=prompt) for model, prompt in connection.execute(decided)]


def graded_once(connection: Connection, grader: GraderVersion, other: GraderVersion, *, since: float) -> list[str]:
    """The calls that `grader` has decided on since `since` and `other` has not graded, without steered ones.

    Ordered by the time of grading.
    """
    second = _GRADE.alias()
    by_other = and_(second.c.grader_model == other.model, second.c.grader_prompt == other.prompt)
    regraded = select(second.c.id).where(second.c.call_id == _GRADE.c.call_id, by_other).exists()
    once = and_(_decided_by(grader, ALL_ROUTES), _GRADE.c.at >= since, _GRADE.c.steered.is_(False), ~regraded)
    return list(connection.execute(select(_GRADE.c.call_id).where(once).order_by(_GRADE.c.id)).scalars())


def paired_verdicts(
    connection: Connection, one: GraderVersion, other: GraderVersion, scope: str = ALL_ROUTES
) -> dict[tuple[str, str], int]:
    """Counts of the answers that two graders have decided on, by (verdict of `one`, verdict of `other`)."""
    second = _GRADE.alias()
    by_other = and_(second.c.grader_model == other.model, second.c.grader_prompt == other.prompt)
    statement = (
        select(_GRADE.c.verdict, second.c.verdict, func.count())
        .join_from(_GRADE, second, _GRADE.c.call_id == second.c.call_id)
        .where(_decided_by(one, scope), by_other, second.c.verdict.in_(_DECIDED))
        .group_by(_GRADE.c.verdict, second.c.verdict)
    )
    return {(first, then): int(count) for first, then, count in connection.execute(statement)}


def _decided_by(grader: GraderVersion, scope: str) -> ColumnElement[bool]:
    decided = and_(_GRADE.c.verdict.in_(_DECIDED), _by(grader))
    return decided if scope == ALL_ROUTES else and_(decided, _GRADE.c.route == scope)


def _by(grader: GraderVersion) -> ColumnElement[bool]:
    return and_(_GRADE.c.grader_model == grader.model, _GRADE.c.grader_prompt == grader.prompt)
