"""Grades, and what false confidence was normal before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, cast, func, select, update

from cheapdeep_ops.store.tables import GradeRow, GradeTotal, NormalRow, table_of
from cheapdeep_ops.store.upsert import insert_if_absent, upsert
from cheapdeep_ops.values import ALL_ROUTES, Grade

_GRADE: Final = table_of(GradeRow)
_NORMAL: Final = table_of(NormalRow)
_TOTAL: Final = table_of(GradeTotal)
_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)
_NANO: Final = 1e-9
SECOND: Final = "second_judge"
"""What came of a grading by a second judge, as far as it is counted: what it has found is no verdict of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderVersion:
    """Who grades: another model or another prompt is another judge, and measures in units of its own."""

    model: str
    prompt: str

    def __str__(self) -> str:
        return f"{self.model}, prompt {self.prompt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedGrade:
    """A decided grade, as the rules read it; ids grow in the order in which grades became known, which was `at`."""

    id: int = field(default=0, compare=False)
    at: float = field(default=0.0, compare=False)
    route: str
    called_at: float
    incorrect: bool
    inclusion: float
    shipped: bool
    input_class: str
    steered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributedGrade(DecidedGrade):
    """The same with what its call can be told by; `model` and `prompt_version` are empty where they are not known."""

    call_id: str
    model: str
    prompt_version: str
    policy_version: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was learned of a scope: rate, effective and actual number of grades, and when; None before that."""

    scope: str
    since: float
    rate: float | None = None
    n: float | None = None
    grades: int = 0
    until: float | None = None
    learned_at: float | None = None
    author: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeTally:
    """Grades of one kind: `count` of them have this route, verdict (None: a failure), inclusion and fate."""

    route: str
    verdict: str | None
    failure: str
    shipped: bool
    inclusion: float
    steered: bool = False
    count: int
    cost_nusd: int
    unpriced: int


def add(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Append a grade; False where this judge has graded the call before."""
    if not insert_if_absent(connection, GradeRow, row):
        return False
    outcome = SECOND if row.get("second") else row["verdict"] or row["failure"]
    key = {"route": row["route"], "outcome": outcome}
    cost_nusd = row["cost_nusd"] or 0
    total = update(_TOTAL).where(*(_TOTAL.c[name] == value for name, value in key.items()))
    more = {"count": _TOTAL.c["count"] + 1, "cost_nusd": _TOTAL.c.cost_nusd + cost_nusd}
    if not connection.execute(total.values(**more)).rowcount:
        insert_if_absent(connection, GradeTotal, {**key, "count": 1, "cost_nusd": cost_nusd})
    return True


def counts(connection: Connection) -> dict[str, int]:
    """How many gradings of each route there ever were, by whatever judge."""
    statement = select(_TOTAL.c.route, func.sum(_TOTAL.c["count"])).group_by(_TOTAL.c.route)
    return {route: int(count) for route, count in connection.execute(statement)}


def newest(
    connection: Connection,
    route: str,
    judge: GraderVersion,
    *,
    since: float,
    until: float | None = None,
    shipped: bool | None = None,
    limit: int,
) -> list[DecidedGrade]:
    """The decided grades of a route's latest calls that began after `since` and before `until`, newest first.

    `shipped` picks those of answers that went out, or that were withheld.
    """
    statement = _decided(route, judge, since).order_by(_GRADE.c.called_at.desc(), _GRADE.c.id.desc()).limit(limit)
    if until is not None:
        statement = statement.where(_GRADE.c.called_at < until)
    if shipped is not None:
        statement = statement.where(_GRADE.c.shipped.is_(shipped))
    return _read(connection, statement)


def known_after(
    connection: Connection,
    judge: GraderVersion,
    *,
    grade_id: int,
    route: str | None,
    since: float | None = None,
    limit: int | None = None,
) -> list[DecidedGrade]:
    """The decided grades that became known after the one with this id, in that order; of one route or of all.

    `since` (Unix time) leaves out those that became known until then.
    """
    statement = _decided(route, judge, float("-inf")).where(_GRADE.c.id > grade_id).order_by(_GRADE.c.id).limit(limit)
    return _read(connection, statement if since is None else statement.where(_GRADE.c.at > since))


def decided_since(connection: Connection, route: str, judge: GraderVersion, *, since: float) -> int:
    """How many decided grades there are of a route's calls that began after `since`."""
    counted = select(func.count()).select_from(_decided(route, judge, since).subquery())
    return int(connection.execute(counted).scalar() or 0)


def oldest(
    connection: Connection, route: str, judge: GraderVersion, *, since: float, known_by: float | None = None, limit: int
) -> list[DecidedGrade]:
    """The same of its first calls, oldest first; `known_by` (Unix time) leaves out what was graded later."""
    statement = _decided(route, judge, since).order_by(_GRADE.c.called_at, _GRADE.c.id).limit(limit)
    return _read(connection, statement if known_by is None else statement.where(_GRADE.c.at <= known_by))


def described(
    connection: Connection, route: str, judge: GraderVersion, *, since: float, until: float, limit: int
) -> list[AttributedGrade]:
    """The decided grades of a route's latest calls that began in `[since, until)`, newest first."""
    columns = _GRADE.c
    statement = (
        select(_GRADE)
        .where(columns.verdict.in_(_DECIDED), columns.second.is_(False), _by(_GRADE, judge), columns.route == route)
        .where(columns.called_at >= since, columns.called_at < until)
        .order_by(columns.called_at.desc(), columns.id.desc())
        .limit(limit)
    )
    names = [name for name in AttributedGrade.__dataclass_fields__ if name != "incorrect"]
    return [
        AttributedGrade(incorrect=row.verdict == Grade.INCORRECT.value, **{name: getattr(row, name) for name in names})
        for row in connection.execute(statement)
    ]


def confident(
    connection: Connection,
    judge: GraderVersion,
    *,
    since: float,
    until: float,
    scope: str = ALL_ROUTES,
    limit: int | None = None,
) -> list[tuple[float, bool, float]]:
    """(confidence, whether it is wrong, inclusion) of the decided grades of calls that began in `[since, until)`.

    `limit` takes the latest ones. What was graded in hindsight is left out: it was chosen for what else was known.
    """
    columns = _GRADE.c
    statement = select(columns.confidence, columns.verdict, columns.inclusion).where(
        columns.verdict.in_(_DECIDED),
        columns.steered.is_(False),
        columns.second.is_(False),
        columns.called_at >= since,
        columns.called_at < until,
        _by(_GRADE, judge),
    )
    if scope != ALL_ROUTES:
        statement = statement.where(columns.route == scope)
    if limit is not None:
        statement = statement.order_by(columns.called_at.desc(), columns.id.desc()).limit(limit)
    return [
        (row.confidence, row.verdict == Grade.INCORRECT.value, row.inclusion) for row in connection.execute(statement)
    ]


def _decided(route: str | None, judge: GraderVersion, since: float) -> Select[Any]:
    columns = _GRADE.c
    names = ("id", "at", "route", "called_at", "inclusion", "shipped", "input_class", "steered")
    found = select(columns.verdict, *(columns[name] for name in names)).where(
        columns.verdict.in_(_DECIDED), columns.second.is_(False), _by(_GRADE, judge)
    )
    if since > float("-inf"):
        found = found.where(columns.called_at > since)
    return found if route is None else found.where(columns.route == route)


def _read(connection: Connection, statement: Select[Any]) -> list[DecidedGrade]:
    rows: Iterable[Any] = connection.execute(statement)
    return [
        DecidedGrade(
            id=row.id,
            at=row.at,
            route=row.route,
            called_at=row.called_at,
            incorrect=row.verdict == Grade.INCORRECT.value,
            inclusion=row.inclusion,
            shipped=row.shipped,
            input_class=row.input_class,
            steered=row.steered,
        )
        for row in rows
    ]


def tallied(
    connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES, judge: GraderVersion | None = None
) -> list[GradeTally]:
    """The grades of calls that began in `[since, until)`, counted by the database; without `judge`, of all first."""
    columns = _GRADE.c
    kinds = (columns.route, columns.verdict, columns.failure, columns.shipped, columns.inclusion, columns.steered)
    amounts = (
        func.count().label("count"),
        func.coalesce(func.sum(columns.cost_nusd), 0).label("cost_nusd"),
        func.count().filter(columns.cost_nusd.is_(None), columns.output_tokens > 0).label("unpriced"),
    )
    whose = columns.second.is_(False) if judge is None else _by(_GRADE, judge)
    within = and_(columns.called_at >= since, columns.called_at < until)
    statement = select(*kinds, *amounts).where(within, whose).group_by(*kinds)
    if scope != ALL_ROUTES:
        statement = statement.where(columns.route == scope)
    return [GradeTally(**dict(row._mapping)) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def by_step(
    connection: Connection, *, since: float, until: float, step_s: int, scope: str = ALL_ROUTES
) -> dict[int, list[tuple[bool, float, int]]]:
    """What was found of shipped answers to calls that began in `[since, until)`, by when their step of `step_s` began.

    Groups of (whether wrong, inclusion, how many), of decided grades of evenly chosen answers; steps begin at multiples
    of `step_s` (Unix time, seconds), and a call belongs to one by the millisecond.
    """
    columns, step_ms = _GRADE.c, step_s * 1000
    # Whole numbers, because the engines do not agree on how to round others.
    called_ms = cast(columns.called_at * 1000, BigInteger)
    began = ((called_ms - called_ms % step_ms) // 1000).label("began")
    kinds = (began, columns.verdict, columns.inclusion)
    chosen = (columns.verdict.in_(_DECIDED), columns.shipped, columns.steered.is_(False), columns.second.is_(False))
    within = (columns.called_at >= since, columns.called_at < until)
    statement = select(*kinds, func.count().label("count")).where(*within, *chosen).group_by(*kinds)
    if scope != ALL_ROUTES:
        statement = statement.where(columns.route == scope)
    steps: dict[int, list[tuple[bool, float, int]]] = defaultdict(list)
    for step, verdict, inclusion, count in connection.execute(statement):
        steps[int(step)].append((verdict == Grade.INCORRECT.value, inclusion, count))
    return dict(steps)


def totals(connection: Connection) -> dict[tuple[str, str], tuple[int, float]]:
    """How many gradings there ever were, by route and outcome, and what they cost in US dollars."""
    return {
        (row.route, row.outcome): (row._mapping["count"], row.cost_nusd * _NANO)  # noqa: SLF001 - `count` is a method
        for row in connection.execute(select(_TOTAL))
    }


def spent_usd(connection: Connection, *, since: float, until: float | None = None, second: bool | None = None) -> float:
    """What was spent on grading since then, in US dollars, as far as it is priced; `second` picks a judge's part."""
    when = _GRADE.c.at >= since if until is None else and_(_GRADE.c.at >= since, _GRADE.c.at < until)
    if second is not None:
        when = and_(when, _GRADE.c.second.is_(second))
    total = connection.execute(select(func.coalesce(func.sum(_GRADE.c.cost_nusd), 0)).where(when)).scalar() or 0
    return int(total) * _NANO


def graded_since(connection: Connection, since: float) -> int:
    """How many gradings there were since then."""
    return int(connection.execute(select(func.count()).select_from(_GRADE).where(_GRADE.c.at >= since)).scalar() or 0)


def graded_by_route(connection: Connection, *, since: float) -> dict[str, int]:
    """How many gradings of each route there were since then."""
    counted = select(_GRADE.c.route, func.count()).where(_GRADE.c.at >= since).group_by(_GRADE.c.route)
    return {route: int(count) for route, count in connection.execute(counted)}


def normals(connection: Connection, judge: GraderVersion) -> dict[str, Baseline]:
    """What this judge has found normal, by scope, and what it is to learn anew."""
    found = connection.execute(select(_NORMAL).where(_by(_NORMAL, judge)))
    names = ("scope", "since", "rate", "n", "grades", "until", "learned_at", "author", "why")
    return {row.scope: Baseline(**{name: row._mapping[name] for name in names}) for row in found}  # noqa: SLF001


def learn(connection: Connection, judge: GraderVersion, baselines: Sequence[Baseline]) -> None:
    """Hold these baselines from now on, all with one statement."""
    key = {"grader_model": judge.model, "grader_prompt": judge.prompt}
    upsert(connection, NormalRow, [{**asdict(each), **key} for each in baselines])


def relearn(connection: Connection, judge: GraderVersion, scope: str, *, now: float, author: str, why: str) -> None:
    """Forget what was normal, and learn it anew from calls that begin after `now`."""
    learn(connection, judge, [Baseline(scope=scope, since=now, author=author, why=why)])


def _by(table: Any, judge: GraderVersion) -> ColumnElement[bool]:
    return and_(table.c.grader_model == judge.model, table.c.grader_prompt == judge.prompt)
