"""What a recorder reads and writes, in plain SQL: its counters, candidates and heartbeat, and the policies in force.

`store/tables` declares all tables. The targets here repeat what an insert needs to know, and a test compares the two.
"""

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, NamedTuple

from cheapdeep_ops.policy import PolicyBook, ScopeState
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Statements, Target, Write, combined, prepare, table_name
from cheapdeep_ops.values import Counters

Kind = Literal["router", "guard"]
_MAPPINGS: Final = frozenset(each.name for each in fields(Counters) if each.type is not int)
_COUNTERS: Final[Mapping[str, object]] = {each.name: 0 if each.type is int else dict for each in fields(Counters)}

BUCKET: Final = Target(
    name="bucket", keys=("route", "input_class", "process", "at"), json=_MAPPINGS, defaults=_COUNTERS
)
TOTAL: Final = Target(name="total", keys=("route", "input_class", "process"), json=_MAPPINGS, defaults=_COUNTERS)
PROCESS: Final = Target(
    name="process",
    keys=("process",),
    defaults={"policy_version": 0, "dropped": 0, "closed_before": 0, "sealed_before": 0, "late": 0},
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The heartbeat of one process; times are Unix seconds.

    `closed_before` is a promise: the process has stored its seconds before it, and never writes them again.
    """

    process: str
    kind: Kind
    started_at: float
    seen_at: float
    base_threshold: float
    policy_version: int = 0
    dropped: int = 0
    closed_before: int = 0


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
    """Add the calls of refused rows to what was late."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    table = table_name(connection.dialect.name, "process")
    update = f"UPDATE {table} SET late = late + {mark} WHERE process = {mark}"  # noqa: S608 - our names
    if rows:
        connection.exec_driver_sql(update, [(row.get("calls", 0), row["process"]) for row in rows])


def prepare_candidates(rows: Sequence[Mapping[str, object]]) -> Write:
    """Prepare candidates for storing; a candidate that is stored already stays as it is."""
    return prepare(CANDIDATE, rows, "keep")


def prepare_beat(heartbeat: Heartbeat) -> Write:
    """Prepare the heartbeat of this process for storing."""
    row = {**asdict(heartbeat), "host": _host(), "pid": os.getpid(), "package_version": _version()}
    return prepare(PROCESS, [row], "replace")


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


def prepare_stop(store: DirectStore, process: str) -> Write:
    """Prepare the mark that a process has stopped; its counters stay."""
    mark = "?" if store.dialect == "sqlite" else "%s"
    statement = f"UPDATE {table_name(store.dialect, 'process')} SET kind = 'stopped' WHERE process = {mark}"  # noqa: S608 - our names
    return lambda connection: connection.exec_driver_sql(statement, [(process,)])


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
