"""The sampling rate of each route, and since when it holds.

Rates are appended and never changed, so that the inclusion probability of a past call stays as it was.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, insert, literal, select

from cheapdeep_ops.store.tables.grade_tables import Candidate, SamplingRow
from cheapdeep_ops.store.tables.row import table_of

_SAMPLING: Final = table_of(SamplingRow)
_CANDIDATE: Final = table_of(Candidate)


def in_force(otherwise: float) -> ColumnElement[Any]:
    """The rate that was in force for a candidate's route when its call began; `otherwise` if none was set."""
    rate = (
        select(_SAMPLING.c.rate)
        .where(_SAMPLING.c.route == _CANDIDATE.c.route, _SAMPLING.c.since <= _CANDIDATE.c.at)
        .order_by(_SAMPLING.c.since.desc(), _SAMPLING.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(rate, literal(otherwise))


def latest(connection: Connection) -> dict[str, float]:
    """The newest rate of each route for which one was set."""
    newest = select(func.max(_SAMPLING.c.id)).group_by(_SAMPLING.c.route)
    rates = select(_SAMPLING.c.route, _SAMPLING.c.rate).where(_SAMPLING.c.id.in_(newest))
    return {row.route: row.rate for row in connection.execute(rates)}


def begin(connection: Connection, route: str, rate: float, *, since: float, why: str) -> None:
    """Set a route's rate (0 to 1) for the calls that begin at `since` or later."""
    connection.execute(insert(_SAMPLING).values(route=route, since=since, rate=rate, why=why))


def answers_by_route(connection: Connection, *, since: float) -> dict[str, int]:
    """The estimated number of confident answers of each route since `since`."""
    columns = _CANDIDATE.c
    # A router keeps a share of its answers, so each kept one stands for 1/share answers.
    estimate = func.sum(1.0 / columns.kept_share)
    by_route = select(columns.route, estimate.label("answers")).where(columns.at >= since).group_by(columns.route)
    return {row.route: round(row.answers) for row in connection.execute(by_route)}
