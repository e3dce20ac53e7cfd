"""Slices of budgets, in plain SQL: a process says what it has spent, and is granted how much more it may spend.

The tables are `budget_limit` and `budget_slice`; `cheapdeep_ops.budgets` has the arithmetic. Requests of all processes
wait for each other, so that their ceilings never add up to more than the limit.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from cheapdeep_ops.budgets import FREED_AFTER_S, Slice, SliceRequest, Slices, granted, smaller_limit
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Statements, Target, Transacting, prepare, table_name

REVISION: Final = "budgets"
"""The row of `revision` that requests lock."""

SLICE: Final = Target(name="budget_slice", keys=("day", "budget", "holder"), defaults={"unpriced": 0})


def ask(store: Transacting, holder: str, number: int, asks: Sequence[SliceRequest], *, now: float) -> Slices:
    """Note what the process `holder` has spent, and grant its next slices. Raises StoreError.

    `number` grows with each request of a holder, `now` is the store's time. A request may be sent twice.
    """
    found: list[Slices] = []

    def work(connection: Statements) -> None:
        found.append(_grant(connection, holder, number, asks, now))

    store.transact(work)
    return found[-1]


def read_limits(store: DirectStore) -> Mapping[str, int]:
    """The limits that the guard has set, by budget, in billionths of a dollar. Raises StoreError."""
    return dict(store.read(_statements(store.dialect).limits))


def _grant(connection: Statements, holder: str, number: int, asks: Sequence[SliceRequest], now: float) -> Slices:
    sql = _statements(connection.dialect.name)
    # The update is the lock: PostgreSQL locks the row, and SQLite has one writer.
    connection.exec_driver_sql(sql.make_lock, [(REVISION,)])
    connection.exec_driver_sql(sql.lock, [(REVISION,)])
    limits: dict[str, int] = {row[0]: row[1] for row in connection.exec_driver_sql(sql.limits, ()).fetchall()}
    grants: list[Slice] = []
    for each in asks:
        limit = smaller_limit(each.limit, limits.get(each.budget))
        key = (each.day, each.budget, holder)
        stored = connection.exec_driver_sql(sql.own, key).fetchone()
        if limit is None or (stored is not None and stored[0] > number):
            continue
        taken, others = connection.exec_driver_sql(
            sql.others, (now - FREED_AFTER_S, now - FREED_AFTER_S, *key)
        ).fetchone()
        # What was stored once is spent, also if a process was told to begin anew.
        spent = max(each.spent, stored[1]) if stored is not None else each.spent
        next_slice = granted(limit, spent=spent, ceiling=each.ceiling, taken=taken, processes=others + 1)
        kept = spent if each.is_last else next_slice.kept
        row = {
            "day": each.day, "budget": each.budget, "holder": holder, "ceiling_nusd": kept, "spent_nusd": spent,
            "unpriced": each.unpriced, "limit_nusd": limit, "number": number, "asked_at": 0.0 if each.is_last else now,
        }  # fmt: skip
        prepare(SLICE, [row], "replace")(connection)
        grants.append(Slice(each.day, each.budget, spent if each.is_last else next_slice.ceiling, limit))
    return Slices(grants, limits)


class _Sql(NamedTuple):
    make_lock: str
    lock: str
    limits: str
    own: str
    others: str


@cache
def _statements(dialect: str) -> _Sql:
    revision, limits, slices = (table_name(dialect, name) for name in ("revision", "budget_limit", "budget_slice"))
    is_living, larger = "asked_at > ?", "CASE WHEN ceiling_nusd > spent_nusd THEN ceiling_nusd ELSE spent_nusd END"
    own = "day = ? AND budget = ? AND holder"
    sql = _Sql(
        make_lock=f"INSERT INTO {revision} (name, number) VALUES (?, 0) ON CONFLICT DO NOTHING",  # noqa: S608 - our names
        lock=f"UPDATE {revision} SET number = number WHERE name = ?",  # noqa: S608
        limits=f"SELECT budget, limit_nusd FROM {limits}",  # noqa: S608
        own=f"SELECT number, spent_nusd FROM {slices} WHERE {own} = ?",  # noqa: S608
        others=(
            f"SELECT CAST(coalesce(sum(CASE WHEN {is_living} THEN {larger} ELSE spent_nusd END), 0) AS bigint), "  # noqa: S608
            f"CAST(coalesce(sum(CASE WHEN {is_living} THEN 1 ELSE 0 END), 0) AS bigint) FROM {slices} WHERE {own} <> ?"
        ),
    )
    return sql if dialect == "sqlite" else _Sql(*(each.replace("?", "%s") for each in sql))
