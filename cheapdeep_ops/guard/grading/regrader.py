"""Grade labelled answers again, a few every day, to see whether the grader has changed.

Its verdicts are no grades of traffic: they are stored apart, and no rate, sample or normal has them.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final

from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.rules.grader_drift.anchors import anchor_labels
from cheapdeep_ops.sampling import position
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import anchors, regradings
from cheapdeep_ops.store.anchors import AnchorContent
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.regradings import RegradingHistory
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Grade, GradeResult

_log: Final = logging.getLogger(__name__)
_SALT: Final = "anchor"
_NEVER: Final = RegradingHistory(times=0, last_at=float("-inf"))
_FEWEST: Final = 10
"""With fewer answers of a label, one whose verdict is open would be too much of the evidence."""

_MAX_FAILURES: Final = 3
"""After so many failed requests an answer is left out, until the guard starts again."""


class Regrader:
    """Has one answer graded again in each interval of `CHEAPDEEP_REGRADES_PER_DAY`, by a single request.

    An answer serves if most people gave it the label that its first grade also was. The two labels take turns, and
    within a label the answer that was graded again least often comes first.
    """

    def __init__(self, store: Store, *, settings: Settings, grader: GraderVersion) -> None:
        self._store = store
        self._settings = settings
        self._grader = grader
        self._every_s = DAY_S / max(settings.regrades_per_day, 1)
        self._failures: Counter[str] = Counter()
        """Failed requests by call id."""

    def run(
        self,
        now: float,
        *,
        grade: Callable[[Mapping[str, object]], GradeResult],
        write: Callable[[AnchorContent, Grade, GraderVersion, GradeResult], object],
        may_continue: Callable[[], bool],
    ) -> None:
        """Keep the content of new anchors, and grade one again if that is due; its result goes to `write`.

        `may_continue` says whether there is time and money for a request.
        """
        if not self._settings.regrades_per_day:
            return
        with self._store.reading() as connection:
            labels = anchor_labels(connection)
            last_at = regradings.last_at(connection)
        self._keep(labels, now)
        # A clock that was set back must not stop it for long.
        is_due = last_at is None or not 0 <= now - last_at < self._every_s
        if not is_due or not labels or not may_continue():
            return
        with self._store.reading() as connection:
            chosen = self._chosen(connection, labels)
        if chosen is None:
            return
        request = grading_request(chosen.turns, chosen.answer, model=self._grader.model)
        try:
            write(chosen, labels[chosen.call_id], self._grader, grade(request))
        except GraderError as error:
            _log.warning("a labelled answer could not be graded again: %s", error)
            # An outage of the grader is not the answer's fault.
            self._failures[chosen.call_id] += not error.asks_for_time

    def _keep(self, labels: Mapping[str, Grade], now: float) -> None:
        """Copy the content of labelled answers, as many of each label, where the settings allow it."""
        most = self._settings.kept_anchors
        if not most:
            return
        with self._store.reading() as connection:
            kept = anchors.kept(connection)
            new = anchors.stored(connection) - kept
        wanted: list[str] = []
        for label in _LABELS:
            of_label = [call_id for call_id, each in labels.items() if each is label]
            # Those that are kept stay: normal was learned on them.
            held = [call_id for call_id in of_label if call_id in kept]
            room = max(_most_of(label, most) - len(held), 0)
            wanted += [call_id for call_id in reversed(of_label) if call_id in new][:room]
        if wanted:
            self._store.transact(lambda connection: anchors.keep(connection, wanted, now=now))

    def _chosen(self, connection: Connection, labels: Mapping[str, Grade]) -> AnchorContent | None:
        """The answer to grade again; None if there is none with its content."""
        stored = [each for each in anchors.stored(connection) & labels.keys() if self._failures[each] < _MAX_FAILURES]
        counts = Counter(labels[each] for each in stored)
        stored = [each for each in stored if counts[labels[each]] >= _FEWEST]
        if not stored:
            return None
        known = regradings.history(connection, self._grader)
        last = {
            label: max(known.get(call_id, _NEVER).last_at for call_id in stored if labels[call_id] is label)
            for label in {labels[call_id] for call_id in stored}
        }
        label = min(sorted(last), key=last.__getitem__)
        of_label = (call_id for call_id in stored if labels[call_id] is label)
        # Failed ones come last, so that one that always fails does not hold up the others.
        first = min(
            of_label, key=lambda each: (self._failures[each], known.get(each, _NEVER).times, position(each, _SALT))
        )
        return anchors.content(connection, first)


def retain_anchors(store: Store, settings: Settings, now: float) -> int:
    """Delete kept content that is too old, too much, no anchor any more, or no longer allowed; returns how much."""
    deleted = anchors.forget(store, before=now - settings.retain_anchors_days * DAY_S)
    with store.reading() as connection:
        kept = anchors.kept(connection)
        labels = anchor_labels(connection) if kept else {}
    surplus = kept - set(_first(labels, kept, settings.kept_anchors))
    return deleted + (store.transact(lambda connection: anchors.remove(connection, surplus)) if surplus else 0)


def _first(labels: Mapping[str, Grade], kept: Collection[str], most: int) -> list[str]:
    """The newest kept anchors, at most half of `most` of each label: with few of one, nothing is known of it."""
    newest = [call_id for call_id in reversed(list(labels)) if call_id in kept]
    of_labels = {
        label: [call_id for call_id in newest if labels[call_id] is label][: _most_of(label, most)] for label in _LABELS
    }
    return [call_id for of_label in of_labels.values() for call_id in of_label]


_LABELS: Final = (Grade.CORRECT, Grade.INCORRECT)


def _most_of(label: Grade, most: int) -> int:
    """The largest number of kept anchors with this label, if `most` are kept in all."""
    return (most + (label is Grade.INCORRECT)) // 2
