"""Policies and the log of their changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from cheapdeep_ops.policy import PolicyAct, PolicyBook, ScopePolicy, act_on
from cheapdeep_ops.store.tables import PolicyChange, PolicyRow, table_of
from cheapdeep_ops.store.upsert import upsert

_POLICY: Final = table_of(PolicyRow)
_CHANGE: Final = table_of(PolicyChange)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of policy, as asked for: by a rule (`cause` and `signal`) or by a person (`author` and `why`)."""

    scope: str
    act: PolicyAct
    cause: str = ""
    threshold: float | None = None
    signal: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    why: str = ""


def read_book(connection: Connection, *, base: float, raised: float) -> PolicyBook:
    """All policies in force; the raised threshold is the one that the guard last announced, else `raised`."""
    rows = list(connection.execute(select(_POLICY)))
    newest = max(rows, key=lambda row: row.version, default=None)
    return PolicyBook(
        base=base,
        raised=newest.raised if newest else raised,
        scopes={
            row.scope: ScopePolicy(scope=row.scope, version=row.version, pin=row.pin, causes=frozenset(row.causes))
            for row in rows
        },
    )


def apply(connection: Connection, book: PolicyBook, change: Change, *, at: float) -> PolicyBook:
    """Append `change` to the log, make it the scope's policy, and return the book that follows."""
    before = book.scopes.get(change.scope) or ScopePolicy(scope=change.scope)
    after = act_on(before, change.act, cause=change.cause, threshold=change.threshold)
    then = book.with_scope(after)
    version = _log(connection, book, then, change, at=at, applied=True)
    numbered = ScopePolicy(scope=change.scope, version=version, pin=after.pin, causes=after.causes)
    row = {
        "scope": change.scope,
        "version": version,
        "pin": after.pin,
        "raised": book.raised,
        "causes": sorted(after.causes),
    }
    upsert(connection, PolicyRow, [row])
    return book.with_scope(numbered)


def note(connection: Connection, book: PolicyBook, change: Change, *, at: float) -> None:
    """Append what would have been done, and do not do it: observe mode, or a pinned scope."""
    before = book.scopes.get(change.scope) or ScopePolicy(scope=change.scope)
    then = book.with_scope(act_on(before, change.act, cause=change.cause, threshold=change.threshold))
    _log(connection, book, then, change, at=at, applied=False)


def history(connection: Connection, *, limit: int = 50) -> list[dict[str, Any]]:
    """The newest changes first."""
    statement = select(_CHANGE).order_by(_CHANGE.c.version.desc()).limit(limit)
    return [dict(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def raised_at(connection: Connection, *, scope: str, cause: str, since: float) -> float | None:
    """When `cause` first raised `scope` after `since`, if it did."""
    of_cause = (_CHANGE.c.scope == scope, _CHANGE.c.cause == cause, _CHANGE.c.act == PolicyAct.RAISE.value)
    statement = select(func.min(_CHANGE.c.at)).where(_CHANGE.c.applied, _CHANGE.c.at >= since, *of_cause)
    found: float | None = connection.execute(statement).scalar()
    return found


def newest(connection: Connection) -> tuple[int, float]:
    """The number of the newest change in force, and when it was made; zeros where there is none."""
    last = select(func.max(_POLICY.c.version)).scalar_subquery()
    row = connection.execute(select(_CHANGE.c.version, _CHANGE.c.at).where(_CHANGE.c.version == last)).one_or_none()
    return (row.version, row.at) if row else (0, 0.0)


def applied(connection: Connection, *, since: float, until: float, limit: int) -> list[dict[str, Any]]:
    """The newest changes that came into force in `[since, until)`, oldest first."""
    in_period = (_CHANGE.c.at >= since, _CHANGE.c.at < until)
    statement = select(_CHANGE).where(_CHANGE.c.applied, *in_period).order_by(_CHANGE.c.version.desc()).limit(limit)
    return [dict(row._mapping) for row in connection.execute(statement)][::-1]  # noqa: SLF001 - rows by name


def count_applied(connection: Connection, *, since: float, until: float) -> int:
    """How many changes came into force in `[since, until)`."""
    in_period = (_CHANGE.c.at >= since, _CHANGE.c.at < until)
    statement = select(func.count()).select_from(_CHANGE).where(_CHANGE.c.applied, *in_period)
    return int(connection.scalar(statement) or 0)


def _log(
    connection: Connection, book: PolicyBook, then: PolicyBook, change: Change, *, at: float, applied: bool
) -> int:
    statement = insert(_CHANGE).values(
        at=at,
        scope=change.scope,
        act=change.act.value,
        from_threshold=book.for_route(change.scope).threshold,
        to_threshold=then.for_route(change.scope).threshold,
        cause=change.cause,
        signal=dict(change.signal),
        author=change.author,
        why=change.why,
        applied=applied,
    )
    key = connection.execute(statement).inserted_primary_key
    return int(key[0]) if key else 0
