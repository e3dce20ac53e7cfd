"""The rule on the false-confident rate, as the rules file states it."""

from collections.abc import Iterable
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cheapdeep_ops.guard.rules.model import Alpha, Confidence, Count, Rule, Seconds, Share, limit_value
from cheapdeep_ops.units import DAY_S


class QualityRule(Rule):
    """Too many answers that the cheap tier is sure of are wrong.

    The limit is a rate, or `normal`: the rate of a route's own grades. A route is judged from `normal_grades` on, and
    learns fast until it has `first_grades`. It goes on learning while nothing is suspected. A sequential test
    over grades decides when it fires. While the rate is at its limit, that is at most once in 1 / `alpha` grades. While
    it fires, only calls since its start count, shipped and withheld ones. It resolves when a second test finds the rate
    below the alarm level, and the rate's interval lies below it with `release_confidence`. At the alarm level that test
    errs at most once in 1 / `release_alpha` grades. Fewer than `min_grades` grades are no data. The shown rate covers
    at most the latest `max_grades` grades. Grades of calls older than `max_age` do not count.
    """

    rests_on_grades: ClassVar[bool] = True

    signal: Literal["false_confident_rate"]
    limit: Literal["normal", "max_false_confident_rate"] | Share
    normal_grades: Count = 200
    first_grades: Count = 600
    min_grades: Count = 50
    max_grades: Count = 800
    max_age: Seconds = Field(default=14.0 * DAY_S, gt=0)
    alpha: Alpha = 8e-6
    release_alpha: Alpha = 1.5e-4
    release_confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_grades < 2 * self.min_grades:
            raise ValueError("max_grades is less than twice min_grades: the alert could fire and never resolve")
        # The default value must be valid with any limit, so only a value from the file fails.
        for name in ("normal_grades", "first_grades"):
            if self.limit != "normal" and name in self.model_fields_set:
                raise ValueError(f"{name} is only for `limit: normal`: nothing is learned for any other limit")
        if self.limit == "normal" and self.first_grades < self.normal_grades:
            raise ValueError("first_grades is less than normal_grades: a route is judged before they are complete")
        return self

    def limit_in(self, settings: object) -> float | None:
        """The highest rate that is allowed, a share; None if its setting is not set, or if it is learned."""
        return None if self.limit == "normal" else limit_value(settings, self.limit)


def climb_alpha(rules: Iterable[Rule]) -> float | None:
    """The alpha of the rule that detects a climb over a learned baseline first; None if no rule looks for one."""
    learning = [rule for rule in rules if isinstance(rule, QualityRule) and rule.limit == "normal"]
    return max((rule.alpha for rule in learning), default=None)
