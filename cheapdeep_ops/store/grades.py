"""Grades, and the baselines of the false-confident rate that were learned from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Table, and_, cast, func, or_, select, update

from cheapdeep_ops.store.tables.grade_tables import GradeRow, GradeTotal, NormalRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent, upsert
from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import ALL_ROUTES, Grade

_GRADE: Final = table_of(GradeRow)
_NORMAL: Final = table_of(NormalRow)
_TOTAL: Final = table_of(GradeTotal)
_INCORRECT: Final = Grade.INCORRECT.value
_DECIDED: Final = (Grade.CORRECT.value, _INCORRECT)
SECOND: Final = "second_judge"
"""The outcome under which gradings of the second grader are counted, whatever their verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderVersion:
    """The model and prompt of a grader; rates of two versions are not comparable."""

    model: str
    prompt: str

    def __str__(self) -> str:
        return f"{self.model}, prompt {self.prompt}"


@dataclass(slots=True, kw_only=True)
class DecidedGrade:
    """A grade of correct or incorrect, as the rules read it; ids grow in the order of grading, and `at` is its time."""

    # Not frozen, because a guard that starts makes many thousands, and a frozen one takes twice as long to make.

    id: int = field(default=0, compare=False)
    at: float = field(default=0.0, compare=False)
    route: str
    called_at: float
    incorrect: bool
    inclusion: float
    shipped: bool
    input_class: str
    steered: bool = False
    tier: int = field(default=0, compare=False)
    confidence: float = field(default=0.0, compare=False)
    fingerprint: str = field(default="", compare=False)

    @property
    def shows_confidence(self) -> bool:
        """Whether it counts for figures on confidence: see `confidences`."""
        return self.tier == 0 and not self.steered


@dataclass(slots=True, kw_only=True)
class AttributedGrade(DecidedGrade):
    """A decided grade with the attributes of its call; `model` and `prompt_version` are empty if they are unknown.

    `tier` is the index of the tier that gave the answer, and `model` its model.
    """

    call_id: str
    model: str
    tier: int = 0
    prompt_version: str
    policy_version: int
    confidence: float


class BaselineStep(NamedTuple):
    """What was known of a baseline from `learned_at` on, until its next step."""

    learned_at: float
    rate: float
    n: float
    grades: int
    ceiling: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The false-confident rate that is normal for a scope, learned from calls after `since`.

    `n` is the effective number of grades, `grades` their count. The rate and its facts are None until it is learned.
    The calls that it was first learned from began by `until` and were chosen with the probability `share` (a mean).
    It goes on learning: `learned_at` is the time of its latest step, and `earlier` are the steps before, oldest first.
    `ceiling` is a rate that no target exceeds, however much is learned; None until its first grades are complete.
    """

    scope: str
    since: float
    rate: float | None = None
    n: float | None = None
    grades: int = 0
    until: float | None = None
    learned_at: float | None = None
    share: float | None = None
    ceiling: float | None = None
    earlier: tuple[BaselineStep, ...] = ()
    author: str = ""
    why: str = ""

    def learned_more(self, *, rate: float, n: float, grades: int, ceiling: float | None, now: float) -> Self:
        """The baseline after one more step, at `now` (Unix time)."""
        earlier = self._steps
        return replace(self, rate=rate, n=n, grades=grades, ceiling=ceiling, learned_at=now, earlier=earlier)

    def blank(self) -> Self:
        """The baseline before anything was learned."""
        return type(self)(scope=self.scope, since=self.since, author=self.author, why=self.why)

    def as_of(self, moment: float) -> Self:
        """The baseline as it was known at `moment` (Unix time)."""
        known = [step for step in self._steps if step.learned_at <= moment]
        if not known:
            return self.blank()
        *before, last = known
        return replace(
            self, rate=last.rate, n=last.n, grades=last.grades, ceiling=last.ceiling, learned_at=last.learned_at,
            earlier=tuple(before),
        )  # fmt: skip

    @property
    def _steps(self) -> tuple[BaselineStep, ...]:
        if self.rate is None or self.n is None or self.learned_at is None:
            return self.earlier
        return (*self.earlier, BaselineStep(self.learned_at, self.rate, self.n, self.grades, self.ceiling))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeTally:
    """The number of grades with one combination of route, tier, verdict (None: a failure), outcome and inclusion."""

    route: str
    verdict: str | None
    failure: str
    shipped: bool
    inclusion: float
    steered: bool = False
    tier: int = 0
    count: int
    cost_nusd: int
    unpriced: int


def add(connection: Connection, row: Mapping[str, object]) -> bool:
    """Append a grade and add it to the totals; False if this grader has graded the call before."""
    if not insert_if_absent(connection, GradeRow, row):
        return False
    outcome = SECOND if row.get("second") else row["verdict"] or row["failure"]
    key = {"route": row["route"], "outcome": outcome}
    cost_nusd = row["cost_nusd"] or 0
    total = update(_TOTAL).where(*(_TOTAL.c[name] == value for name, value in key.items()))
    # The database adds, because two processes may add to one total at once.
    more = {"count": _TOTAL.c["count"] + 1, "cost_nusd": _TOTAL.c.cost_nusd + cost_nusd}
    if not connection.execute(total.values(**more)).rowcount:
        insert_if_absent(connection, GradeTotal, {**key, "count": 1, "cost_nusd": cost_nusd})
    return True


def counts(connection: Connection) -> dict[str, int]:
    """The number of all gradings so far, by route; every grader's count, and failures too."""
    statement = select(_TOTAL.c.route, func.sum(_TOTAL.c["count"])).group_by(_TOTAL.c.route)
    return {route: int(count) for route, count in connection.execute(statement)}


def newest(
    connection: Connection,
    route: str,
    grader: GraderVersion,
    *,
    since: float,
    until: float | None = None,
    shipped: bool | None = None,
    limit: int,
) -> list[DecidedGrade]:
    """The decided grades of a route's latest calls that began after `since` and before `until`, newest call first.

    `shipped` filters: True for answers that shipped, False for withheld ones, None for both.
    """
    statement = _decided(route, grader, since).order_by(_GRADE.c.called_at.desc(), _GRADE.c.id.desc()).limit(limit)
    if until is not None:
        statement = statement.where(_GRADE.c.called_at < until)
    if shipped is not None:
        statement = statement.where(_GRADE.c.shipped.is_(shipped))
    return _read(connection, statement)


def known_after(
    connection: Connection,
    grader: GraderVersion,
    *,
    grade_id: int,
    route: str | None,
    since: float | None = None,
    limit: int | None = None,
) -> list[DecidedGrade]:
    """The decided grades with an id above `grade_id`, in the order of grading; of one route, or of all if None.

    `since` (Unix time) leaves out those that were graded at that time or before.
    """
    statement = _decided(route, grader, float("-inf")).where(_GRADE.c.id > grade_id).order_by(_GRADE.c.id).limit(limit)
    return _read(connection, statement if since is None else statement.where(_GRADE.c.at > since))


def decided_by_route(
    connection: Connection, routes: Iterable[str], grader: GraderVersion, *, since: float
) -> dict[str, int]:
    """The number of decided grades of calls that began after `since`, by route; a route without any is absent."""
    chosen = _decided(None, grader, since).where(_GRADE.c.route.in_(routes))
    # Counted by the database, because a route may have more grades than should be loaded.
    counted = chosen.with_only_columns(_GRADE.c.route, func.count()).group_by(_GRADE.c.route)
    return {route: int(count) for route, count in connection.execute(counted)}


def oldest(
    connection: Connection,
    route: str,
    grader: GraderVersion,
    *,
    since: float,
    known_by: float | None = None,
    limit: int,
) -> list[DecidedGrade]:
    """The decided grades of a route's first calls after `since`, oldest call first.

    `known_by` (Unix time) leaves out those that were graded later.
    """
    statement = _decided(route, grader, since).order_by(_GRADE.c.called_at, _GRADE.c.id).limit(limit)
    return _read(connection, statement if known_by is None else statement.where(_GRADE.c.at <= known_by))


def attributed(
    connection: Connection, route: str, grader: GraderVersion, *, since: float, until: float, limit: int
) -> list[AttributedGrade]:
    """The decided grades of a route's latest calls in `[since, until)`, with their attributes, newest call first."""
    columns = _GRADE.c
    statement = (
        select(_GRADE)
        .where(columns.verdict.in_(_DECIDED), columns.second.is_(False), _by(_GRADE, grader), columns.route == route)
        .where(columns.called_at >= since, columns.called_at < until)
        .order_by(columns.called_at.desc(), columns.id.desc())
        .limit(limit)
    )
    names = [name for name in AttributedGrade.__dataclass_fields__ if name != "incorrect"]
    return [
        AttributedGrade(incorrect=row.verdict == _INCORRECT, **{name: getattr(row, name) for name in names})
        for row in connection.execute(statement)
    ]


def confidences(
    connection: Connection,
    grader: GraderVersion,
    *,
    since: float,
    until: float,
    scope: str = ALL_ROUTES,
    limit: int | None = None,
    held: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, bool, float]]:
    """(confidence, is incorrect, inclusion) of the decided grades of calls that began in `[since, until)`.

    Of the first tier's answers alone, because 0.9 of one model is not 0.9 of another. `limit` keeps the latest calls.
    Steered grades are left out, and so are those that were made in a time of `held`: (start, end) in Unix time.
    """
    columns = _GRADE.c
    statement = select(columns.confidence, columns.verdict, columns.inclusion).where(
        columns.verdict.in_(_DECIDED),
        # Earlier grades led to the choice of steered ones, which would bias an estimate.
        columns.steered.is_(False),
        columns.second.is_(False),
        columns.tier == 0,
        columns.called_at >= since,
        columns.called_at < until,
        *(or_(columns.at < begin, columns.at >= end) for begin, end in held),
        _by(_GRADE, grader),
    )
    if scope != ALL_ROUTES:
        statement = statement.where(columns.route == scope)
    if limit is not None:
        statement = statement.order_by(columns.called_at.desc(), columns.id.desc()).limit(limit)
    rows = connection.execute(statement)
    return [(confidence, verdict == _INCORRECT, inclusion) for confidence, verdict, inclusion in rows]


def _decided(route: str | None, grader: GraderVersion, since: float) -> Select[Any]:
    columns = _GRADE.c
    names = (
        "id", "at", "route", "called_at", "inclusion", "shipped", "input_class", "steered", "tier", "confidence",
        "fingerprint",
    )  # fmt: skip
    decided = select(columns.verdict, *(columns[name] for name in names)).where(
        columns.verdict.in_(_DECIDED), columns.second.is_(False), _by(_GRADE, grader)
    )
    # -inf stands for all calls, which need no condition.
    if since > float("-inf"):
        decided = decided.where(columns.called_at > since)
    return decided if route is None else decided.where(columns.route == route)


def _read(connection: Connection, statement: Select[Any]) -> list[DecidedGrade]:
    # Unpacked, because names of columns are slow to look up in many rows.
    return [
        DecidedGrade(
            id=id_, at=at, route=route, called_at=called_at, incorrect=verdict == _INCORRECT, inclusion=inclusion,
            shipped=shipped, input_class=input_class, steered=steered, tier=tier, confidence=confidence,
            fingerprint=fingerprint,
        )
        for (
            verdict, id_, at, route, called_at, inclusion, shipped, input_class, steered, tier, confidence, fingerprint,
        ) in connection.execute(statement)
    ]  # fmt: skip


def tallies(
    connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES, grader: GraderVersion | None = None
) -> list[GradeTally]:
    """The grades of calls that began in `[since, until)`, counted by the database.

    `grader` selects one grader version. If None, the first grades of all versions count.
    """
    columns = _GRADE.c
    names = ("route", "verdict", "failure", "shipped", "inclusion", "steered", "tier")
    kinds = [columns[name] for name in names]
    amounts = (
        func.count().label("count"),
        func.coalesce(func.sum(columns.cost_nusd), 0).label("cost_nusd"),
        func.count().filter(columns.cost_nusd.is_(None), columns.output_tokens > 0).label("unpriced"),
    )
    # One call may have a grade by each of two graders, and must count once.
    graded_by = columns.second.is_(False) if grader is None else _by(_GRADE, grader)
    within = and_(columns.called_at >= since, columns.called_at < until)
    statement = select(*kinds, *amounts).where(within, graded_by).group_by(*kinds)
    if scope != ALL_ROUTES:
        statement = statement.where(columns.route == scope)
    return [GradeTally(**row) for row in connection.execute(statement).mappings()]


def by_step(
    connection: Connection, *, since: float, until: float, step_s: int, scope: str = ALL_ROUTES
) -> dict[int, list[tuple[bool, float, int]]]:
    """Groups of (is incorrect, inclusion, count) of the shipped calls of `[since, until)`, for each step of `step_s`.

    The keys are the starts of the steps: multiples of `step_s` (Unix time, seconds). Counts decided grades of the first
    grader, without steered ones. The millisecond of a call decides its step.
    """
    columns, step_ms = _GRADE.c, step_s * 1000
    # Whole numbers, because SQLite and PostgreSQL round fractions differently.
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
        steps[int(step)].append((verdict == _INCORRECT, inclusion, count))
    return dict(steps)


def totals(connection: Connection) -> dict[tuple[str, str], tuple[int, float]]:
    """(number, cost in US dollars) of all gradings so far, by (route, outcome)."""
    return {
        (row["route"], row["outcome"]): (row["count"], row["cost_nusd"] * USD_PER_NUSD)
        for row in connection.execute(select(_TOTAL)).mappings()
    }


def spent_usd(connection: Connection, *, since: float, until: float | None = None, second: bool | None = None) -> float:
    """The cost of priced gradings in `[since, until)`, in US dollars.

    `second` selects the gradings of the second grader (True) or of the first (False); None counts both.
    """
    when = _GRADE.c.at >= since if until is None else and_(_GRADE.c.at >= since, _GRADE.c.at < until)
    if second is not None:
        when = and_(when, _GRADE.c.second.is_(second))
    total = connection.execute(select(func.coalesce(func.sum(_GRADE.c.cost_nusd), 0)).where(when)).scalar() or 0
    return int(total) * USD_PER_NUSD


def graded_since(connection: Connection, since: float) -> int:
    """The number of gradings since `since`."""
    return int(connection.execute(select(func.count()).select_from(_GRADE).where(_GRADE.c.at >= since)).scalar() or 0)


def graded_by_route(connection: Connection, *, since: float) -> dict[str, int]:
    """The number of gradings since `since`, by route."""
    counted = select(_GRADE.c.route, func.count()).where(_GRADE.c.at >= since).group_by(_GRADE.c.route)
    return {route: int(count) for route, count in connection.execute(counted)}


def baselines(connection: Connection, grader: GraderVersion) -> dict[str, Baseline]:
    """This grader's baselines by scope, learned or still to be learned."""
    statement = select(*(_NORMAL.c[name] for name in Baseline.__dataclass_fields__)).where(_by(_NORMAL, grader))
    return {row["scope"]: _baseline(dict(row)) for row in connection.execute(statement).mappings()}


def _baseline(row: Mapping[str, Any]) -> Baseline:
    return Baseline(**{**row, "earlier": tuple(BaselineStep(*step) for step in row["earlier"])})


def save_baselines(connection: Connection, grader: GraderVersion, learned: Sequence[Baseline]) -> None:
    """Store baselines in one statement; each replaces the former one of its scope."""
    key = {"grader_model": grader.model, "grader_prompt": grader.prompt}
    # The tuples of `earlier` become lists of JSON.
    upsert(connection, NormalRow, [{**asdict(each), **key} for each in learned])


def relearn(connection: Connection, grader: GraderVersion, scope: str, *, now: float, author: str, why: str) -> None:
    """Reset a scope's baseline; it will be learned from calls that begin after `now`."""
    save_baselines(connection, grader, [Baseline(scope=scope, since=now, author=author, why=why)])


def _by(table: Table, grader: GraderVersion) -> ColumnElement[bool]:
    return and_(table.c.grader_model == grader.model, table.c.grader_prompt == grader.prompt)
