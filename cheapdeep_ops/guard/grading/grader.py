"""Grade samples: choose them, request grades, store the results, and keep to the limit on spending."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from cheapdeep_ops.guard.grading.api import GradingApi
from cheapdeep_ops.guard.grading.batch_grading import MAX_REQUESTS, BatchGrading
from cheapdeep_ops.guard.grading.direct import DirectGrading
from cheapdeep_ops.guard.grading.grade_writer import GradeWriter
from cheapdeep_ops.guard.grading.grader_status import is_paused
from cheapdeep_ops.guard.grading.regrader import Regrader
from cheapdeep_ops.guard.grading.sampler import Sampler, SamplingPlan
from cheapdeep_ops.guard.grading.second_grader import SecondGrader
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state
from cheapdeep_ops.store.anchors import AnchorContent
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grader_state import GraderStatus
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.telemetry.evaluations import GradeTelemetry
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Grade, GradeResult

MAX_PER_RUN: Final = MAX_REQUESTS
"""The most samples of one run; the next run continues."""


class Grader:
    """Chooses samples and has them graded; its state is in the store.

    After a crash, at most as many single requests as run at once are sent again: paid twice, counted once; a batch is
    found again. The limit on spending is checked before each request; requests under way may exceed it.
    """

    def __init__(
        self, store: Store, *, settings: Settings, api: GradingApi, telemetry: GradeTelemetry | None = None
    ) -> None:
        self._store = store
        self._settings = settings
        self._api = api
        self._stopped = False
        self.version = grader_version(settings)
        self._writer = GradeWriter(store, settings=settings, telemetry=telemetry or GradeTelemetry())
        self._direct = DirectGrading(
            store, settings=settings, grader=self.version, grade=api.grade, writer=self._writer
        )
        self._batches = BatchGrading(store, settings=settings, grader=self.version, api=api, writer=self._writer)
        self._sampler = Sampler(settings, self.version)
        self._second = SecondGrader(store, settings=settings, first=self.version)
        self._regrader = Regrader(store, settings=settings, grader=self.version)

    def run(self, now: float, *, rules: Collection[Rule] = ()) -> int:
        """Choose samples, delete those that are too old, and grade what waits; returns how many were settled.

        `rules` say which raises wait for grades, and when no grade counts. Raises StoreError.
        """
        if not self._settings.graded_share:
            return 0
        self._apply(partial(self._sampler.plan, rules=rules), now)
        candidates.choose(self._store, otherwise=self._settings.graded_share, now=now)
        # Retention does this too, but a request may not take content along that should be deleted by now.
        candidates.forget(self._store, before=now - self._settings.retain_content_days * DAY_S)
        if self._is_paused(now):
            return 0
        settled = self._batches.collect(now, is_paused=self._is_paused)
        if self._is_paused(now):
            return settled
        # After a pause one sample shows whether the grader works again.
        if self._status().paused_why:
            return settled + self._grade(now, limit=1)
        settled += self._grade(now, limit=MAX_PER_RUN)
        settled += self._grade_retrospectively(now, rules)
        self._run_second(now)
        self._regrade(now)
        return settled

    def finish(self) -> None:
        """Begin no further request in the current run, because another guard acts now."""
        self._direct.finish()

    def stop(self) -> None:
        """Begin no further request; the current run ends soon, and the next guard grades the rest."""
        self._stopped = True
        self._batches.stop()
        self._direct.stop()

    def close(self) -> None:
        """Close the connections to the API."""
        self._api.close()

    def _grade(self, now: float, *, limit: int) -> int:
        if self._settings.grade_by == "direct":
            return self._direct.run(now, limit=limit)
        self._batches.submit(now, limit=limit)
        return 0

    def _grade_retrospectively(self, now: float, rules: Collection[Rule]) -> int:
        """Grade past answers directly, as long as the grades before confirm the suspicion."""
        settled = 0
        while not self._stopped and self._apply(partial(self._sampler.plan_retrospective, rules=rules), now):
            graded = 0 if self._is_paused(now) else self._direct.run(now, limit=MAX_PER_RUN, steered=True)
            settled += graded
            if not graded:
                break
        # These grades change suspicions, and so the shares of calls to come.
        if settled:
            self._apply(partial(self._sampler.plan, rules=rules), now)
        return settled

    def _apply(self, plan_for: Callable[[Connection, float], SamplingPlan], now: float) -> int:
        """Store the sampler's plan; returns how many past answers wait for their grade."""
        # Planned outside the transaction, which stays short.
        with self._store.reading() as connection:
            plan = plan_for(connection, now)
        if plan.is_empty:
            return plan.waiting
        return self._store.transact(lambda connection: self._sampler.write(connection, plan, now))

    def _run_second(self, now: float) -> None:
        """Let the second grader grade some of the graded answers, as far as money and time allow."""

        def write(sample: GradingSample, grader: GraderVersion, result: GradeResult) -> None:
            self._writer.write_second(sample, grader, result, now)

        if not self._is_paused(now):
            self._second.run(now, grade=self._api.grade, write=write, may_continue=lambda: self._may_continue(now))

    def _regrade(self, now: float) -> None:
        """Grade a labelled answer again, if one is due, to see whether the grader has changed."""

        def write(anchor: AnchorContent, label: Grade, grader: GraderVersion, result: GradeResult) -> None:
            self._writer.write_regrading(anchor, label, grader, result, now)

        if not self._is_paused(now):
            self._regrader.run(now, grade=self._api.grade, write=write, may_continue=lambda: self._may_continue(now))

    def _may_continue(self, now: float) -> bool:
        return not self._stopped and self._writer.spent_usd(now) < self._settings.max_grader_usd_per_day

    def _status(self) -> GraderStatus:
        with self._store.reading() as connection:
            return grader_state.state(connection)

    def _is_paused(self, now: float) -> bool:
        return is_paused(self._status(), now)
