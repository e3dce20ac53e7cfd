"""What the HTTP API answers, key by key: for its OpenAPI document, and for the test that real answers are like that.

Answers are not read through these, so that a key costs nothing. Rates are shares from 0 to 1 and null where unknown,
intervals are 95%, names ending in `_usd` are US dollars, names ending in `_s` seconds, times Unix time in seconds; a
scope or route `*` is all routes together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Moment = Annotated[float, Field(description="Unix time, in seconds")]
Usd = Annotated[float, Field(description="US dollars")]
Rate = Annotated[float | None, Field(description="a share from 0 to 1; null where it is unknown")]
Interval = Annotated[tuple[float, float], Field(description="a 95% interval; 0 to 1 where nothing is known")]
Kappa = Annotated[tuple[float, float], Field(description="a 95% interval; -1 to 1 where nothing is known")]
Signal = Annotated[dict[str, Any], Field(description="what the rule saw, in numbers; its keys are those of its kind")]
Payload = Annotated[
    dict[str, Any], Field(description="what the message says, in numbers; empty where nothing was said")
]


class Answer(BaseModel):
    """What every answer is made of: the keys below, and no others."""

    model_config = ConfigDict(extra="forbid")


class Health(Answer):
    """How the process is."""

    status: Annotated[str, Field(description="`ok`, or what is missing")]


class ScopePolicy(Answer):
    """The policy of one scope."""

    threshold: float
    version: Annotated[int, Field(description="the change of policy that made it so")]
    pin: Annotated[float | None, Field(description="where a person holds it")]
    causes: Annotated[list[str], Field(description="the rules that hold it raised")]


class Policy(Answer):
    """The thresholds in force."""

    base: float
    raised: float
    threshold: Annotated[float, Field(description="of all routes that have none of their own")]
    scopes: Annotated[dict[str, ScopePolicy], Field(description="every scope that was ever touched")]


class PolicyChange(Answer):
    """One change of policy, by a rule or a person."""

    version: int
    at: Moment
    scope: str
    act: Literal["raise", "release", "pin", "unpin"]
    from_threshold: float
    to_threshold: float
    cause: Annotated[str, Field(description="the rule, where it was one")]
    signal: Signal
    author: Annotated[str, Field(description="the person, where it was one")]
    why: str
    applied: Annotated[bool, Field(description="false: observe or shadow mode or a pin kept it from coming into force")]


class Acknowledged(Answer):
    """Who looks after an incident."""

    author: str
    why: str
    at: Moment


class Incident(Answer):
    """One firing of a rule, from start to end."""

    id: int
    rule: str
    scope: str
    started_at: Moment
    resolved_at: Annotated[float | None, Field(description="null while it goes on")]
    announced: Payload
    announced_at: Moment
    slack_channel: str
    slack_ts: str
    called_for_at: Annotated[float | None, Field(description="when people were last told that it goes on")]
    collected_at: Annotated[float | None, Field(description="since when it waits for the next digest")]
    acknowledged: Annotated[Acknowledged | None, Field(description="null: by nobody")]


class MessageDelivery(Answer):
    """One message to one receiver."""

    receiver: str
    state: Literal["waiting", "delivered", "skipped", "failed", "cancelled"]
    attempts: int
    due_at: Annotated[float, Field(description="the next attempt, while it waits")]
    delivered_at: Annotated[float | None, Field(description="when the receiver took or skipped it")]
    error: Annotated[str, Field(description="of the last attempt, unless the receiver has taken it")]


class IncidentMessage(Answer):
    """One message about an incident."""

    kind: Literal["started", "changed", "acknowledged", "reminder", "resolved", "digest"]
    payload: Payload
    created_at: Moment
    delivered_at: Annotated[float | None, Field(description="at the last receiver; null while it waits for one")]
    attempts: Annotated[int, Field(description="at all receivers")]
    error: Annotated[str, Field(description="of the last attempt, while it waits or where it was refused")]
    deliveries: Annotated[list[MessageDelivery], Field(description="one for each receiver; empty at first")]


class IncidentStory(Incident):
    """One incident with all that was said of it, and what it changed; the newest two hundred of each, oldest first."""

    messages: list[IncidentMessage]
    policy_changes: list[PolicyChange]


class Silence(Answer):
    """A silence that lasts."""

    id: int
    rule: str
    route: Annotated[str | None, Field(description="null: every one")]
    since: Moment
    until: Moment
    author: str
    why: str


class Alert(Answer):
    """Where a rule stands in one scope."""

    rule: str
    scope: str
    state: Literal["inactive", "pending", "firing"]
    level: Annotated[str, Field(description="what the last reading says: above, below, unclear or no_data")]
    since: Moment
    incident_id: Annotated[int | None, Field(description="while it fires")]
    signal: Signal
    updated_at: Moment


class GraderState(Answer):
    """How the grader fares."""

    state: str
    why: Annotated[str, Field(description="what is wrong, if anything")]
    model: str
    by: Literal["direct", "batch"]
    waiting: Annotated[int, Field(description="samples that wait for their grade")]
    oldest_wait_s: float | None
    last_grade_at: float | None
    last_failure: str
    spent_24h_usd: Usd
    limit_24h_usd: Usd


class Normal(Answer):
    """What false confidence is normal for a route; the rate is null while it is being learned."""

    rate: Rate
    low: float
    high: float
    grades: Annotated[int, Field(description="that it was learned from, or that there are to learn from")]
    alarm_level: Annotated[float | None, Field(description="the rate below which a raise is let go")]
    learned_at: float | None
    author: Annotated[str, Field(description="who had it learned anew, if anybody")]
    why: str


class ReceiverQueue(Answer):
    """The messages to one receiver."""

    waiting: int
    delivered: int
    failed: Annotated[int, Field(description="refused for good")]
    attempts: int


class Queue(Answer):
    """The messages, each once for each receiver."""

    waiting: int
    delivered: int
    attempts: int
    last_error: str
    receivers: Annotated[dict[str, ReceiverQueue], Field(description="by name")]


class Watchers(Answer):
    """Who has shown itself within a minute."""

    guards: int
    routers: int
    router_base_thresholds: list[float]
    dropped: Annotated[int, Field(description="decisions that routers could not count")]
    guard_last_seen: float | None


class Climb(Answer):
    """How soon a climb would be seen."""

    factor: Annotated[float, Field(description="times what is normal")]
    rate: float
    answers: Annotated[float | None, Field(description="confident answers until the raise, on average; null: never")]
    seconds: float | None


class Reach(Answer):
    """How soon climbs of a route's false confidence are seen, at the traffic of the last 24 hours."""

    answers_per_day: float
    normal: Rate
    n: int
    climbs: list[Climb]
    smallest_in_day: Annotated[float | None, Field(description="the smallest rate that is seen within a day")]
    smallest_in_week: Annotated[float | None, Field(description="the smallest rate that is seen within a week")]
    why: Annotated[str, Field(description="why it is unknown, where it is")]


class Status(Answer):
    """What is so right now."""

    at: Moment
    mode: Literal["enforce", "observe", "shadow"]
    store: Annotated[str, Field(description="its URL, without what is secret")]
    policy: Policy
    alerts: list[Alert]
    grader: GraderState
    normal: Annotated[dict[str, Normal], Field(description="by route")]
    silences: list[Silence]
    queue: Queue
    watchers: Watchers
    reach: Annotated[dict[str, Reach], Field(description="by route")]


class Counted(Answer):
    """Calls of a period, what became of them and what they cost."""

    calls: int
    triaged: Annotated[int, Field(description="the n of the rates of escalation")]
    shipped: int
    escalated: int
    escalation_rate: Rate
    escalation_interval: Interval
    base_escalation_rate: Annotated[float | None, Field(description="at the base threshold, whatever is in force")]
    base_escalation_interval: Interval
    withheld: Annotated[int, Field(description="escalated because the threshold is raised, and for nothing else")]
    bypassed: Annotated[int, Field(description="not triaged")]
    errors: int
    cost_usd: Usd
    baseline_cost_usd: Annotated[float, Field(description="an estimate of what the deep tier alone would have cost")]
    cost_per_call_usd: float | None
    baseline_per_call_usd: float | None
    saving: Annotated[float | None, Field(description="share of the all-deep cost; negative where routing cost more")]
    unpriced_calls: Annotated[int, Field(description="in none of the costs")]
    false_confident_rate: Annotated[float | None, Field(description="wrong among shipped, in the judge's eyes")]
    false_confident_interval: Interval
    graded: Annotated[int, Field(description="the n of that rate")]


class Point(Counted):
    """One step of a series."""

    at: Annotated[int, Field(description="when it begins: Unix time, in seconds")]


class Series(Answer):
    """Figures in steps, oldest first; the last one is still being counted."""

    route: str
    since: Moment
    until: Moment
    step_s: int
    limit: Annotated[float, Field(description="the storm rule's limit of the base escalation rate")]
    points: list[Point]


class TrendPoint(Point):
    """One step of the receipt's plots."""

    middle: Annotated[float, Field(description="of the part of the step that lies in the period: Unix time")]


class QualityPoint(Answer):
    """What the grades of one step say."""

    at: int
    middle: float
    false_confident_rate: Rate
    false_confident_interval: Interval
    graded: int


class RouteQuality(Answer):
    """False confidence in one route, or in all of them, in steps."""

    points: list[QualityPoint]
    normal: Annotated[Normal | None, Field(description="null where nothing of the route was graded yet")]


class TrendChange(Answer):
    """A change of policy in the period."""

    at: Moment
    scope: str
    act: Literal["raise", "release", "pin", "unpin"]
    from_threshold: float
    to_threshold: float
    cause: str
    author: str
    why: str


class Trends(Answer):
    """What the receipt's plots show."""

    since: Moment
    until: Moment
    step_s: int | None
    points: list[TrendPoint]
    quality: Annotated[dict[str, RouteQuality], Field(description="by route, busiest first; all of them under `*`")]
    limit: Annotated[float, Field(description="the storm rule's limit of the base escalation rate")]
    objective: Annotated[float | None, Field(description="the limit of false confidence, where one is set")]
    changes: list[TrendChange]


class Bin(Answer):
    """What one level of confidence claims, and what is right of it."""

    low: float
    high: float
    share: float
    claims: float
    is_right: float
    is_right_interval: Interval
    graded: int


class Confidence(Answer):
    """What confidence is worth, of answers that ship at base, in the judge's eyes."""

    graded: int
    wrong: int
    auroc: Annotated[float | None, Field(description="how surely a right answer claims more than a wrong one")]
    auroc_interval: tuple[float, float] | None
    expected_calibration_error: float | None
    expected_calibration_error_interval: tuple[float, float] | None
    claims: float | None
    is_right: float | None
    bins: list[Bin]


class Funnel(Answer):
    """What became of the confident answers; the states add up to `answers`."""

    answers: int
    not_sampled: int
    skipped: int
    waiting: int
    graded: int
    failed: int
    expired: int
    skipped_causes: dict[str, int]


class Spent(Answer):
    """What one way to choose samples has cost."""

    samples: int
    cost_usd: Usd
    unpriced: int


class Sampling(Answer):
    """What was graded, and why it was chosen."""

    budget: float
    answers: int
    samples: int
    spent_share: Rate
    evenly: Spent
    suspected: Spent
    hindsight: Spent


class Shadow(Answer):
    """Calls of shadow mode on which triage was tried beside the deep tier."""

    calls: int
    cost_per_call_usd: Annotated[float | None, Field(description="what they would have cost, routed")]
    baseline_per_call_usd: Annotated[float | None, Field(description="what they did cost at the deep tier")]
    saving: Annotated[float | None, Field(description="share of that; grading aside")]


class Receipt(Counted):
    """The receipt over a period."""

    since: Moment
    until: Moment
    models: Annotated[dict[str, int], Field(description="who answered how many calls")]
    tiers: list[str]
    reasons: Annotated[dict[str, int], Field(description="why calls escalated")]
    base_reasons: Annotated[dict[str, int], Field(description="why they would have at the base threshold")]
    bypass_causes: dict[str, int]
    triage_cost_usd: Usd
    triage_cost_per_call_usd: float | None
    baseline_basis: Annotated[str, Field(description="what the all-deep estimate rests on")]
    triage_input_tokens_per_call: float | None
    triage_output_tokens_per_call: float | None
    cold_cache_usd: Annotated[
        float | None, Field(description="US dollars, part of the cost: what the deep tier's cache would have spared")
    ]
    cold_cache_share: Annotated[float | None, Field(description="share of the cost")]
    triage_cache_read_share: Annotated[float | None, Field(description="of the input tokens of triage replies")]
    triage_replies: Annotated[int, Field(description="the n of that share")]
    deep_cache_read_share: Annotated[float | None, Field(description="of the input tokens of the deep tier's replies")]
    deep_replies: Annotated[int, Field(description="the n of that share")]
    added_latency_p50_s: float | None
    added_latency_p95_s: float | None
    added_latency_calls: int
    added_latency_precision: Annotated[float, Field(description="how far off the quantiles may be, as a share")]
    triage_errors: Annotated[dict[str, int], Field(description="why triage calls failed, by exception type")]
    fallbacks: Annotated[int, Field(description="triage answers that went out because the deep tier failed")]
    replays_rejected: Annotated[int, Field(description="refused as invalid by the deep tier after triage")]
    shadow: Annotated[Shadow | None, Field(description="null where no call was tried in shadow mode")]
    withheld_false_confident_rate: Rate
    withheld_false_confident_interval: Interval
    withheld_graded: int
    grades: Annotated[dict[str, int], Field(description="by verdict or failure")]
    judge_correction: Literal["corrected", "uncorrected"]
    judge_correction_why: Annotated[str, Field(description="why nothing is corrected, where nothing is")]
    judge_labels: int
    corrected_false_confident_rate: Rate
    corrected_false_confident_interval: Interval
    grader_cost_usd: Annotated[float, Field(description="US dollars; in none of the costs of routing")]
    second_grader_cost_usd: Usd
    grader_unpriced: int
    funnel: Funnel
    grader: GraderState
    confidence: Annotated[dict[str, Confidence], Field(description="by route")]
    sampling: Sampling
    reach: Annotated[dict[str, Reach], Field(description="by route")]
    saving_after_grading: float | None
    routes: Annotated[dict[str, int], Field(description="calls by route")]
    policy_changes: int


class Judge(Answer):
    """A grader's model and prompt."""

    model: str
    prompt: str


class Agreement(Answer):
    """How far a judge agrees with people."""

    labels: int
    judged_correct: Annotated[int, Field(description="labels of answers that it judged correct")]
    judged_incorrect: Annotated[int, Field(description="labels of answers that it judged incorrect")]
    suffices: Annotated[bool, Field(description="whether rates are corrected by them")]
    kappa: Annotated[float | None, Field(description="Cohen's kappa")]
    kappa_interval: Kappa
    tpr: Annotated[float | None, Field(description="share of wrong answers that it sees")]
    tpr_interval: Interval
    fpr: Annotated[float | None, Field(description="share of right answers that it blames")]
    fpr_interval: Interval


class JudgeFacts(Judge, Agreement):
    """One judge beside the others."""

    graded: int
    judged_wrong: Rate
    judged_wrong_interval: Interval


class Pair(Answer):
    """How two judges agree on the answers that both have graded."""

    judges: tuple[Judge, Judge]
    n: int
    agree: int
    kappa: float | None
    kappa_interval: Kappa


class BySide(Answer):
    """A number of each side."""

    judged_correct: int
    judged_incorrect: int


class Review(Agreement):
    """How far the judge agrees with people, and what is still to be labelled."""

    judge: Judge
    route: str
    needed: BySide
    waiting: BySide
    undecided: Annotated[int, Field(description="calls on which people differ, or are unsure")]
    authors: Annotated[dict[str, int], Field(description="labels by person")]
    judges: list[JudgeFacts]
    pairs: list[Pair]


class Turn(Answer):
    """One turn of a conversation."""

    role: str
    text: str


class Sample(Answer):
    """An answer to label, as redacted for grading; without the judge's verdict, which would sway people."""

    call_id: str
    route: str
    input_class: str
    at: Moment
    turns: list[Turn]
    answer: str


class Judged(BaseModel):
    """What the judge had said; empty where this judge was not asked."""

    model_config = ConfigDict(extra="forbid")

    verdict: str | None = None
    failure: str | None = None
    reason: str | None = None


class Label(Answer):
    """A label as it is stored, and what the judge had said: only now."""

    call_id: str
    verdict: Literal["correct", "incorrect", "unsure"]
    author: str
    judge: Judged
