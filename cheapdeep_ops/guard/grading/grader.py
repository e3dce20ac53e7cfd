"""Having samples graded: chosen, asked, written down, and paid for within a limit."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import takewhile
from typing import Any, Final, Protocol, cast

from cheapdeep_ops.claude.forged_grades import unless_copied
from cheapdeep_ops.claude.rubric import PROMPT_VERSION, grading_request
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.grading.sampler import Sampler, SamplingPlan
from cheapdeep_ops.guard.grading.second_grader import SecondGrader
from cheapdeep_ops.guard.grading.workers import Workers
from cheapdeep_ops.guard.rules.self_monitoring.grader_facts import PAUSE_S
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grader_state import GraderStatus
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.telemetry.evaluations import GradeRecord, GradeTelemetry
from cheapdeep_ops.units import DAY_S, NUSD_PER_USD
from cheapdeep_ops.values import CandidateState, GradeFailure, GradeResult, Usage

_log: Final = logging.getLogger(__name__)
_TYPICAL: Final = Usage(input_tokens=2_000, output_tokens=200)
"""Of a grading, before any is known."""

_ERRORS: Final = 3
"""After so many failed requests in a row the API counts as down, and the rest of the run waits."""

_TRIES: Final = 5
_FIRST_WAIT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 600.0
"""However long the API asks for: whether a grader works must be known sooner."""

MOST_AT_ONCE: Final = 500
"""Samples of one run, and requests of one batch; the next run goes on."""

_CHUNK: Final = 10
_CHUNK_S: Final = 1.0
"""Grades are stored by chunks: of so many, or those of so many seconds."""


class GradingApi(Protocol):
    """The API as a grader uses it."""

    def grade(self, request: Mapping[str, Any]) -> GradeResult:
        """Have one answer judged. Raises GraderError."""

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Hand in a batch. Raises GraderError."""

    def results(self, batch_id: str) -> dict[str, GradeResult | GraderError] | None:
        """What came of a batch; None while it has not ended. Raises GraderError."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeAttempt:
    """One sample and what came of asking for its grade."""

    sample: GradingSample
    found: GradeResult | GraderError
    batch: bool = False


class Grader:
    """Chooses samples, has them graded, and remembers how that went; all of it in the store.

    A crash between an answer of the API and its row has the sample asked for again: paid twice, counted once. The
    spending limit is looked at before each request, so that it may be passed by the requests then under way.
    """

    def __init__(
        self, store: Store, *, settings: Settings, api: GradingApi, telemetry: GradeTelemetry | None = None
    ) -> None:
        self._store = store
        self._settings = settings
        self._api = api
        self._telemetry = telemetry or GradeTelemetry()
        self._prices = PriceBook(settings.price_overrides)
        self._workers: Workers[GradingSample, GradeResult | GraderError] | None = None
        self._stopped = False
        self._spent_usd = 0.0
        self._spending_lock = threading.Lock()
        self.judge = judge_of(settings)
        self._sampler = Sampler(settings, self.judge)
        self._second = SecondGrader(store, settings=settings, first=self.judge)

    def run(self, now: float, *, judged: Collection[str] = ()) -> int:
        """Choose what is to be graded, forget what is too old, and grade what waits; returns how many were settled.

        `judged` are the rules whose raises wait for grades. Raises StoreError.
        """
        self._tidy(now, judged)
        if not self._settings.graded_share or self._waits(now):
            return 0
        settled = self._collect(now)
        if self._waits(now):
            return settled
        if self._state().paused_why:
            return (
                settled + self._grade(now, limit=1) if self._grades_directly else settled + self._submit(now, limit=1)
            )
        settled += (self._grade if self._grades_directly else self._submit)(now, limit=MOST_AT_ONCE)
        settled += self._grade_past(now, judged)
        self._compare(now)
        return settled

    def _compare(self, now: float) -> None:
        """Have a second judge grade some of the same answers, for as long as there is money and time for them."""

        def goes_on() -> bool:
            return not self._stopped and self._spending(now) < self._settings.max_grader_usd_per_day

        if not self._waits(now):
            self._second.run(now, ask=self._api.grade, write=partial(self._write_second, now), goes_on=goes_on)

    def _write_second(self, now: float, sample: GradingSample, judge: GraderVersion, found: GradeResult) -> None:
        found = unless_copied(found, sample.turns, sample.answer)
        row = {**self._row(GradeAttempt(sample=sample, found=found), judge, found, now), "second": True}
        self._store.transact(
            lambda connection: _append(
                connection, sample, row, candidates.ids_with_content(connection, [sample.call_id])
            )
        )

    @property
    def _grades_directly(self) -> bool:
        return self._settings.grade_by == "direct"

    def _grade_past(self, now: float, judged: Collection[str]) -> int:
        """Grade answers of the past for as long as the grades before give reason to, one by one even beside batches."""
        settled = 0
        while not self._stopped and self._follow(self._sampler.look_back, now):
            some = 0 if self._waits(now) else self._grade(now, limit=MOST_AT_ONCE, steered=True)
            settled += some
            if not some:
                break
        if settled:
            self._follow(partial(self._sampler.plan, judged=judged), now)
        return settled

    def _follow(self, decide: Callable[[Connection, float], SamplingPlan], now: float) -> int:
        """Store what the sampler decides; returns how many answers of the past wait for their grade."""
        with self._store.reading() as connection:
            plan = decide(connection, now)
        if plan.is_empty:
            return plan.waiting
        return self._store.transact(lambda connection: self._sampler.write(connection, plan, now))

    def _tidy(self, now: float, judged: Collection[str]) -> None:
        """Choose, then forget what is too old or too much; each by short transactions."""
        settings = self._settings
        if settings.graded_share:
            self._follow(partial(self._sampler.plan, judged=judged), now)
            candidates.choose(self._store, otherwise=settings.graded_share, now=now)
        candidates.forget(self._store, before=now - settings.retain_content_days * DAY_S)
        candidates.trim(self._store, most=settings.max_candidates)

    def _state(self) -> GraderStatus:
        with self._store.reading() as connection:
            return grader_state.state(connection)

    def _waits(self, now: float) -> bool:
        """Whether nobody is to be asked now: the API has asked for time, or somebody must mend something."""
        until = self._state().paused_until
        # One that ends much later than any could was set by a clock that was wrong.
        return until is not None and now < until <= now + _LONGEST_WAIT_S

    def leave(self) -> None:
        """Begin no further request in a run that is under way: another guard acts now."""
        if self._workers is not None:
            self._workers.finish()

    def stop(self) -> None:
        """Begin no further request; a run under way ends soon, and what it left out waits for the next guard."""
        self._stopped = True
        if self._workers is not None:
            self._workers.stop()

    def close(self) -> None:
        """Close the connections to the API."""
        self._api.close()

    def _grade(self, now: float, *, limit: int, steered: bool | None = None) -> int:
        """Ask for grades one by one, several at a time, until none waits or something is in the way."""
        with self._store.reading() as connection:
            samples = candidates.due(connection, now=now, limit=limit, steered=steered)
        workers = self._workers = Workers(
            partial(self._ask, now), size=min(self._settings.grade_concurrency, max(len(samples), 1))
        )
        if self._stopped:
            return 0
        settled = errors = 0
        self._spent_usd = self._spending(now)
        chunks = workers.chunks(self._affordable(samples), most=_CHUNK, within_s=_CHUNK_S, ends=_is_refusal)
        for chunk in chunks:
            settled += self._write(
                [GradeAttempt(sample=sample, found=found) for sample, found in chunk], self.judge, now
            )
            before = errors if len(chunk) == 1 else 0  # a refusal ends its chunk, so what is before it was answered
            errors = before + 1 if _is_refusal(chunk[-1][1]) else 0
            if errors >= _ERRORS or any(isinstance(found, GraderError) and found.asks_for_time for _, found in chunk):
                workers.finish()
        return settled

    def _affordable(self, samples: list[GradingSample]) -> Iterator[GradingSample]:
        """The samples, for as long as there is money for them."""
        limit_usd = self._settings.max_grader_usd_per_day
        return takewhile(lambda _sample: self._spent_usd < limit_usd, samples)

    def _spending(self, now: float) -> float:
        with self._store.reading() as connection:
            return grades.spent_usd(connection, since=now - DAY_S)

    def _ask(self, now: float, sample: GradingSample) -> GradeResult | GraderError:
        try:
            found = self._api.grade(self._request(sample))
        except GraderError as error:
            return error
        cost = self._cost(self.judge, found.usage, now, batch=False)
        with self._spending_lock:  # counted at once: the limit holds for the next request
            self._spent_usd += cost or 0.0
        return found

    def _request(self, sample: GradingSample) -> dict[str, Any]:
        return grading_request(sample.turns, sample.answer, model=self.judge.model)

    def _submit(self, now: float, *, limit: int) -> int:
        """Hand all that waits in as one batch; nothing is settled by that."""
        with self._store.reading() as connection:
            affordable = self._affordable_count(connection, now)
            samples = candidates.due(connection, now=now, limit=min(limit, affordable), steered=False)
        if not samples or self._stopped:
            return 0
        try:
            batch_id = self._api.submit({_custom_id(each.call_id): self._request(each) for each in samples})
        except GraderError as error:
            self._note(error, now)
            return 0

        def note(connection: Connection) -> None:
            grader_state.save_state(
                connection, replace(grader_state.state(connection), paused_why="", paused_until=None)
            )
            grader_state.begin_batch(connection, batch_id, self.judge, at=now, requests=len(samples))
            candidates.submit(connection, [each.call_id for each in samples], batch_id)

        self._store.transact(note)
        return 0

    def _affordable_count(self, connection: Connection, now: float) -> int:
        """For how many more requests of batches there is money, those that are out counted at what one costs."""
        spent, graded = grades.spent_usd(connection, since=now - DAY_S), grades.graded_since(connection, now - DAY_S)
        each = spent / graded if spent and graded else self._cost(self.judge, _TYPICAL, now, batch=True) or 0.0
        if not each:
            return MOST_AT_ONCE
        left = (self._settings.max_grader_usd_per_day - spent) / each
        return max(int(left) - int(candidates.backlog(connection)["submitted"]), 0)

    def _collect(self, now: float) -> int:
        """Read the results of batches that have ended."""
        with self._store.reading() as connection:
            waiting = grader_state.open_batches(connection)
        read = (self._read_batch(batch_id, judge, now) for batch_id, judge in waiting if not self._waits(now))
        return sum(read)

    def _read_batch(self, batch_id: str, judge: GraderVersion, now: float) -> int:
        try:
            found = self._api.results(batch_id)
        except GraderError as error:
            self._note(error, now)
            return 0
        if found is None:
            return 0
        with self._store.reading() as connection:
            samples = candidates.submitted(connection, batch_id)
        absent = GraderError("the batch has no result for it")
        asked = [
            GradeAttempt(sample=each, found=found.get(_custom_id(each.call_id), absent), batch=True) for each in samples
        ]
        settled = sum(self._write(asked[start : start + _CHUNK], judge, now) for start in range(0, len(asked), _CHUNK))
        self._store.transact(lambda connection: grader_state.end_batch(connection, batch_id, at=now))
        return settled

    def _note(self, error: GraderError, now: float) -> None:
        def note(connection: Connection) -> GraderStatus:
            before = grader_state.state(connection)
            grader_state.save_state(connection, _state_in_trouble(before, error, now))
            return before

        _say_paused(self._store.transact(note), [error])

    def _write(self, chunk: Sequence[GradeAttempt], judge: GraderVersion, now: float) -> int:
        """Store what came of some samples, in one transaction, and emit their grades; returns how many are settled."""
        outcomes = [(asked, _judgement(asked)) for asked in chunk]
        rows = [None if found is None else self._row(asked, judge, found, now) for asked, found in outcomes]

        def work(connection: Connection) -> tuple[GraderStatus, list[bool]]:
            before = state = grader_state.state(connection)
            held = candidates.ids_with_content(connection, [asked.sample.call_id for asked in chunk])
            is_new = []
            for (asked, found), row in zip(outcomes, rows, strict=True):
                if found is None or row is None:
                    error = cast("GraderError", asked.found)
                    _put_off(connection, asked.sample, error, now)
                    state = _state_in_trouble(state, error, now)
                    is_new.append(False)
                else:
                    is_new.append(_settle(connection, asked.sample, row, found, held))
                    state = _state_after(state, found, now)
            if state != before:
                grader_state.save_state(connection, state)
            return before, is_new

        before, is_new = self._store.transact(work)
        _say_paused(before, [each.found for each in chunk if isinstance(each.found, GraderError)])
        for (asked, found), new in zip(outcomes, is_new, strict=True):
            if found is not None and new:
                cost = self._cost(judge, found.usage, now, batch=asked.batch)
                self._telemetry.record(self._told(asked.sample, judge, found, now, cost))
        return sum(found is not None for _, found in outcomes)

    def _row(self, asked: GradeAttempt, judge: GraderVersion, found: GradeResult, now: float) -> dict[str, Any]:
        cost = self._cost(judge, found.usage, now, batch=asked.batch)
        return {**_call_columns(asked.sample), **_judge_columns(judge, found), "at": now, "batch": asked.batch,
                "cost_nusd": None if cost is None else round(cost * NUSD_PER_USD)}  # fmt: skip

    def _cost(self, judge: GraderVersion, usage: Usage | None, now: float, *, batch: bool) -> float | None:
        return None if usage is None else self._prices.cost(judge.model, usage, at=now, batch=batch)

    def _told(
        self, sample: GradingSample, judge: GraderVersion, found: GradeResult, now: float, cost: float | None
    ) -> GradeRecord:
        return GradeRecord(
            route=sample.route,
            call_id=sample.call_id,
            grade=found.grade,
            failure=found.failure.value if found.failure else "",
            grader_model=judge.model,
            grader_prompt=judge.prompt,
            lag_s=max(now - sample.at, 0.0),
            cost_usd=cost,
            trace=sample.trace,
            response_id=sample.response_id,
            explanation=found.reason if self._settings.capture_content else "",
        )


def _is_refusal(found: GradeResult | GraderError) -> bool:
    """Whether the API did not even look at an answer."""
    return isinstance(found, GraderError) or found.failure is GradeFailure.REJECTED


def judge_of(settings: Settings) -> GraderVersion:
    """Who grades by these settings."""
    return GraderVersion(model=settings.grader_model, prompt=PROMPT_VERSION)


def _judgement(asked: GradeAttempt) -> GradeResult | None:
    """What a sample ends with, be it the failure that follows on too many errors; None where it is asked for again."""
    sample, error = asked.sample, asked.found
    if isinstance(error, GradeResult):
        return unless_copied(error, sample.turns, sample.answer)
    if error.pauses or sample.attempts + 1 < _TRIES:
        return None
    return GradeResult(failure=GradeFailure.UNAVAILABLE, reason=str(error))


def _put_off(connection: Connection, sample: GradingSample, error: GraderError, now: float) -> None:
    """Postpone a sample. An outage of the grader does not count as an attempt of the sample."""
    attempts = sample.attempts if error.pauses else sample.attempts + 1
    until = now if error.pauses else now + _wait_s(error, _FIRST_WAIT_S * 2.0**sample.attempts)
    candidates.postpone(connection, sample.call_id, until=until, attempts=attempts)


def _wait_s(error: GraderError, otherwise_s: float) -> float:
    wait_s = otherwise_s if error.retry_after_s is None else max(error.retry_after_s, 0.0)
    return min(wait_s, _LONGEST_WAIT_S)


def _state_in_trouble(state: GraderStatus, error: GraderError, now: float) -> GraderStatus:
    """The grader's state after a request that failed; it is paused where the error asks for time or for a person."""
    if error.asks_for_time:
        why = str(error) if error.pauses else state.paused_why
        state = replace(state, paused_why=why, paused_until=now + _wait_s(error, PAUSE_S))
    return replace(state, failures_in_row=state.failures_in_row + 1, last_failure=str(error), last_failure_at=now)


def _say_paused(before: GraderStatus, errors: Sequence[GraderError]) -> None:
    """Log that grading is paused, once."""
    pausing = next((error for error in errors if error.pauses), None)
    if pausing is not None and not before.paused_why:
        _log.error("grading is paused: %s", pausing)


def _append(connection: Connection, sample: GradingSample, row: Mapping[str, Any], held: Collection[str]) -> bool:
    """Append the grade; False where the call was graded before.

    Of a call whose content was forgotten meanwhile, it is not in `held`, the grader's words are not kept either.
    """
    return grades.add(connection, row if sample.call_id in held else {**row, "reason": ""})


def _settle(
    connection: Connection, sample: GradingSample, row: Mapping[str, Any], found: GradeResult, held: Collection[str]
) -> bool:
    """Append the grade and close the sample; False where the call was graded before."""
    is_new = _append(connection, sample, row, held)
    failure = found.failure.value if found.failure else ""
    state = CandidateState.FAILED if failure else CandidateState.GRADED
    candidates.settle(connection, sample.call_id, state, why=failure)
    return is_new


def _state_after(state: GraderStatus, found: GradeResult, now: float) -> GraderStatus:
    if found.grade is not None:
        return replace(state, failures_in_row=0, paused_why="", paused_until=None, last_grade_at=now)
    failed = replace(
        state, failures_in_row=state.failures_in_row + 1, last_failure=str(found.failure), last_failure_at=now
    )
    has_answered = found.failure is not GradeFailure.UNAVAILABLE
    return replace(failed, paused_why="", paused_until=None) if has_answered else failed


def _call_columns(sample: GradingSample) -> dict[str, Any]:
    repeated = ("call_id", "route", "input_class", "shipped", "confidence", "policy_version", "inclusion", "model",
                "prompt_version", "steered")  # fmt: skip
    return {**{name: getattr(sample, name) for name in repeated}, "called_at": sample.at}


def _judge_columns(judge: GraderVersion, found: GradeResult) -> dict[str, Any]:
    usage = found.usage or Usage()
    return {
        "grader_model": judge.model,
        "grader_prompt": judge.prompt,
        "verdict": found.grade.value if found.grade else None,
        "failure": found.failure.value if found.failure else "",
        "reason": found.reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
    }


def _custom_id(call_id: str) -> str:
    """An id that the API takes, whatever callers use for theirs."""
    return blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
