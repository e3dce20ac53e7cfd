"""A second grader: another model grades a share of the graded answers again, to compare the two graders."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any, Final

from cheapdeep_ops.claude.rubric import PROMPT_VERSION, grading_request
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.sampling import position
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, labels
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import GradeResult

_log: Final = logging.getLogger(__name__)
_SALT: Final = "second judge"  # never changed, because another salt would choose other calls
_PERIOD_S: Final = float(DAY_S)
_MAX_PER_RUN: Final = 10
"""The most grades of one run: they are not urgent, and the first grader's come first."""

_MAX_FAILURES: Final = 3
"""A run ends after so many failed requests, and a sample is left out after so many."""


class SecondGrader:
    """Grades a random share of the calls, chosen by a hash, with one request at a time.

    Its grades serve for comparison only; no rule and no rate depends on them.
    """

    def __init__(self, store: Store, *, settings: Settings, first: GraderVersion) -> None:
        self._store = store
        self._first = first
        self._share = settings.second_grader_share
        model = settings.second_grader_model
        self._grader = None if model is None else GraderVersion(model=model, prompt=PROMPT_VERSION)
        self._failures: Counter[str] = Counter()
        """Failed requests by call id."""

    def run(
        self,
        now: float,
        *,
        grade: Callable[[Mapping[str, Any]], GradeResult],
        write: Callable[[GradingSample, GraderVersion, GradeResult], object],
        may_continue: Callable[[], bool],
    ) -> None:
        """Grade answers that the first grader graded within a day, and pass each result to `write`.

        `may_continue` is called before each request.
        """
        if self._grader is None:
            return
        errors = 0
        for sample in takewhile(lambda _: may_continue(), self._chosen(self._grader, now)):
            request = grading_request(sample.turns, sample.answer, model=self._grader.model)
            try:
                write(sample, self._grader, grade(request))
            except GraderError as error:
                _log.warning("the request to the second grader %s failed: %s", self._grader.model, error)
                self._failures[sample.call_id] += not error.asks_for_time
                errors += 1
                if errors >= _MAX_FAILURES or error.asks_for_time:
                    return

    def _chosen(self, grader: GraderVersion, now: float) -> Iterator[GradingSample]:
        with self._store.reading() as connection:
            graded = labels.graded_once(connection, self._first, grader, since=now - _PERIOD_S)
            sampled = (call_id for call_id in graded if position(call_id, _SALT) < self._share)
            chosen = [call_id for call_id in sampled if self._failures[call_id] < _MAX_FAILURES]
            # Samples that failed before come last, so that they do not hold up the others.
            chosen.sort(key=self._failures.__getitem__)
            samples = candidates.with_content(connection, chosen[:_MAX_PER_RUN])
        return (replace(each, inclusion=each.inclusion * self._share) for each in samples)
