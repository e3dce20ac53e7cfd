"""Every name of a span, attribute and metric, in one place.

The `gen_ai.*` names follow the OpenTelemetry GenAI semantic conventions (status Development, as in semantic-conventions
1.37 and the published instrumentations). The conventions are still being renamed, so the strings are kept here.
"""

from typing import Final

from cheapdeep_ops.units import DAY_S

SCOPE: Final = "cheapdeep_ops"

# Spans
ROUTE_SPAN: Final = "cheapdeep.route"
GRADE_SPAN: Final = "cheapdeep.grade"
OPERATION: Final = "chat"

# Attributes of the route span; tier, confidence, outcome and cost are attributes of the model call's span too
ROUTE: Final = "cheapdeep.route"
INPUT_CLASS: Final = "cheapdeep.input_class"
TIER: Final = "cheapdeep.tier"
MODEL: Final = "cheapdeep.model"
CONFIDENCE: Final = "cheapdeep.confidence"
THRESHOLD: Final = "cheapdeep.threshold"
POLICY_VERSION: Final = "cheapdeep.policy.version"
OUTCOME: Final = "cheapdeep.outcome"
REASON: Final = "cheapdeep.reason"
BYPASS_CAUSE: Final = "cheapdeep.bypass.cause"
BASE_OUTCOME: Final = "cheapdeep.base.outcome"
CALL_ID: Final = "cheapdeep.call.id"
SAMPLED: Final = "cheapdeep.sampled"
COST: Final = "cheapdeep.cost.usd"
BASELINE_COST: Final = "cheapdeep.baseline.cost.usd"
TRIAGE_ERROR: Final = "cheapdeep.triage.error.type"
MALFORMED_CAUSE: Final = "cheapdeep.malformed.cause"
FALLBACK: Final = "cheapdeep.fallback"
REPLAY_REJECTED: Final = "cheapdeep.replay.rejected"
SHADOW: Final = "cheapdeep.shadow"
SHADOW_COST: Final = "cheapdeep.shadow.cost.usd"

# Attributes of the model call's span
STOP_REASON: Final = "cheapdeep.stop_reason"
CALL_KIND: Final = "cheapdeep.call.kind"
PROMPT_VERSION: Final = "cheapdeep.prompt.version"
TRANSLATED: Final = "cheapdeep.request.translated"
"""How the request differs from the caller's, in numbers and known words, such as `effort: high -> dropped`."""
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_ESTIMATED: Final = "cheapdeep.usage.estimated"
USAGE_UNPRICED: Final = "cheapdeep.usage.unpriced"
"""What the API billed besides tokens and has no known price, by the API's names."""
GEN_AI_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a label, not a secret
ERROR_TYPE: Final = "error.type"

# The event of a grade, and attributes of its span
EVALUATION: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
GRADER_MODEL: Final = "cheapdeep.grader.model"
GRADER_PROMPT: Final = "cheapdeep.grader.prompt.version"
EVALUATED: Final = "cheapdeep.correctness"
"""The name of the evaluation; its score is 1 for a confident answer that is correct, and 0 for an incorrect one."""

# Metrics of the guard's grader, by OTLP
GRADES: Final = "cheapdeep.grades"
GRADE_LAG: Final = "cheapdeep.grade.lag"
GRADE_COSTS: Final = "cheapdeep.grade.cost"

# Metrics of the routers (each process its own, by OTLP)
CALLS: Final = "cheapdeep.calls"
ESCALATIONS: Final = "cheapdeep.escalations"
BASE_ESCALATIONS: Final = "cheapdeep.base.escalations"
CONFIDENCES: Final = "cheapdeep.confidence"
COSTS: Final = "cheapdeep.cost"
BASELINE_COSTS: Final = "cheapdeep.baseline.cost"
UNPRICED: Final = "cheapdeep.unpriced"
FALLBACKS: Final = "cheapdeep.fallbacks"
REPLAYS_REJECTED: Final = "cheapdeep.replays.rejected"
MALFORMED: Final = "cheapdeep.malformed"
REFUSED_PARTS: Final = "cheapdeep.triage.refused_parts"
CALL_DURATION: Final = "cheapdeep.call.duration"
OVERHEAD_DURATION: Final = "cheapdeep.overhead.duration"
THRESHOLDS: Final = "cheapdeep.threshold"
RECORDER_DROPPED: Final = "cheapdeep.recorder.dropped"
GUARD_AGE: Final = "cheapdeep.guard.age"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - a metric's name, not a secret
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"

# Labels of the routers' metrics
LABEL_ROUTE: Final = "route"
LABEL_INPUT_CLASS: Final = "input_class"
LABEL_REASON: Final = "reason"
LABEL_CAUSE: Final = "cause"
LABEL_OUTCOME: Final = "outcome"
LABEL_MODEL: Final = "model"
LABEL_PART: Final = "part"
LABEL_VERDICT: Final = "verdict"
OTHER: Final = "other"
LABEL_OVERFLOW: Final = "otel.metric.overflow"
"""The label of OpenTelemetry for all label sets beyond a limit."""

# Metrics of the guard's /metrics page: the whole fleet, from the store (Prometheus names)
FLEET_CALLS: Final = "cheapdeep_fleet_calls"
FLEET_TRIAGED: Final = "cheapdeep_fleet_triaged"
FLEET_SHIPPED: Final = "cheapdeep_fleet_shipped"
FLEET_ESCALATIONS: Final = "cheapdeep_fleet_escalations"
FLEET_BASE_ESCALATIONS: Final = "cheapdeep_fleet_base_escalations"
FLEET_COST: Final = "cheapdeep_fleet_cost_usd"
FLEET_BASELINE_COST: Final = "cheapdeep_fleet_baseline_cost_usd"
FLEET_UNPRICED: Final = "cheapdeep_fleet_unpriced_calls"
FLEET_ERRORS: Final = "cheapdeep_fleet_errors"
FLEET_WITHHELD: Final = "cheapdeep_fleet_withheld"
FLEET_FALLBACKS: Final = "cheapdeep_fleet_fallbacks"
FLEET_REPLAYS_REJECTED: Final = "cheapdeep_fleet_replays_rejected"
FLEET_BUDGET_SHIPPED: Final = "cheapdeep_fleet_budget_shipped"
FLEET_BUDGET_REFUSED: Final = "cheapdeep_fleet_budget_refused"
FLEET_BUDGET_SPENT: Final = "cheapdeep_fleet_budget_spent_usd"
FLEET_BUDGET_LIMIT: Final = "cheapdeep_fleet_budget_limit_usd"
FLEET_BUDGET_UNPRICED: Final = "cheapdeep_fleet_budget_unpriced_calls"
FLEET_MALFORMED: Final = "cheapdeep_fleet_malformed"
FLEET_SHADOWED: Final = "cheapdeep_fleet_shadowed"
FLEET_SHADOW_COST: Final = "cheapdeep_fleet_shadow_cost_usd"
FLEET_SHADOW_BASELINE_COST: Final = "cheapdeep_fleet_shadow_baseline_cost_usd"
FLEET_TRIAGE_COST: Final = "cheapdeep_fleet_triage_cost_usd"
FLEET_COLD_CACHE: Final = "cheapdeep_fleet_cold_cache_usd"
FLEET_CONFIDENCE: Final = "cheapdeep_fleet_confidence"
FLEET_DROPPED: Final = "cheapdeep_fleet_recorder_dropped"
FLEET_LATE: Final = "cheapdeep_fleet_late_calls"
FLEET_THRESHOLD: Final = "cheapdeep_fleet_threshold"
FLEET_ALERT: Final = "cheapdeep_alerts"
FLEET_SIGNAL: Final = "cheapdeep_signal"
FLEET_SIGNAL_LOW: Final = "cheapdeep_signal_low"
FLEET_SIGNAL_HIGH: Final = "cheapdeep_signal_high"
FLEET_SIGNAL_CALLS: Final = "cheapdeep_signal_calls"
FLEET_LIMIT: Final = "cheapdeep_signal_limit"
FLEET_EVIDENCE: Final = "cheapdeep_evidence"
FLEET_EVIDENCE_LIMIT: Final = "cheapdeep_evidence_limit"
FLEET_NOTIFICATIONS: Final = "cheapdeep_notifications"
FLEET_PENDING_NOTIFICATIONS: Final = "cheapdeep_notifications_pending"
FLEET_GUARDS: Final = "cheapdeep_guards"
FLEET_ROUTERS: Final = "cheapdeep_routers"
FLEET_JOBS: Final = "cheapdeep_guard_jobs"
FLEET_LAST_EVALUATION: Final = "cheapdeep_guard_last_evaluation_timestamp_seconds"
FLEET_POLICY_VERSION: Final = "cheapdeep_policy_version"
FLEET_GRADES: Final = "cheapdeep_fleet_grades"
FLEET_GRADER_COST: Final = "cheapdeep_fleet_grader_cost_usd"
FLEET_FALSE_CONFIDENT: Final = "cheapdeep_false_confident_rate"
FLEET_FALSE_CONFIDENT_LOW: Final = "cheapdeep_false_confident_rate_low"
FLEET_FALSE_CONFIDENT_HIGH: Final = "cheapdeep_false_confident_rate_high"
FLEET_FALSE_CONFIDENT_GRADES: Final = "cheapdeep_false_confident_grades"
FLEET_NORMAL: Final = "cheapdeep_false_confident_normal"
FLEET_SAMPLES_WAITING: Final = "cheapdeep_samples_waiting"
FLEET_OLDEST_WAIT: Final = "cheapdeep_samples_oldest_wait_seconds"
FLEET_GRADER_UP: Final = "cheapdeep_grader_up"
FLEET_AUROC: Final = "cheapdeep_confidence_auroc"
FLEET_AUROC_LOW: Final = "cheapdeep_confidence_auroc_low"
FLEET_AUROC_HIGH: Final = "cheapdeep_confidence_auroc_high"
FLEET_CALIBRATION_ERROR: Final = "cheapdeep_calibration_error"
FLEET_CALIBRATION_ERROR_LOW: Final = "cheapdeep_calibration_error_low"
FLEET_CALIBRATION_ERROR_HIGH: Final = "cheapdeep_calibration_error_high"
FLEET_RELIABILITY_CLAIMED: Final = "cheapdeep_reliability_claimed"
FLEET_RELIABILITY_RIGHT: Final = "cheapdeep_reliability_right"
FLEET_RELIABILITY_RIGHT_LOW: Final = "cheapdeep_reliability_right_low"
FLEET_RELIABILITY_RIGHT_HIGH: Final = "cheapdeep_reliability_right_high"
FLEET_RELIABILITY_GRADES: Final = "cheapdeep_reliability_grades"
FLEET_JUDGE_KAPPA: Final = "cheapdeep_judge_kappa"
FLEET_JUDGE_KAPPA_LOW: Final = "cheapdeep_judge_kappa_low"
FLEET_JUDGE_KAPPA_HIGH: Final = "cheapdeep_judge_kappa_high"
FLEET_JUDGE_LABELS: Final = "cheapdeep_judge_labels"

CONFIDENCE_EDGES: Final = (
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.7999, 0.8, 0.85, 0.8999, 0.9, 0.9499, 0.95, 0.98, 0.99, 1.0,
)  # fmt: skip
"""Bucket edges (upper, inclusive); 0.8, 0.9 and 0.95 have buckets of their own, because models prefer round values."""

DURATION_EDGES: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
"""Seconds; the GenAI conventions' edges."""

OVERHEAD_EDGES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
LAG_EDGES: Final = (1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0, float(DAY_S))
"""Seconds between a call and its grade."""

TOKEN_EDGES: Final = tuple(float(4**power) for power in range(14))
"""Tokens; the GenAI conventions' edges."""
