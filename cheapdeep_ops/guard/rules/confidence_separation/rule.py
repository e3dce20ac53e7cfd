"""The rule on whether confidence separates right answers from wrong ones, as the rules file states it."""

from typing import Literal

from pydantic import Field

from cheapdeep_ops.guard.rules.model import Count, Rule, Seconds, Share
from cheapdeep_ops.units import DAY_S


class GateRule(Rule):
    """Confidence does not separate right answers from wrong ones, or the threshold separates no calls.

    It fires in a route for one of two reasons. First: the upper bound of the AUROC's 95% interval lies below the limit.
    The latest `max_grades` grades of calls within `max_age` count. There must be at least `min_grades`, and among them
    `min_wrong` of wrong answers. Second: of at least `min_calls` triaged calls in `window`, all escalate at base or
    none does. It resolves when the AUROC has reached the limit again, and some but not all calls escalate.
    """

    signal: Literal["confidence_separation"]
    limit: Share = 0.6
    min_grades: Count = 100
    min_wrong: Count = 20
    max_grades: Count = 2_000
    max_age: Seconds = Field(default=14.0 * DAY_S, gt=0)
    min_calls: Count = 3_000
    window: Seconds = Field(default=float(DAY_S), gt=0)

    def limit_in(self, _settings: object) -> float:
        """The AUROC below which confidence is of no use; 0.5 is chance."""
        return self.limit
