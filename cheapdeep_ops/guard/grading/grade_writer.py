"""Store the results of grading, and emit them as telemetry."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from cheapdeep_ops.claude.forged_grades import reject_copied
from cheapdeep_ops.errors import BatchMissingError, GraderError
from cheapdeep_ops.guard.grading.grader_status import after_error, after_result, pausing_error, wait_s
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades, regradings
from cheapdeep_ops.store.anchors import AnchorContent
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grader_state import GraderStatus
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.telemetry.evaluations import GradeRecord, GradeTelemetry
from cheapdeep_ops.units import DAY_S, NUSD_PER_USD
from cheapdeep_ops.values import CandidateState, Grade, GradeFailure, GradeResult, Usage

_log: Final = logging.getLogger(__name__)
_MAX_ATTEMPTS: Final = 5
_FIRST_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeAttempt:
    """One sample and the outcome of its request: a grade or a failure, or an error of the API.

    `batch_id` is the batch of the request; empty for a single request, which has the name of its `reservation`.
    """

    sample: GradingSample
    outcome: GradeResult | GraderError
    batch_id: str = ""
    reservation: str = ""

    @property
    def batch(self) -> bool:
        """Whether the request was part of a batch, at half the price."""
        return bool(self.batch_id)


class GradeWriter:
    """Stores grades with their costs; each grade is stored once, also if the API was asked twice."""

    def __init__(self, store: Store, *, settings: Settings, telemetry: GradeTelemetry) -> None:
        self._store = store
        self._telemetry = telemetry
        self._prices = PriceBook(settings.price_overrides)
        self._captures_content = settings.capture_content

    def spent_usd(self, now: float) -> float:
        """What grading has cost in the last 24 hours, with an estimate for requests in batches."""
        with self._store.reading() as connection:
            return grader_state.committed_usd(connection, since=now - DAY_S)

    def cost(self, grader: GraderVersion, usage: Usage | None, now: float, *, batch: bool) -> float | None:
        """The cost of one grade in US dollars; None if its usage or the model's price is unknown."""
        return None if usage is None else self._prices.cost(grader.model, usage, at=now, batch=batch)

    def worst_nusd(self, grader: GraderVersion, request: Mapping[str, object], now: float, *, batch: bool) -> int:
        """The most that a request can cost, in billionths of a US dollar; 0 if the model has no price."""
        # No tokenizer makes more tokens than there are bytes.
        size, longest = len(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")), request["max_tokens"]
        usage = Usage(input_tokens=size, output_tokens=cast("int", longest))
        return round((self.cost(grader, usage, now, batch=batch) or 0.0) * NUSD_PER_USD)

    def write(self, attempts: Sequence[GradeAttempt], grader: GraderVersion, now: float) -> int:
        """Store the outcomes in one transaction and emit the new grades; returns how many samples are settled."""
        finals = [(attempt, _final_result(attempt)) for attempt in attempts]
        rows = [None if result is None else self._row(attempt, grader, result, now) for attempt, result in finals]

        def work(connection: Connection) -> tuple[GraderStatus, list[bool]]:
            before = status = grader_state.state(connection)
            held = candidates.ids_with_content(connection, [attempt.sample.call_id for attempt in attempts])
            is_new = []
            for (attempt, result), row in zip(finals, rows, strict=True):
                if result is None or row is None:
                    error = cast("GraderError", attempt.outcome)
                    _postpone(connection, attempt.sample, error, now)
                    status = after_error(status, error, now)
                    is_new.append(False)
                else:
                    is_new.append(_settle(connection, attempt.sample, row, result, held))
                    status = after_result(status, result, now)
            if status != before:
                grader_state.save_state(connection, status)
            for batch_id, results in (_results_read(attempts) + _answered(attempts)).items():
                grader_state.count_read(connection, batch_id, results)
            return before, is_new

        before, is_new = self._store.transact(work)
        _log_pause(before, [each.outcome for each in attempts if isinstance(each.outcome, GraderError)])
        # Only after the commit, so that a transaction that is retried emits each grade once.
        for (attempt, result), new in zip(finals, is_new, strict=True):
            if result is not None and new:
                cost = self.cost(grader, result.usage, now, batch=attempt.batch)
                self._telemetry.record(self._grade_record(attempt.sample, grader, result, now, cost))
        return sum(result is not None for _, result in finals)

    def write_second(self, sample: GradingSample, grader: GraderVersion, result: GradeResult, now: float) -> None:
        """Store a second grader's result; the sample and the grader's status do not change."""
        result = reject_copied(result, sample.turns, sample.answer)
        attempt = GradeAttempt(sample=sample, outcome=result)
        row = {**self._row(attempt, grader, result, now), "second": True}

        def write(connection: Connection) -> None:
            _append(connection, sample, row, candidates.ids_with_content(connection, [sample.call_id]))

        self._store.transact(write)

    def write_regrading(
        self, anchor: AnchorContent, label: Grade, grader: GraderVersion, result: GradeResult, now: float
    ) -> None:
        """Store a repeated grading of a labelled answer, without its reason, which may quote the answer."""
        result = reject_copied(result, anchor.turns, anchor.answer)
        cost = self.cost(grader, result.usage, now, batch=False)
        row = {"call_id": anchor.call_id, "grader_model": grader.model, "grader_prompt": grader.prompt,
               "label": label.value, "verdict": result.grade.value if result.grade else None,
               "failure": result.failure.value if result.failure else "", "at": now,
               "cost_nusd": None if cost is None else round(cost * NUSD_PER_USD)}  # fmt: skip
        self._store.transact(lambda connection: regradings.add(connection, row))

    def note_error(self, error: GraderError, now: float) -> None:
        """Store an error that concerns no single sample."""

        def work(connection: Connection) -> GraderStatus:
            before = grader_state.state(connection)
            grader_state.save_state(connection, after_error(before, error, now))
            return before

        _log_pause(self._store.transact(work), [error])

    def _row(self, attempt: GradeAttempt, grader: GraderVersion, result: GradeResult, now: float) -> dict[str, object]:
        cost = self.cost(grader, result.usage, now, batch=attempt.batch)
        return {**_call_columns(attempt.sample), **_grade_columns(grader, result), "at": now, "batch": attempt.batch,
                "cost_nusd": None if cost is None else round(cost * NUSD_PER_USD)}  # fmt: skip

    def _grade_record(
        self, sample: GradingSample, grader: GraderVersion, result: GradeResult, now: float, cost: float | None
    ) -> GradeRecord:
        return GradeRecord(
            route=sample.route,
            call_id=sample.call_id,
            grade=result.grade,
            failure=result.failure.value if result.failure else "",
            grader_model=grader.model,
            grader_prompt=grader.prompt,
            lag_s=max(now - sample.at, 0.0),
            cost_usd=cost,
            trace=sample.trace,
            response_id=sample.response_id,
            explanation=result.reason if self._captures_content else "",
        )


def _results_read(attempts: Sequence[GradeAttempt]) -> Counter[str]:
    """The number of results that the API gave, by batch."""
    return Counter(each.batch_id for each in attempts if each.batch and not isinstance(each.outcome, BatchMissingError))


def _answered(attempts: Sequence[GradeAttempt]) -> Counter[str]:
    """The number of single requests that have ended, by reservation."""
    return Counter(each.reservation for each in attempts if each.reservation)


def _final_result(attempt: GradeAttempt) -> GradeResult | None:
    """The result that settles the sample, UNAVAILABLE after too many errors; None if it is requested again."""
    sample, outcome = attempt.sample, attempt.outcome
    if isinstance(outcome, GradeResult):
        return reject_copied(outcome, sample.turns, sample.answer)
    if outcome.pauses or sample.attempts + 1 < _MAX_ATTEMPTS:
        return None
    return GradeResult(failure=GradeFailure.UNAVAILABLE, reason=str(outcome))


def _postpone(connection: Connection, sample: GradingSample, error: GraderError, now: float) -> None:
    """Postpone a sample. An outage of the grader does not count as an attempt of the sample."""
    attempts = sample.attempts if error.pauses else sample.attempts + 1
    until = now if error.pauses else now + wait_s(error, _FIRST_WAIT_S * 2.0**sample.attempts)
    candidates.postpone(connection, sample.call_id, until=until, attempts=attempts)


def _log_pause(before: GraderStatus, errors: Sequence[GraderError]) -> None:
    error = pausing_error(before, errors)
    if error is not None:
        _log.error("grading is paused: %s", error)


def _append(connection: Connection, sample: GradingSample, row: Mapping[str, object], held: Collection[str]) -> bool:
    """Append the grade; returns False if the call has a grade already."""
    # If the call's content was deleted in the meantime, nothing that says something of it is stored.
    return grades.add(connection, row if sample.call_id in held else {**row, "reason": "", "fingerprint": ""})


def _settle(
    connection: Connection, sample: GradingSample, row: Mapping[str, object], result: GradeResult, held: Collection[str]
) -> bool:
    """Append the grade and close the sample; returns False if the call has a grade already."""
    is_new = _append(connection, sample, row, held)
    failure = result.failure.value if result.failure else ""
    state = CandidateState.FAILED if failure else CandidateState.GRADED
    candidates.settle(connection, sample.call_id, state, why=failure)
    return is_new


def _call_columns(sample: GradingSample) -> dict[str, object]:
    copied = ("call_id", "route", "input_class", "shipped", "confidence", "policy_version", "inclusion", "model",
              "tier", "prompt_version", "steered", "fingerprint")  # fmt: skip
    return {**{name: getattr(sample, name) for name in copied}, "called_at": sample.at}


def _grade_columns(grader: GraderVersion, result: GradeResult) -> dict[str, object]:
    usage = result.usage or Usage()
    return {
        "grader_model": grader.model,
        "grader_prompt": grader.prompt,
        "verdict": result.grade.value if result.grade else None,
        "failure": result.failure.value if result.failure else "",
        "reason": result.reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
    }
