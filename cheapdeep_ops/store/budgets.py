"""Budgets as the guard sets and reads them; money is in billionths of a US dollar."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, case, delete, func, insert, select

from cheapdeep_ops.budgets import FREED_AFTER_S, BudgetName, Spend, smaller_limit
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.expiry import delete_some
from cheapdeep_ops.store.tables.budget_tables import BudgetLimit, BudgetSlice
from cheapdeep_ops.store.tables.row import table_of

_LIMIT: Final = table_of(BudgetLimit)
_SLICE: Final = table_of(BudgetSlice)


def limits(connection: Connection) -> dict[str, int]:
    """The limits that the guard has set, by budget."""
    return {row.budget: row.limit_nusd for row in connection.execute(select(_LIMIT))}


def set_limits(connection: Connection, wanted: Mapping[str, int]) -> None:
    """Set these limits, and no others."""
    connection.execute(delete(_LIMIT))
    if wanted:
        rows = [{"budget": budget, "limit_nusd": limit} for budget, limit in wanted.items()]
        connection.execute(insert(_LIMIT), rows)


def spends(connection: Connection, *, day: int, now: float) -> list[Spend]:
    """What is spent of each budget on a day of UTC, by name; also of those of which nothing is.

    The limit is the smallest under which a process spends now, or the guard's if that is smaller.
    """
    set_by_guard = limits(connection)
    more = _SLICE.c.ceiling_nusd - _SLICE.c.spent_nusd
    is_living = _SLICE.c.asked_at > now - FREED_AFTER_S
    statement = (
        select(
            _SLICE.c.budget,
            func.min(case((is_living, _SLICE.c.limit_nusd))),
            func.max(_SLICE.c.limit_nusd),
            func.sum(_SLICE.c.spent_nusd),
            func.sum(case((is_living & (more > 0), more), else_=0)),
            func.sum(_SLICE.c.unpriced),
            func.sum(case((is_living, 1), else_=0)),
            func.max(_SLICE.c.asked_at),
        )
        .where(_SLICE.c.day == day)
        .group_by(_SLICE.c.budget)
    )
    found = {}
    for budget, limit, past, spent, held, unpriced, processes, as_of in connection.execute(statement):
        # A limit that was changed holds from the next request of each process on.
        known = smaller_limit(limit, set_by_guard.get(budget)) or past
        figures = (int(spent), int(held), int(unpriced), int(processes))
        found[budget] = Spend(BudgetName.read(budget), day, known, *figures, as_of or None)
    for budget, limit in set_by_guard.items():
        found.setdefault(budget, Spend(BudgetName.read(budget), day, limit))
    return [found[budget] for budget in sorted(found)]


def forget(store: Store, *, before: int) -> int:
    """Delete what was spent on days before the day `before`; returns how many rows were deleted."""
    return delete_some(store, _SLICE, _SLICE.c.day < before)
