"""The guard's work as functions of time, which a scheduler, a replay or a test calls."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

from cheapdeep_ops.budgets import limits_of
from cheapdeep_ops.errors import LeaseLostError
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.grading.regrader import retain_anchors
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.incidents.alignment import step_text
from cheapdeep_ops.guard.incidents.announcer import Announcer
from cheapdeep_ops.guard.incidents.changes import Unit, groups, store_group
from cheapdeep_ops.guard.incidents.evaluation import Evaluation
from cheapdeep_ops.guard.label_places import LabelPlaces
from cheapdeep_ops.guard.lease import EVALUATE, Lease, Leases
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.sender import Sender
from cheapdeep_ops.guard.pictures.uploads import Pictures
from cheapdeep_ops.guard.reports.weekly import enqueue_week
from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import budgets, candidates, processes, revisions
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.units import DAY_S

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
DELIVER: Final = "deliver"
GRADE: Final = "grade"
RETAIN: Final = "retain"
_WORK: Final = (GRADE, DELIVER, RETAIN, EVALUATE)
"""The parts of the work, each with a lease of its own; a guard gives away the first ones first."""


class Commit(Enum):
    """The outcome of an attempt to store changes."""

    DONE = auto()
    OUTDATED = auto()


class Guard:
    """Evaluates rules, delivers messages, grades samples if it has a grader, and deletes what is old.

    If several guards share a store, each part of this work is done by the one that holds its lease. `senders` has the
    sender of each receiver by the receiver's name. `make_grader` makes the grader with the store that it is to use.
    Times are Unix seconds in the store's time; `monotonic` is a clock that never steps. `clock_ahead_s` returns how
    far this host's clock is ahead of the store's time. Every method raises StoreError if the store is unreachable.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        rulebook: Rulebook,
        senders: Mapping[str, Sender],
        make_grader: Callable[[Store], Grader] | None = None,
        started_at: float,
        monotonic: Callable[[], float] = time.monotonic,
        clock_ahead_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.process = uuid4().hex
        self.last_evaluation: float | None = None
        self._store = store
        self._settings = settings
        self._rulebook = rulebook
        self._limits = budget_limits(settings, rulebook)
        self._clock_ahead_s = clock_ahead_s
        self._leases = Leases(
            store, _WORK, holder=self.process, evaluate_every_s=settings.evaluate_every_s, monotonic=monotonic
        )
        delivering, shows = self._leases[DELIVER].store, settings.shows_examples
        self._notifier = Notifier(delivering, senders, shows_examples=shows, recipients=rulebook.receivers)
        self._pictures = Pictures(delivering, senders)
        self._grader = make_grader(self._leases[GRADE].store) if make_grader else None
        self._cache = GradeCache(grader_version(settings))
        self._started_at = started_at
        retaining = self._leases[RETAIN].store
        keep_grades_s = max(map(_max_age, rulebook.rules), default=0.0)
        self._retention = Retention(retaining, settings, keep_grades_s=keep_grades_s, monotonic=monotonic)
        self._label_places = LabelPlaces(retaining, max_routes=settings.max_routes, started_at=started_at)
        # The sampler grades more while one of these holds a raise, because the raise waits for grades.

    def keep_leases(self, now: float) -> bool:
        """Renew this guard's leases, take those that are free or abandoned; returns whether it evaluates from now on.

        Run it every `lease.keep_every_s`, beside all other methods.
        """

        def beat(connection: Connection) -> None:
            # The guard that evaluates beats with its evaluations, so that routers notice one that hangs.
            if not self._leases[EVALUATE].is_held:
                processes.beat(connection, self._heartbeat(now))

        def guards(connection: Connection) -> list[str]:
            return processes.running_guards(connection, since=now - self._leases.lasts_s)

        taken = self._leases.keep(guards=guards, beat=beat)
        if not self._leases[GRADE].is_held and self._grader is not None:
            self._grader.finish()
        return EVALUATE in taken

    def _do(self, name: str, work: Callable[[], _T], now: float) -> _T | None:
        """The result of a part of the work; None if another guard does it."""
        lease = self._leases[name]
        if not lease.is_held and self._leases.is_due:
            self.keep_leases(now)
        with lease.working() as may_work:
            try:
                return work() if may_work else None
            except LeaseLostError:
                lease.lose()
                return None

    def step(self, now: float) -> bool:
        """Evaluate all rules; an alert's transition, its policy changes and its messages are committed together.

        Returns False if another guard evaluates, or if policies, incidents or silences changed during the evaluation.
        Then the rest of the changes is dropped, and the next evaluation decides again.
        """
        return self._do(EVALUATE, lambda: self._evaluate(self._leases[EVALUATE], now), now) or False

    def _evaluate(self, lease: Lease, now: float) -> bool:
        is_done = False
        try:
            is_done = self._decide_and_commit(lease, now)
        finally:
            # The cache holds changes that were not committed.
            if not is_done:
                self._cache = GradeCache(self._cache.grader)
        if is_done:
            self.last_evaluation = now
        return is_done

    def _decide_and_commit(self, lease: Lease, now: float) -> bool:
        with self._store.snapshot() as connection:
            evaluation = Evaluation(
                connection,
                settings=self._settings,
                rulebook=self._rulebook,
                cache=self._cache,
                now=now,
                started_at=self._started_at,
            )
            limits_are_set = budgets.limits(connection) == self._limits
        if not limits_are_set:
            lease.store.transact(lambda connection: budgets.set_limits(connection, self._limits))
        units = evaluation.run()
        with self._store.reading() as connection:
            units += Announcer(connection, evaluation, settings=self._settings, now=now).run()
        revision = evaluation.revision
        # Groups keep transactions short, so that routers can write between them.
        in_order = list(groups(units))
        for number, group in enumerate(in_order, 1):
            is_last = number == len(in_order)
            work = partial(self._commit, group=group, revision=revision, now=now, is_last=is_last)
            if lease.store.transact(work) is not Commit.DONE:
                _log.info("policies, incidents or silences changed during an evaluation: the next one decides again")
                return False
            revision += bool(group)
            for step in (step for unit in group for step in unit.steps if step.applied):
                _log.info("%s", step_text(step))
        return True

    def _commit(
        self, connection: Connection, *, group: Collection[Unit], revision: int, now: float, is_last: bool
    ) -> Commit:
        """Store a group of changes, if the revision is unchanged; with the last one, that the evaluation is done."""
        processes.beat(connection, self._heartbeat(now))
        # Optimistic concurrency: the evaluation read this revision.
        if group and not revisions.advance_from(connection, revision):
            return Commit.OUTDATED
        if group:
            store_group(connection, group, self._settings, self._cache.grader, now)
        if is_last:
            processes.mark_evaluated(connection, self.process, at=now)
        return Commit.DONE

    def deliver(self, now: float) -> int:
        """Send each receiver its due messages; returns how many deliveries were made, 0 if another guard delivers."""
        return self._do(DELIVER, lambda: self._notifier.deliver(now), now) or 0

    def draw(self, now: float) -> int:
        """Draw and upload pictures of incidents; returns how many, 0 if another guard delivers messages.

        Run it beside all other methods: nothing waits for a picture.
        """
        # Not as a run under the lease: a picture that hangs says nothing about the messages.
        if not self._leases[DELIVER].is_held:
            return 0
        try:
            return self._pictures.run(now)
        except LeaseLostError:
            return 0

    def grade(self, now: float) -> int:
        """Choose and grade samples; returns how many were settled, 0 if another guard grades."""
        grader = self._grader
        if grader is None:
            return 0
        return self._do(GRADE, lambda: grader.run(now, rules=self._rulebook.rules), now) or 0

    def report(self, now: float) -> bool:
        """Enqueue the receipt of the last full week, if settings ask for it; returns whether it did so now.

        Each week's receipt is enqueued once, by the guard that evaluates.
        """
        store = self._leases[EVALUATE].store
        return self._leases[EVALUATE].is_held and enqueue_week(store, self._settings, now)

    def retain(self, now: float) -> int:
        """Fold old counters, delete what is too old or too much, and free the places of names that are not called.

        Returns how many rows were folded, 0 if another guard does it.
        """

        def work() -> int:
            store = self._leases[RETAIN].store
            candidates.forget(store, before=now - self._settings.retain_content_days * DAY_S)
            candidates.trim(store, most=self._settings.max_candidates)
            retain_anchors(store, self._settings, now)
            self._label_places.step(now)
            return self._retention.step(now)

        return self._do(RETAIN, work, now) or 0

    def store_replaced(self) -> None:
        """Forget what was read from a store that was made anew meanwhile."""
        self._cache = GradeCache(self._cache.grader)

    def stop_grading(self) -> None:
        """Stop grading; a run under way ends at once."""
        if self._grader is not None:
            self._grader.stop()

    def close(self) -> None:
        """Sign off and release the leases, so that another guard can act at once."""
        release = self._leases.give_up()

        def work(connection: Connection) -> None:
            release(connection)
            processes.mark_stopped(connection, self.process)

        self._store.transact(work)
        if self._grader is not None:
            self._grader.close()

    def _heartbeat(self, now: float) -> processes.Heartbeat:
        return processes.Heartbeat(
            process=self.process,
            kind="guard",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
            clock_ahead_s=self._clock_ahead_s(),
        )


def budget_limits(settings: Settings, rulebook: Rulebook) -> dict[str, int]:
    """The limits that a guard sets, by budget, in billionths of a US dollar."""
    limits = dict(limits_of(usd_per_day=settings.usd_per_day, deep_usd_per_day=settings.deep_usd_per_day))
    for each in rulebook.budgets:
        limits |= each.limits
    return limits


def _max_age(rule: Rule) -> float:
    """The age up to which a rule uses grades, in seconds; 0 for a rule that uses none."""
    return float(getattr(rule, "max_age", 0.0))
