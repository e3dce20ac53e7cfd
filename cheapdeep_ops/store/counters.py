"""Counters per second, and since each process began."""

import json
import operator
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, cast, delete, func, select, true, tuple_

from cheapdeep_ops.store.engine import Store, take_lock
from cheapdeep_ops.store.tables.call_tables import Bucket, Process, Total
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert
from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import ALL_ROUTES, Counters

_BUCKET: Final = table_of(Bucket)
_TOTAL: Final = table_of(Total)
_PROCESS: Final = table_of(Process)
RETIRED: Final = ""
"""The process name under which the totals of all retired processes are stored."""

_FOLDED_AT_ONCE: Final = 400
"""The largest number of totals that one transaction folds into rows of `RETIRED`."""

_RETIRED_PROCESS: Final = {
    "process": RETIRED, "kind": "retired", "host": "", "pid": 0, "started_at": 0.0, "seen_at": 0.0,
    "package_version": "", "base_threshold": 0.0, "policy_version": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """A route's counts over a window."""

    route: str
    calls: int
    triaged: int
    escalated: int
    base_escalated: int
    later_answers: int
    withheld: int

    @property
    def answers(self) -> int:
        """The calls with an answer of a triage tier that ships at the base threshold, shipped or withheld."""
        return self.triaged - self.base_escalated + self.later_answers

    def __add__(self, other: "RouteCounts") -> "RouteCounts":
        """The counts of two routes together, under the name of this one."""
        names = (each.name for each in fields(self) if each.name != "route")
        return RouteCounts(route=self.route, **{name: getattr(self, name) + getattr(other, name) for name in names})


class SecondCounts(NamedTuple):
    """A route's counts in the second that began at `at` (Unix time)."""

    # A tuple, because a window has thousands of these and a dataclass takes longer to make.

    at: int
    triaged: int
    escalated: int
    base_escalated: int


def merged(one: Sequence[SecondCounts], other: Sequence[SecondCounts]) -> list[SecondCounts]:
    """The counts of two routes together, oldest first."""
    seconds: dict[int, SecondCounts] = {}
    for each in (*one, *other):
        before = seconds.get(each.at, SecondCounts(each.at, 0, 0, 0))
        seconds[each.at] = SecondCounts(each.at, *(map(operator.add, before[1:], each[1:])))
    return [seconds[at] for at in sorted(seconds)]


@dataclass(slots=True, kw_only=True)
class Sums(Counters):
    """Sums of counters over a period."""

    @property
    def answers(self) -> int:
        """The calls with an answer of a triage tier that ships at the base threshold, shipped or withheld."""
        return self.triaged - self.base_escalated + self.later_answers

    def __add__(self, other: "Sums") -> "Sums":
        """The sums of two sets of calls together."""
        numbers = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        counted = {name: dict(Counter(getattr(self, name)) + Counter(getattr(other, name))) for name in COUNTS}
        return Sums(**numbers, **counted)  # type: ignore[arg-type]

    @property
    def cost_usd(self) -> float:
        """Cost of all priced model calls, in US dollars."""
        return self.cost_nusd * USD_PER_NUSD

    @property
    def triage_cost_usd(self) -> float:
        """Cost of the triage calls alone, in US dollars."""
        return self.triage_cost_nusd * USD_PER_NUSD

    @property
    def shadow_cost_usd(self) -> float:
        """Estimated cost of the shadow calls if they had been routed, in US dollars."""
        return self.shadow_cost_nusd * USD_PER_NUSD

    @property
    def shadow_baseline_usd(self) -> float:
        """Real cost of the shadow calls at the deep tier, in US dollars."""
        return self.shadow_baseline_nusd * USD_PER_NUSD

    @property
    def baseline_usd(self) -> float:
        """Estimated cost of all priced calls if each had gone to the deep tier alone, in US dollars."""
        return self.baseline_nusd * USD_PER_NUSD

    @property
    def cold_cache_usd(self) -> float:
        """The part of the cost that a warm deep-tier cache would have saved, in US dollars."""
        return self.cold_cache_nusd * USD_PER_NUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficMix:
    """The composition of a period's triaged calls, and of those that escalated at the base threshold.

    `calls` and `base_escalated` count by (route, input class). `origins` and `base_origins` count by
    `model|prompt version|policy version` of the first tier; older calls may have no origin.
    """

    calls: Mapping[tuple[str, str], int]
    base_escalated: Mapping[tuple[str, str], int]
    base_reasons: Mapping[str, int]
    origins: Mapping[str, int]
    base_origins: Mapping[str, int]


SUMS: Final = tuple(field.name for field in fields(Sums) if field.type is int)
COUNTS: Final = tuple(field.name for field in fields(Sums) if field.type is not int)


def by_route(connection: Connection, *, since: float, until: float) -> dict[str, RouteCounts]:
    """Counts of the buckets that began in `[since, until)`, by route; reads the rows of that window only."""
    columns = _BUCKET.c
    names = ("calls", "triaged", "escalated", "base_escalated", "later_answers", "withheld")
    statement = select(columns.route, *(func.sum(columns[name]).label(name) for name in names))
    rows = connection.execute(_within(statement, since, until, ALL_ROUTES).group_by(columns.route)).mappings()
    return {row["route"]: RouteCounts(**row) for row in rows}


def by_second(
    connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES
) -> dict[str, list[SecondCounts]]:
    """Counts of the seconds that began in `[since, until)`, by route, oldest first; empty seconds are absent."""
    columns = _BUCKET.c
    names = ("triaged", "escalated", "base_escalated")
    counted = select(columns.route, columns.at, *(func.sum(columns[name]) for name in names))
    grouped = counted.group_by(columns.at, columns.route).order_by(columns.at)
    statement = _within(grouped, since, until, scope)
    seconds: dict[str, list[SecondCounts]] = defaultdict(list)
    for route, at, triaged, escalated, base in connection.execute(statement):
        # The sums are converted, because PostgreSQL returns them as Decimal.
        seconds[route].append(SecondCounts(at, int(triaged), int(escalated), int(base)))
    return dict(seconds)


def first_second(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> int | None:
    """When the first second with calls in `[since, until)` began (Unix time); None if there were no calls."""
    ordered = select(_BUCKET.c.at).order_by(_BUCKET.c.at).limit(1)
    first: int | None = connection.execute(_within(ordered, since, until, scope)).scalar()
    return first


def sums_of(
    connection: Connection, names: Sequence[str], *, since: float, until: float, scope: str = ALL_ROUTES
) -> dict[str, int]:
    """The sums of the counters `names` over `[since, until)`, added up by the database."""
    statement = select(*(func.coalesce(func.sum(_BUCKET.c[name]), 0).label(name) for name in names))
    row = connection.execute(_within(statement, since, until, scope)).one()
    return {name: int(total) for name, total in zip(names, row, strict=True)}


def by_step(
    connection: Connection, *, since: float, until: float, step_s: int, scope: str = ALL_ROUTES
) -> dict[int, Sums]:
    """The sums of `[since, until)` for each step of `step_s` seconds, by the start of the step (Unix time).

    Steps start at multiples of `step_s`. The mappings are empty, and steps without calls are absent.
    """
    began = (_BUCKET.c.at - _BUCKET.c.at % step_s).label("began")
    statement = select(began, *(func.sum(_BUCKET.c[name]).label(name) for name in SUMS)).group_by(began)
    rows = connection.execute(_within(statement, since, until, scope)).mappings()
    return {int(row["began"]): Sums(**{name: int(row[name]) for name in SUMS}) for row in rows}  # type: ignore[arg-type]


def summed(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> Sums:
    """The sums of all counters and mappings over `[since, until)`, for one route or for all."""
    numbers = sums_of(connection, SUMS, since=since, until=until, scope=scope)
    counted = {name: _counted(connection, name, since, until, scope) for name in COUNTS}
    return Sums(**numbers, **counted)  # type: ignore[arg-type]


def base_reasons(connection: Connection, *, since: float, until: float, scope: str) -> dict[str, int]:
    """Base escalations of `[since, until)` by reason."""
    return _counted(connection, "base_reasons", since, until, scope)


def triage_errors(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> dict[str, int]:
    """Failed triage calls of `[since, until)` by error."""
    return _counted(connection, "triage_errors", since, until, scope)


def malformed_causes(connection: Connection, *, since: float, until: float) -> dict[str, int]:
    """The malformed triage replies of `[since, until)` by cause."""
    return _counted(connection, "malformed_causes", since, until, ALL_ROUTES)


def base_escalations_by_class(connection: Connection, *, since: float, until: float, scope: str) -> dict[str, int]:
    """Base escalations of `[since, until)` by input class."""
    columns = _BUCKET.c
    statement = select(columns.input_class, func.sum(columns.base_escalated)).group_by(columns.input_class)
    return {name: int(count) for name, count in connection.execute(_within(statement, since, until, scope))}


def traffic_mix(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> TrafficMix:
    """The composition of the triaged calls of `[since, until)`, in one route or in all."""
    columns = _BUCKET.c
    statement = select(
        columns.route, columns.input_class, func.sum(columns.triaged), func.sum(columns.base_escalated)
    ).group_by(columns.route, columns.input_class)
    cells = [tuple(row) for row in connection.execute(_within(statement, since, until, scope))]
    return TrafficMix(
        calls={(route, name): int(calls) for route, name, calls, _ in cells},
        base_escalated={(route, name): int(escalated) for route, name, _, escalated in cells},
        base_reasons=base_reasons(connection, since=since, until=until, scope=scope),
        origins=_counted(connection, "origins", since, until, scope),
        base_origins=_counted(connection, "base_origins", since, until, scope),
    )


def _counted(connection: Connection, name: str, since: float, until: float, scope: str) -> dict[str, int]:
    """The sum of one mapping over `[since, until)`."""
    # Few different texts occur. The database groups equal ones, so that few have to be parsed here.
    text = cast(_BUCKET.c[name], Text).label("text")
    statement = _within(select(text, func.count().label("rows")).group_by(text), since, until, scope)
    counts: Counter[str] = Counter()
    for written, rows in connection.execute(statement):
        for key, value in json.loads(written).items():
            counts[key] += value * rows
    return dict(counts)


def _within(statement: Select[*tuple[Any, ...]], since: float, until: float, scope: str) -> Select[*tuple[Any, ...]]:
    statement = statement.where(_BUCKET.c.at >= since, _BUCKET.c.at < until)
    # The expression makes the database use the index on time. The primary key starts with the route, and would make it
    # read the route's whole history.
    return statement if scope == ALL_ROUTES else statement.where(_BUCKET.c.route.concat("") == scope)


def totals(connection: Connection, *, mappings: Sequence[str] = COUNTS) -> dict[tuple[str, str], Sums]:
    """The sums of all counters since the store was made, by (route, input class).

    Mappings are slow to add up; those that are not among `mappings` stay empty.
    """
    return _totals(connection, true(), mappings)


def _totals(
    connection: Connection, chosen: ColumnElement[bool], mappings: Sequence[str] = COUNTS
) -> dict[tuple[str, str], Sums]:
    """The sums of the chosen totals by (route, input class), added up by the database."""
    columns = _TOTAL.c
    numbers = (func.sum(columns[name]).label(name) for name in SUMS)
    # All texts of a mapping in one, because parsing many short ones takes longer.
    texts = (func.aggregate_strings(cast(columns[name], Text), ",").label(name) for name in mappings)
    statement = select(columns.route, columns.input_class, *numbers, *texts).where(chosen)
    rows = connection.execute(statement.group_by(columns.route, columns.input_class))
    return {
        (route, input_class): Sums(
            **{name: int(number) for name, number in zip(SUMS, values[: len(SUMS)], strict=True)},  # type: ignore[arg-type]
            **{name: _added(text) for name, text in zip(mappings, values[len(SUMS) :], strict=True)},  # type: ignore[arg-type]
        )
        for route, input_class, *values in rows
    }


def _added(texts: str) -> dict[str, int]:
    """The sum of mappings that are written as JSON, with commas between them."""
    counts: defaultdict[str, int] = defaultdict(int)
    for mapping in json.loads(f"[{texts}]"):
        for key, value in mapping.items():
            counts[key] += value
    return dict(counts)


def routes(connection: Connection) -> set[str]:
    """The routes that calls have named since the store was made."""
    return set(connection.execute(select(_TOTAL.c.route).distinct()).scalars())


def retire(store: Store, *, unseen_since: float) -> int:
    """Fold the totals of processes without a heartbeat since `unseen_since` into one row for each route and class.

    The sums stay equal after each transaction. The time to read them no longer grows with the number of past processes.
    A folded process that returns would count twice, so `unseen_since` should lie weeks back. Returns the number of
    folded processes.
    """
    gone = and_(_PROCESS.c.seen_at < unseen_since, _PROCESS.c.process != RETIRED)
    with store.reading() as connection:
        names = connection.execute(select(_PROCESS.c.process).where(gone)).scalars().all()
    for name in names:
        while store.transact(lambda connection, name=name: _fold_some(connection, name, gone)):  # type: ignore[misc]
            pass
    return len(names)


def _fold_some(connection: Connection, name: str, gone: ColumnElement[bool]) -> bool:
    """Fold some totals of a process, or its own row after the last of them; returns whether more is left."""
    # Two guards at once must not add one total to the retired row twice.
    take_lock(connection, "retirement")
    is_gone = select(_PROCESS.c.process).where(_PROCESS.c.process == name, gone)
    if connection.execute(is_gone).first() is None:
        return False
    key = tuple_(_TOTAL.c.route, _TOTAL.c.input_class)
    own = select(_TOTAL.c.route, _TOTAL.c.input_class).where(_TOTAL.c.process == name)
    some = own.order_by(_TOTAL.c.route, _TOTAL.c.input_class).limit(_FOLDED_AT_ONCE)
    keys = [tuple(row) for row in connection.execute(some)]
    if not keys:
        _retire_process(connection, name)
        return False
    folded = _totals(connection, and_(_TOTAL.c.process.in_([name, RETIRED]), key.in_(keys)))
    connection.execute(delete(_TOTAL).where(_TOTAL.c.process == name, key.in_(keys)))
    upsert(connection, Total, [_as_row(key, sums) for key, sums in folded.items()])
    return True


def _retire_process(connection: Connection, name: str) -> None:
    """Delete the row of a process, and add its dropped and folded calls to the retired row."""
    both = _PROCESS.c.process.in_([name, RETIRED])
    sums = select(func.sum(_PROCESS.c.dropped), func.sum(_PROCESS.c.folded)).where(both)
    dropped, folded = (int(each or 0) for each in connection.execute(sums).one())
    connection.execute(delete(_PROCESS).where(_PROCESS.c.process == name))
    upsert(connection, Process, [{**_RETIRED_PROCESS, "dropped": dropped, "folded": folded}])


def _as_row(key: tuple[str, str], sums: Sums) -> dict[str, object]:
    return {"route": key[0], "input_class": key[1], "process": RETIRED, **sums.row()}
