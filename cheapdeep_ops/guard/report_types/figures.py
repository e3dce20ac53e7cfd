"""The figures of a period, and the receipt that they make up."""

from typing import Annotated, Literal

from pydantic import Field

from cheapdeep_ops.guard.report_types.outcomes import Outcomes
from cheapdeep_ops.guard.report_types.state import GraderState, Policy, Reach
from cheapdeep_ops.guard.report_types.units import Interval, Rate, Usd
from cheapdeep_ops.store.records import Moment, Record


# The figures are split into parts, because messages, series and receipts share some of them.
class CallFigures(Record):
    """The calls of a period and their outcomes."""

    calls: int
    triaged: Annotated[int, Field(description="the n of the rates of escalation")]
    shipped: int
    escalated: int
    escalation_rate: Rate
    escalation_interval: Interval
    base_escalation_rate: Annotated[float | None, Field(description="at the base threshold, not at the one in force")]
    base_escalation_interval: Interval
    withheld: Annotated[int, Field(description="escalated only because the threshold is raised")]
    bypassed: Annotated[int, Field(description="not triaged")]
    errors: int


class CostFigures(Record):
    """The cost of the calls whose cost and baseline are both known.

    Means and shares are null if fewer than half of the calls are priced.
    """

    cost_usd: Usd
    baseline_cost_usd: Annotated[float, Field(description="an estimate of what the deep tier alone would have cost")]
    cost_per_call_usd: float | None
    baseline_per_call_usd: float | None
    saving: Annotated[float | None, Field(description="share of the all-deep cost; negative if routing cost more")]
    unpriced_calls: Annotated[int, Field(description="not in any of the costs")]


class FalseConfidence(Record):
    """Wrong answers among those shipped, by the grader."""

    false_confident_rate: Annotated[
        float | None, Field(description="share of shipped answers that are wrong, by the grader")
    ]
    false_confident_interval: Interval
    graded: Annotated[int, Field(description="the n of that rate")]


class Counted(CallFigures, CostFigures, FalseConfidence):
    """The figures of every step of a series, and of every receipt."""


class TierFalseConfidence(FalseConfidence):
    """Wrong answers among those that one tier shipped, by the grader."""

    tier: int
    model: Annotated[str, Field(description="the tier's model now; empty if there is no such tier any more")]


class Quality(FalseConfidence):
    """False confidence of the shipped and of the withheld answers, with the grades of both."""

    grades: Annotated[dict[str, int], Field(description="by verdict or failure")]
    judge_correction: Literal["corrected", "uncorrected"]
    withheld_false_confident_rate: Rate
    withheld_false_confident_interval: Interval
    withheld_graded: int


class Latest(CallFigures, CostFigures, Quality):
    """The figures of the latest period, for a page."""


class Correction(Record):
    """False confidence with the grader's errors removed; unknown while there are too few labels."""

    judge_correction_why: Annotated[str, Field(description="why nothing is corrected; empty if it is")]
    judge_labels: int
    corrected_false_confident_rate: Rate
    corrected_false_confident_interval: Interval


class GradingCosts(Record):
    """The cost of grading, and the second grader's part of it."""

    grader_cost_usd: Annotated[float, Field(description="US dollars; not in any cost of routing")]
    second_grader_cost_usd: Usd
    grader_unpriced: int


class ColdCaches(Record):
    """The cost of the deep tier's cold caches."""

    cold_cache_usd: Annotated[
        float | None, Field(description="US dollars, part of the cost: what a warm deep cache would have saved")
    ]
    cold_cache_share: Annotated[float | None, Field(description="share of the cost")]


class CacheShares(Record):
    """The shares that each tier read from its prompt cache."""

    triage_cache_read_share: Annotated[float | None, Field(description="of the input tokens of triage replies")]
    triage_replies: Annotated[int, Field(description="the n of that share")]
    deep_cache_read_share: Annotated[float | None, Field(description="of the input tokens of the deep tier's replies")]
    deep_replies: Annotated[int, Field(description="the n of that share")]


class CacheFigures(ColdCaches, CacheShares):
    """The use of the prompt caches, and the cost of cold ones."""


class TriageFigures(Record):
    """The cost of triage: money, tokens, and the seconds that it adds to a call that escalates."""

    triage_cost_usd: Usd
    triage_cost_per_call_usd: float | None
    triage_input_tokens_per_call: float | None
    triage_output_tokens_per_call: float | None
    added_latency_p50_s: float | None
    added_latency_p95_s: float | None
    added_latency_calls: int
    added_latency_precision: Annotated[float, Field(description="relative error of the quantiles, at most")]


class Causes(Record):
    """Why calls escalated, bypassed triage or failed."""

    reasons: Annotated[dict[str, int], Field(description="why calls escalated")]
    base_reasons: Annotated[dict[str, int], Field(description="why they would have at the base threshold")]
    bypass_causes: dict[str, int]
    triage_errors: Annotated[dict[str, int], Field(description="why triage calls failed, by exception type")]
    malformed_causes: Annotated[dict[str, int], Field(description="why triage replies were refused as malformed")]
    fallbacks: Annotated[int, Field(description="triage answers that were shipped because the deep tier failed")]
    budget_shipped: Annotated[int, Field(description="triage answers shipped because a budget was used up")]
    budget_refused: Annotated[int, Field(description="calls that were refused because a budget was used up")]
    replays_rejected: Annotated[int, Field(description="refused as invalid by the deep tier after triage")]


class Bin(Record):
    """The answers with one level of confidence: their mean confidence, and the share that is right."""

    low: float
    high: float
    share: float
    claims: float
    is_right: float
    is_right_interval: Interval
    graded: int


class Confidence(Record):
    """How well confidence matches the grades, of answers that ship at base."""

    graded: int
    wrong: int
    auroc: Annotated[
        float | None, Field(description="probability that a right answer claims more confidence than a wrong one")
    ]
    auroc_interval: tuple[float, float] | None
    expected_calibration_error: float | None
    expected_calibration_error_interval: tuple[float, float] | None
    claims: float | None
    is_right: float | None
    bins: list[Bin]


class Funnel(Record):
    """The states of the confident answers; they add up to `answers`."""

    answers: int
    not_sampled: int
    skipped: int
    waiting: int
    graded: int
    failed: int
    expired: int
    skipped_causes: dict[str, int]


class Spent(Record):
    """The samples of one way to choose them, and their cost."""

    samples: int
    cost_usd: Usd
    unpriced: int


class Sampling(Record):
    """The samples by the way they were chosen."""

    budget: float
    answers: int
    samples: int
    spent_share: Rate
    evenly: Spent
    suspected: Spent
    hindsight: Spent


class Shadow(Record):
    """Calls of shadow mode on which triage was tried beside the deep tier."""

    calls: int
    unpriced_calls: Annotated[int, Field(description="not in any of the costs")]
    cost_per_call_usd: Annotated[float | None, Field(description="what they would have cost, routed")]
    baseline_per_call_usd: Annotated[float | None, Field(description="what they did cost at the deep tier")]
    saving: Annotated[float | None, Field(description="share of that, without the cost of grading")]


class AllDeep(Record):
    """The cost of the deep tier alone, from how long its answers were for calls that both tiers answered."""

    usd: Usd
    interval_usd: Annotated[tuple[float, float], Field(description="95%")]
    saving: Annotated[float | None, Field(description="share of `usd`; negative if routing cost more")]
    saving_interval: Annotated[tuple[float, float] | None, Field(description="95%")]
    compared: Annotated[int, Field(description="calls that both tiers answered, of the last 30 days")]
    length_ratio: Annotated[float, Field(description="length of deep answers, as a multiple of the cheap ones' text")]
    sure_share: Annotated[float, Field(description="of the shipped text, the share of routes with sure comparisons")]
    doubtful_share: Annotated[float, Field(description="the share of routes with comparisons of doubtful answers only")]


class Savings(Record):
    """What routing saved in a period: what the deep tier alone would have cost, less what calls and grading cost."""

    saved_usd: Annotated[float | None, Field(description="negative if routing cost more; null if too few are priced")]
    saved_interval_usd: Annotated[
        tuple[float, float] | None, Field(description="95%; null unless calls with both answers were compared")
    ]
    saved_of_usd: Annotated[float | None, Field(description="what the deep tier alone would have cost")]
    saved_share: Annotated[float | None, Field(description="the saving as a share of that")]
    saving_basis: Annotated[
        Literal["compared", "estimated", "unknown"],
        Field(
            description="what the deep tier's cost rests on: calls that both tiers answered, or the length of the "
            "cheap answers"
        ),
    ]


class PeriodBefore(CallFigures, CostFigures, FalseConfidence, Savings):
    """The figures of the period before, which is as long; and how much rates have changed since."""

    since: Moment
    until: Moment
    counted_since: Annotated[
        float | None, Field(description="the store's first call, if it lies in this period: totals cover a part of it")
    ]
    escalation_change: Annotated[
        tuple[float, float] | None, Field(description="95% interval for the later rate minus this one")
    ]
    base_escalation_change: Annotated[tuple[float, float] | None, Field(description="95%, as above")]
    false_confident_change: Annotated[tuple[float, float] | None, Field(description="95%, as above")]


class PeriodIncident(Record):
    """An incident that was open in the period."""

    id: int
    rule: str
    scope: str
    summary: Annotated[str, Field(description="what the rule is about; empty if nothing was announced")]
    started_at: Moment
    resolved_at: Annotated[float | None, Field(description="null while it is open")]
    acknowledged_by: Annotated[str, Field(description="empty: not acknowledged")]


class ReceiptFacts(CallFigures, CostFigures, Quality, Correction, GradingCosts, ColdCaches, Savings):
    """The part of a receipt that a message has."""

    since: Moment
    until: Moment
    before: Annotated[PeriodBefore | None, Field(description="null if the store has no earlier call")]
    incident_list: Annotated[
        list[PeriodIncident], Field(description="those that were open in the period, newest first; at most fifty")
    ]
    baseline_basis: Annotated[str, Field(description="what the all-deep estimate rests on")]
    all_deep: Annotated[AllDeep | None, Field(description="null if no call shows how long deep answers are")]
    saving_after_grading: float | None
    policy_changes: int
    shadow: Annotated[Shadow | None, Field(description="null if no call was tried in shadow mode")]


class IncidentCounts(Record):
    """How many incidents of a rule began in a period, and how many of them are open."""

    began: int
    open: int


class ReceiptMessage(ReceiptFacts):
    """The payload of a message with a receipt."""

    kind: Literal["report"]
    rule: Literal["Receipt"]
    incidents: dict[str, IncidentCounts]
    policy: Policy
    links: list[list[str]]


class Receipt(ReceiptFacts, CacheShares, TriageFigures, Causes):
    """The receipt over a period."""

    models: Annotated[dict[str, int], Field(description="answered calls by model")]
    tiers: list[str]
    false_confidence_by_tier: Annotated[list[TierFalseConfidence], Field(description="of each triage tier")]
    funnel: Funnel
    grader: GraderState
    confidence: Annotated[dict[str, Confidence], Field(description="by route")]
    sampling: Sampling
    reach: Annotated[dict[str, Reach], Field(description="by route")]
    outcomes: Outcomes
    routes: Annotated[dict[str, int], Field(description="calls by route")]
