"""The counters that each process keeps of its calls."""

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final


@dataclass(slots=True, kw_only=True)
class Counters:
    """Counters of calls; each mapping counts by name, such as a reason, a confidence bin or a model.

    `confidence` counts what the first tier stated. `later_answers` are base escalations that a later triage tier
    answers at the base threshold. `unpriced_triaged` and `unpriced_deep` are the unpriced calls among those that were
    triaged, and among those that escalated or were bypassed. `answer_tokens` are output tokens of shipped answers.
    `compared` calls have an answer of a triage tier that ships at base, and one of the deep tier, with the tokens of
    both. `doubtful` ones have a cheap answer that does not ship at base. While a budget was used up, `budget_shipped`
    answers went out below the threshold, and `budget_refused` calls were refused.
    """

    calls: int = 0
    triaged: int = 0
    shipped: int = 0
    escalated: int = 0
    base_escalated: int = 0
    later_answers: int = 0
    withheld: int = 0
    bypassed: int = 0
    errors: int = 0
    unpriced: int = 0
    unpriced_triaged: int = 0
    unpriced_deep: int = 0
    cost_nusd: int = 0
    triage_cost_nusd: int = 0
    baseline_nusd: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    base_reasons: dict[str, int] = field(default_factory=dict)
    bypass_causes: dict[str, int] = field(default_factory=dict)
    confidence: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    triage_replies: int = 0
    triage_input_tokens: int = 0
    triage_output_tokens: int = 0
    added_latency: dict[str, int] = field(default_factory=dict)
    origins: dict[str, int] = field(default_factory=dict)
    base_origins: dict[str, int] = field(default_factory=dict)
    shadowed: int = 0
    unpriced_shadowed: int = 0
    shadow_cost_nusd: int = 0
    shadow_baseline_nusd: int = 0
    fallbacks: int = 0
    replays_rejected: int = 0
    budget_shipped: int = 0
    budget_refused: int = 0
    triage_errors: dict[str, int] = field(default_factory=dict)
    malformed_causes: dict[str, int] = field(default_factory=dict)
    triage_cache_read_tokens: int = 0
    deep_replies: int = 0
    deep_input_tokens: int = 0
    deep_cache_read_tokens: int = 0
    cold_cache_nusd: int = 0
    answer_tokens: int = 0
    compared: int = 0
    compared_tokens: int = 0
    compared_deep_tokens: int = 0
    doubtful: int = 0
    doubtful_tokens: int = 0
    doubtful_deep_tokens: int = 0

    def row(self) -> dict[str, object]:
        """The counters by name, as columns of the store; the mappings are shared."""
        return dict(zip(COUNTERS, _values_of(self), strict=True))


COUNTERS: Final = tuple(each.name for each in fields(Counters))
"""The names of all counters."""

_values_of: Final = attrgetter(*COUNTERS)
