"""The rule on how much of a budget is spent, as the rules file states it."""

from typing import Annotated, Literal

from pydantic import Field

from cheapdeep_ops.guard.rules.model import Rule


class BudgetRule(Rule):
    """So much of a budget for this day of UTC is spent, in each budget by itself; it resolves when the day is over.

    A budget is used up (1) too when no process gets another slice of it, with at most a tenth of it unspent.
    """

    signal: Literal["budget_spent"]
    limit: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]

    def limit_in(self, _settings: object) -> float:
        """The share of a budget from which it fires."""
        return self.limit
