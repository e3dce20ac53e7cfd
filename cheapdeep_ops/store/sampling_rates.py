"""Which share of a route's confident answers is graded, and since when: appended, so that no call is weighed anew."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, insert, literal, select

from cheapdeep_ops.store.tables import Candidate, SamplingRow, table_of

_SAMPLING: Final = table_of(SamplingRow)
_CANDIDATE: Final = table_of(Candidate)


def in_force(otherwise: float) -> ColumnElement[Any]:
    """The rate that was in force for a candidate's route when its call began; `otherwise` before any was set."""
    found = (
        select(_SAMPLING.c.rate)
        .where(_SAMPLING.c.route == _CANDIDATE.c.route, _SAMPLING.c.since <= _CANDIDATE.c.at)
        .order_by(_SAMPLING.c.since.desc(), _SAMPLING.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(found, literal(otherwise))


def latest(connection: Connection) -> dict[str, float]:
    """The rate of each route for which one was ever set."""
    newest = select(func.max(_SAMPLING.c.id)).group_by(_SAMPLING.c.route)
    found = select(_SAMPLING.c.route, _SAMPLING.c.rate).where(_SAMPLING.c.id.in_(newest))
    return {row.route: row.rate for row in connection.execute(found)}


def begin(connection: Connection, route: str, rate: float, *, since: float, why: str) -> None:
    """Grade this share of the answers to calls that begin from `since` on."""
    connection.execute(insert(_SAMPLING).values(route=route, since=since, rate=rate, why=why))


def answers_by_route(connection: Connection, *, since: float) -> dict[str, int]:
    """About how many confident answers each route has given since, from those that were kept."""
    columns = _CANDIDATE.c
    counted = func.sum(1.0 / columns.kept_share)
    found = select(columns.route, counted.label("answers")).where(columns.at >= since).group_by(columns.route)
    return {row.route: round(row.answers) for row in connection.execute(found)}
