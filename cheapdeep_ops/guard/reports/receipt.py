"""The receipt over a period: models, cost per call, saving against all-deep, escalation, false confidence, grading."""

from typing import Final

from cheapdeep_ops.guard.report_types.figures import (
    CacheFigures,
    Causes,
    Counted,
    FalseConfidence,
    Receipt,
    Shadow,
    TriageFigures,
)
from cheapdeep_ops.guard.reports.all_deep import all_deep_of
from cheapdeep_ops.guard.reports.before import before_of, incidents_of
from cheapdeep_ops.guard.reports.costs import call_figures, cost_figures, has_prices, mean_of, saving_of, savings_of
from cheapdeep_ops.guard.reports.outcomes import outcomes_of
from cheapdeep_ops.guard.reports.quality import (
    confidence_of,
    funnel_of,
    grader_of,
    quality_of,
    rates_by_tier,
    spending_of,
)
from cheapdeep_ops.guard.reports.review import correction_of
from cheapdeep_ops.guard.reports.sampling_budget import reach_by_route, sampling_of
from cheapdeep_ops.histogram import PRECISION, quantile
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, policies, route_labels
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.records import record_of
from cheapdeep_ops.units import DAY_S

LONGEST_S: Final = 100.0 * 365 * DAY_S
"""The longest period of a receipt; a longer one is a typing error, and its dates are out of range."""

BASELINE_NOTE = (
    "estimate: escalated calls at what the deep tier really used, less what its cold cache cost; shipped calls from "
    "the cheap answer's length: its tokens, less the triage contract, times the tokenizer's ratio"
)


def receipt(store: Store, settings: Settings, *, since: float, until: float) -> Receipt:
    """The figures of `[since, until)`; rates without data are None. Raises StoreError."""
    with store.reading() as connection:
        sums = counters.summed(connection, since=since, until=until)
        answers = sums.answers
        correction = correction_of(connection, settings, since=since, until=until)
        spending = spending_of(connection, since=since, until=until)
        all_deep = all_deep_of(connection, settings, sums, since=since, until=until) if has_prices(sums) else None
        counted = counters.by_route(connection, since=since, until=until)
        by_route = route_labels.by_shown_route(connection, counted, most=settings.max_routes)
        quality = quality_of(connection, since=since, until=until)
        figures: Counted = {**call_figures(sums), **cost_figures(sums), **record_of(FalseConfidence, quality)}
        return {
            "since": since,
            "until": until,
            "models": dict(sums.models),
            "tiers": list(settings.tiers),
            "false_confidence_by_tier": rates_by_tier(connection, settings, since=since, until=until),
            **figures,
            **savings_of(sums, all_deep, grading_usd=spending["grader_cost_usd"]),
            "before": before_of(connection, settings, figures, since=since, until=until),
            "incident_list": incidents_of(connection, since=since, until=until),
            "baseline_basis": BASELINE_NOTE,
            "all_deep": all_deep,
            **triage_of(sums),
            **caches_of(sums),
            **causes_of(sums),
            "shadow": shadow_of(sums),
            **quality,
            **correction,
            # It replaces the value of `quality_of`, which does not know the labels.
            "judge_correction": "uncorrected" if correction["judge_correction_why"] else "corrected",
            **spending,
            "funnel": funnel_of(connection, settings, answers=answers, since=since, until=until),
            "grader": grader_of(connection, settings, until),
            "confidence": confidence_of(connection, settings, since=since, until=until),
            "sampling": sampling_of(connection, settings, answers=answers, since=since, until=until),
            "reach": reach_by_route(connection, settings, until),
            "saving_after_grading": saving_of(sums, spending["grader_cost_usd"]),
            "outcomes": outcomes_of(connection, since=since, until=until),
            "routes": {name: counts.calls for name, counts in sorted(by_route.items())},
            "policy_changes": policies.count_applied(connection, since=since, until=until),
        }


def triage_of(sums: Sums) -> TriageFigures:
    """The cost of triage: money, tokens of a reply, and the seconds that it adds to a call that escalates."""
    replies = sums.triage_replies
    return {
        "triage_cost_usd": sums.triage_cost_usd,
        "triage_cost_per_call_usd": mean_of(
            sums, sums.triage_cost_usd, of=sums.triaged, unpriced=sums.unpriced_triaged
        ),
        "triage_input_tokens_per_call": _share(sums.triage_input_tokens, replies),
        "triage_output_tokens_per_call": _share(sums.triage_output_tokens, replies),
        "added_latency_p50_s": quantile(sums.added_latency, 0.5),
        "added_latency_p95_s": quantile(sums.added_latency, 0.95),
        "added_latency_calls": sum(sums.added_latency.values()),
        "added_latency_precision": PRECISION,
    }


def caches_of(sums: Sums) -> CacheFigures:
    """The share of input tokens that each tier read from its prompt cache, and the cost of cold caches."""
    cold = _cold_cache_usd(sums)
    return {
        "cold_cache_usd": cold,
        "cold_cache_share": None if cold is None or not sums.cost_nusd else cold / sums.cost_usd,
        "triage_cache_read_share": _share(sums.triage_cache_read_tokens, sums.triage_input_tokens),
        "triage_replies": sums.triage_replies,
        "deep_cache_read_share": _share(sums.deep_cache_read_tokens, sums.deep_input_tokens),
        "deep_replies": sums.deep_replies,
    }


def _cold_cache_usd(sums: Sums) -> float | None:
    """US dollars; None if too few calls have a price, or if calls escalated and the deep tier reported no usage."""
    # Without usage of the deep tier, a cost of 0 would only mean that none was reported.
    is_reported = sums.deep_replies or not sums.escalated
    return sums.cold_cache_usd if is_reported and has_prices(sums) else None


def _share(tokens: int, of: int) -> float | None:
    return tokens / of if of else None


def causes_of(sums: Sums) -> Causes:
    """Why calls escalated or bypassed triage, and the failures that did not prevent an answer."""
    return {
        "reasons": dict(sums.reasons),
        "base_reasons": dict(sums.base_reasons),
        "bypass_causes": dict(sums.bypass_causes),
        "triage_errors": dict(sums.triage_errors),
        "malformed_causes": dict(sums.malformed_causes),
        "fallbacks": sums.fallbacks,
        "budget_shipped": sums.budget_shipped,
        "budget_refused": sums.budget_refused,
        "replays_rejected": sums.replays_rejected,
    }


def shadow_of(sums: Sums) -> Shadow | None:
    """The cost that the triaged calls of shadow mode would have had with routing; None without such calls."""
    if not sums.shadowed:
        return None
    calls, unpriced = sums.shadowed, sums.unpriced_shadowed
    is_known = sums.shadow_baseline_nusd and has_prices(sums) and is_covered(unpriced=unpriced, of=calls)
    return {
        "calls": calls,
        "unpriced_calls": unpriced,
        "cost_per_call_usd": mean_of(sums, sums.shadow_cost_usd, of=calls, unpriced=unpriced),
        "baseline_per_call_usd": mean_of(sums, sums.shadow_baseline_usd, of=calls, unpriced=unpriced),
        "saving": 1 - sums.shadow_cost_nusd / sums.shadow_baseline_nusd if is_known else None,
    }
