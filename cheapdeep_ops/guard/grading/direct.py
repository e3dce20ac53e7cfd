"""Grade samples by single requests, several at a time."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import islice, takewhile
from typing import Final
from uuid import uuid4

from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.grading.grade_writer import GradeAttempt, GradeWriter
from cheapdeep_ops.guard.grading.workers import Workers
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.values import GradeFailure, GradeResult

_MAX_ERRORS: Final = 3
"""After so many failed requests in a row the API counts as down, and the rest of the run waits."""

_CHUNK: Final = 10
_RELEASED_AT_ONCE: Final = 500
_CHUNK_S: Final = 0.2
"""A transaction stores at most 10 grades, or those of this time; meanwhile no further request begins for them."""


class DirectGrading:
    """Sends one request for each sample; the limit on spending is checked before each request."""

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        grader: GraderVersion,
        grade: Callable[[Mapping[str, object]], GradeResult],
        writer: GradeWriter,
    ) -> None:
        self._store = store
        self._settings = settings
        self._grader = grader
        self._request_grade = grade
        self._writer = writer
        self._workers: Workers[GradingSample, GradeResult | GraderError] | None = None
        self._stopped = False
        self._spent_usd = 0.0
        self._spending_lock = threading.Lock()

    def finish(self) -> None:
        """Begin no further request in the current run, and let those under way end."""
        if self._workers is not None:
            self._workers.finish()

    def stop(self) -> None:
        """Begin no further request, and end the current run at once."""
        self._stopped = True
        if self._workers is not None:
            self._workers.stop()

    def run(self, now: float, *, limit: int, steered: bool | None = None) -> int:
        """Grade up to `limit` samples, or until the API fails or the money is spent; returns how many are settled.

        `steered` selects the samples that were chosen retrospectively (True) or by chance (False); None selects both.
        """
        with self._store.reading() as connection:
            samples = candidates.due(connection, now=now, limit=limit, steered=steered)
        workers = self._workers = Workers(
            partial(self._grade, now), size=min(self._settings.grade_concurrency, max(len(samples), 1))
        )
        # Checked after `_workers` is set: `stop` in another thread either sees them or is seen here.
        if self._stopped:
            return 0
        self._spent_usd = self._writer.spent_usd(now)
        reservations: dict[str, str] = {}
        affordable = self._affordable(self._reserved(iter(samples), reservations, now))
        try:
            return self._settle(workers, affordable, reservations, now)
        finally:
            self._release(set(reservations.values()))

    def _settle(
        self,
        workers: Workers[GradingSample, GradeResult | GraderError],
        samples: Iterator[GradingSample],
        reservations: Mapping[str, str],
        now: float,
    ) -> int:
        """Have the samples graded and store the results; returns how many are settled."""
        settled = errors = 0
        for chunk in workers.chunks(samples, most=_CHUNK, within_s=_CHUNK_S, ends=_is_refused):
            attempts = [
                GradeAttempt(sample=sample, outcome=outcome, reservation=reservations[sample.call_id])
                for sample, outcome in chunk
            ]
            settled += self._writer.write(attempts, self._grader, now)
            # A refused request ends its chunk, so the requests before it in the chunk were answered.
            before = errors if len(chunk) == 1 else 0
            errors = before + 1 if _is_refused(chunk[-1][1]) else 0
            if errors >= _MAX_ERRORS or any(_asks_for_time(outcome) for _, outcome in chunk):
                workers.finish()
        return settled

    def _reserved(
        self, samples: Iterator[GradingSample], reservations: dict[str, str], now: float
    ) -> Iterator[GradingSample]:
        """The samples, each after its request was stored as spent, at the most that it can cost.

        Fills `reservations` by call id. What a guard that is killed has sent stays in its spending.
        """
        while some := list(islice(samples, self._settings.grade_concurrency)):
            name = f"direct-{uuid4().hex}"
            requests = (grading_request(each.turns, each.answer, model=self._grader.model) for each in some)
            worst = max(self._writer.worst_nusd(self._grader, each, now, batch=False) for each in requests)
            reserve = partial(
                grader_state.reserve, name=name, grader=self._grader, at=now, requests=len(some), nusd_each=worst
            )
            self._store.transact(reserve)
            reservations.update({each.call_id: name for each in some})
            yield from some

    def _release(self, names: Collection[str]) -> None:
        """Remove the reservations of a run that has ended, except those with requests under way."""
        ended = iter([] if self._stopped else names)
        while some := list(islice(ended, _RELEASED_AT_ONCE)):
            self._store.transact(lambda connection, some=some: grader_state.remove(connection, *some))  # type: ignore[misc]

    def _affordable(self, samples: Iterator[GradingSample]) -> Iterator[GradingSample]:
        """The samples until the limit on spending is reached."""
        limit_usd = self._settings.max_grader_usd_per_day
        return takewhile(lambda _sample: self._spent_usd < limit_usd, samples)

    def _grade(self, now: float, sample: GradingSample) -> GradeResult | GraderError:
        try:
            result = self._request_grade(grading_request(sample.turns, sample.answer, model=self._grader.model))
        except GraderError as error:
            return error
        cost = self._writer.cost(self._grader, result.usage, now, batch=False)
        # Counted here and not when it is stored, so that the limit holds for the next request.
        with self._spending_lock:
            self._spent_usd += cost or 0.0
        return result


def _asks_for_time(outcome: GradeResult | GraderError) -> bool:
    return isinstance(outcome, GraderError) and outcome.asks_for_time


def _is_refused(outcome: GradeResult | GraderError) -> bool:
    """Whether the API refused the request, so that no model read the answer."""
    return isinstance(outcome, GraderError) or outcome.failure is GradeFailure.REJECTED
