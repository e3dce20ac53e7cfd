"""The rule on a grader that has changed, as the rules file states it."""

from typing import Literal

from pydantic import Field

from cheapdeep_ops.guard.rules.model import Alpha, Count, Rule, Seconds
from cheapdeep_ops.units import DAY_S


class GraderDriftRule(Rule):
    """The grader contradicts people's labels more often than was normal.

    It reads repeated gradings of labelled answers, never grades of traffic. Answers that people label correct and those
    that they label incorrect have a normal each, learned from the first `normal_regradings`. A sequential test decides
    when it fires: at most once in 1 / `alpha` repeated gradings, if the grader has not changed. Verdicts on at least
    `min_answers` answers must differ then. It resolves by a second test, which errs at most once in 1 / `release_alpha`
    repeated gradings. While it fires, rules on grades keep their state for at most `hold`.
    """

    signal: Literal["grader_drift"]
    normal_regradings: Count = 100
    min_answers: Count = 3
    alpha: Alpha = 1e-4
    release_alpha: Alpha = 1e-2
    hold: Seconds = Field(default=7.0 * DAY_S, gt=0)

    @property
    def holds_grades_s(self) -> float:
        """How long rules on grades keep their state while it fires, in seconds."""
        return self.hold
