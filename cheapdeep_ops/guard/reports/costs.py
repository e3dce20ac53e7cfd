"""Calls, costs and savings of a period, from its sums."""

from cheapdeep_ops.guard.report_types.figures import AllDeep, CallFigures, CostFigures, Savings
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.store.counts import Sums


def call_figures(sums: Sums) -> CallFigures:
    """Calls, and how many of them shipped, escalated, bypassed triage and failed."""
    actual = Proportion(hits=sums.escalated, n=sums.triaged)
    base = Proportion(hits=sums.base_escalated, n=sums.triaged)
    return {
        "calls": sums.calls,
        "triaged": sums.triaged,
        "shipped": sums.shipped,
        "escalated": sums.escalated,
        "escalation_rate": actual.rate,
        "escalation_interval": actual.interval(),
        "base_escalation_rate": base.rate,
        "base_escalation_interval": base.interval(),
        "withheld": sums.withheld,
        "bypassed": sums.bypassed,
        "errors": sums.errors,
    }


def cost_figures(sums: Sums) -> CostFigures:
    """Cost and saving in US dollars, over the calls whose cost and baseline are both known.

    Means and saving are unknown if fewer than half of the calls are priced; see `is_covered`.
    """
    return {
        "cost_usd": sums.cost_usd,
        "baseline_cost_usd": sums.baseline_usd,
        "cost_per_call_usd": mean_of(sums, sums.cost_usd, of=sums.calls, unpriced=sums.unpriced),
        "baseline_per_call_usd": mean_of(sums, sums.baseline_usd, of=sums.calls, unpriced=sums.unpriced),
        "saving": saving_of(sums, 0.0),
        "unpriced_calls": sums.unpriced,
    }


def mean_of(sums: Sums, usd: float, *, of: int, unpriced: int) -> float | None:
    """The mean cost of `of` calls of the period over their priced ones, in US dollars; None if too few have a price."""
    # Unpriced calls have no cost in the sum, so the mean must not count them.
    return usd / (of - unpriced) if has_prices(sums) and is_covered(unpriced=unpriced, of=of) else None


def has_prices(sums: Sums) -> bool:
    """Whether enough of the calls are priced for means and shares."""
    return is_covered(unpriced=sums.unpriced, of=sums.calls)


def saving_of(sums: Sums, grading_usd: float) -> float | None:
    """The share of the all-deep cost that was saved; negative if routing cost more, None if too few are priced."""
    is_known = sums.baseline_nusd and has_prices(sums)
    return 1 - (sums.cost_usd + grading_usd) / sums.baseline_usd if is_known else None


def savings_of(sums: Sums, all_deep: AllDeep | None, *, grading_usd: float) -> Savings:
    """What was saved, after the cost of grading; by the length of deep answers where that is known."""
    if not has_prices(sums) or not sums.calls:
        return {
            "saved_usd": None,
            "saved_interval_usd": None,
            "saved_of_usd": None,
            "saved_share": None,
            "saving_basis": "unknown",
        }
    paid = sums.cost_usd + grading_usd
    of_usd = sums.baseline_usd if all_deep is None else all_deep["usd"]
    interval = None if all_deep is None else (all_deep["interval_usd"][0] - paid, all_deep["interval_usd"][1] - paid)
    return {
        "saved_usd": of_usd - paid,
        "saved_interval_usd": interval,
        "saved_of_usd": of_usd,
        "saved_share": 1 - paid / of_usd if of_usd > 0 else None,
        "saving_basis": "estimated" if all_deep is None else "compared",
    }
