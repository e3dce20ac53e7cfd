"""Routers that send to a guard over HTTP: their identities, their numbered flushes, and the state that they follow.

A process gets an id and a secret at its first request, and the store keeps the hash of the secret. A flush carries a
number that grows. It is stored if the number is greater than that of the last flush stored, which is checked and noted
in the transaction of the rows. So a repeated or late flush changes nothing, whichever guard receives it.
"""

import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Final, NamedTuple

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store import recording
from cheapdeep_ops.store.admission import version_query
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Statements, Write, combined, prepare, table_name
from cheapdeep_ops.store.recording import PROCESS, Heartbeat, Rejected, Rows, StoredPolicy

_BEFORE_POLICY: Final = 3
"""The number of columns of `_fleet_query` before those of the policy."""

IS_PROCESS: Final = re.compile(r"[0-9a-f]{32}")
"""The form of a process's id."""

_SECRET_BYTES: Final = 32
LIVE_S: Final = 60.0
"""A router whose last heartbeat is older than this does not count as alive."""


class SenderError(StoreError):
    """The secret is not that of the process."""


class StaleFlushError(SenderError):
    """A flush with this number or a later one was stored before; `number` is that of the last one."""

    def __init__(self, number: int) -> None:
        super().__init__(f"flush {number} of this process is stored already")
        self.number = number


class UnknownSenderError(SenderError):
    """The store does not know the process: the store was made anew, or the process was away for very long."""


class Identity(NamedTuple):
    """What a sender proves itself with: the id of its process, and the secret that belongs to it."""

    process: str
    secret: str

    @property
    def hash(self) -> str:
        """The hash of the secret, in hexadecimal digits, as the store keeps it."""
        # Without salt and rounds, which protect guessable passwords: the secret has 256 random bits.
        return sha256(self.secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """The present state of the changed seconds of one process, with their totals; `is_last` signs the process off."""

    identity: Identity = field(repr=False)
    number: int
    buckets: Rows
    totals: Rows
    beat: Heartbeat
    is_last: bool = False


class FleetState(NamedTuple):
    """What routers follow: all policies, and when a guard last evaluated (Unix time), None: never.

    `admitted_version` is the version of the admitted names. `store` changes when the store may lack what it had.
    """

    policies: list[StoredPolicy]
    evaluated_at: float | None
    admitted_version: int = 0
    store: str = ""


def join(store: DirectStore, beat: Heartbeat, *, process: str, secret: str) -> Identity:
    """Register a process under a new id, and return what it proves itself with. Raises StoreError."""
    identity = Identity(process, secret)
    # Not alive before its first flush: a lost answer leaves an id that no process uses.
    row = {**asdict(replace(beat, process=process)), "kind": "stopped", "secret": identity.hash}
    store.transact(prepare(PROCESS, [row], "keep"))
    return identity


def new_identity() -> tuple[str, str]:
    """An id and a secret for a process."""
    return secrets.token_hex(16), secrets.token_urlsafe(_SECRET_BYTES)


def apply_flush(store: DirectStore, flush: Flush) -> Rejected:
    """Store a flush with its heartbeat; returns the buckets that the store rejects for good.

    Raises StaleFlushError if a flush with this number or a later one is stored, and nothing changes then. Raises
    UnknownSenderError or SenderError if the identity is not that of a process, and StoreError if the store is busy or
    cannot be reached.
    """
    admitted = _admission(flush)
    try:
        if flush.is_last:
            stop = recording.prepare_stop(flush.identity.process)
            store.transact(combined(admitted, recording.prepare_beat(flush.beat), stop))
            return []
        return recording.write_counters(
            store, buckets=flush.buckets, totals=flush.totals, beat=flush.beat, admitted=admitted
        )
    except _NotAdmittedError:
        stored = _stored_flush(store, flush.identity)
    raise StaleFlushError(stored)


def apply_candidates(store: DirectStore, identity: Identity, rows: Rows) -> Rejected:
    """Store answers for grading; those that are stored already stay as they are. Raises as `apply_flush` does."""
    _stored_flush(store, identity)
    return recording.write_candidates(store, rows)


class _NotAdmittedError(SenderError):
    """No row has this identity and a smaller number."""


def _admission(flush: Flush) -> Write:
    """Note the number of a flush. Raises _NotAdmittedError if it is not greater than the noted one."""
    calls = 0

    def write(connection: Statements) -> None:
        nonlocal calls
        calls += 1
        # A flush may take several transactions, and one may be repeated. So a later one finds the own number noted.
        statement = _note_number(connection.dialect.name, "<" if calls == 1 else "<=")
        values = (flush.number, flush.identity.process, flush.identity.hash, flush.number)
        if connection.exec_driver_sql(statement, [values]).rowcount != 1:
            raise _NotAdmittedError("not admitted")

    return write


@cache
def _note_number(dialect: str, sign: str) -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    return (
        f"UPDATE {table_name(dialect, 'process')} SET flush = {mark} "  # noqa: S608 - our names
        f"WHERE process = {mark} AND secret = {mark} AND flush {sign} {mark}"
    )


def _stored_flush(store: DirectStore, identity: Identity) -> int:
    """The number of the last flush stored. Raises UnknownSenderError, or SenderError if the secret is wrong."""
    if not IS_PROCESS.fullmatch(identity.process):
        raise UnknownSenderError("the id of the process is malformed")
    table = table_name(store.dialect, "process")
    rows = store.read(f"SELECT secret, flush FROM {table} WHERE process = '{identity.process}'")  # noqa: S608 - digits
    if not rows:
        raise UnknownSenderError(f"the store does not know the process {identity.process}")
    stored, number = rows[0]
    if not stored or not secrets.compare_digest(stored, identity.hash):
        raise SenderError(f"the secret is not that of the process {identity.process}")
    return int(number)


def read_fleet(store: DirectStore) -> FleetState:
    """All stored policies, and when a guard last evaluated. Raises StoreError."""
    rows = store.read(_fleet_query(store.dialect))
    evaluated_at, version, server = rows[0][:_BEFORE_POLICY]
    policies = [StoredPolicy(*row[_BEFORE_POLICY:]) for row in rows if row[_BEFORE_POLICY] is not None]
    # Hashed, because senders need not know the server.
    identity = sha256(repr((server, store.address.file_identity())).encode()).hexdigest()[:16]
    return FleetState(policies, evaluated_at, version or 0, identity)


@cache
def _fleet_query(dialect: str) -> str:
    evaluated = f"SELECT max(evaluated_at) AS seen FROM {table_name(dialect, 'process')}"  # noqa: S608 - our names
    return (
        f"SELECT seen, {version_query(dialect)}, {recording.identity_query(dialect)}, "  # noqa: S608 - our names
        f"{', '.join(StoredPolicy._fields)} FROM ({evaluated}) AS guard "
        f"LEFT JOIN {table_name(dialect, 'policy')} AS policy ON 1 = 1"
    )


def live_routers(store: DirectStore, *, now: float) -> int:
    """The number of routers with a heartbeat in the last minute. Raises StoreError."""
    table = table_name(store.dialect, "process")
    rows = store.read(
        f"SELECT count(*) FROM {table} WHERE kind = 'router' AND seen_at >= {now - LIVE_S!r}"  # noqa: S608 - a number
    )
    return int(rows[0][0])
