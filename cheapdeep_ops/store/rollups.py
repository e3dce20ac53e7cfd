"""Folds the seconds of processes into seconds, minutes, hours and days of all processes, and deletes those in time.

A second of a process is first sealed: from then on the store refuses its rows (see `recording`). Then its row is added
to the rows of that second, minute, hour and day, and deleted, in one transaction. So each call is at all times either
in `bucket` or in the rows of each width in `rollup`, and a fold that is repeated finds nothing to do. Which rows answer
for a period is in `spans`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, delete, func, or_, select, tuple_, update

from cheapdeep_ops.store import revisions
from cheapdeep_ops.store.counts import COUNTS, SUMS
from cheapdeep_ops.store.engine import Store, take_lock
from cheapdeep_ops.store.expiry import MOST_ROWS, delete_some
from cheapdeep_ops.store.recording import FOREVER
from cheapdeep_ops.store.spans import WIDTHS
from cheapdeep_ops.store.tables.call_tables import Bucket, DeadSecond, Horizon, Process, Rollup
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import prepare_insert_absent, upsert
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

_BUCKET: Final = table_of(Bucket)
_ROLLUP: Final = table_of(Rollup)
_HORIZON: Final = table_of(Horizon)
_PROCESS: Final = table_of(Process)

SECONDS_S: Final = float(HOUR_S)
"""How long seconds are stored; then their minutes answer."""

_OTHER_ROWS: Final = 4
"""At most so many rows that a fold changes are not counters: that of its revision."""

_Key = tuple[int, int, str, str]
"""The primary key of a folded row: width, begin, route and input class."""


def seal(store: Store, *, before: float) -> None:
    """Seal the whole minutes before `before` (Unix time) whose seconds their process never writes again."""
    # Whole minutes, because each fold writes the rows of hours and days anew.
    first_open = case((_PROCESS.c.closed_before < int(before), _PROCESS.c.closed_before), else_=int(before))
    closed = first_open - first_open % MINUTE_S
    query = select(_PROCESS.c.process, closed).where(_PROCESS.c.sealed_before < closed).limit(MOST_ROWS)
    _seal_each(store, query)


def silent_processes(store: Store, *, unseen_since: float, stopped_since: float) -> dict[str, float]:
    """The last heartbeat (Unix time) of each process that is not sealed for good, and is silent or stopped.

    Silent: without a heartbeat since `unseen_since`. Stopped: it has said so, before `stopped_since`.
    """
    gone = or_(
        _PROCESS.c.seen_at < unseen_since,
        and_(_PROCESS.c.kind == "stopped", _PROCESS.c.seen_at < stopped_since),
    )
    is_open = and_(_PROCESS.c.sealed_before < FOREVER, _PROCESS.c.kind != "retired")
    query = select(_PROCESS.c.process, _PROCESS.c.seen_at).where(gone, is_open)
    with store.reading() as connection:
        return {row.process: row.seen_at for row in connection.execute(query)}


def seal_for_good(store: Store, processes: Mapping[str, float]) -> None:
    """Seal all seconds of those processes whose last heartbeat is still the given one: they count as dead."""
    rows = [{"name": process, "seen": seen_at} for process, seen_at in processes.items()]
    own = (_PROCESS.c.process == bindparam("name"), _PROCESS.c.seen_at == bindparam("seen"))
    statement = update(_PROCESS).where(*own).values(sealed_before=FOREVER)
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        store.transact(lambda connection, some=some: connection.execute(statement, some))  # type: ignore[misc]


def _seal_each(store: Store, query: Any) -> None:
    """Seal each process before the second that `query` gives for it; the query finds no sealed one again."""
    own = (_PROCESS.c.process == bindparam("name"), _PROCESS.c.sealed_before < bindparam("second"))
    statement = update(_PROCESS).where(*own).values(sealed_before=bindparam("second"))
    while True:
        with store.reading() as connection:
            rows = [{"name": process, "second": second} for process, second in connection.execute(query)]
        if not rows:
            return
        store.transact(lambda connection, rows=rows: connection.execute(statement, rows))  # type: ignore[misc]


def fold(store: Store, *, orphaned_since: float) -> int:
    """Fold the oldest sealed seconds, in one transaction; returns how many rows of them there were.

    Rows without a process, which nothing can seal, are folded if they began before `orphaned_since` (Unix time).
    """
    with store.snapshot() as connection:
        number = revisions.current(connection, revisions.ROLLUPS)
        rows, added = _next_rows(connection, orphaned_since)
        # Parsed and added up here, because the transaction holds the lock of all writers.
        stored = {_key(row): row for row in _stored(connection, list(added))}
    if not rows:
        return 0
    folded = [_merged(key, stored.get(key), news) for key, news in added.items()]
    keys = [{f"its_{name}": row[name] for name in _OWN} for row in rows]
    # A process that counts as dead may send these seconds again: see `recording`.
    known = [{name: row[name] for name in (*_OWN, "calls")} for row in rows if row["sealed_before"] == FOREVER]

    def work(connection: Connection) -> bool:
        take_lock(connection, revisions.ROLLUPS)
        # Another guard has folded since the rows were read: both must not add to one row.
        if not revisions.advance_from(connection, number, revisions.ROLLUPS):
            return False
        connection.execute(_DELETE_SECOND, keys)
        upsert(connection, Rollup, folded)
        prepare_insert_absent(DeadSecond, known)(connection)
        return True

    return len(rows) if store.transact(work) else 0


_OWN: Final = tuple(column.name for column in _BUCKET.primary_key)
_DELETE_SECOND: Final = delete(_BUCKET).where(*(_BUCKET.c[name] == bindparam(f"its_{name}") for name in _OWN))


def _next_rows(connection: Connection, orphaned_since: float) -> tuple[list[RowMapping], dict[_Key, list[RowMapping]]]:
    """The oldest seconds that can be folded, as many as one transaction may change; and by the rows they go into."""
    joined = _BUCKET.outerjoin(_PROCESS, _PROCESS.c.process == _BUCKET.c.process)
    is_sealed = or_(
        _BUCKET.c.at < _PROCESS.c.sealed_before,
        and_(_PROCESS.c.process.is_(None), _BUCKET.c.at < orphaned_since),
    )
    query = select(_BUCKET, _PROCESS.c.sealed_before).select_from(joined).where(is_sealed)
    rows: list[RowMapping] = []
    added: dict[_Key, list[RowMapping]] = {}
    for row in connection.execute(query.order_by(_BUCKET.c.at).limit(MOST_ROWS // 2)).mappings():
        keys = _keys_of(row)
        # Each second is deleted, and one of a dead process is noted.
        if 2 * len(rows) + len(added.keys() | set(keys)) > MOST_ROWS - _OTHER_ROWS:
            break
        rows.append(row)
        for key in keys:
            added.setdefault(key, []).append(row)
    return rows, added


def _keys_of(row: RowMapping) -> list[_Key]:
    """The folded rows of a second: of its own route and class, and of all routes together."""
    labels = ((row["route"], row["input_class"]), (ALL_ROUTES, ""))
    return [(width_s, row["at"] - row["at"] % width_s, *label) for width_s in WIDTHS for label in labels]


def _stored(connection: Connection, keys: Sequence[_Key]) -> Sequence[RowMapping]:
    if not keys:
        return []
    primary = tuple_(*(_ROLLUP.c[name] for name in ("width_s", "at", "route", "input_class")))
    return connection.execute(select(_ROLLUP).where(primary.in_(keys))).mappings().all()


def _key(row: RowMapping) -> _Key:
    return row["width_s"], row["at"], row["route"], row["input_class"]


def _merged(key: _Key, stored: RowMapping | None, seconds: Sequence[RowMapping]) -> dict[str, object]:
    """A folded row after `seconds` were added to it."""
    width_s, at, route, input_class = key
    parts = [*([stored] if stored else []), *seconds]
    row: dict[str, object] = {"width_s": width_s, "at": at, "route": route, "input_class": input_class}
    row |= {name: sum(part[name] for part in parts) for name in SUMS}
    for name in COUNTS:
        counts: Counter[str] = Counter()
        for part in parts:
            if part[name]:
                counts.update(part[name])
        row[name] = dict(counts)
    row["call_seconds"] = _bits(stored, seconds, width_s, "calls", "call_seconds")
    row["base_seconds"] = _bits(stored, seconds, width_s, "base_escalated", "base_seconds")
    return row


def _bits(stored: RowMapping | None, seconds: Iterable[RowMapping], width_s: int, counter: str, column: str) -> int:
    """The seconds of a minute in which `counter` counted, as bits; 0 for longer rows, whose seconds do not fit."""
    if width_s != MINUTE_S:
        return 0
    bits = stored[column] if stored else 0
    for second in seconds:
        bits |= (second[counter] > 0) << second["at"] % MINUTE_S
    return int(bits)


def expire(store: Store, *, now: float, keep_s: Mapping[int, float]) -> int:
    """Delete folded rows that are older than `keep_s` of their width; returns how many rows that were.

    It first notes since when rows will be complete, and deletes only what was noted by an earlier call: a report that
    is being read may still use the rows in between.
    """
    with store.reading() as connection:
        noted = {row.width_s: row.since for row in connection.execute(select(_HORIZON))}
    too_old = (and_(_ROLLUP.c.width_s == width_s, _ROLLUP.c.at < since) for width_s, since in noted.items())
    deleted = sum(delete_some(store, _ROLLUP, chosen) for chosen in too_old)
    # Whole days and hours, because longer rows answer for what is deleted.
    steps = {1: MINUTE_S, MINUTE_S: HOUR_S, HOUR_S: DAY_S, DAY_S: DAY_S}
    wanted = {width_s: int(now - keep_s[width_s]) // step_s * step_s for width_s, step_s in steps.items()}
    # No row is kept for longer than the longer rows.
    for finer, coarser in reversed(list(pairwise(WIDTHS))):
        wanted[finer] = max(wanted[finer], wanted[coarser])
    later = [{"width_s": width_s, "since": since} for width_s, since in wanted.items() if since > noted.get(width_s, 0)]
    if later:
        store.transact(lambda connection: upsert(connection, Horizon, later))
    return deleted


def newest_heartbeat(store: Store) -> float | None:
    """The latest heartbeat of a router (Unix time); None if there was none."""
    newest = select(func.max(_PROCESS.c.seen_at)).where(_PROCESS.c.kind != "guard")
    with store.reading() as connection:
        seen: float | None = connection.execute(newest).scalar()
    return seen
