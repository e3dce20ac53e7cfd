"""The guard's work as functions of time, which a scheduler, a replay or a test calls."""

import logging
from collections.abc import Collection, Mapping
from enum import Enum, auto
from functools import partial
from typing import Final
from uuid import uuid4

from cheapdeep_ops.guard.grading.grader import Grader, grader_version
from cheapdeep_ops.guard.incidents.alignment import step_text
from cheapdeep_ops.guard.incidents.announcer import Announcer
from cheapdeep_ops.guard.incidents.changes import Unit, groups, store_group
from cheapdeep_ops.guard.incidents.evaluation import Evaluation
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.sender import Sender
from cheapdeep_ops.guard.reports.weekly import enqueue_week
from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import processes, revisions
from cheapdeep_ops.store.engine import Connection, Store

_log: Final = logging.getLogger(__name__)
_LEASE: Final = "guard"
_LEASE_EVALUATIONS: Final = 4
"""A lease lasts this many evaluations, so that a slow one does not lose it."""


class Commit(Enum):
    """The outcome of an attempt to store changes."""

    DONE = auto()
    OUTDATED = auto()
    LEASE_LOST = auto()


class Guard:
    """Evaluates rules, delivers messages, and grades samples if it has a grader.

    If several guards share a store, the one that holds the lease acts. `senders` has the sender of each receiver by the
    receiver's name. Times are Unix seconds. Every method raises StoreError if the store is unreachable.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        rulebook: Rulebook,
        senders: Mapping[str, Sender],
        grader: Grader | None = None,
        started_at: float,
    ) -> None:
        self._store = store
        self._settings = settings
        self._rulebook = rulebook
        self._notifier = Notifier(store, senders, shows_examples=settings.shows_examples)
        self._grader = grader
        self._cache = GradeCache(grader_version(settings))
        self._started_at = started_at
        self.process = uuid4().hex
        self.last_evaluation: float | None = None
        # The sampler grades more while one of these holds a raise, because the raise waits for grades.
        self._raising_rules = {rule.alert for rule in rulebook.rules if rule.rests_on_grades and rule.raises}
        self._lease: int | None = None
        """The fencing token of the lease; None if another guard holds it."""
        self._retention = Retention(store, settings, keep_grades_s=max(map(_max_age, rulebook.rules), default=0.0))

    def step(self, now: float) -> bool:
        """Evaluate all rules; an alert's transition, its policy changes and its messages are committed together.

        Returns False if another guard holds the lease, or if policies, incidents or silences changed during the
        evaluation. Then the rest of the changes is dropped, and the next evaluation decides again.
        """
        if self._lease is None:
            self._lease = self._store.transact(lambda connection: self._take_lease(connection, now))
        is_done = self._lease is not None and self._evaluate(self._lease, now)
        if not self._holds_lease and self._grader is not None:
            self._grader.finish()
        return is_done

    def _take_lease(self, connection: Connection, now: float) -> int | None:
        # A guard without the lease beats too, so that `status` shows how many guards there are.
        processes.beat(connection, self._heartbeat(now))
        return processes.take_lease(connection, name=_LEASE, holder=self.process, now=now, lasts_s=self._lease_s)

    def _evaluate(self, lease: int, now: float) -> bool:
        try:
            is_done = self._decide_and_commit(lease, now)
        except BaseException:
            # The cache holds changes that were not committed.
            self._cache = GradeCache(self._cache.grader)
            raise
        if not is_done:
            self._cache = GradeCache(self._cache.grader)
            return False
        self.last_evaluation = now
        return True

    def _decide_and_commit(self, lease: int, now: float) -> bool:
        with self._store.snapshot() as connection:
            evaluation = Evaluation(
                connection,
                settings=self._settings,
                rulebook=self._rulebook,
                cache=self._cache,
                now=now,
                started_at=self._started_at,
            )
        units = evaluation.run()
        with self._store.reading() as connection:
            units += Announcer(connection, evaluation, settings=self._settings, now=now).run()
        revision = evaluation.revision
        # Groups keep transactions short, so that routers can write between them.
        for group in groups(units):
            work = partial(self._commit, group=group, lease=lease, revision=revision, now=now)
            outcome = self._store.transact(work)
            if outcome is not Commit.DONE:
                return self._note_refusal(outcome)
            revision += bool(group)
            for step in (step for unit in group for step in unit.steps if step.applied):
                _log.info("%s", step_text(step))
        return True

    def _commit(
        self, connection: Connection, *, group: Collection[Unit], lease: int, revision: int, now: float
    ) -> Commit:
        """Store a group of changes, if this guard still holds the lease and the revision is unchanged."""
        until = now + self._lease_s
        if not processes.renew_lease(connection, name=_LEASE, holder=self.process, number=lease, until=until):
            return Commit.LEASE_LOST
        processes.beat(connection, self._heartbeat(now))
        if not group:
            return Commit.DONE
        # Optimistic concurrency: the evaluation read this revision.
        if not revisions.advance_from(connection, revision):
            return Commit.OUTDATED
        store_group(connection, group, self._settings, self._cache.grader, now)
        return Commit.DONE

    def _note_refusal(self, outcome: Commit) -> bool:
        if outcome is Commit.LEASE_LOST:
            self._lease = None
            _log.info("another guard has taken the lease: this evaluation is dropped")
        else:
            _log.info("policies, incidents or silences changed during an evaluation: the next one decides again")
        return False

    def deliver(self, now: float) -> int:
        """Send each receiver its due messages; returns how many deliveries were made, 0 without the lease."""
        return self._notifier.deliver(now) if self._holds_lease else 0

    def grade(self, now: float) -> int:
        """Choose and grade samples; returns how many were settled, 0 without the lease."""
        if not self._holds_lease or self._grader is None:
            return 0
        return self._grader.run(now, raising_rules=self._raising_rules)

    def retain(self, now: float) -> int:
        """Fold old counters and delete what is too old; returns how many rows were folded, 0 without the lease."""
        return self._retention.step(now) if self._holds_lease else 0

    def report(self, now: float) -> bool:
        """Enqueue the receipt of the last full week, if settings ask for it; returns whether it did so now.

        Each week's receipt is enqueued once. Without the lease it does nothing.
        """
        return self._holds_lease and enqueue_week(self._store, self._settings, now)

    def stop_grading(self) -> None:
        """Stop grading; a run under way ends at once."""
        if self._grader is not None:
            self._grader.stop()

    def close(self) -> None:
        """Sign off and release the lease, so that another guard can act at once."""
        self._lease = None
        if self._grader is not None:
            self._grader.close()

        def work(connection: Connection) -> None:
            processes.mark_stopped(connection, self.process)
            processes.release_lease(connection, name=_LEASE, holder=self.process)

        self._store.transact(work)

    @property
    def _holds_lease(self) -> bool:
        return self._lease is not None

    @property
    def _lease_s(self) -> float:
        return max(_LEASE_EVALUATIONS * self._settings.evaluate_every_s, 10.0)

    def _heartbeat(self, now: float) -> processes.Heartbeat:
        return processes.Heartbeat(
            process=self.process,
            kind="guard",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
        )


def _max_age(rule: Rule) -> float:
    """The age up to which a rule uses grades, in seconds; 0 for a rule that uses none."""
    return float(getattr(rule, "max_age", 0.0))
