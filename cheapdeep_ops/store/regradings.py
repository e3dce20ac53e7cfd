"""Repeated gradings of labelled answers. They check the grader, and are no grades of traffic: no rate has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, func, insert, select

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import RegradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import Grade

_REGRADE: Final = table_of(RegradeRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRegrading:
    """A repeated grading that gave a verdict; ids grow in the order of grading, and `at` is its time."""

    id: int
    call_id: str
    at: float
    label: Grade
    verdict: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class RegradingHistory:
    """How often a grader has graded an answer again, and when it last did (Unix time)."""

    times: int
    last_at: float


def add(connection: Connection, row: Mapping[str, object]) -> None:
    """Append a repeated grading."""
    connection.execute(insert(_REGRADE).values(**row))


def known_after(connection: Connection, grader: GraderVersion, *, regrading_id: int) -> list[StoredRegrading]:
    """The verdicts of a grader with an id above `regrading_id`, in the order of grading."""
    columns = (_REGRADE.c.id, _REGRADE.c.call_id, _REGRADE.c.at, _REGRADE.c.label, _REGRADE.c.verdict)
    by = and_(_REGRADE.c.grader_model == grader.model, _REGRADE.c.grader_prompt == grader.prompt)
    newer = select(*columns).where(by, _REGRADE.c.id > regrading_id, _REGRADE.c.verdict.is_not(None))
    return [
        StoredRegrading(id=row.id, call_id=row.call_id, at=row.at, label=Grade(row.label), verdict=Grade(row.verdict))
        for row in connection.execute(newer.order_by(_REGRADE.c.id))
    ]


def history(connection: Connection, grader: GraderVersion) -> dict[str, RegradingHistory]:
    """The repeated gradings by a grader, failed ones too, by call."""
    by = and_(_REGRADE.c.grader_model == grader.model, _REGRADE.c.grader_prompt == grader.prompt)
    counted = select(_REGRADE.c.call_id, func.count().label("times"), func.max(_REGRADE.c.at).label("last_at"))
    return {
        row.call_id: RegradingHistory(times=row.times, last_at=row.last_at)
        for row in connection.execute(counted.where(by).group_by(_REGRADE.c.call_id))
    }


def last_at(connection: Connection) -> float | None:
    """When an answer was last graded again (Unix time), by any grader."""
    at: float | None = connection.execute(select(func.max(_REGRADE.c.at))).scalar()
    return at


def newest_id(connection: Connection) -> int:
    """The id of the last repeated grading; 0 without any."""
    return int(connection.execute(select(func.max(_REGRADE.c.id))).scalar() or 0)


def spent_usd(connection: Connection, *, since: float, until: float | None = None) -> float:
    """The cost of the priced ones in `[since, until)`, in US dollars."""
    when = _REGRADE.c.at >= since if until is None else and_(_REGRADE.c.at >= since, _REGRADE.c.at < until)
    total = connection.execute(select(func.coalesce(func.sum(_REGRADE.c.cost_nusd), 0)).where(when)).scalar()
    return int(total or 0) * USD_PER_NUSD
