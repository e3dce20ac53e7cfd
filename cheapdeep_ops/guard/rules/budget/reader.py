"""Reads what is spent of each budget on this day of UTC."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from cheapdeep_ops.budgets import Spend, day_of
from cheapdeep_ops.guard.formatting import money
from cheapdeep_ops.guard.rules.budget.rule import BudgetRule
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader
from cheapdeep_ops.guard.rules.model import Finding, Level, ScopedAlert
from cheapdeep_ops.store import budgets
from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import ALL_ROUTES


class BudgetReader(SignalReader):
    """Reads the spend of each budget, whose scope is its name in words."""

    def __init__(self, rule: BudgetRule, context: ReaderContext) -> None:
        self._rule = rule
        self._spends = context.shared(_spends)

    @property
    def scopes(self) -> AbstractSet[str]:
        """The budgets with a limit."""
        return self._spends.keys()

    def finding(self, routes: Collection[str], _alert: ScopedAlert) -> Finding:
        """Above while the limit of the rule is reached; a budget without a limit is below."""
        (scope,) = routes
        spend = self._spends.get(scope)
        if spend is None:
            return Finding(level=Level.BELOW, signal={"kind": "", "why": f"{scope}: there is no budget any more"})
        level = Level.ABOVE if spend.share >= self._rule.limit else Level.BELOW
        return Finding(level=level, signal=signal_of(spend))


def signal_of(spend: Spend) -> dict[str, object]:
    """The figures of a finding, and in words what they say."""
    spent_usd, limit_usd = spend.spent * USD_PER_NUSD, spend.limit * USD_PER_NUSD
    return {
        "kind": "",
        "budget": str(spend.name),
        "of_route": spend.name.name if spend.name.of == "route" else ALL_ROUTES,
        "spent_usd": spent_usd,
        "limit_usd": limit_usd,
        "share": spend.share,
        "unpriced": spend.unpriced,
        "why": f"{money(spent_usd)} of {money(limit_usd)} for this day of UTC is spent{spend.left_out}",
    }


def _spends(context: ReaderContext) -> dict[str, Spend]:
    found = budgets.spends(context.connection, day=day_of(context.now), now=context.now)
    return {each.name.label: each for each in found}
