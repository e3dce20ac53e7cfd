"""Reads the counters: of a period from the coarsest rows that answer it, and since each process began.

Periods are `[since, until)` in Unix time, and `spans` says which rows count in them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Subquery,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from cheapdeep_ops.store.counts import COUNTS, SUMS, RouteCounts, Sums, TrafficMix
from cheapdeep_ops.store.second_counts import SecondCounts, by_route_of
from cheapdeep_ops.store.spans import AFTER_ALL_ROWS, WIDTHS, Span, finest, spans_of
from cheapdeep_ops.store.tables.call_tables import Bucket, Horizon, Rollup, Total
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.units import HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

_BUCKET: Final = table_of(Bucket)
_TOTAL: Final = table_of(Total)
_ROLLUP: Final = table_of(Rollup)
_HORIZON: Final = table_of(Horizon)


def by_route(connection: Connection, *, since: float, until: float) -> dict[str, RouteCounts]:
    """Counts of the rows that began in `[since, until)`, by route."""
    names = ("calls", "triaged", "escalated", "base_escalated", "later_answers", "withheld")
    counted = _counted_in(connection, ("route", *names), since=since, until=until)
    sums = (func.sum(counted.c[name]).label(name) for name in names)
    rows = connection.execute(select(counted.c.route, *sums).group_by(counted.c.route)).mappings()
    return {row["route"]: RouteCounts(**row) for row in rows}


def by_second(
    connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES
) -> dict[str, list[SecondCounts]]:
    """Counts of the seconds that began in `[since, until)`, by route, oldest first; empty seconds are absent.

    Where seconds are folded, an entry has the counts of a minute, or of the finest longer row that is stored.
    """
    names = ("route", "at", "triaged", "escalated", "base_escalated")
    spans = finest(since, until, _horizons(connection))
    folded = list(zip(spans, _folded_in(spans, scope, by_route=True), strict=True))
    parts = [
        select(*_columns(_BUCKET, names)).where(*_second_of(since, until, scope)),
        *(select(*_columns(_ROLLUP, names)).where(*chosen) for span, chosen in folded if span.width_s == 1),
    ]
    second = union_all(*parts).subquery()
    sums = (func.sum(second.c[name]) for name in names[2:])
    seconds = select(second.c.route, second.c.at, *sums, literal(1), literal(1)).group_by(second.c.at, second.c.route)
    longer = (
        select(*_columns(_ROLLUP, (*names, "width_s", "base_seconds"))).where(*chosen)
        for span, chosen in folded
        if span.width_s > 1
    )
    return _entries(connection, seconds, *longer)


def by_minute(
    connection: Connection,
    *,
    since: float,
    until: float,
    scope: str = ALL_ROUTES,
    routes: Collection[str] | None = None,
) -> dict[str, list[SecondCounts]]:
    """Counts of the minutes in `[since, until)`, by route, oldest first; empty minutes are absent.

    Both times are those of whole minutes. Where minutes are deleted, an entry has the counts of an hour or a day. Its
    `base_seconds` are those of one input class, or of one second. With `routes`, only these are read.
    """
    spans = spans_of(since, until, _horizons(connection), step_s=MINUTE_S)
    own = [] if routes is None else [_ROLLUP.c.route.in_(routes)]
    # The expression keeps the index on time in use, see `_second_of`.
    own_second = [] if routes is None else [_BUCKET.c.route.concat("").in_(routes)]
    names = ("triaged", "escalated", "base_escalated")
    open_ones = _open_minutes(names, [*_second_of(since, until, scope), *own_second])
    # The database adds up input classes, because a fleet may have thousands of them.
    sums = [*(func.sum(_ROLLUP.c[name]) for name in names), _ROLLUP.c.width_s, func.max(_ROLLUP.c.base_seconds)]
    folded = (
        select(_ROLLUP.c.route, _ROLLUP.c.at, *sums)
        .where(*chosen, *own)
        .group_by(_ROLLUP.c.at, _ROLLUP.c.route, _ROLLUP.c.width_s)
        for chosen in _folded_in(spans, scope, by_route=True)
    )
    return _entries(connection, open_ones, *folded)


def _open_minutes(names: Sequence[str], chosen: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """The minutes of the `chosen` seconds that are not folded, with `base_seconds` as a fold would write them."""
    class_second = (_BUCKET.c.at, _BUCKET.c.route, _BUCKET.c.input_class)
    summed = (func.sum(_BUCKET.c[name]).label(name) for name in names)
    second = select(*class_second, *summed).where(*chosen).group_by(*class_second).subquery("open_second").c
    began = (second.at - second.at % MINUTE_S).label("began")
    # Each second counts once in its class, so a sum sets each bit once.
    bit = cast(1, BigInteger).bitwise_lshift(cast(second.at % MINUTE_S, Integer))
    bits = func.sum(case((second.base_escalated > 0, bit), else_=0)).label("base_seconds")
    summed = (func.sum(second[name]).label(name) for name in names)
    of_class = select(second.route, began, *summed, bits).group_by(began, second.route, second.input_class)
    minute = of_class.subquery("open_minute").c
    sums = [*(func.sum(minute[name]) for name in names), literal(MINUTE_S), func.max(minute.base_seconds)]
    return select(minute.route, minute.began.label("at"), *sums).group_by(minute.began, minute.route)


def by_hour(connection: Connection, *, since: float, until: float) -> dict[str, dict[int, int]]:
    """The triaged calls of each route in `[since, until)`, by the start of the hour (Unix time)."""
    counted = _counted_in(connection, ("route", "at", "triaged"), since=since, until=until, step_s=HOUR_S)
    began = (counted.c.at - counted.c.at % HOUR_S).label("began")
    statement = select(counted.c.route, began, func.sum(counted.c.triaged)).group_by(counted.c.route, began)
    hours: dict[str, dict[int, int]] = defaultdict(dict)
    for route, at, calls in connection.execute(statement):
        hours[route][int(at)] = int(calls)
    return dict(hours)


def _entries(connection: Connection, *parts: Select[Any]) -> dict[str, list[SecondCounts]]:
    """The rows of all `parts` as entries, by route, oldest first."""
    # One statement sees one state of the store, in which each call is either folded or not.
    rows = connection.execute(union_all(*parts).order_by("at")).all()
    # The sums are converted, because PostgreSQL returns them as Decimal.
    return by_route_of([(row[0], SecondCounts(*map(int, row[1:]))) for row in rows])


def resolution_s(connection: Connection, *, since: float, until: float) -> int:
    """The longest entry that `by_second` gives for `[since, until)`, in seconds: 1 if it gives only seconds."""
    spans = finest(since, until, _horizons(connection))
    chosen = zip(spans, _folded_in(spans, ALL_ROUTES), strict=True)
    there = (span.width_s for span, where in chosen if connection.execute(select(_ROLLUP.c.at).where(*where)).first())
    return max(there, default=1)


def minutes_since(connection: Connection) -> int:
    """When the oldest minute that is stored may begin (Unix time)."""
    return _horizons(connection).get(MINUTE_S, 0)


def first_second(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> int | None:
    """When the first row with calls in `[since, until)` began (Unix time): a second, or the finest that is stored.

    None if there were no calls.
    """
    second = select(func.min(_BUCKET.c.at).label("at")).where(*_second_of(since, until, scope))
    spans = finest(since, until, _horizons(connection))
    folded = (select(func.min(_ROLLUP.c.at)).where(*chosen) for chosen in _folded_in(spans, scope))
    ats = union_all(second, *folded).subquery()
    first: int | None = connection.execute(select(func.min(ats.c.at))).scalar()
    return first


def sums_of(
    connection: Connection, names: Sequence[str], *, since: float, until: float, scope: str = ALL_ROUTES
) -> dict[str, int]:
    """The sums of the counters `names` over `[since, until)`, added up by the database."""
    counted = _counted_in(connection, names, since=since, until=until, scope=scope)
    row = connection.execute(select(*(func.coalesce(func.sum(counted.c[name]), 0) for name in names))).one()
    return {name: int(total) for name, total in zip(names, row, strict=True)}


def by_step(
    connection: Connection, *, since: float, until: float, step_s: int, scope: str = ALL_ROUTES
) -> dict[int, Sums]:
    """The sums of `[since, until)` for each step of `step_s` seconds, by the start of the step (Unix time).

    Steps start at multiples of `step_s`. The mappings are empty, and steps without calls are absent. A folded row that
    is longer than a step counts in the step in which it begins.
    """
    counted = _counted_in(connection, ("at", *SUMS), since=since, until=until, scope=scope, step_s=step_s)
    began = (counted.c.at - counted.c.at % step_s).label("began")
    statement = select(began, *(func.sum(counted.c[name]).label(name) for name in SUMS)).group_by(began)
    rows = connection.execute(statement).mappings()
    return {int(row["began"]): Sums(**{name: int(row[name]) for name in SUMS}) for row in rows}  # type: ignore[arg-type]


def summed(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> Sums:
    """The sums of all counters and mappings over `[since, until)`, for one route or for all."""
    numbers = sums_of(connection, SUMS, since=since, until=until, scope=scope)
    counted = {name: _counted(connection, name, since, until, scope) for name in COUNTS}
    return Sums(**numbers, **counted)  # type: ignore[arg-type]


def base_reasons(connection: Connection, *, since: float, until: float, scope: str) -> dict[str, int]:
    """Base escalations of `[since, until)` by reason."""
    return _counted(connection, "base_reasons", since, until, scope)


NO_CONFIDENCE: Final = "none"
BASE_ESCALATED: Final = "base_escalated"


def histograms(connection: Connection, *, since: float, until: float) -> dict[str, dict[str, int]]:
    """By route: the triaged calls of `[since, until)` by stated confidence, in hundredths rounded down.

    Those without a confidence are in `NO_CONFIDENCE`. Beside them, `BASE_ESCALATED` has the base escalations.
    """
    names = ("route", "triaged", "base_escalated", "confidence")
    columns = _counted_in(connection, names, since=since, until=until).c
    sums = (func.sum(columns.triaged), func.sum(columns.base_escalated), func.count())
    statement = select(columns.route, columns.confidence, *sums).group_by(columns.route, columns.confidence)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for route, written, triaged, escalated, rows in connection.execute(statement):
        stated = Counter({name: count * rows for name, count in json.loads(written).items()})
        without = max(int(triaged) - stated.total(), 0)
        counts[route] += stated + Counter({NO_CONFIDENCE: without, BASE_ESCALATED: int(escalated)})
    return {route: dict(count) for route, count in counts.items() if count}


def triage_errors(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> dict[str, int]:
    """Failed triage calls of `[since, until)` by error."""
    return _counted(connection, "triage_errors", since, until, scope)


def malformed_causes(connection: Connection, *, since: float, until: float) -> dict[str, int]:
    """The malformed triage replies of `[since, until)` by cause."""
    return _counted(connection, "malformed_causes", since, until, ALL_ROUTES)


def base_escalations_by_class(connection: Connection, *, since: float, until: float, scope: str) -> dict[str, int]:
    """Base escalations of `[since, until)` by input class."""
    names = ("route", "input_class", "base_escalated")
    counted = _counted_in(connection, names, since=since, until=until, scope=scope)
    statement = select(counted.c.input_class, func.sum(counted.c.base_escalated)).group_by(counted.c.input_class)
    return {name: int(count) for name, count in connection.execute(statement)}


def grouped(
    connection: Connection,
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    since: float,
    until: float,
    scope: str = ALL_ROUTES,
    step_s: int | None = None,
) -> dict[tuple[Any, ...], dict[str, int]]:
    """The sums of the counters `names` over `[since, until)`, by `kinds`: `route`, `input_class` or `at`.

    `at` is the start of a step of `step_s` seconds; see `by_step`.
    """
    columns = _counted_in(connection, (*kinds, *names), since=since, until=until, scope=scope, step_s=step_s).c
    kind = [columns[name] - columns[name] % step_s if name == "at" else columns[name] for name in kinds]
    rows = connection.execute(select(*kind, *(func.sum(columns[name]) for name in names)).group_by(*kind))
    return {tuple(row[: len(kinds)]): dict(zip(names, map(int, row[len(kinds) :]), strict=True)) for row in rows}


def traffic_mix(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> TrafficMix:
    """The composition of the triaged calls of `[since, until)`, in one route or in all."""
    names = ("route", "input_class", "triaged", "base_escalated")
    columns = _counted_in(connection, names, since=since, until=until, scope=scope).c
    statement = select(
        columns.route, columns.input_class, func.sum(columns.triaged), func.sum(columns.base_escalated)
    ).group_by(columns.route, columns.input_class)
    cells = [tuple(row) for row in connection.execute(statement)]
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
    text = _counted_in(connection, (name,), since=since, until=until, scope=scope).c[name]
    counts: Counter[str] = Counter()
    for written, rows in connection.execute(select(text, func.count().label("rows")).group_by(text)):
        for key, value in json.loads(written).items():
            counts[key] += value * rows
    return dict(counts)


def _counted_in(
    connection: Connection,
    names: Sequence[str],
    *,
    since: float,
    until: float,
    scope: str = ALL_ROUTES,
    step_s: int | None = None,
) -> Subquery:
    """The columns `names` of the seconds that are not folded, and of the folded rows, which cover `[since, until)`.

    See `spans`. Mappings are texts. With `route` among the names, each route has rows of its own.
    """
    if _is_open(connection, until):
        # Nothing follows, so the rows of the present hour and day answer too, which are not complete yet.
        until = AFTER_ALL_ROWS
    # One statement sees one state of the store, in which each call is either folded or not.
    spans = spans_of(since, until, _horizons(connection), step_s=step_s)
    folded = _folded_in(spans, scope, by_route="route" in names)
    parts = [
        select(*_columns(_BUCKET, names)).where(*_second_of(since, until, scope)),
        *(select(*_columns(_ROLLUP, names)).where(*chosen) for chosen in folded),
    ]
    return union_all(*parts).subquery("counted")


def _columns(table: Table, names: Sequence[str]) -> Iterator[ColumnElement[Any]]:
    return (cast(table.c[name], Text).label(name) if name in COUNTS else table.c[name] for name in names)


def _second_of(since: float, until: float, scope: str) -> list[ColumnElement[bool]]:
    """What selects the seconds that began in `[since, until)`."""
    within = [_BUCKET.c.at >= since, _BUCKET.c.at < until]
    # The expression makes the database use the index on time. The primary key starts with the route, and would make it
    # read the route's whole history.
    return within if scope == ALL_ROUTES else [*within, _BUCKET.c.route.concat("") == scope]


def _folded_in(spans: Iterable[Span], scope: str, *, by_route: bool = False) -> Iterator[list[ColumnElement[bool]]]:
    """What selects the folded rows of each of `spans`."""
    columns = _ROLLUP.c
    for span in spans:
        within = [columns.width_s == span.width_s, columns.at >= span.begin, columns.at < span.end]
        # Few rows of their own add up all routes.
        is_own = columns.route != ALL_ROUTES if by_route and scope == ALL_ROUTES else columns.route == scope
        yield [*within, is_own]


def _is_open(connection: Connection, until: float) -> bool:
    """Whether no row begins at `until` (Unix time) or later."""
    later = (
        select(_BUCKET.c.at).where(_BUCKET.c.at >= until),
        select(_ROLLUP.c.at).where(_ROLLUP.c.width_s.in_(WIDTHS), _ROLLUP.c.at >= until),
    )
    return not connection.scalar(select(or_(*(each.exists() for each in later))))


def _horizons(connection: Connection) -> dict[int, int]:
    """Since when the rows of each width are stored (Unix time)."""
    return {row.width_s: row.since for row in connection.execute(select(_HORIZON))}


def totals(
    connection: Connection,
    *,
    mappings: Sequence[str] = COUNTS,
    known: Mapping[tuple[str, str], Sums] = MappingProxyType({}),
) -> dict[tuple[str, str], Sums]:
    """The sums of all counters since the store was made, by (route, input class).

    Mappings are slow to add up; those that are not among `mappings` stay empty. `known` is an earlier result with the
    same `mappings`: routes and classes without new calls are taken from it.
    """
    if not known:
        return totals_where(connection, true(), mappings)
    numbers = totals_where(connection, true(), ())
    fresh = [key for key, sums in numbers.items() if not _is_known(known.get(key), sums)]
    if len(fresh) > len(numbers) / 2:
        return totals_where(connection, true(), mappings)
    changed = totals_where(connection, tuple_(_TOTAL.c.route, _TOTAL.c.input_class).in_(fresh), mappings)
    return {key: changed.get(key) or known[key] for key in numbers}


def _is_known(known: Sums | None, numbers: Sums) -> bool:
    return known is not None and all(getattr(known, name) == getattr(numbers, name) for name in SUMS)


def totals_where(
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


def calls_by_route(connection: Connection) -> dict[str, int]:
    """The calls since the store was made, by route."""
    statement = select(_TOTAL.c.route, func.sum(_TOTAL.c.calls)).group_by(_TOTAL.c.route)
    return {route: int(calls) for route, calls in connection.execute(statement)}
