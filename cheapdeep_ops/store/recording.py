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

from cheapdeep_ops.policy import PolicyBook, ScopeState
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
from cheapdeep_ops.values import Counters

Kind = Literal["router", "guard"]
Rows = Sequence[Mapping[str, Any]]
Rejected = list[tuple[Mapping[str, Any], Exception]]
"""The rows that the store rejects for good, each with its error."""

_MAPPINGS: Final = frozenset(each.name for each in fields(Counters) if each.type is not int)
_COUNTERS: Final[Mapping[str, object]] = {each.name: 0 if each.type is int else dict for each in fields(Counters)}

BUCKET: Final = Target(
    name="bucket", keys=("route", "input_class", "process", "at"), json=_MAPPINGS, defaults=_COUNTERS
)
TOTAL: Final = Target(name="total", keys=("route", "input_class", "process"), json=_MAPPINGS, defaults=_COUNTERS)
PROCESS: Final = Target(
    name="process", keys=("process",), defaults={"policy_version": 0, "dropped": 0, "clock_ahead_s": 0.0}
)
CANDIDATE: Final = Target(
    name="candidate",
    keys=("call_id",),
    json=frozenset({"turns"}),
    defaults={
        "tier": 0, "prompt_version": "", "response_id": "", "trace_id": "", "span_id": "", "trace_sampled": False,
        "why": "", "due_at": 0.0, "attempts": 0, "batch_id": "", "steered": False,
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
    """The heartbeat of one process, by default of this one; times are Unix seconds."""

    process: str
    kind: Kind
    started_at: float
    seen_at: float
    base_threshold: float
    policy_version: int = 0
    dropped: int = 0
    clock_ahead_s: float = 0.0
    host: str = field(default_factory=_host)
    pid: int = field(default_factory=os.getpid)
    package_version: str = field(default_factory=_version)


def write_counters(store: Transacting, *, buckets: Rows, totals: Rows, beat: Heartbeat) -> Rejected:
    """Store the present counters and the heartbeat of one process; returns the buckets that the store rejects.

    `totals` has one row for each (route, input class) of `buckets`, and may have more. Raises StoreError if the store
    is busy or cannot be reached; some rows may be stored by then, and may be written again.
    """
    total_of = {(row["route"], row["input_class"]): row for row in totals}
    alone = total_of.keys() - {(row["route"], row["input_class"]) for row in buckets}

    def prepared(some: Rows) -> Write:
        touched = dict.fromkeys([*((row["route"], row["input_class"]) for row in some), *sorted(alone)])
        counted = prepare_counters(buckets=some, totals=[total_of[key] for key in touched])
        return combined(counted, prepare_beat(beat))

    return write_accepted(store, buckets, prepared)


def write_candidates(store: Transacting, rows: Rows) -> Rejected:
    """Store candidates; returns those that the store rejects. Raises StoreError as `write_counters` does."""
    return write_accepted(store, rows, prepare_candidates)


def prepare_counters(*, buckets: Rows, totals: Rows) -> Write:
    """Prepare the current rows of `buckets` and `totals` for storing; each row belongs to one process."""
    return combined(prepare(BUCKET, buckets, "replace"), prepare(TOTAL, totals, "replace"))


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


def read_policies(store: DirectStore) -> tuple[list[StoredPolicy], float | None]:
    """All stored policies, and when a running guard last wrote a heartbeat (Unix time). Raises StoreError."""
    rows = store.read(_policies_query(store.dialect))
    return [StoredPolicy(*row[1:]) for row in rows if row[1] is not None], rows[0][0]


@cache
def _policies_query(dialect: str) -> str:
    # One statement for policies and guard, because each statement costs more than its rows.
    return (
        f"SELECT seen, {', '.join(StoredPolicy._fields)} "  # noqa: S608 - our names
        f"FROM (SELECT max(seen_at) AS seen FROM {table_name(dialect, 'process')} WHERE kind = 'guard') AS guard "
        f"LEFT JOIN {table_name(dialect, 'policy')} AS policy ON 1 = 1"
    )


@cache
def poll_query(dialect: str) -> str:
    """The statement for `DirectStore.poll`, whose result changes with that of `read_policies` and with the store."""
    query = _policies_query(dialect)
    if dialect == "sqlite":
        return query
    # The table's number changes when a schema was dropped and made anew while its connections went on.
    return f"SELECT '{table_name(dialect, 'process')}'::regclass::oid AS store, news.* FROM ({query}) AS news"  # noqa: S608 - our names


def identity_in(found: Any, dialect: str) -> object:
    """What the result of `poll_query` says of the store itself; None for a file."""
    return found[0][0] if dialect == "postgresql" else None


def read_time(store: DirectStore) -> StoreTime:
    """What the store says about time. Raises StoreError."""
    return StoreTime(*store.read(time_query(store.dialect))[0])


def time_query(dialect: str) -> str:
    """The statement that reads a `StoreTime`, in one row."""
    if dialect == "postgresql":
        return "SELECT extract(epoch FROM clock_timestamp())::float8 AS now, NULL AS seen_at, NULL AS ahead_s"
    # SQLite takes the other columns from the row with the maximum. Source: https://sqlite.org/lang_select.html#bareagg
    runs = "kind IN ('router', 'guard')"
    return f"SELECT NULL, max(seen_at), clock_ahead_s FROM {table_name(dialect, 'process')} WHERE {runs}"  # noqa: S608 - our names


def book_of(rows: Iterable[Any], *, base: float, raised: float) -> PolicyBook:
    """The book of `rows`, which are `StoredPolicy` or alike; the guard's last raised threshold replaces `raised`."""
    rows = list(rows)
    # A router's settings may differ from the guard's, and the guard decides what a raise means.
    newest = max(rows, key=lambda row: row.version, default=None)
    return PolicyBook(
        base=base,
        raised=newest.raised if newest else raised,
        scopes={
            row.scope: ScopeState(scope=row.scope, version=row.version, pin=row.pin, causes=_causes(row.causes))
            for row in rows
        },
    )


def _causes(stored: Any) -> frozenset[str]:
    return frozenset(json.loads(stored) if isinstance(stored, str) else stored)
