"""Answers that may be graded: which are chosen, what became of each, and how their content is forgotten."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, or_, select, update

from cheapdeep_ops.store import sampling_rates
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables import Candidate, GradeRow, table_of
from cheapdeep_ops.store.upsert import Write, prepare_insert_absent
from cheapdeep_ops.values import CandidateState, Grade, TextTurn, Trace

_CANDIDATE: Final = table_of(Candidate)
_GRADE: Final = table_of(GradeRow)
_OPEN: Final = (CandidateState.WAITING.value, CandidateState.SUBMITTED.value)
_IS_OPEN: Final = and_(_CANDIDATE.c.state.in_(_OPEN), _CANDIDATE.c.answer.is_not(None))
"""Of a sample that may still be graded: neither settled nor forgotten meanwhile."""

_HAS_CONTENT: Final = _CANDIDATE.c.answer.is_not(None)
_IS_MERE_SKIP: Final = and_(_CANDIDATE.c.state == CandidateState.SKIPPED.value, _CANDIDATE.c.inclusion.is_(None))
"""Of a row without content that was not chosen: nothing refers to it."""

_AT_ONCE: Final = 1_000
"""Rows that one transaction changes at most: other processes wait for the write lock meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingSample:
    """A candidate that was chosen, with what its grader is to read and what a grade repeats of its call."""

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
    prompt_version: str = ""
    steered: bool = False
    response_id: str
    trace: Trace | None
    turns: tuple[TextTurn, ...]
    answer: str = field(repr=False)  # content stays out of logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A wrong answer whose content is still stored, redacted as it was kept; `reason` is its grader's."""

    call_id: str
    confidence: float
    question: str = field(repr=False)
    answer: str = field(repr=False)
    reason: str = field(repr=False)


def prepare(rows: Sequence[Mapping[str, Any]]) -> Write:
    """Make candidates ready to be stored; those that are stored already stay as they are."""
    return prepare_insert_absent(Candidate, rows)


def choose(store: Store, *, otherwise: float, now: float, limit: int = _AT_ONCE) -> int:
    """Choose the calls that lie below the rate in force when they began, with the probability of that.

    `otherwise` is the rate where none was set. A call that cannot be graded keeps its state and is marked as chosen, so
    that the funnel adds up. Works in transactions of `limit` rows. Returns how many are new.
    """
    columns = _CANDIDATE.c
    rate = sampling_rates.in_force(otherwise)
    fresh = and_(columns.inclusion.is_(None), columns.position < rate)
    state = case((columns.state == CandidateState.KEPT.value, CandidateState.WAITING.value), else_=columns.state)
    inclusion = case((columns.kept_share < rate, columns.kept_share), else_=rate)
    which = and_(fresh, columns.state.in_([CandidateState.KEPT.value, CandidateState.SKIPPED.value]))
    chosen = update(_CANDIDATE).values(state=state, inclusion=inclusion, chosen_at=now, due_at=now)

    def mark(connection: Connection, ids: Sequence[Any]) -> int:
        return connection.execute(chosen.where(which, columns.call_id.in_(ids))).rowcount

    return _in_parts(store, select(columns.call_id).where(which).limit(limit), mark)


def steer(connection: Connection, route: str, *, since: float, most: int, now: float) -> int:
    """Choose a route's newest answers of calls since then that were kept and not chosen; returns how many there are.

    Their inclusion is that of being kept: which of those it would be was decided by what other grades had found.
    """
    columns = _CANDIDATE.c
    kept = and_(columns.state == CandidateState.KEPT.value, columns.inclusion.is_(None))
    newest = select(columns.call_id).where(columns.route == route, columns.at >= since, kept)
    ids = list(connection.execute(newest.order_by(columns.at.desc(), columns.call_id).limit(most)).scalars())
    chosen = {"state": CandidateState.WAITING.value, "inclusion": columns.kept_share, "chosen_at": now, "due_at": now}
    connection.execute(update(_CANDIDATE).where(columns.call_id.in_(ids)).values(**chosen, steered=True))
    return len(ids)


def steered_waiting(connection: Connection) -> int:
    """How many answers that were chosen in hindsight have no grade yet."""
    waits = and_(_CANDIDATE.c.steered.is_(True), _CANDIDATE.c.state == CandidateState.WAITING.value)
    return int(connection.execute(select(func.count()).select_from(_CANDIDATE).where(waits)).scalar() or 0)


def ungraded(connection: Connection, *, otherwise: float, in_batches: bool) -> dict[str, int]:
    """How many samples of each route have no grade yet, those that `choose` is still to find among them.

    `otherwise` is the rate where none was set; `in_batches` says whether those of a batch that is out count.
    """
    columns = _CANDIDATE.c
    to_find = and_(columns.inclusion.is_(None), columns.position < sampling_rates.in_force(otherwise))
    chosen = or_(
        columns.state == CandidateState.WAITING.value, and_(columns.state == CandidateState.KEPT.value, to_find)
    )
    waits = or_(chosen, columns.state == CandidateState.SUBMITTED.value) if in_batches else chosen
    found = select(columns.route, func.count().label("samples")).where(waits).group_by(columns.route)
    return {row.route: row.samples for row in connection.execute(found)}


def due(connection: Connection, *, now: float, limit: int, steered: bool | None = None) -> list[GradingSample]:
    """The samples that may be graded now, those that wait longest first; `steered` picks those of one kind."""
    columns = _CANDIDATE.c
    waits = and_(columns.state == CandidateState.WAITING.value, columns.due_at <= now, columns.answer.is_not(None))
    if steered is not None:
        waits = and_(waits, columns.steered.is_(steered))
    statement = select(_CANDIDATE).where(waits).order_by(columns.due_at, columns.at, columns.call_id).limit(limit)
    return [_sample(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def submitted(connection: Connection, batch_id: str) -> list[GradingSample]:
    """The samples of a batch that have no grade yet."""
    columns = _CANDIDATE.c
    of_batch = and_(columns.state == CandidateState.SUBMITTED.value, columns.batch_id == batch_id)
    return [_sample(row._mapping) for row in connection.execute(select(_CANDIDATE).where(of_batch))]  # noqa: SLF001


def held(connection: Connection, call_ids: Sequence[str]) -> set[str]:
    """Those of these calls whose content is still stored."""
    columns = _CANDIDATE.c
    found = select(columns.call_id).where(columns.call_id.in_(call_ids), columns.answer.is_not(None))
    return set(connection.execute(found).scalars())


def with_content(connection: Connection, call_ids: Sequence[str]) -> list[GradingSample]:
    """Those of these calls whose content is still stored, oldest first."""
    held = and_(_CANDIDATE.c.call_id.in_(call_ids), _CANDIDATE.c.answer.is_not(None))
    statement = select(_CANDIDATE).where(held).order_by(_CANDIDATE.c.at, _CANDIDATE.c.call_id)
    return [_sample(row._mapping) for row in connection.execute(statement)]  # noqa: SLF001 - rows by name


def examples(connection: Connection, call_ids: Sequence[str]) -> list[Example]:
    """Those of these calls that are graded wrong and whose content is stored, in this order; what is not is left out.

    `question` is the last turn of the user's.
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
    found = {row.call_id: _example(row) for row in connection.execute(statement)}
    return [found[each] for each in call_ids if each in found]


def _example(row: Any) -> Example:
    asked = [turn["text"] for turn in row.turns or () if turn["role"] == "user"]
    return Example(
        call_id=row.call_id,
        confidence=row.confidence,
        question=asked[-1] if asked else "",
        answer=row.answer,
        reason=row.reason,
    )


def settle(connection: Connection, call_id: str, state: CandidateState, *, why: str = "") -> None:
    """Note what became of a sample."""
    connection.execute(_of(call_id).values(state=state.value, why=why))


def postpone(connection: Connection, call_id: str, *, until: float, attempts: int) -> None:
    """Have a sample wait again, until then."""
    again = {"state": CandidateState.WAITING.value, "due_at": until, "attempts": attempts, "batch_id": ""}
    connection.execute(_of(call_id).where(_IS_OPEN).values(**again))


def submit(connection: Connection, call_ids: Sequence[str], batch_id: str) -> None:
    """Note that samples are part of a batch."""
    part = update(_CANDIDATE).where(_CANDIDATE.c.call_id.in_(call_ids), _IS_OPEN)
    connection.execute(part.values(state=CandidateState.SUBMITTED.value, batch_id=batch_id))


def forget(store: Store, *, before: float, limit: int = _AT_ONCE) -> int:
    """Remove the content of calls that began before then, in transactions of `limit` rows; returns of how many.

    Samples that were not graded by then have expired. What was counted and graded stays, without reasons in words.
    """
    return _forget(store, _CANDIDATE.c.at < before, _GRADE.c.called_at < before, limit)


def crowd_out(store: Store, *, most: int, limit: int = _AT_ONCE) -> int:
    """Remove the content that is one too many, oldest first, in transactions of `limit` rows; returns of how many.

    What still waits for its grade stays.
    """
    with store.reading() as connection:
        before = newest_but(connection, most)
    if before is None:
        return 0
    settled = and_(_CANDIDATE.c.at <= before, _CANDIDATE.c.state.not_in(_OPEN))
    return _forget(store, settled, _GRADE.c.called_at <= before, limit)


def forget_call(connection: Connection, call_id: str) -> int:
    """Remove the content of one call; returns 1, or 0 where nothing of it is stored."""
    _empty_reasons(connection, _GRADE.c.call_id == call_id)
    return _empty(connection, _CANDIDATE.c.call_id == call_id)


def _forget(store: Store, which: ColumnElement[bool], graded: ColumnElement[bool], limit: int) -> int:
    columns = _CANDIDATE.c
    some = select(columns.call_id).where(which, or_(_HAS_CONTENT, _IS_MERE_SKIP)).limit(limit)
    told = and_(graded, _GRADE.c.reason != "")
    _in_parts(
        store,
        select(_GRADE.c.id).where(told).limit(limit),
        lambda connection, ids: _empty_reasons(connection, and_(told, _GRADE.c.id.in_(ids))),
    )
    return _in_parts(store, some, lambda connection, ids: _empty(connection, and_(which, columns.call_id.in_(ids))))


def _empty(connection: Connection, which: ColumnElement[bool]) -> int:
    """Remove content; a row that was not chosen goes with it. Returns how many had content."""
    state = case((_CANDIDATE.c.state.in_(_OPEN), CandidateState.EXPIRED.value), else_=_CANDIDATE.c.state)
    unchosen = delete(_CANDIDATE).where(which, _HAS_CONTENT, _CANDIDATE.c.inclusion.is_(None))
    emptied = update(_CANDIDATE).where(which, _HAS_CONTENT).values(turns=None, answer=None, state=state)
    gone = connection.execute(unchosen).rowcount + connection.execute(emptied).rowcount
    connection.execute(delete(_CANDIDATE).where(which, _IS_MERE_SKIP))
    return gone


def _empty_reasons(connection: Connection, which: ColumnElement[bool]) -> int:
    """Remove what graders gave as reasons: it may quote the answer."""
    return connection.execute(update(_GRADE).where(which, _GRADE.c.reason != "").values(reason="")).rowcount


def _in_parts(store: Store, some: Select[*tuple[Any, ...]], change: Callable[[Connection, Sequence[Any]], int]) -> int:
    """Change what `some` finds, part by part until it finds nothing; returns the sum of what `change` returned.

    Rows are looked for outside of the write transactions, so `change` must look at each again.
    """
    changed = 0
    while True:
        with store.reading() as connection:
            found = connection.execute(some).scalars().all()
        if not found:
            return changed
        changed += store.transact(lambda connection, found=found: change(connection, found))  # type: ignore[misc]


def newest_but(connection: Connection, most: int) -> float | None:
    """When the call began whose content is the newest that `most` others leave no room for; None where all fit."""
    held = _CANDIDATE.c.answer.is_not(None)
    statement = select(_CANDIDATE.c.at).where(held).order_by(_CANDIDATE.c.at.desc()).offset(most).limit(1)
    found: float | None = connection.execute(statement).scalar()
    return found


def backlog(connection: Connection) -> dict[str, Any]:
    """How many samples have no grade yet, how many of them are part of a batch, and since when the oldest waits."""
    is_open = _CANDIDATE.c.state.in_(_OPEN)
    submitted = func.count().filter(_CANDIDATE.c.state == CandidateState.SUBMITTED.value).label("submitted")
    oldest = func.min(_CANDIDATE.c.chosen_at).label("oldest")
    statement = select(func.count().label("waiting"), submitted, oldest).where(is_open)
    return dict(connection.execute(statement).one()._mapping)  # noqa: SLF001 - rows by name


def funnel(connection: Connection, *, otherwise: float, since: float, until: float) -> dict[str, Any]:
    """What became of the chosen calls that began in `[since, until)`: counts by state, and of skipped ones by cause.

    Calls below the rate in force (`otherwise` where none was set) that nobody has looked at yet will be chosen, and
    wait.
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
    by_state["waiting"] += by_state.pop(CandidateState.SUBMITTED.value) + by_state.pop(CandidateState.KEPT.value)
    return {**by_state, "skipped_causes": causes}


def _of(call_id: str) -> Any:
    return update(_CANDIDATE).where(_CANDIDATE.c.call_id == call_id)


def _sample(row: Mapping[Any, Any]) -> GradingSample:
    place = Trace(trace_id=row["trace_id"], span_id=row["span_id"], sampled=row["trace_sampled"])
    repeated = ("call_id", "route", "input_class", "at", "shipped", "confidence", "policy_version", "inclusion",
                "attempts", "model", "prompt_version", "steered", "response_id")  # fmt: skip
    return GradingSample(
        **{name: row[name] for name in repeated},
        trace=place if place.trace_id else None,
        turns=tuple(TextTurn(role=turn["role"], text=turn["text"]) for turn in row["turns"] or ()),
        answer=row["answer"] or "",
    )
