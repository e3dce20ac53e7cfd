"""What a recorder reads and writes, in plain SQL: its counters, candidates and heartbeat, and the policies in force.

`store/tables` declares all tables. The targets here repeat what an insert needs to know, and a test compares the two.
"""

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, NamedTuple

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.call_counters import Counters
from cheapdeep_ops.policy import PolicyBook, ScopeState
from cheapdeep_ops.store.admission import version_query
from cheapdeep_ops.store.clock import StoreTime
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import (
    Statements,
    Target,
    Transacting,
    Write,
    combined,
    prepare,
    table_name,
    write_accepted,
)

Kind = Literal["router", "guard"]
_BEFORE_POLICY: Final = 5
"""The number of columns of `_news_query` before those of the policy."""

Rows = Sequence[Mapping[str, Any]]
Rejected = list[tuple[Mapping[str, Any], Exception]]
"""The rows that the store rejects for good, each with its error."""

_MAPPINGS: Final = frozenset(each.name for each in fields(Counters) if each.type is not int)
_COUNTERS: Final[Mapping[str, object]] = {each.name: 0 if each.type is int else dict for each in fields(Counters)}

BUCKET: Final = Target(
    name="bucket", keys=("route", "input_class", "process", "at"), json=_MAPPINGS, defaults=_COUNTERS
)
DEAD_SECOND: Final = Target(name="dead_second", keys=("process", "route", "input_class", "at"), defaults={"calls": 0})
TOTAL: Final = Target(name="total", keys=("route", "input_class", "process"), json=_MAPPINGS, defaults=_COUNTERS)
PROCESS: Final = Target(
    name="process",
    keys=("process",),
    json=frozenset({"folded_names"}),
    defaults={
        "policy_version": 0,
        "dropped": 0,
        "clock_ahead_s": 0.0,
        "folded": 0,
        "folded_names": dict,
        "flush": 0,
        "secret": "",
        "closed_before": 0,
        "sealed_before": 0,
        "late": 0,
    },
)
CANDIDATE: Final = Target(
    name="candidate",
    keys=("call_id",),
    json=frozenset({"turns"}),
    defaults={
        "tier": 0, "prompt_version": "", "response_id": "", "trace_id": "", "span_id": "", "trace_sampled": False,
        "why": "", "due_at": 0.0, "attempts": 0, "batch_id": "", "steered": False, "fingerprint": "",
    },
)  # fmt: skip


@cache
def _host() -> str:
    return socket.gethostname()


@cache
def _version() -> str:
    """The installed version of this package."""
    # Cached, because the look-up reads files and a heartbeat comes with every flush.
    try:
        return version("cheapdeep_ops")
    except PackageNotFoundError:  # pragma: no cover - run from a source tree that is not installed
        return "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The heartbeat of one process, by default of this one; times are Unix seconds.

    `folded` is how many of its calls count as `other`; `folded_names` has the calls of some names that they gave.
    """

    process: str
    kind: Kind
    started_at: float
    seen_at: float
    base_threshold: float
    policy_version: int = 0
    dropped: int = 0
    clock_ahead_s: float = 0.0
    closed_before: int = 0
    folded: int = 0
    folded_names: Mapping[str, int] = field(default_factory=dict)
    host: str = field(default_factory=_host)
    pid: int = field(default_factory=os.getpid)
    package_version: str = field(default_factory=_version)


def write_counters(
    store: Transacting, *, buckets: Rows, totals: Rows, beat: Heartbeat, admitted: Write | None = None
) -> Rejected:
    """Store the present counters and the heartbeat of one process; returns the buckets that the store rejects.

    `totals` has one row for each (route, input class) of `buckets`, and may have more. Raises StoreError if the store
    is busy or cannot be reached; some rows may be stored by then, and may be written again. `admitted` is run first in
    each transaction, and prevents the write by raising a StoreError.
    """
    total_of = {(row["route"], row["input_class"]): row for row in totals}
    alone = total_of.keys() - {(row["route"], row["input_class"]) for row in buckets}

    def prepared(some: Rows) -> Write:
        touched = dict.fromkeys([*((row["route"], row["input_class"]) for row in some), *sorted(alone)])
        counted = prepare_counters(buckets=some, totals=[total_of[key] for key in touched])
        writes = (counted, prepare_beat(beat))
        return combined(*writes) if admitted is None else combined(admitted, *writes)

    return write_accepted(store, buckets, prepared)


def write_candidates(store: Transacting, rows: Rows) -> Rejected:
    """Store candidates; returns those that the store rejects. Raises StoreError as `write_counters` does."""
    return write_accepted(store, rows, prepare_candidates)


FOREVER: Final = 2**62
"""The value of `sealed_before` of a process that counts as dead: the store refuses all of its rows."""


def prepare_counters(*, buckets: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> Write:
    """Prepare the current rows of `buckets` and `totals` for storing; each row belongs to one process.

    Rows of sealed seconds are refused in that transaction, because they may be folded. Their calls count as late.
    """
    stored = combined(prepare(BUCKET, buckets, "replace"), prepare(TOTAL, totals, "replace"))
    processes = sorted({row["process"] for row in (*buckets, *totals)})

    def write(connection: Statements) -> None:
        sealed = {process: _sealed_before(connection, process) for process in processes}
        late = [row for row in buckets if row["at"] < sealed[row["process"]]]
        if not late and FOREVER not in sealed.values():
            stored(connection)
            return
        # Rare, so it may encode the rows again.
        prepare(BUCKET, [row for row in buckets if row["at"] >= sealed[row["process"]]], "replace")(connection)
        prepare(TOTAL, [row for row in totals if sealed[row["process"]] != FOREVER], "replace")(connection)
        _count_late(connection, late)

    return write


def _sealed_before(connection: Statements, process: str) -> int:
    """The second before which rows of a process are refused; its row stays locked until the transaction ends."""
    # The lock makes a fold wait, which seals the process first. SQLite has one writer, and needs no lock.
    mark, lock = ("?", "") if connection.dialect.name == "sqlite" else ("%s", " FOR UPDATE")
    table = table_name(connection.dialect.name, "process")
    query = f"SELECT sealed_before FROM {table} WHERE process = {mark}{lock}"  # noqa: S608 - our names
    row = connection.exec_driver_sql(query, (process,)).fetchone()
    return row[0] if row else 0


def _count_late(connection: Statements, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the calls of refused rows to what was late, but for those that are known of their seconds."""
    dialect = connection.dialect.name
    mark, keys = "?" if dialect == "sqlite" else "%s", DEAD_SECOND.keys
    own = " AND ".join(f"{name} = {mark}" for name in keys)
    # The last seconds of a process that was sealed just now are not folded yet.
    tables = (table_name(dialect, each.name) for each in (DEAD_SECOND, BUCKET))
    known_in = " UNION ALL ".join(f"SELECT calls FROM {table} WHERE {own}" for table in tables)  # noqa: S608 - our names
    query = f"SELECT coalesce(max(calls), 0) FROM ({known_in}) AS known"  # noqa: S608 - our names
    more = []
    for row in rows:
        second, calls = {name: row[name] for name in keys}, row.get("calls", 0)
        known = connection.exec_driver_sql(query, tuple(second.values()) * 2).fetchone()[0]
        if calls > known:
            more.append((calls - known, row["process"]))
            # A flush whose answer was lost is sent again, and its calls are late once.
            prepare(DEAD_SECOND, [{**second, "calls": calls}], "replace")(connection)
    table = table_name(dialect, "process")
    update = f"UPDATE {table} SET late = late + {mark} WHERE process = {mark}"  # noqa: S608 - our names
    if more:
        connection.exec_driver_sql(update, more)


def prepare_candidates(rows: Rows) -> Write:
    """Prepare candidates for storing; a candidate that is stored already stays as it is."""
    return prepare(CANDIDATE, rows, "keep")


def prepare_beat(heartbeat: Heartbeat) -> Write:
    """Prepare the heartbeat of a process for storing."""
    return prepare(PROCESS, [asdict(heartbeat)], "replace")


def prepare_stop(process: str) -> Write:
    """Prepare the mark that a process has stopped; its counters stay."""

    def write(connection: Statements) -> None:
        dialect = connection.dialect.name
        mark = "?" if dialect == "sqlite" else "%s"
        statement = f"UPDATE {table_name(dialect, 'process')} SET kind = 'stopped' WHERE process = {mark}"  # noqa: S608 - our names
        connection.exec_driver_sql(statement, [(process,)])

    return write


class StoredPolicy(NamedTuple):
    """The stored policy of one scope; `causes` is a list, or its JSON."""

    scope: str
    version: int
    pin: float | None
    raised: float
    causes: Any


_POLICY: Final = ", ".join(StoredPolicy._fields)


class StoredNews(NamedTuple):
    """What a recorder reads: all policies, a running guard's last heartbeat (Unix time; None: never), and more.

    `admitted_version` is the version of the admitted names.
    """

    policies: list[StoredPolicy]
    guard_seen: float | None
    time: StoreTime
    admitted_version: int


def read_policies(store: DirectStore) -> StoredNews:
    """All stored policies, and what else a recorder must know. Raises StoreError."""
    rows = store.read(_news_query(store.dialect))
    seen, version, *told = rows[0][:_BEFORE_POLICY]
    policies = [StoredPolicy(*row[_BEFORE_POLICY:]) for row in rows if row[_BEFORE_POLICY] is not None]
    return StoredNews(policies, seen, StoreTime(*told), version or 0)


@cache
def _news_query(dialect: str) -> str:
    # One statement for policies, guard and time, because each statement costs more than its rows.
    columns = f"seen, {version_query(dialect)}, told.*, {_POLICY}"
    return _policies_query(dialect, columns, f"CROSS JOIN ({time_query(dialect)}) AS told")


@cache
def poll_query(dialect: str) -> str:
    """The statement for `DirectStore.poll`: its result changes with that of `read_policies`, but for the time."""
    if dialect == "sqlite":
        return _policies_query(dialect, f"seen, {version_query(dialect)}, {_POLICY}")
    return _policies_query(dialect, f"{identity_query(dialect)}, seen, {version_query(dialect)}, {_POLICY}")


def identity_query(dialect: str) -> str:
    """An expression that changes when a PostgreSQL store may lack what it had; empty text for a file."""
    if dialect == "sqlite":
        return "''"
    # The table's number changes when a schema was dropped and made anew while its connections went on. The time of the
    # server's start shows a fail-over, also behind a pooler that keeps the connection.
    process = table_name(dialect, "process")
    return f"concat('{process}'::regclass::oid, ' ', extract(epoch FROM pg_postmaster_start_time()))"


def identity_in(found: Any, dialect: str) -> object:
    """What the result of `poll_query` says of the store itself; None for a file."""
    return found[0][0] if dialect == "postgresql" else None


def _policies_query(dialect: str, columns: str, more: str = "") -> str:
    process, policy = table_name(dialect, "process"), table_name(dialect, "policy")
    return (
        f"SELECT {columns} FROM (SELECT max(seen_at) AS seen FROM {process} WHERE kind = 'guard') AS guard "  # noqa: S608 - our names
        f"{more} LEFT JOIN {policy} AS policy ON 1 = 1"
    )


def time_query(dialect: str) -> str:
    """The statement that reads a `StoreTime`, in one row."""
    if dialect == "postgresql":
        return "SELECT extract(epoch FROM clock_timestamp())::float8 AS now, NULL AS seen_at, NULL AS ahead_s"
    # SQLite takes the other columns from the row with the maximum. Source: https://sqlite.org/lang_select.html#bareagg
    runs = "kind IN ('router', 'guard')"
    return f"SELECT NULL, max(seen_at), clock_ahead_s FROM {table_name(dialect, 'process')} WHERE {runs}"  # noqa: S608 - our names


def book_of(rows: Iterable[Any], *, base: float, raised: float, admitted: Admitted | None = None) -> PolicyBook:
    """The book of `rows`, which are `StoredPolicy` or alike; the guard's last raised threshold replaces `raised`."""
    rows = list(rows)
    # A router's settings may differ from the guard's, and the guard decides what a raise means.
    newest = max(rows, key=lambda row: row.version, default=None)
    return PolicyBook(
        base=base,
        raised=newest.raised if newest else raised,
        admitted=admitted,
        scopes={
            row.scope: ScopeState(scope=row.scope, version=row.version, pin=row.pin, causes=_causes(row.causes))
            for row in rows
        },
    )


def _causes(stored: Any) -> frozenset[str]:
    return frozenset(json.loads(stored) if isinstance(stored, str) else stored)
