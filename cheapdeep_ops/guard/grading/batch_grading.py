"""Grade samples by Message Batches, at half the price and later.

A batch that the API does not find is read again, because to send its samples once more would cost money. The guard
gives it up after several reads, an hour, and the day within which it expires.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final, TypedDict

from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.errors import BatchMissingError, GraderError
from cheapdeep_ops.guard.grading.api import GradingApi
from cheapdeep_ops.guard.grading.grade_writer import GradeAttempt, GradeWriter
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grader_state import OpenBatch
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.units import DAY_S, NUSD_PER_USD
from cheapdeep_ops.values import GradeResult, Usage

MAX_REQUESTS: Final = 500
"""The largest batch; the next run submits more."""

_CHUNK: Final = 10
_MISSING_READS: Final = 3
_MISSING_S: Final = 3_600.0
_EXPIRES_AFTER_S: Final = float(DAY_S)
"""The API ends a batch after a day. Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing"""

_PROBE_EVERY_S: Final = 3_600.0
"""How often one more sample is sent while the newest batch is missing, to show whether batches can be read."""

_TYPICAL: Final = Usage(input_tokens=2_000, output_tokens=200)
"""The assumed usage of one grade until some are known."""


class _Cost(TypedDict):
    """When a batch is sent, its number of requests, and the estimated cost of each."""

    at: float
    requests: int
    nusd_each: int


class BatchGrading:
    """Submits batches of samples, and reads their results in later runs."""

    def __init__(
        self, store: Store, *, settings: Settings, grader: GraderVersion, api: GradingApi, writer: GradeWriter
    ) -> None:
        self._store = store
        self._settings = settings
        self._grader = grader
        self._api = api
        self._writer = writer
        self._stopped = False

    def stop(self) -> None:
        """Submit no further batch."""
        self._stopped = True

    def submit(self, now: float, *, limit: int) -> None:
        """Submit up to `limit` waiting samples as one batch, as far as there is money and batches can be read."""
        with self._store.reading() as connection:
            usd_each = self._usd_each(connection, now)
            most = min(limit, _readable_count(connection, now), self._affordable_count(connection, usd_each, now))
            # Retrospective samples are graded directly: a suspicion needs them soon.
            samples = candidates.due(connection, now=now, limit=most, steered=False)
        if not samples or self._stopped:
            return
        model = self._grader.model
        requests = {_custom_id(each.call_id): grading_request(each.turns, each.answer, model=model) for each in samples}
        cost = _Cost(at=now, requests=len(samples), nusd_each=round(usd_each * NUSD_PER_USD))
        try:
            batch_id = self._api.submit(requests)
        except GraderError as error:
            self._writer.note_error(error, now)
            if error.may_be_sent:
                self._store.transact(lambda connection: grader_state.note_unanswered(connection, self._grader, **cost))
            return

        def work(connection: Connection) -> None:
            grader_state.save_state(
                connection, replace(grader_state.state(connection), paused_why="", paused_until=None)
            )
            grader_state.begin_batch(connection, batch_id, self._grader, **cost)
            candidates.submit(connection, [each.call_id for each in samples], batch_id)

        self._store.transact(work)

    def collect(self, now: float, *, is_paused: Callable[[float], bool]) -> int:
        """Store the results of batches that have ended; returns how many samples are settled."""
        with self._store.reading() as connection:
            open_batches = grader_state.open_batches(connection)
        # An error of one batch may pause grading, so this is checked before each.
        return sum(self._collect_one(batch, now) for batch in open_batches if not is_paused(now))

    def _collect_one(self, batch: OpenBatch, now: float) -> int:
        try:
            results = self._api.results(batch.id)
        except BatchMissingError as error:
            return self._settle(batch, {}, error, now)
        except GraderError as error:
            self._writer.note_error(error, now)
            return 0
        if results is not None:
            return self._settle(batch, results, BatchMissingError("there is no readable result for it"), now)
        if batch.missing_since is not None:
            self._store.transact(lambda connection: grader_state.mark_found(connection, batch.id))
        return 0

    def _settle(
        self,
        batch: OpenBatch,
        results: Mapping[str, GradeResult | GraderError],
        missing: BatchMissingError,
        now: float,
    ) -> int:
        """Store the results; returns how many samples are settled. Without all of them, the batch is read again."""
        with self._store.reading() as connection:
            samples = candidates.submitted(connection, batch.id)
        attempts = [
            GradeAttempt(sample=each, outcome=results.get(_custom_id(each.call_id), missing), batch_id=batch.id)
            for each in samples
        ]
        found = [each for each in attempts if each.outcome is not missing]
        is_lost = _is_lost(batch, now)
        settled = self._write(attempts if is_lost else found, batch.grader, now)

        def work(connection: Connection) -> None:
            if len(found) == len(attempts) or is_lost:
                grader_state.end_batch(connection, batch.id, at=now)
            else:
                grader_state.mark_missing(connection, batch.id, at=now, why=str(missing))

        self._store.transact(work)
        return settled

    def _write(self, attempts: Sequence[GradeAttempt], grader: GraderVersion, now: float) -> int:
        chunks = (attempts[start : start + _CHUNK] for start in range(0, len(attempts), _CHUNK))
        return sum(self._writer.write(chunk, grader, now) for chunk in chunks)

    def _usd_each(self, connection: Connection, now: float) -> float:
        """The estimated cost of one request: the mean of the last 24 hours, or that of a typical one; 0 if unknown."""
        spent, graded = grades.spent_usd(connection, since=now - DAY_S), grades.graded_since(connection, now - DAY_S)
        typical = self._writer.cost(self._grader, _TYPICAL, now, batch=True)
        return spent / graded if spent and graded else typical or 0.0

    def _affordable_count(self, connection: Connection, usd_each: float, now: float) -> int:
        """How many more requests the limit on spending allows; requests in batches count from when they are sent."""
        if not usd_each:
            return MAX_REQUESTS
        left_usd = self._settings.max_grader_usd_per_day - grader_state.committed_usd(connection, since=now - DAY_S)
        return max(int(left_usd / usd_each), 0)


def _readable_count(connection: Connection, now: float) -> int:
    """How many requests to send: few while batches get lost, because these would be lost too.

    It is one after a batch without an answer, and one an hour while the newest batch is missing.
    """
    if grader_state.is_last_unanswered(connection):
        return 1
    newest = next(reversed(grader_state.open_batches(connection)), None)
    if newest is None or newest.missing_since is None:
        return MAX_REQUESTS
    return 1 if now - newest.missing_since >= _PROBE_EVERY_S else 0


def _is_lost(batch: OpenBatch, now: float) -> bool:
    """Whether to give up results that the API does not find, now and in earlier reads."""
    if batch.missing_since is None or batch.missing_reads + 1 < _MISSING_READS:
        return False
    return now - batch.missing_since >= _MISSING_S and now - batch.submitted_at >= _EXPIRES_AFTER_S


def _custom_id(call_id: str) -> str:
    """A custom id in the API's format, for a call id in any format."""
    return blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
