"""Grade samples by Message Batches, at half the price and later.

What is about to be sent is stored before, as an intent. If the answer does not arrive, or this guard is killed before
it is stored, the batch is found again: by the API's list of batches since then, and by the custom ids of its results,
which no other batch has. So no batch is sent twice.
Source: https://platform.claude.com/docs/en/api/python/messages/batches/list

A batch that the API does not find is read again, because to send its samples once more would cost money. The guard
gives it up after several reads, an hour, and the day within which it expires.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Final
from uuid import uuid4

from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.errors import BatchMissingError, GraderError
from cheapdeep_ops.guard.grading.api import GradingApi
from cheapdeep_ops.guard.grading.grade_writer import GradeAttempt, GradeWriter
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grader_state import OpenBatch, OpenIntent
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

_CLOCK_TOLERANCE_S: Final = 600.0
"""How far the API's clock may be behind the store's time."""

_SETTLED_S: Final = 300.0
"""A batch that is not in the API's list so long after its intent was not sent: a request ends after two minutes."""

_PROBE_EVERY_S: Final = 3_600.0
"""How often one more sample is sent while the newest batch is missing, to show whether batches can be read."""

_TYPICAL: Final = Usage(input_tokens=2_000, output_tokens=200)
"""The assumed usage of one grade until some are known."""


class BatchGrading:
    """Submits batches of samples, and reads their results in later runs."""

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        grader: GraderVersion,
        api: GradingApi,
        writer: GradeWriter,
        new_id: Callable[[], str] = lambda: f"intent-{uuid4().hex}",
    ) -> None:
        self._store = store
        self._settings = settings
        self._grader = grader
        self._api = api
        self._writer = writer
        self._new_id = new_id
        self._foreign: set[str] = set()
        """Batches of other programs that use this key."""
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
        intent = self._new_id()
        requests = {
            _custom_id(each.call_id, intent): grading_request(each.turns, each.answer, model=self._grader.model)
            for each in samples
        }
        self._store_intent(intent, samples, requests, now)
        try:
            batch_id = self._api.submit(requests)
        except GraderError as error:
            # If the API may have accepted the batch, the samples wait under their intent, and `collect` looks for it.
            if not error.may_be_sent:
                self._withdraw(intent)
            self._writer.note_error(error, now)
            return

        def work(connection: Connection) -> None:
            grader_state.save_state(
                connection, replace(grader_state.state(connection), paused_why="", paused_until=None)
            )
            self._accept(connection, intent, batch_id, nusd_each=round(usd_each * NUSD_PER_USD))

        self._store.transact(work)

    def _store_intent(
        self, intent: str, samples: Sequence[GradingSample], requests: Mapping[str, Mapping[str, object]], now: float
    ) -> None:
        """Store what is about to be sent, so that the next guard finds it if this one is killed before the answer."""
        worst = max(self._writer.worst_nusd(self._grader, each, now, batch=True) for each in requests.values())

        def work(connection: Connection) -> None:
            count = len(requests)
            grader_state.begin_intent(connection, intent, self._grader, at=now, requests=count, nusd_each=worst)
            candidates.submit(connection, [each.call_id for each in samples], intent)

        self._store.transact(work)

    def _accept(self, connection: Connection, intent: str, batch_id: str, *, nusd_each: int | None = None) -> None:
        grader_state.accept_intent(connection, intent, batch_id, nusd_each=nusd_each)
        candidates.resubmit(connection, intent, batch_id)

    def _withdraw(self, intent: str) -> None:
        def work(connection: Connection) -> None:
            grader_state.remove(connection, intent)
            candidates.withdraw(connection, intent)

        self._store.transact(work)

    def _find_intents(self, now: float) -> None:
        """Find the batches that were sent, but whose answer did not arrive or was not stored."""
        with self._store.reading() as connection:
            intents = grader_state.open_intents(connection)
        for intent in intents:
            try:
                self._find(intent, now)
            except GraderError as error:
                self._writer.note_error(error, now)
                return

    def _find(self, intent: OpenIntent, now: float) -> None:
        """Look for the batch of one intent; its samples wait again if it was surely not sent."""
        listed = self._api.batches(since=intent.at - _CLOCK_TOLERANCE_S)
        with self._store.reading() as connection:
            known = grader_state.known_batches(connection, [each.id for each in listed])
            samples = candidates.submitted(connection, intent.name)
        ours = {_custom_id(each.call_id, intent.name) for each in samples}
        possible = [each for each in listed if each.requests == intent.requests and each.id not in known]
        # The list shows no custom ids, and another program may use this key: only results prove whose a batch is.
        undecided = False
        for batch in possible:
            results = self._api.results(batch.id) if batch.has_ended and batch.id not in self._foreign else None
            if results is not None and ours & results.keys():
                self._store.transact(partial(self._accept, intent=intent.name, batch_id=batch.id))
                return
            if batch.has_ended:
                self._foreign.add(batch.id)
            undecided = undecided or not batch.has_ended
        if not undecided and now - intent.at >= _SETTLED_S:
            self._withdraw(intent.name)

    def collect(self, now: float, *, is_paused: Callable[[float], bool]) -> int:
        """Store the results of batches that have ended; returns how many samples are settled."""
        self._find_intents(now)
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
            GradeAttempt(
                sample=each, outcome=results.get(_custom_id(each.call_id, batch.intent), missing), batch_id=batch.id
            )
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

    It is one while the newest batch has no answer, and one an hour while the newest batch is missing.
    """
    if grader_state.is_newest_unanswered(connection):
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


def _custom_id(call_id: str, intent: str) -> str:
    """A custom id in the API's format, for a call id in any format; no two batches have one in common."""
    text = f"{intent} {call_id}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).hexdigest()
