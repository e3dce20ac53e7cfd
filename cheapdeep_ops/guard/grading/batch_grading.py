"""Grade samples by Message Batches, at half the price and later."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.grading.api import GradingApi
from cheapdeep_ops.guard.grading.grade_writer import GradeAttempt, GradeWriter
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Usage

MAX_REQUESTS: Final = 500
"""The largest batch; the next run submits more."""

_CHUNK: Final = 10
_TYPICAL: Final = Usage(input_tokens=2_000, output_tokens=200)
"""The assumed usage of one grade until some are known."""


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
        """Submit up to `limit` waiting samples as one batch, as far as there is money."""
        with self._store.reading() as connection:
            affordable = self._affordable_count(connection, now)
            # Retrospective samples are graded directly: a suspicion needs them soon.
            samples = candidates.due(connection, now=now, limit=min(limit, affordable), steered=False)
        if not samples or self._stopped:
            return
        model = self._grader.model
        requests = {_custom_id(each.call_id): grading_request(each.turns, each.answer, model=model) for each in samples}
        try:
            batch_id = self._api.submit(requests)
        except GraderError as error:
            self._writer.note_error(error, now)
            return

        def work(connection: Connection) -> None:
            grader_state.save_state(
                connection, replace(grader_state.state(connection), paused_why="", paused_until=None)
            )
            grader_state.begin_batch(connection, batch_id, self._grader, at=now, requests=len(samples))
            candidates.submit(connection, [each.call_id for each in samples], batch_id)

        self._store.transact(work)

    def collect(self, now: float, *, is_paused: Callable[[float], bool]) -> int:
        """Store the results of batches that have ended; returns how many samples are settled."""
        with self._store.reading() as connection:
            open_batches = grader_state.open_batches(connection)
        # An error of one batch may pause grading, so this is checked before each.
        settled = (self._collect_one(batch_id, grader, now) for batch_id, grader in open_batches if not is_paused(now))
        return sum(settled)

    def _collect_one(self, batch_id: str, grader: GraderVersion, now: float) -> int:
        try:
            results = self._api.results(batch_id)
        except GraderError as error:
            self._writer.note_error(error, now)
            return 0
        if results is None:
            return 0
        with self._store.reading() as connection:
            samples = candidates.submitted(connection, batch_id)
        missing = GraderError("the batch has no result for it")
        attempts = [
            GradeAttempt(sample=each, outcome=results.get(_custom_id(each.call_id), missing), batch=True)
            for each in samples
        ]
        chunks = (attempts[start : start + _CHUNK] for start in range(0, len(attempts), _CHUNK))
        settled = sum(self._writer.write(chunk, grader, now) for chunk in chunks)
        self._store.transact(lambda connection: grader_state.end_batch(connection, batch_id, at=now))
        return settled

    def _affordable_count(self, connection: Connection, now: float) -> int:
        """How many more requests the limit on spending allows."""
        spent, graded = grades.spent_usd(connection, since=now - DAY_S), grades.graded_since(connection, now - DAY_S)
        typical = self._writer.cost(self._grader, _TYPICAL, now, batch=True)
        usd_each = spent / graded if spent and graded else typical or 0.0
        if not usd_each:
            return MAX_REQUESTS
        left = (self._settings.max_grader_usd_per_day - spent) / usd_each
        # Requests in open batches have no cost yet, so each is counted at the mean cost.
        return max(int(left) - candidates.backlog(connection).submitted, 0)


def _custom_id(call_id: str) -> str:
    """A custom id in the API's format, for a call id in any format."""
    return blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
