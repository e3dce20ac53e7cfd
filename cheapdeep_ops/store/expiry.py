"""Deletes rows that are too old, in short transactions."""

from typing import Final

from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, exists, or_, select

from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.gateway_tables import GatewayCall
from cheapdeep_ops.store.tables.grade_tables import (
    AnchorRow,
    Candidate,
    GradeRow,
    LabelRow,
    NormalRow,
    OutcomeRow,
    RegradeRow,
)
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import CandidateState

_ANCHOR: Final = table_of(AnchorRow)
_GRADE: Final = table_of(GradeRow)
_NORMAL: Final = table_of(NormalRow)
_LABEL: Final = table_of(LabelRow)
_CANDIDATE: Final = table_of(Candidate)
_REGRADE: Final = table_of(RegradeRow)
_OUTCOME: Final = table_of(OutcomeRow)
_GATEWAY_CALL: Final = table_of(GatewayCall)
_OPEN: Final = (CandidateState.WAITING.value, CandidateState.SUBMITTED.value)

MOST_ROWS: Final = 1_000
"""The largest number of rows that one transaction changes: other processes wait until it ends."""


def expire_grades(store: Store, *, before: float) -> int:
    """Delete grades of calls that began before `before` (Unix time), and their labels, candidates, repeated gradings.

    Grades stay from which a normal was learned, or is learned again, as long as its grader still grades the route. So
    do grades of answers whose text is kept to be graded again, and answers that wait for a grade. Returns how many rows
    were deleted.
    """
    grader = and_(_NORMAL.c.grader_model == _GRADE.c.grader_model, _NORMAL.c.grader_prompt == _GRADE.c.grader_prompt)
    of_grade = and_(_NORMAL.c.scope == _GRADE.c.route, grader)
    needed = exists().where(of_grade, or_(_NORMAL.c.rate.is_(None), _NORMAL.c.until >= _GRADE.c.called_at))
    later = _GRADE.alias("later")
    by_one_grader = (
        later.c.grader_model == _GRADE.c.grader_model, later.c.grader_prompt == _GRADE.c.grader_prompt
    )  # fmt: skip
    # A grader that was replaced, or a route that is gone, would else keep its first grades for ever.
    is_in_use = exists().where(later.c.route == _GRADE.c.route, later.c.called_at >= before, *by_one_grader)
    is_kept = exists().where(_ANCHOR.c.call_id == _GRADE.c.call_id)
    is_too_old = and_(_GRADE.c.called_at < before, ~and_(needed, is_in_use), ~is_kept)
    deleted = delete_some(store, _GRADE, is_too_old)
    has_grade = exists().where(_GRADE.c.call_id == _LABEL.c.call_id)
    deleted += delete_some(store, _LABEL, and_(_LABEL.c.at < before, ~has_grade))
    deleted += delete_some(store, _REGRADE, _REGRADE.c.at < before)
    is_graded = exists().where(_GRADE.c.call_id == _CANDIDATE.c.call_id)
    settled = and_(_CANDIDATE.c.at < before, _CANDIDATE.c.state.not_in(_OPEN))
    return deleted + delete_some(store, _CANDIDATE, and_(settled, ~is_graded))


def expire_gateway_calls(store: Store, *, before: float) -> int:
    """Delete calls of gateways that ended before `before` (Unix time). Returns how many rows were deleted."""
    return delete_some(store, _GATEWAY_CALL, _GATEWAY_CALL.c.at < before)


def expire_outcomes(store: Store, *, before: float, most_unknown: int = 100_000) -> int:
    """Delete outcomes that came before `before` (Unix time); returns how many they were.

    Of those whose call the store does not have, only the newest `most_unknown` stay: a sender can make up any number.
    """
    deleted = delete_some(store, _OUTCOME, _OUTCOME.c.at < before)
    unknown = ~_OUTCOME.c.is_known
    beyond = select(_OUTCOME.c.at).where(unknown).order_by(_OUTCOME.c.at.desc()).offset(most_unknown).limit(1)
    with store.reading() as connection:
        newest = connection.scalar(beyond)
    return deleted if newest is None else deleted + delete_some(store, _OUTCOME, and_(unknown, _OUTCOME.c.at <= newest))


def delete_some(store: Store, table: Table, chosen: ColumnElement[bool]) -> int:
    """Delete the chosen rows of a table, in short transactions; returns how many they were."""
    keys = [column.name for column in table.primary_key]
    query = select(*table.primary_key).where(chosen).limit(MOST_ROWS)
    statement = delete(table).where(*(table.c[name] == bindparam(f"its_{name}") for name in keys))
    deleted = 0
    while True:
        with store.reading() as connection:
            rows = [
                {f"its_{name}": value for name, value in row.items()} for row in connection.execute(query).mappings()
            ]
        if not rows:
            return deleted
        store.transact(lambda connection, rows=rows: connection.execute(statement, rows))  # type: ignore[misc]
        deleted += len(rows)
