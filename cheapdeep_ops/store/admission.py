"""The routes and input classes that the fleet counts by name, in plain SQL: recorders read and extend them.

The table is `route_label`. The count and the insert of an admission are one statement, and transactions that admit wait
for each other. So many processes at once never admit more than the limit.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Final, NamedTuple

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.store.announcements import announce
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Statements, Write, table_name, write_accepted
from cheapdeep_ops.values import Name

REVISION: Final = "route labels"
"""The row of `revision` that counts changes of the admitted names."""

AUTO: Final = "auto"
"""How a name was admitted: by being called while there was room. A person's admission has the person's name."""


class Limits(NamedTuple):
    """How many routes are admitted, and how many input classes of each."""

    routes: int
    classes: int


def read_admitted(store: DirectStore, limits: Limits) -> Admitted:
    """The admitted names and their version. Raises StoreError."""
    # One statement, so that names and version are of one moment.
    version, labels = version_query(store.dialect), table_name(store.dialect, "route_label")
    rows = store.read(
        f"SELECT number, route, input_class, last_called FROM (SELECT {version} AS number) AS found "  # noqa: S608 - our names
        f"LEFT JOIN {labels} ON 1 = 1"
    )
    called = {Name(route, input_class): at for _, route, input_class, at in rows if route is not None}
    return Admitted(called=called, version=rows[0][0] or 0, max_routes=limits.routes, max_classes=limits.classes)


def admit(store: DirectStore, names: Sequence[Name], *, limits: Limits, now: float) -> Admitted:
    """Admit `names` as `prepare_admission` does; returns all admitted names. Raises StoreError.

    A name that the store rejects is not admitted.
    """
    write_accepted(store, names, partial(prepare_admission, limits=limits, now=now))
    return read_admitted(store, limits)


def prepare_admission(names: Sequence[Name], *, limits: Limits, now: float, how: str = AUTO) -> Write:
    """Admit `names` in their order while there is room, and note that they were called at `now` (Unix time).

    A class is admitted only after its route. Names that are admitted already only get the time.
    """
    routes = [(each.route, now, now, how, each.route, limits.routes) for each in names if not each.input_class]
    classes = [
        (
            each.route,
            each.input_class,
            now,
            now,
            how,
            each.route,
            each.route,
            each.input_class,
            each.route,
            limits.classes,
        )
        for each in names
        if each.input_class
    ]

    def write(connection: Statements) -> None:
        sql = _statements(connection.dialect.name)
        # The update is the lock: PostgreSQL locks the row, and SQLite has one writer.
        connection.exec_driver_sql(sql.make_counter, [(REVISION,)])
        connection.exec_driver_sql(sql.lock, [(REVISION,)])
        if routes:
            connection.exec_driver_sql(sql.admit_route, routes)
        if classes:
            connection.exec_driver_sql(sql.admit_class, classes)
        connection.exec_driver_sql(sql.count_change, [(REVISION,)])
        announce(connection)

    return write


def version_query(dialect: str) -> str:
    """A subquery for the version of the admitted names; NULL before the first admission."""
    return f"(SELECT number FROM {table_name(dialect, 'revision')} WHERE name = '{REVISION}')"  # noqa: S608 - our names


class _Sql(NamedTuple):
    make_counter: str
    lock: str
    admit_route: str
    admit_class: str
    count_change: str


@cache
def _statements(dialect: str) -> _Sql:
    labels, revision = table_name(dialect, "route_label"), table_name(dialect, "revision")
    next_version = f"{version_query(dialect)} + 1"
    into = f"INSERT INTO {labels} (route, input_class, admitted_at, last_called, how, version)"
    # A row that is admitted already only gets its time, whether or not there is room.
    touch = (
        "ON CONFLICT (route, input_class) DO UPDATE SET last_called = excluded.last_called "
        "WHERE route_label.last_called < excluded.last_called"
    )
    sql = _Sql(
        make_counter=f"INSERT INTO {revision} (name, number) VALUES (?, 0) ON CONFLICT DO NOTHING",  # noqa: S608
        lock=f"UPDATE {revision} SET number = number WHERE name = ?",  # noqa: S608
        admit_route=(
            f"{into} SELECT ?, '', ?, ?, ?, {next_version} "  # noqa: S608
            f"WHERE EXISTS (SELECT 1 FROM {labels} WHERE route = ? AND input_class = '') "
            f"OR (SELECT count(*) FROM {labels} WHERE input_class = '') < ? {touch}"
        ),
        admit_class=(
            f"{into} SELECT ?, ?, ?, ?, ?, {next_version} "  # noqa: S608
            f"WHERE EXISTS (SELECT 1 FROM {labels} WHERE route = ? AND input_class = '') "
            f"AND (EXISTS (SELECT 1 FROM {labels} WHERE route = ? AND input_class = ?) "
            f"OR (SELECT count(*) FROM {labels} WHERE route = ? AND input_class <> '') < ?) {touch}"
        ),
        count_change=(
            f"UPDATE {revision} SET number = number + 1 "  # noqa: S608
            f"WHERE name = ? AND number < (SELECT max(version) FROM {labels})"
        ),
    )
    return sql if dialect == "sqlite" else _Sql(*(each.replace("?", "%s") for each in sql))
