"""The guard's work as plain functions of time; a scheduler, a replay or a test calls them."""

import logging
from typing import Final
from uuid import uuid4

from cheapdeep_ops.guard.evaluation import Evaluation
from cheapdeep_ops.guard.grading import Grader, judge_of
from cheapdeep_ops.guard.notify import Notifier, Sender
from cheapdeep_ops.guard.rulebook import Rulebook
from cheapdeep_ops.guard.rules import QualityRule
from cheapdeep_ops.guard.shelf import Shelf
from cheapdeep_ops.guard.weekly import tell_week
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, processes
from cheapdeep_ops.store.engine import Connection, Store, alone

_log: Final = logging.getLogger(__name__)
_LEASE: Final = "guard"
_LEASE_EVALUATIONS: Final = 4
_GONE_S: Final = 30 * 86_400.0
_RETIRE_EVERY_S: Final = 3_600.0


class Guard:
    """Evaluates rules, delivers messages, and has samples graded where it has a grader.

    Of several guards on one store, one acts at a time.
    Times are Unix seconds. Every method raises StoreError where the store is out of reach; an evaluation is committed
    whole or not at all.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        rulebook: Rulebook,
        sender: Sender,
        grader: Grader | None = None,
        started_at: float,
    ) -> None:
        self._store = store
        self._settings = settings
        self._rulebook = rulebook
        self._notifier = Notifier(store, sender, shows_examples=settings.shows_examples)
        self._grader = grader
        self._shelf = Shelf(judge_of(settings))
        self._started_at = started_at
        self.process = uuid4().hex
        self.last_evaluation: float | None = None
        self._judged = {rule.alert for rule in rulebook.rules if isinstance(rule, QualityRule) and rule.raises}
        self._leads = False
        self._retire_at = started_at + _RETIRE_EVERY_S

    def step(self, now: float) -> bool:
        """Evaluate all rules and commit alert states, policy changes and messages together.

        Returns False where another guard holds the lease; then nothing but a sign of life was written.
        """
        changes = self._evaluated(now)
        self._leads = changes is not None
        if changes is None:
            if self._grader is not None:
                self._grader.leave()
            return False
        self.last_evaluation = now
        for change in changes:
            _log.info("%s", change)
        if now >= self._retire_at:
            counters.retire(self._store, unseen_since=now - _GONE_S)
            self._retire_at = now + _RETIRE_EVERY_S
        return True

    def deliver(self, now: float) -> int:
        """Send the messages that are due; returns how many arrived. Only the guard that acted last step does."""
        return self._notifier.deliver(now) if self._leads else 0

    def grade(self, now: float) -> int:
        """Choose samples and have them graded; returns how many were settled. Only the guard that acted last does."""
        if not self._leads or self._grader is None:
            return 0
        return self._grader.run(now, judged=self._judged)

    def report(self, now: float) -> bool:
        """Tell the receipt of the last full week, once, where the settings ask for it; returns whether it was told now.

        Only the guard that acted last does.
        """
        return self._leads and tell_week(self._store, self._settings, now)

    def stop_grading(self) -> None:
        """Ask for no further grade; a run under way ends at once."""
        if self._grader is not None:
            self._grader.stop()

    def close(self) -> None:
        """Sign off, and give the lease back, so that another guard need not wait for its end."""
        self._leads = False
        if self._grader is not None:
            self._grader.close()

        def work(connection: Connection) -> None:
            processes.sign_off(connection, self.process)
            processes.drop_lease(connection, name=_LEASE, holder=self.process)

        self._store.transact(work)

    def _evaluated(self, now: float) -> list[str] | None:
        try:
            return self._store.transact(lambda connection: self._step(connection, now))
        except BaseException:
            self._shelf = Shelf(self._shelf.judge)  # it holds what was taken back
            raise

    def _step(self, connection: Connection, now: float) -> list[str] | None:
        """What was changed, in words; None where another guard holds the lease."""
        processes.beat(connection, self._beat(now))
        if not self._hold(connection, now):
            return None
        alone(connection, "policy")
        evaluation = Evaluation(
            connection, settings=self._settings, rulebook=self._rulebook, shelf=self._shelf, now=now
        )
        evaluation.run()
        return evaluation.changes

    def _hold(self, connection: Connection, now: float) -> bool:
        lasts_s = max(_LEASE_EVALUATIONS * self._settings.evaluate_every_s, 10.0)
        return processes.hold_lease(connection, name=_LEASE, holder=self.process, now=now, lasts_s=lasts_s)

    def _beat(self, now: float) -> processes.Beat:
        return processes.Beat(
            process=self.process,
            kind="guard",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
        )
