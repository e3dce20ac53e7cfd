"""A second judge: another model grades a part of the graded answers once more, so that the two can be compared."""

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
_SALT: Final = "second judge"
_LATELY_S: Final = float(DAY_S)
_AT_ONCE: Final = 10
"""Gradings of one run: they are no hurry, and the first judge's come first."""

_TRIES: Final = 3
"""Failed requests after which a run ends, and after which a sample is left out."""


class SecondGrader:
    """Chooses by a hash of the call, so that the part is a plain sample, and asks one at a time.

    What it finds is compared and nothing else: no rule and no rate rests on it. Samples that failed wait behind those
    that did not.
    """

    def __init__(self, store: Store, *, settings: Settings, first: GraderVersion) -> None:
        self._store = store
        self._first = first
        self._share = settings.second_grader_share
        model = settings.second_grader_model
        self.judge = None if model is None else GraderVersion(model=model, prompt=PROMPT_VERSION)
        self._failed: Counter[str] = Counter()

    def run(
        self,
        now: float,
        *,
        ask: Callable[[Mapping[str, Any]], GradeResult],
        write: Callable[[GradingSample, GraderVersion, GradeResult], object],
        goes_on: Callable[[], bool],
    ) -> None:
        """Have answers graded that the first judge graded within a day, and hand what came of it to `write`.

        `goes_on` is asked before each request.
        """
        if self.judge is None:
            return
        errors = 0
        for sample in takewhile(lambda _: goes_on(), self._chosen(self.judge, now)):
            request = grading_request(sample.turns, sample.answer, model=self.judge.model)
            try:
                write(sample, self.judge, ask(request))
            except GraderError as error:
                _log.warning("the second judge %s cannot be asked: %s", self.judge.model, error)
                self._failed[sample.call_id] += not error.asks_for_time
                errors += 1
                if errors >= _TRIES or error.asks_for_time:
                    return

    def _chosen(self, judge: GraderVersion, now: float) -> Iterator[GradingSample]:
        with self._store.reading() as connection:
            graded = labels.graded_once(connection, self._first, judge, since=now - _LATELY_S)
            chosen = [each for each in graded if position(each, _SALT) < self._share and self._failed[each] < _TRIES]
            chosen.sort(key=self._failed.__getitem__)
            samples = candidates.with_content(connection, chosen[:_AT_ONCE])
        return (replace(each, inclusion=each.inclusion * self._share) for each in samples)
