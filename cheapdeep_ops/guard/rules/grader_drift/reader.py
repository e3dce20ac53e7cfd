"""Reads repeated gradings of labelled answers, and the state of their test."""

from collections.abc import Collection
from typing import Final

from cheapdeep_ops.guard.rules.grader_drift.anchors import anchor_labels
from cheapdeep_ops.guard.rules.grader_drift.detection import DriftTest, finding_of
from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader
from cheapdeep_ops.guard.rules.model import AlertState, Finding, Level, ScopedAlert
from cheapdeep_ops.store import anchors, detectors, regradings
from cheapdeep_ops.store.detectors import DetectorState, StoredDetector
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES

_COUNT_EVERY_S: Final = 600.0
_BLANK: Final = DetectorState()


class GraderDriftReader(SignalReader):
    """Reads the repeated gradings of the present grader since its last evaluation; not per route."""

    def __init__(self, rule: GraderDriftRule, context: ReaderContext) -> None:
        self._rule = rule
        self._changed = context.detectors
        connection, grader = context.connection, context.cache.grader
        self._grader = grader
        self._stored = detectors.read(connection, grader, rule=rule.alert).get(ALL_ROUTES, _BLANK)
        self._unread = regradings.known_after(connection, grader, regrading_id=self._stored.grade_id)
        self._anchors = context.cache.cached_for(
            _COUNT_EVERY_S, (rule.alert, "anchors"), context.now, lambda: _available(connection)
        )

    @property
    def scopes(self) -> set[str]:
        """All routes together."""
        return {ALL_ROUTES}

    def finding(self, _routes: Collection[str], alert: ScopedAlert) -> Finding:
        """Above while there is evidence that the grader has changed; no data before its normal is known."""
        fired_at = alert.since if alert.state is AlertState.FIRING else 0.0
        # The alert is about a grader that was replaced. Its verdicts and its normal say nothing about this one.
        if fired_at and not self._stored.state:
            return Finding(level=Level.BELOW, signal={"kind": "replaced", "why": f"another one now: {self._grader}"})
        before = DriftTest.from_row(self._stored.state)
        test = before.in_state(self._rule, fired_at=fired_at).after(self._rule, self._unread)
        if self._unread or test != before:
            grade_id = self._unread[-1].id if self._unread else self._stored.grade_id
            kept = DetectorState(grade_id=grade_id, state=test.row())
            self._changed.append(StoredDetector(rule=alert.rule, scope=ALL_ROUTES, kept=kept))
        return finding_of(self._rule, test, anchors=self._anchors)

    def facts(self, _connection: Connection, _scope: str, _started_at: float) -> dict[str, object]:
        """How long rules on grades keep their state."""
        return {"hold_s": self._rule.hold}


def _available(connection: Connection) -> int:
    """The number of labelled answers that can be graded again."""
    return len(anchor_labels(connection).keys() & anchors.stored(connection))
