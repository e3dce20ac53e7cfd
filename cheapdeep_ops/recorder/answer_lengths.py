"""How long answers of triage tiers are, and how long those of the deep tier for the same calls; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cheapdeep_ops.pricing import ENVELOPE_TOKENS
from cheapdeep_ops.values import Decision, Hop

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


def answer_lengths(decision: Decision) -> Mapping[str, int]:
    """What a decision adds to the counters of output tokens: of its shipped answer, or of two answers to compare.

    A call has two answers to compare if a triage tier and the deep tier answered it. That is so in shadow mode, because
    of a raise, or after a doubtful answer. Replies that were not read to their end are left out.
    """
    if decision.shipped:
        tokens = _answer_tokens(decision.hops[-1])
        # The baseline of an unpriced call is in no sum, so its tokens must not correct one.
        is_priced = decision.cost_usd is not None and decision.baseline_cost_usd is not None
        return {"answer_tokens": tokens} if tokens and is_priced else _NOTHING
    deep = decision.hops[-1] if decision.hops else None
    if deep is None or not deep.tier.is_deep or deep.usage is None or deep.usage.is_estimate or deep.error:
        return _NOTHING
    cheap = decision.candidate
    kind = "compared" if cheap else "doubtful"
    tokens = _answer_tokens(cheap) if cheap else next(filter(None, map(_answer_tokens, decision.hops[:-1])), 0)
    if not tokens:
        return _NOTHING
    return {kind: 1, f"{kind}_tokens": tokens, f"{kind}_deep_tokens": deep.usage.output_tokens}


def _answer_tokens(hop: Hop) -> int:
    """The output tokens of a triage answer, less the JSON around it; 0 without an answer that was read to its end."""
    if hop.verdict is None or hop.verdict.answer is None or hop.usage is None or hop.usage.is_estimate:
        return 0
    return max(hop.usage.output_tokens - ENVELOPE_TOKENS, 0)
