"""The routes and input classes that count by name, as the guard and people see and change them."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, delete, func, or_, select

from cheapdeep_ops.admission import TOLD_NAMES, busiest, shown_names
from cheapdeep_ops.store.admission import AUTO, REVISION, Limits, prepare_admission
from cheapdeep_ops.store.announcements import announce
from cheapdeep_ops.store.tables.alert_tables import AlertRow, IncidentRow
from cheapdeep_ops.store.tables.call_tables import PolicyRow, Process, Revision, RouteLabel
from cheapdeep_ops.store.tables.grade_tables import NormalRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import insert_if_absent
from cheapdeep_ops.values import OTHER, Name

_LABEL: Final = table_of(RouteLabel)
_PROCESS: Final = table_of(Process)
_POLICY: Final = table_of(PolicyRow)
_ALERT: Final = table_of(AlertRow)
_INCIDENT: Final = table_of(IncidentRow)
_NORMAL: Final = table_of(NormalRow)
_REVISION: Final = table_of(Revision)
_EVERY: Final = Limits(routes=2**31 - 1, classes=2**31 - 1)
"""No limit: a person's pin is always admitted."""

_T = TypeVar("_T")


def routes(connection: Connection) -> list[dict[str, Any]]:
    """The admitted routes in the order of their names, each with its number of input classes."""
    of_route = _LABEL.alias()
    classes = select(func.count()).where(of_route.c.route == _LABEL.c.route, of_route.c.input_class != "")
    columns = (_LABEL.c.route, _LABEL.c.admitted_at, _LABEL.c.last_called, _LABEL.c.how)
    statement = select(*columns, classes.scalar_subquery().label("classes")).where(_LABEL.c.input_class == "")
    return [dict(row) for row in connection.execute(statement.order_by(_LABEL.c.route)).mappings()]


def folded(connection: Connection) -> int:
    """How many calls so far count as `other` because their route or input class was not admitted."""
    return int(connection.scalar(select(func.sum(_PROCESS.c.folded))) or 0)


def folded_names(connection: Connection, *, since: float) -> dict[str, int]:
    """The calls of up to ten such names, the busiest first, as processes with a heartbeat since `since` report them."""
    calls: Counter[str] = Counter()
    for names in folded_by_process(connection, since=since).values():
        calls.update(names)
    return busiest(calls, TOLD_NAMES)


def folded_by_process(connection: Connection, *, since: float) -> dict[str, Mapping[str, int]]:
    """What each process with a heartbeat since `since` tells of such names: their calls since it began."""
    statement = select(_PROCESS.c.process, _PROCESS.c.folded_names)
    rows = connection.execute(statement.where(_PROCESS.c.seen_at >= since, _PROCESS.c.folded > 0))
    return {process: names for process, names in rows}  # noqa: C416 - `dict` does not know that a row is a pair


def admit(connection: Connection, name: Name, *, how: str, now: float, limits: Limits = _EVERY) -> bool:
    """Admit a route, or a route and its class; returns whether there was room. Run it in a write transaction."""
    new = [each for each in dict.fromkeys((Name(name.route), name)) if not is_admitted(connection, each)]
    if new:
        prepare_admission(new, limits=limits, now=now, how=how)(connection)
    return is_admitted(connection, name)


def is_admitted(connection: Connection, name: Name) -> bool:
    """Whether calls of `name` count under it."""
    return connection.execute(select(_LABEL.c.version).where(_is(name))).first() is not None


def replaceable(connection: Connection, *, admitted_before: float) -> set[str]:
    """The routes that may give up their place to another.

    A route may if it was admitted by being called, before `admitted_before` (Unix time), and nothing else keeps it.
    """
    found = select(_LABEL.c.route).where(
        _LABEL.c.input_class == "",
        _LABEL.c.how == AUTO,
        _LABEL.c.admitted_at < admitted_before,
        ~_is_kept(admitted_before),
    )
    return set(connection.execute(found).scalars())


def exchange(connection: Connection, leaves: str, comes: str, *, now: float, max_routes: int) -> None:
    """Give the place of one route to another. Run it in a write transaction."""
    forget(connection, Name(leaves))
    admit(connection, Name(comes), how=AUTO, now=now, limits=Limits(max_routes, 0))


def forget(connection: Connection, name: Name) -> bool:
    """Free the place of a class, or of a route and its classes; returns whether it had one.

    What was counted stays as it is. A later call of the name asks for a place as a new name does.
    """
    chosen = _LABEL.c.route == name.route if not name.input_class else _is(name)
    return bool(_remove(connection, chosen))


def forget_idle(connection: Connection, *, before: float) -> int:
    """Free the places of names without a call since `before` (Unix time); returns how many.

    A route keeps its place while it has a pin or a raise, an alert that does not rest, or a normal that was learned
    since then.
    """
    idle = _LABEL.c.last_called < before
    count = _remove(connection, and_(idle, or_(_LABEL.c.input_class != "", ~_is_kept(before))))
    # The classes of a route go with it.
    of_route = _LABEL.alias()
    orphaned = _LABEL.c.route.not_in(select(of_route.c.route).where(of_route.c.input_class == ""))
    return count + _remove(connection, orphaned) if count else 0


def _is_kept(before: float) -> ColumnElement[bool]:
    """Whether a pin, a raise, an alert or a normal keeps the place of a route."""
    pinned = select(_POLICY.c.scope).where(or_(_POLICY.c.pin.is_not(None), cast(_POLICY.c.causes, Text) != "[]"))
    alerting = select(_ALERT.c.scope).where(_ALERT.c.state != "inactive")
    resolved = select(_INCIDENT.c.scope).where(_INCIDENT.c.resolved_at >= before)
    learned = select(_NORMAL.c.scope).where(or_(_NORMAL.c.learned_at >= before, _NORMAL.c.since >= before))
    return or_(*(_LABEL.c.route.in_(each) for each in (pinned, alerting, resolved, learned)))


def _remove(connection: Connection, chosen: ColumnElement[bool]) -> int:
    insert_if_absent(connection, Revision, {"name": REVISION, "number": 0})
    lock = _REVISION.update().where(_REVISION.c.name == REVISION)
    connection.execute(lock.values(number=_REVISION.c.number))
    count = connection.execute(delete(_LABEL).where(chosen)).rowcount
    if count:
        connection.execute(lock.values(number=_REVISION.c.number + 1))
        announce(connection)
    return count


def _is(name: Name) -> ColumnElement[bool]:
    return and_(_LABEL.c.route == name.route, _LABEL.c.input_class == name.input_class)


def shown(connection: Connection, names: Collection[str], *, most: int) -> dict[str, str]:
    """The label under which a report shows each route of `names`: see `shown_names`."""
    # Mostly there are few, and then nothing has to be read.
    if len(names) <= most:
        return {name: name for name in names}
    return shown_names(names, (row["route"] for row in routes(connection)), most)


def shown_routes(connection: Connection, names: Collection[str], *, most: int) -> list[str]:
    """The routes of `names` that a report shows by name, sorted: for figures that cannot be added up."""
    labels = shown(connection, set(names), most=most)
    return sorted(name for name, label in labels.items() if name == label and (name != OTHER or name in names))


def by_shown_route(
    connection: Connection, values: Mapping[str, _T], *, most: int, add: Callable[[_T, _T], _T] = operator.add
) -> dict[str, _T]:
    """`values` by the label of each route; those that are shown as `other` are added up."""
    labels = shown(connection, values, most=most)
    sums: dict[str, _T] = {}
    for route, value in values.items():
        label = labels[route]
        sums[label] = add(sums[label], value) if label in sums else value
    return sums


def by_shown_name(
    connection: Connection, values: Mapping[tuple[str, str], _T], *, most: Limits, add: Callable[[_T, _T], _T]
) -> dict[tuple[str, str], _T]:
    """`values` by the labels of each route and input class; see `by_shown_route`."""
    labels = shown(connection, {route for route, _ in values}, most=most.routes)
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for route, input_class in values:
        classes[labels[route]].add(input_class)
    # The empty class, of calls without one, has a place beside the limit.
    full = {label: names for label, names in classes.items() if len(names) > most.classes + 1}
    admitted = _classes(connection) if full else {}
    of_class = {
        label: shown_names(names, ["", *admitted.get(label, ())], most.classes + 1) for label, names in full.items()
    }
    sums: dict[tuple[str, str], _T] = {}
    for (route, input_class), value in values.items():
        label = labels[route]
        # A class that is not admitted has the room that is left, as a route has.
        key = (label, of_class.get(label, {}).get(input_class, input_class))
        sums[key] = add(sums[key], value) if key in sums else value
    return sums


def _classes(connection: Connection) -> Mapping[str, set[str]]:
    """The admitted input classes of each route."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    rows = select(_LABEL.c.route, _LABEL.c.input_class).where(_LABEL.c.input_class != "")
    for route, input_class in connection.execute(rows):
        classes[route].add(input_class)
    return classes
