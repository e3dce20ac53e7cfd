"""The rule on the escalation rate, as the rules file states it."""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cheapdeep_ops.guard.rules.model import Confidence, Count, Rule, Seconds, Share, limit_value
from cheapdeep_ops.units import DAY_S


class Windows(BaseModel):
    """Two windows, in seconds: the long one has the evidence, the short one shows that the storm still lasts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long: Seconds = Field(gt=0)
    short: Seconds = Field(gt=0)

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if self.short > self.long:
            raise ValueError("the short window is longer than the long one")
        return self


class StormRule(Rule):
    """Too many calls leave the cheap tier.

    It fires when the lower bound of the rate's interval lies above the limit. The confidence is `confidence` in the
    long window, and 95% in the short one. Often it fires sooner, when a sequential test for a higher rate has evidence
    of 1 / `alpha`. Both take at least `min_calls` calls in the long window, and evidence from `min_seconds` distinct
    seconds. At a rate that stays at the limit, the test gives at most one false alarm in 1 / `alpha` calls on average.
    At a lower rate it gives far fewer.

    A long window with fewer than `reach_calls` calls reaches back until it has them, at most `reach` seconds. The short
    one reaches back until it has half of `min_calls`. If calm minutes vary significantly more than independent calls
    would, all counts are divided by their dispersion.
    """

    signal: Literal["base_escalation_rate"]
    limit: Literal["max_escalation_rate"] | Share
    windows: Windows
    min_calls: Count
    min_seconds: Count = 3
    reach_calls: Count = 300
    reach: Seconds = Field(default=DAY_S, ge=0, le=DAY_S)
    confidence: Confidence = 0.9999
    alpha: Share = 5e-7

    @property
    def evidence_limit(self) -> float:
        """The natural logarithm of the evidence at which the sequential test fires."""
        # Evidence is kept as a logarithm: its value exceeds a float within a long storm.
        return -math.log(self.alpha)

    def limit_in(self, settings: object) -> float | None:
        """The highest rate that is allowed, a share; None if its setting is not set."""
        return limit_value(settings, self.limit)
