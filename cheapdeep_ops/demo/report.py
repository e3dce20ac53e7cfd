"""The report of a demonstration or a replay: one JSON object; both have equal keys."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NotRequired

from typing_extensions import TypedDict

from cheapdeep_ops.guard.report_types.figures import Funnel, GradingCosts, Quality
from cheapdeep_ops.guard.report_types.state import Normal
from cheapdeep_ops.guard.reports.quality import baselines_of, funnel_of, quality_of, spending_of
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.router import Routed
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.records import Incident, PolicyChange
from cheapdeep_ops.values import Decision

_ALL: Final = 1_000_000
_Z95: Final = 1.96
SIMULATED_TOKENS: Final = "simulated questions and answers, four characters a token"
MONTH: Final = 1_000_000
"""The number of calls in the month that a receipt ends with."""

DEFAULT_SAMPLE_RATE: Final[float] = Settings.model_fields["sample_rate"].default


class CallCounts(TypedDict):
    """Finished calls, and how many of them shipped and escalated."""

    calls: int
    shipped: int
    escalated: int
    withheld: int
    escalation_rate: float | None
    reasons: dict[str, int]


class TrueRates(TypedDict):
    """Rates by what is known to be right; None where nothing is known."""

    true_false_confident_rate: float | None
    cascade_accuracy: float | None


class RunCost(TypedDict):
    """What calls cost, in US dollars, over the priced ones; None if fewer than half of them are priced."""

    unpriced_calls: int
    cost_usd: float | None
    baseline_cost_usd: float | None
    cost_per_call_usd: float | None
    saving: float | None


ChangeAtCall = TypedDict(
    "ChangeAtCall",
    {"at_call": int, "from": float, "to": float, "cause": str, "act": str, "scope": str, "applied": bool},
)


class AlertAtCall(TypedDict):
    """An alert that began to fire, or was resolved, and how many calls had finished by then."""

    rule: str
    scope: str
    state: str
    at_call: int


class RunReport(CallCounts, Quality, GradingCosts, TrueRates, RunCost):
    """The report of calls that the guard watched in virtual time."""

    cost_basis: str
    """Where the tokens come from that the costs rest on."""
    funnel: Funnel
    normal: dict[str, Normal]
    policy_changes: list[ChangeAtCall]
    alerts: list[AlertAtCall]


class PlayedReport(RunReport):
    """The report of a run whose calls a second, seed and share of graded answers were chosen."""

    rate: float
    seed: int
    sample_rate: float


class PhaseReport(RunCost):
    """One phase of a demonstration."""

    name: str
    what: str
    seconds: float
    virtual_seconds: float
    calls: int
    escalation_rate: float | None
    is_done: bool


class MonthReport(TypedDict):
    """A million calls, of which `n` had a price; without the rest where those were too few."""

    calls: int
    n: int
    cost_usd: NotRequired[float]
    baseline_cost_usd: NotRequired[float]
    cost_per_call_usd: NotRequired[float]
    saving: NotRequired[float]
    saving_interval: NotRequired[tuple[float, float]]
    saving_usd: NotRequired[float]
    saving_usd_interval: NotRequired[tuple[float, float]]
    sample_rate: NotRequired[float]
    grading_usd: NotRequired[float | None]


class DemoReport(PlayedReport):
    """The report of a demonstration."""

    phases: list[PhaseReport]
    month: MonthReport
    windows_shortened_by: float
    checks: dict[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """One finished call."""

    routed: Routed
    begun_at: float
    finished_at: float
    correct: bool | None
    """Whether the answer that went out is correct; None if unknown."""
    is_comparable: bool = True
    """Whether it is also known if the deep tier's answer is correct."""

    @property
    def decision(self) -> Decision:
        """The router's decision on the call."""
        return self.routed.decision


def report_of(
    outcomes: Sequence[FinishedCall], store: Store, settings: Settings, *, since: float, until: float
) -> RunReport:
    """The calls' outcomes and costs, and the guard's actions; rates without data are None."""
    with store.reading() as connection:
        changes = policies.history(connection, limit=_ALL)[::-1]
        all_incidents = incidents.incidents(connection, limit=_ALL)[::-1]
        quality = quality_of(connection, since=since, until=until)
        spending = spending_of(connection, since=since, until=until)
        answers = sum(each.decision.candidate is not None for each in outcomes)
        funnel = funnel_of(connection, settings, answers=answers, since=since, until=until)
        normal = baselines_of(connection, settings)
    finished = sorted(each.finished_at for each in outcomes)
    return {
        **_counts(outcomes),
        **quality,
        **spending,
        "funnel": funnel,
        "normal": normal,
        **_truth(outcomes),
        **money_of([each.decision for each in outcomes]),
        "cost_basis": SIMULATED_TOKENS,
        "policy_changes": [_change(change, finished) for change in changes],
        "alerts": _alerts(all_incidents, finished),
    }


def _counts(outcomes: Sequence[FinishedCall]) -> CallCounts:
    decisions = [each.decision for each in outcomes]
    escalated = sum(each.escalated for each in decisions)
    return {
        "calls": len(decisions),
        "shipped": sum(each.shipped for each in decisions),
        "escalated": escalated,
        "withheld": sum(each.withheld for each in decisions),
        "escalation_rate": _share(escalated, len(decisions)),
        "reasons": dict(sorted(Counter(str(each.reason) for each in decisions if each.reason).items())),
    }


def _truth(outcomes: Sequence[FinishedCall]) -> TrueRates:
    """The true rates, which do not depend on the grader."""
    shipped = [each for each in outcomes if each.decision.shipped and each.correct is not None]
    compared = [each for each in outcomes if each.is_comparable and each.correct is not None]
    return {
        "true_false_confident_rate": _share(sum(not each.correct for each in shipped), len(shipped)),
        "cascade_accuracy": _share(sum(bool(each.correct) for each in compared), len(compared)),
    }


def money_of(decisions: Sequence[Decision]) -> RunCost:
    """The cost of the priced calls, and their cost with the deep tier alone."""
    priced = priced_pairs(decisions)
    unpriced = len(decisions) - len(priced)
    is_known = not decisions or is_covered(unpriced=unpriced, of=len(decisions))
    cost, baseline = (math.fsum(side) for side in zip(*priced, strict=True)) if priced else (0.0, 0.0)
    return {
        "unpriced_calls": unpriced,
        "cost_usd": cost if is_known else None,
        "baseline_cost_usd": baseline if is_known else None,
        "cost_per_call_usd": cost / len(priced) if is_known and priced else None,
        "saving": 1 - cost / baseline if is_known and baseline else None,
    }


def priced_pairs(decisions: Iterable[Decision]) -> list[tuple[float, float]]:
    """The cost and the baseline of each call for which both are known."""
    # The two are compared, so they must be sums over one set of calls.
    pairs = ((each.cost_usd, each.baseline_cost_usd) for each in decisions)
    return [(cost, baseline) for cost, baseline in pairs if cost is not None and baseline is not None]


def month_of(outcomes: Sequence[FinishedCall], grader_usd: float, *, graded: int) -> MonthReport:
    """The cost and the saving of a million such calls, with 95% intervals, and the cost of grading 1% of them.

    `grader_usd` is the cost of `graded` grades. The saving is a ratio of two sums; its interval is that of the ratio
    estimator. Source: Cochran (1977), Sampling Techniques, 6.4.
    """
    priced = priced_pairs(each.decision for each in outcomes)
    n, cost, baseline = len(priced), sum(cost for cost, _ in priced), sum(baseline for _, baseline in priced)
    is_known = is_covered(unpriced=len(outcomes) - n, of=len(outcomes))
    if n < 2 or not baseline or not is_known:  # noqa: PLR2004 - a variance takes two
        return {"calls": MONTH, "n": n}
    ratio = cost / baseline
    spread = math.sqrt(sum((cost - ratio * baseline) ** 2 for cost, baseline in priced) / (n - 1) / n)
    half = _Z95 * spread / (baseline / n)
    # Only answers that ship at the base threshold are graded.
    confident = sum(each.decision.candidate is not None for each in outcomes) / len(outcomes)
    all_deep = MONTH * baseline / n
    grading = MONTH * confident * DEFAULT_SAMPLE_RATE * grader_usd / graded if graded else None
    return {
        "calls": MONTH,
        "n": n,
        "cost_usd": MONTH * cost / n,
        "baseline_cost_usd": all_deep,
        "cost_per_call_usd": cost / n,
        "saving": 1 - ratio,
        "saving_interval": (1 - ratio - half, 1 - ratio + half),
        "saving_usd": all_deep * (1 - ratio),
        "saving_usd_interval": (all_deep * (1 - ratio - half), all_deep * (1 - ratio + half)),
        "sample_rate": DEFAULT_SAMPLE_RATE,
        "grading_usd": grading,
    }


def _change(change: PolicyChange, finished: Sequence[float]) -> ChangeAtCall:
    return {
        "at_call": bisect_right(finished, change["at"]),
        "from": change["from_threshold"],
        "to": change["to_threshold"],
        "cause": change["cause"] or f"{change['author']}: {change['why']}",
        "act": change["act"],
        "scope": change["scope"],
        "applied": change["applied"],
    }


def _alerts(all_incidents: Sequence[Incident], finished: Sequence[float]) -> list[AlertAtCall]:
    transitions = [(each["started_at"], each["id"], each, "firing") for each in all_incidents]
    transitions += [
        (each["resolved_at"], each["id"], each, "resolved") for each in all_incidents if each["resolved_at"]
    ]
    return [
        {"rule": each["rule"], "scope": each["scope"], "state": state, "at_call": bisect_right(finished, at)}
        for at, _, each, state in sorted(transitions, key=lambda transition: transition[:2])
    ]


def _share(hits: int, n: int) -> float | None:
    return hits / n if n else None
