"""The cost at another threshold, estimated from the cost of a period's calls; pure, in US dollars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from cheapdeep_ops.guard.formatting import coverage
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.values import Decision, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCost:
    """The cost of a period's priced calls, in US dollars.

    `unpriced` of the `calls`, and `unpriced_triaged` of the triaged ones, are in none of the costs. `baseline_usd` is
    their cost at the deep tier alone. `moved` counts the calls with another outcome than at the base threshold.
    `prices` names the source of the figures.
    """

    calls: int
    triaged: int
    moved: int
    unpriced: int
    unpriced_triaged: int = 0
    cost_usd: float
    triage_usd: float
    baseline_usd: float
    prices: str

    @property
    def priced(self) -> int:
        """The number of priced calls."""
        return self.calls - self.unpriced

    @property
    def priced_triaged(self) -> int:
        """The number of priced calls that were triaged."""
        return self.triaged - self.unpriced_triaged


def spent_in(sums: Sums, *, prices: str) -> PeriodCost:
    """The cost in the counters of a period."""
    return PeriodCost(
        calls=sums.calls,
        triaged=sums.triaged,
        # Counters do not show single calls, so this is the fewest that can have moved.
        moved=max(sums.withheld, abs(sums.escalated - sums.base_escalated)),
        unpriced=sums.unpriced,
        unpriced_triaged=sums.unpriced_triaged,
        cost_usd=sums.cost_usd,
        triage_usd=sums.triage_cost_usd,
        baseline_usd=sums.baseline_usd,
        prices=prices,
    )


def spent_on(decisions: Sequence[Decision], *, prices: str) -> PeriodCost:
    """The costs of single calls: those without a known cost or baseline cost count as unpriced."""
    priced = [each for each in decisions if each.cost_usd is not None and each.baseline_cost_usd is not None]
    return PeriodCost(
        calls=len(decisions),
        triaged=sum(each.triaged for each in decisions),
        moved=sum(each.triaged and each.escalated != (each.base_outcome is Outcome.ESCALATE) for each in decisions),
        unpriced=len(decisions) - len(priced),
        unpriced_triaged=sum(each.triaged for each in decisions) - sum(each.triaged for each in priced),
        cost_usd=sum(each.cost_usd or 0.0 for each in priced),
        triage_usd=sum(each.triage_cost_usd or 0.0 for each in priced),
        baseline_usd=sum(each.baseline_cost_usd or 0.0 for each in priced),
        prices=prices,
    )


class RoutingCost(TypedDict):
    """The cost of calls, in US dollars; None if it is unknown."""

    cost_usd: float | None
    cost_per_call_usd: float | None
    saving: float | None


class EstimatedCost(RoutingCost):
    """An estimated cost, and its basis in words."""

    cost_basis: str


class PaidCost(RoutingCost):
    """The actual cost, beside the estimate at the base threshold."""

    calls: int
    unpriced_calls: int
    estimate_at_base_usd: float | None
    why: str


def estimated_cost(spent: PeriodCost, escalation_rate: float | None) -> EstimatedCost:
    """The estimated cost of the priced calls if this share of the triaged ones had escalated.

    It is the triage as paid, plus the mean baseline for each call to the deep tier. An unknown cost is None, with the
    reason.
    """
    if why := _unknown(spent, escalation_rate):
        return {**_money(None, spent), "cost_basis": f"unknown: {why}"}
    deep = spent.priced_triaged * (escalation_rate or 0.0) + spent.priced - spent.priced_triaged
    basis = f"estimate: triage as paid, and the mean baseline of a call for each that escalates{_untriaged(spent)}"
    return {
        **_money(spent.triage_usd + deep * spent.baseline_usd / spent.priced, spent),
        "cost_basis": f"{basis}{coverage(spent.unpriced, spent.calls)}; {spent.prices}",
    }


def paid_cost(spent: PeriodCost, *, at_base: float | None) -> PaidCost:
    """The actual cost of the priced calls, and the estimate at the base threshold if all were decided there."""
    why = _unknown(spent, 0.0)
    compared = not why and not spent.moved and at_base is not None
    return {
        **_money(None if why else spent.cost_usd, spent),
        "calls": spent.calls,
        "unpriced_calls": spent.unpriced,
        "estimate_at_base_usd": at_base if compared else None,
        "why": why or (f"{spent.moved:,} calls had another outcome than at the base threshold" if spent.moved else ""),
    }


def _unknown(spent: PeriodCost, escalation_rate: float | None) -> str:
    if not spent.calls:
        return "no call"
    if not is_covered(unpriced=spent.unpriced, of=spent.calls):
        return f"{spent.unpriced:,} of {spent.calls:,} calls are unpriced"
    return "" if escalation_rate is not None else "the escalation rate is unknown"


def _untriaged(spent: PeriodCost) -> str:
    rest = spent.priced - spent.priced_triaged
    return f" and for {rest:,} calls without triage" if rest else ""


def _money(cost_usd: float | None, spent: PeriodCost) -> RoutingCost:
    return {
        "cost_usd": cost_usd,
        "cost_per_call_usd": None if cost_usd is None else cost_usd / spent.priced,
        "saving": None if cost_usd is None or not spent.baseline_usd else 1 - cost_usd / spent.baseline_usd,
    }
