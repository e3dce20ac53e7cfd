"""Answers that may be graded: how they are chosen, in which state each is, and how their content is removed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Update,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

from cheapdeep_ops.store import sampling_rates
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.grade_tables import Candidate, GradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import CandidateState, Grade, TextTurn, Trace

_CANDIDATE: Final = table_of(Candidate)
_GRADE: Final = table_of(GradeRow)
_OPEN: Final = (CandidateState.WAITING.value, CandidateState.SUBMITTED.value)
_IS_OPEN: Final = and_(_CANDIDATE.c.state.in_(_OPEN), _CANDIDATE.c.answer.is_not(None))
"""Selects the samples that may still be graded: not settled yet, and their content is stored."""

_REVEALS_TEXT: Final = or_(_GRADE.c.reason != "", _GRADE.c.fingerprint != "")
"""Selects grades with a reason or a fingerprint, which reveal something of their call's text."""

_HAS_CONTENT: Final = _CANDIDATE.c.answer.is_not(None)
_IS_MERE_SKIP: Final = and_(_CANDIDATE.c.state == CandidateState.SKIPPED.value, _CANDIDATE.c.inclusion.is_(None))
"""Selects rows without content that were not chosen. Nothing refers to them."""

_AT_ONCE: Final = 1_000
"""The largest number of rows in one transaction: other processes wait for the write lock until it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingSample:
    """A chosen candidate: the content that the grader reads, and the facts of the call that a grade repeats."""

    call_id: str
    route: str
    input_class: str
    at: float
    shipped: bool
    confidence: float
    policy_version: int
    inclusion: float
    attempts: int
    model: str = ""
    tier: int = 0
    prompt_version: str = ""
    steered: bool = False
    response_id: str
    fingerprint: str = ""
    trace: Trace | None
    turns: tuple[TextTurn, ...]
    answer: str = field(repr=False)  # content stays out of logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An answer that was graded wrong, redacted as it was stored; `reason` is the grader's."""

    call_id: str
    confidence: float
    question: str = field(repr=False)
    answer: str = field(repr=False)
    reason: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The open samples: their number, how many are `submitted` in a batch, and when the `oldest` was chosen."""

    waiting: int
    submitted: int
    oldest: float | None


def choose(store: Store, *, otherwise: float, now: float, limit: int = _AT_ONCE) -> int:
    """Choose the calls whose position is below the sampling rate at their start; returns how many are new.

    Stores the rate as their inclusion probability. `otherwise` is the rate of a route for which none was set. Works in
    transactions of `limit` rows.
    """
    columns = _CANDIDATE.c
    rate = sampling_rates.in_force(otherwise)
    fresh = and_(columns.inclusion.is_(None), columns.position < rate)
    # A call that cannot be graded is chosen too, and keeps its state: the states must add up to the chosen calls.
    state = case((columns.state == CandidateState.KEPT.value, CandidateState.WAITING.value), else_=columns.state)
    # No call can be chosen more often than its router kept it.
    inclusion = case((columns.kept_share < rate, columns.kept_share), else_=rate)
    which = and_(fresh, columns.state.in_([CandidateState.KEPT.value, CandidateState.SKIPPED.value]))
    chosen = update(_CANDIDATE).values(state=state, inclusion=inclusion, chosen_at=now, due_at=now)

    def mark(connection: Connection, ids: Sequence[Any]) -> int:
        return connection.execute(chosen.where(which, columns.call_id.in_(ids))).rowcount

    return _in_chunks(store, select(columns.call_id).where(which).limit(limit), mark)


def steer(connection: Connection, route: str, *, since: float, most: int, now: float) -> int:
    """Choose a route's newest kept answers of calls since `since`, at most `most`; returns how many were chosen.

    Marks them as `steered`: earlier grades led to the choice, so that they may not enter an estimate.
    """
    columns = _CANDIDATE.c
    kept = and_(columns.state == CandidateState.KEPT.value, columns.inclusion.is_(None))
    newest = select(columns.call_id).where(columns.route == route, columns.at >= since, kept)
    ids = list(connection.execute(newest.order_by(columns.at.desc(), columns.call_id).limit(most)).scalars())
    # The share that was kept is the only probability that did not depend on earlier grades.
    chosen = {"state": CandidateState.WAITING.value, "inclusion": columns.kept_share, "chosen_at": now, "due_at": now}
    connection.execute(update(_CANDIDATE).where(columns.call_id.in_(ids)).values(**chosen, steered=True))
    return len(ids)


def steered_waiting(connection: Connection) -> int:
    """The number of steered samples that wait for a grade."""
    waits = and_(_CANDIDATE.c.steered.is_(True), _CANDIDATE.c.state == CandidateState.WAITING.value)
    return int(connection.execute(select(func.count()).select_from(_CANDIDATE).where(waits)).scalar() or 0)


def ungraded(connection: Connection, *, otherwise: float, in_batches: bool) -> dict[str, int]:
    """The number of samples of each route without a grade; those that `choose` will choose count too.

    `otherwise` is the rate of a route for which none was set. `in_batches` adds the samples of open batches.
    """
    columns = _CANDIDATE.c
    to_choose = and_(columns.inclusion.is_(None), columns.position < sampling_rates.in_force(otherwise))
    chosen = or_(
        columns.state == CandidateState.WAITING.value, and_(columns.state == CandidateState.KEPT.value, to_choose)
    )
    waits = or_(chosen, columns.state == CandidateState.SUBMITTED.value) if in_batches else chosen
    counted = select(columns.route, func.count().label("samples")).where(waits).group_by(columns.route)
    return {row.route: row.samples for row in connection.execute(counted)}


def due(connection: Connection, *, now: float, limit: int, steered: bool | None = None) -> list[GradingSample]:
    """The samples that may be graded now, the longest waiting first; `steered` filters by that flag, unless None."""
    columns = _CANDIDATE.c
    waits = and_(columns.state == CandidateState.WAITING.value, columns.due_at <= now, columns.answer.is_not(None))
    if steered is not None:
        waits = and_(waits, columns.steered.is_(steered))
    statement = select(_CANDIDATE).where(waits).order_by(columns.due_at, columns.at, columns.call_id).limit(limit)
    return [_sample(row) for row in connection.execute(statement).mappings()]


def submitted(connection: Connection, batch_id: str) -> list[GradingSample]:
    """The samples of a batch that wait for its results."""
    columns = _CANDIDATE.c
    of_batch = and_(columns.state == CandidateState.SUBMITTED.value, columns.batch_id == batch_id)
    return [_sample(row) for row in connection.execute(select(_CANDIDATE).where(of_batch)).mappings()]


def ids_with_content(connection: Connection, call_ids: Sequence[str]) -> set[str]:
    """The ids among `call_ids` whose content is still stored."""
    columns = _CANDIDATE.c
    stored = select(columns.call_id).where(columns.call_id.in_(call_ids), columns.answer.is_not(None))
    return set(connection.execute(stored).scalars())


def with_content(connection: Connection, call_ids: Sequence[str]) -> list[GradingSample]:
    """The samples among `call_ids` whose content is still stored, oldest first."""
    stored = and_(_CANDIDATE.c.call_id.in_(call_ids), _CANDIDATE.c.answer.is_not(None))
    statement = select(_CANDIDATE).where(stored).order_by(_CANDIDATE.c.at, _CANDIDATE.c.call_id)
    return [_sample(row) for row in connection.execute(statement).mappings()]


def examples(connection: Connection, call_ids: Sequence[str]) -> list[Example]:
    """The wrong answers among `call_ids`, in that order; calls whose content is not stored are left out.

    `question` is the user's last turn.
    """
    columns = _CANDIDATE.c
    wrong = and_(
        _GRADE.c.call_id == columns.call_id, _GRADE.c.verdict == Grade.INCORRECT.value, _GRADE.c.second.is_(False)
    )
    statement = (
        select(columns.call_id, columns.confidence, columns.turns, columns.answer, _GRADE.c.reason)
        .join(_GRADE, wrong)
        .where(columns.call_id.in_(call_ids), columns.answer.is_not(None))
        .order_by(_GRADE.c.id)
    )
    by_id = {row.call_id: _example(row) for row in connection.execute(statement)}
    return [by_id[each] for each in call_ids if each in by_id]


def _example(row: Any) -> Example:
    questions = [turn["text"] for turn in row.turns or () if turn["role"] == "user"]
    return Example(
        call_id=row.call_id,
        confidence=row.confidence,
        question=questions[-1] if questions else "",
        answer=row.answer,
        reason=row.reason,
    )


def settle(connection: Connection, call_id: str, state: CandidateState, *, why: str = "") -> None:
    """Store the final state of a sample; `why` is the cause of a failure."""
    connection.execute(_of(call_id).values(state=state.value, why=why))


def postpone(connection: Connection, call_id: str, *, until: float, attempts: int) -> None:
    """Return an open sample to the waiting ones, due at `until`; a settled or removed sample stays as it is."""
    again = {"state": CandidateState.WAITING.value, "due_at": until, "attempts": attempts, "batch_id": ""}
    connection.execute(_of(call_id).where(_IS_OPEN).values(**again))


def submit(connection: Connection, call_ids: Sequence[str], batch_id: str) -> None:
    """Mark open samples as submitted in a batch."""
    part = update(_CANDIDATE).where(_CANDIDATE.c.call_id.in_(call_ids), _IS_OPEN)
    connection.execute(part.values(state=CandidateState.SUBMITTED.value, batch_id=batch_id))


def resubmit(connection: Connection, intent: str, batch_id: str) -> None:
    """Move the samples of an intent to the batch that it has become."""
    connection.execute(update(_CANDIDATE).where(_CANDIDATE.c.batch_id == intent).values(batch_id=batch_id))


def withdraw(connection: Connection, intent: str) -> None:
    """Return the open samples of an intent to the waiting ones, because its batch was not sent."""
    part = update(_CANDIDATE).where(_CANDIDATE.c.batch_id == intent, _IS_OPEN)
    connection.execute(part.values(state=CandidateState.WAITING.value, batch_id=""))


def forget(store: Store, *, before: float, limit: int = _AT_ONCE) -> int:
    """Remove the content of calls that began before `before`; returns the number of calls.

    Works in transactions of `limit` rows. Ungraded samples expire. Counts and grades stay, but not the grades' reasons
    and fingerprints.
    """
    return _forget(store, _CANDIDATE.c.at < before, _GRADE.c.called_at < before, limit)


def trim(store: Store, *, most: int, limit: int = _AT_ONCE) -> int:
    """Remove the oldest content beyond `most` answers, in transactions of `limit` rows; returns the number of calls.

    Samples that wait for a grade keep their content.
    """
    with store.reading() as connection:
        before = newest_beyond(connection, most)
    if before is None:
        return 0
    settled = and_(_CANDIDATE.c.at <= before, _CANDIDATE.c.state.not_in(_OPEN))
    return _forget(store, settled, _GRADE.c.called_at <= before, limit)


def forget_call(connection: Connection, call_id: str) -> int:
    """Remove the content of one call; returns 1, or 0 if none was stored."""
    _empty_reasons(connection, _GRADE.c.call_id == call_id)
    return _empty(connection, _CANDIDATE.c.call_id == call_id)


def _forget(store: Store, which: ColumnElement[bool], graded: ColumnElement[bool], limit: int) -> int:
    columns = _CANDIDATE.c
    some = select(columns.call_id).where(which, or_(_HAS_CONTENT, _IS_MERE_SKIP)).limit(limit)
    has_reason = and_(graded, _REVEALS_TEXT)
    # Reasons go first: `trim` computes its limit from the stored content, so that an interrupted run can be repeated.
    _in_chunks(
        store,
        select(_GRADE.c.id).where(has_reason).limit(limit),
        lambda connection, ids: _empty_reasons(connection, and_(has_reason, _GRADE.c.id.in_(ids))),
    )
    return _in_chunks(store, some, lambda connection, ids: _empty(connection, and_(which, columns.call_id.in_(ids))))


def _empty(connection: Connection, which: ColumnElement[bool]) -> int:
    """Remove content, and delete the rows that were not chosen; returns how many had content."""
    state = case((_CANDIDATE.c.state.in_(_OPEN), CandidateState.EXPIRED.value), else_=_CANDIDATE.c.state)
    unchosen = delete(_CANDIDATE).where(which, _HAS_CONTENT, _CANDIDATE.c.inclusion.is_(None))
    emptied = update(_CANDIDATE).where(which, _HAS_CONTENT).values(turns=None, answer=None, fingerprint="", state=state)
    gone = connection.execute(unchosen).rowcount + connection.execute(emptied).rowcount
    connection.execute(delete(_CANDIDATE).where(which, _IS_MERE_SKIP))
    return gone


def _empty_reasons(connection: Connection, which: ColumnElement[bool]) -> int:
    """Remove the graders' reasons, which may quote the answer, and fingerprints; returns how many grades had any."""
    return connection.execute(update(_GRADE).where(which, _REVEALS_TEXT).values(reason="", fingerprint="")).rowcount


def _in_chunks(store: Store, some: Select[*tuple[Any, ...]], change: Callable[[Connection, Sequence[Any]], int]) -> int:
    """Apply `change` to the rows that `some` selects, part by part until none is left; returns the sum of its results.

    `change` must repeat the conditions of `some`: another process may alter a row between reading and writing.
    """
    changed = 0
    while True:
        # The search stays outside of the write transaction, so that the lock is held for the change alone.
        with store.reading() as connection:
            ids = connection.execute(some).scalars().all()
        if not ids:
            return changed
        changed += store.transact(lambda connection, ids=ids: change(connection, ids))  # type: ignore[misc]


def newest_beyond(connection: Connection, most: int) -> float | None:
    """When the newest call began that is beyond the `most` newest with content (Unix time); None if all fit."""
    has_content = _CANDIDATE.c.answer.is_not(None)
    statement = select(_CANDIDATE.c.at).where(has_content).order_by(_CANDIDATE.c.at.desc()).offset(most).limit(1)
    began_at: float | None = connection.execute(statement).scalar()
    return began_at


def backlog(connection: Connection) -> Backlog:
    """The samples that wait for a grade."""
    is_open = _CANDIDATE.c.state.in_(_OPEN)
    submitted = func.count().filter(_CANDIDATE.c.state == CandidateState.SUBMITTED.value).label("submitted")
    oldest = func.min(_CANDIDATE.c.chosen_at).label("oldest")
    statement = select(func.count().label("waiting"), submitted, oldest).where(is_open)
    return Backlog(**connection.execute(statement).mappings().one())


def funnel(connection: Connection, *, otherwise: float, since: float, until: float) -> dict[str, Any]:
    """Counts by state of the chosen calls that began in `[since, until)`, and of the skipped ones by cause.

    `otherwise` is the rate of a route for which none was set. Calls that `choose` will choose count as waiting.
    """
    columns = _CANDIDATE.c
    rate = sampling_rates.in_force(otherwise)
    chosen = and_(columns.at >= since, columns.at < until, or_(columns.inclusion.is_not(None), columns.position < rate))
    statement = select(columns.state, columns.why, func.count()).where(chosen).group_by(columns.state, columns.why)
    by_state: dict[str, int] = {state.value: 0 for state in CandidateState}
    causes: dict[str, int] = {}
    for state, why, count in connection.execute(statement):
        by_state[state] = by_state.get(state, 0) + count
        if state == CandidateState.SKIPPED.value:
            causes[why] = count
    # To a reader, a submitted sample and one that is about to be chosen both wait for a grade.
    by_state["waiting"] += by_state.pop(CandidateState.SUBMITTED.value) + by_state.pop(CandidateState.KEPT.value)
    return {**by_state, "skipped_causes": causes}


def _of(call_id: str) -> Update:
    return update(_CANDIDATE).where(_CANDIDATE.c.call_id == call_id)


def _sample(row: RowMapping) -> GradingSample:
    trace = Trace(trace_id=row["trace_id"], span_id=row["span_id"], sampled=row["trace_sampled"])
    repeated = ("call_id", "route", "input_class", "at", "shipped", "confidence", "policy_version", "inclusion",
                "attempts", "model", "tier", "prompt_version", "steered", "response_id", "fingerprint")  # fmt: skip
    return GradingSample(
        **{name: row[name] for name in repeated},
        trace=trace if trace.trace_id else None,
        turns=tuple(TextTurn(role=turn["role"], text=turn["text"]) for turn in row["turns"] or ()),
        answer=row["answer"] or "",
    )
