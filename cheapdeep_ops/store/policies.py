"""Policies, and the log of their changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from cheapdeep_ops.policy import PolicyAct, PolicyBook, ScopeState, act_on
from cheapdeep_ops.store.announcements import announce
from cheapdeep_ops.store.recording import book_of
from cheapdeep_ops.store.records import PolicyChange, record_of
from cheapdeep_ops.store.tables.call_tables import PolicyChangeRow, PolicyRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_POLICY: Final = table_of(PolicyRow)
_CHANGE: Final = table_of(PolicyChangeRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEdit:
    """A requested change of policy: by a rule (`cause` and `signal`) or by a person (`author` and `why`)."""

    scope: str
    act: PolicyAct
    cause: str = ""
    threshold: float | None = None
    signal: Mapping[str, Any] = field(default_factory=dict)
    author: str = ""
    why: str = ""
    until: float | None = None
    """When the guard releases the pin that this change makes (Unix time); None: a person does."""


def read_book(connection: Connection, *, base: float, raised: float) -> PolicyBook:
    """All policies in force; the raised threshold is the guard's last stored one, else `raised`."""
    return book_of(connection.execute(select(_POLICY)), base=base, raised=raised)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStep:
    """A change and its result; `applied` is False if observe mode or a pin prevented it."""

    change: PolicyEdit
    after: ScopeState
    raised: float
    from_threshold: float
    to_threshold: float
    applied: bool


def step_of(book: PolicyBook, change: PolicyEdit, *, applied: bool = True) -> PolicyStep:
    """The result of `change` on a book; pure. The scope gets its version number when the step is stored."""
    before = book.scopes.get(change.scope) or ScopeState(scope=change.scope)
    after = act_on(before, change.act, cause=change.cause, threshold=change.threshold)
    return PolicyStep(
        change=change,
        after=after,
        raised=book.raised,
        from_threshold=book.for_route(change.scope).threshold,
        to_threshold=book.with_scope(after).for_route(change.scope).threshold,
        applied=applied,
    )


def write(connection: Connection, step: PolicyStep, *, at: float) -> int:
    """Append a step to the log, and store it as the scope's policy if it is applied; returns its version."""
    change = step.change
    entry = insert(_CHANGE).values(
        at=at,
        scope=change.scope,
        act=change.act.value,
        from_threshold=step.from_threshold,
        to_threshold=step.to_threshold,
        cause=change.cause,
        signal=dict(change.signal),
        author=change.author,
        why=change.why,
        applied=step.applied,
    )
    key = connection.execute(entry).inserted_primary_key
    # The number of the log entry is the version, so that each version leads to its cause.
    version = int(key[0]) if key else 0
    if step.applied:
        after = step.after
        row: dict[str, object] = {"scope": after.scope, "version": version, "pin": after.pin, "raised": step.raised}
        # A raise or a release leaves the end of a pin as it is.
        if change.act in (PolicyAct.PIN, PolicyAct.UNPIN):
            row["pin_until"] = change.until
        upsert(connection, PolicyRow, [{**row, "causes": sorted(after.causes)}])
        announce(connection)
    return version


def apply(connection: Connection, book: PolicyBook, change: PolicyEdit, *, at: float) -> PolicyBook:
    """Append `change` to the log, store it as the scope's policy, and return the new book."""
    step = step_of(book, change)
    return book.with_scope(replace(step.after, version=write(connection, step, at=at)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A pin in force: its threshold, who made it, when, until when (None: until a person releases it), and why."""

    scope: str
    threshold: float
    author: str
    at: float
    until: float | None
    why: str


def pins(connection: Connection) -> list[Pin]:
    """The pins in force, oldest first."""
    made = (_CHANGE.c.applied, _CHANGE.c.act == PolicyAct.PIN.value)
    newest = select(func.max(_CHANGE.c.version)).where(_CHANGE.c.scope == _POLICY.c.scope, *made)
    columns = (_POLICY.c.scope, _POLICY.c.pin.label("threshold"), _POLICY.c.pin_until.label("until"))
    statement = (
        select(*columns, _CHANGE.c.author, _CHANGE.c.at, _CHANGE.c.why)
        .join_from(_POLICY, _CHANGE, _CHANGE.c.version == newest.correlate(_POLICY).scalar_subquery())
        .where(_POLICY.c.pin.is_not(None))
    )
    return [Pin(**row) for row in connection.execute(statement.order_by(_CHANGE.c.version)).mappings()]


def last_change(connection: Connection, *, scopes: Iterable[str]) -> PolicyChange | None:
    """The newest applied change in one of these scopes; None if there was none."""
    of_them = (_CHANGE.c.scope.in_(list(scopes)), _CHANGE.c.applied)
    statement = select(_CHANGE).where(*of_them).order_by(_CHANGE.c.version.desc()).limit(1)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else record_of(PolicyChange, row)


def history(connection: Connection, *, limit: int = 50) -> list[PolicyChange]:
    """The log of changes, newest first; it has the changes that were not applied too."""
    statement = select(_CHANGE).order_by(_CHANGE.c.version.desc()).limit(limit)
    return [record_of(PolicyChange, row) for row in connection.execute(statement).mappings()]


def raised_at(connection: Connection, *, scope: str, cause: str, since: float) -> float | None:
    """When `cause` first raised `scope` at or after `since` (Unix time); None if it did not."""
    of_cause = (_CHANGE.c.scope == scope, _CHANGE.c.cause == cause, _CHANGE.c.act == PolicyAct.RAISE.value)
    statement = select(func.min(_CHANGE.c.at)).where(_CHANGE.c.applied, _CHANGE.c.at >= since, *of_cause)
    first: float | None = connection.execute(statement).scalar()
    return first


def was_set(connection: Connection, *, scopes: Iterable[str], since: float) -> bool:
    """Whether a person has pinned one of these scopes, or has removed its pin, since `since` (Unix time)."""
    by_person = _CHANGE.c.act.in_((PolicyAct.PIN.value, PolicyAct.UNPIN.value))
    of_it = (_CHANGE.c.scope.in_(list(scopes)), _CHANGE.c.at > since, by_person)
    return connection.execute(select(_CHANGE.c.version).where(*of_it).limit(1)).first() is not None


def newest(connection: Connection) -> tuple[int, float]:
    """(version, Unix time) of the newest change in force; zeros if there is none."""
    last = select(func.max(_POLICY.c.version)).scalar_subquery()
    row = connection.execute(select(_CHANGE.c.version, _CHANGE.c.at).where(_CHANGE.c.version == last)).one_or_none()
    return (row.version, row.at) if row else (0, 0.0)


def applied(connection: Connection, *, since: float, until: float, limit: int) -> list[PolicyChange]:
    """The newest changes that were applied in `[since, until)`, at most `limit`, oldest first."""
    in_period = (_CHANGE.c.at >= since, _CHANGE.c.at < until)
    statement = select(_CHANGE).where(_CHANGE.c.applied, *in_period).order_by(_CHANGE.c.version.desc()).limit(limit)
    rows = connection.execute(statement).mappings()
    return [record_of(PolicyChange, row) for row in rows][::-1]


def count_applied(connection: Connection, *, since: float, until: float) -> int:
    """The number of changes that were applied in `[since, until)`."""
    in_period = (_CHANGE.c.at >= since, _CHANGE.c.at < until)
    statement = select(func.count()).select_from(_CHANGE).where(_CHANGE.c.applied, *in_period)
    return int(connection.scalar(statement) or 0)
