"""What a finished call cost, and what the deep tier alone would have cost.

Pure functions: prices, and where the triage contract stands in a prompt, are arguments.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.flow import CascadeResult, Step
from cheapdeep_ops.pricing import (
    ContractPlace,
    baseline_usage,
    known_sum,
    share_read,
    tokenizer_ratio,
    warmed,
    without_contract,
)
from cheapdeep_ops.values import Hop, Usage

Price = Callable[[str, Usage], float | None]
"""From a model and its tokens to US dollars; None where the model has no price."""

MEASURED: Final = "measured: the deep tier answered"
_FAILED: Final = "none: the call failed, and would have at the deep tier alone"
_NO_USAGE: Final = "unknown: no usage was reported"
_LESS_COLD_CACHE: Final = ", less what its cold prompt cache cost"


@dataclass(slots=True, kw_only=True)
class Contract:
    """The triage contract in a prompt: its tokens, and the function that says where the API counts them."""

    tokens: int
    place: Callable[[], ContractPlace]

    def place_in(self, usage: Usage) -> ContractPlace:
        """Where the contract is counted in `usage`; the place is looked up only for a call that used the cache."""
        is_cache_used = usage.cache_read_tokens or usage.cache_write_tokens
        return self.place() if is_cache_used else ContractPlace.UNCACHED


@dataclass(slots=True, kw_only=True)
class DeepOnlyCost:
    """The cost of the deep tier alone in US dollars, and how it is known; None where it is unknown.

    `cold_cache_usd` is already subtracted: see `cold_cache_usd`.
    """

    usd: float | None
    basis: str
    cold_cache_usd: float


def baseline(
    result: CascadeResult, *, deep: str, contract: Contract, price: Price, inference_geo: str = ""
) -> DeepOnlyCost:
    """The baseline of a finished call, whose deep tier is the model `deep`.

    `inference_geo` is the region that the caller asked for; empty if none.
    """
    usd, basis = _deep_alone(result.steps[-1], deep=deep, contract=contract, price=price, inference_geo=inference_geo)
    cold = cold_cache_usd(result, contract=contract, price=price)
    if not cold or usd is None:
        return DeepOnlyCost(usd=usd, basis=basis, cold_cache_usd=cold)
    return DeepOnlyCost(usd=usd - cold, basis=basis + _LESS_COLD_CACHE, cold_cache_usd=cold)


def _deep_alone(
    last: Step, *, deep: str, contract: Contract, price: Price, inference_geo: str
) -> tuple[float | None, str]:
    usage, model = _usage_of(last), last.ask.tier.model
    if usage is None:
        return (0.0, _FAILED) if last.error is not None else (None, _NO_USAGE)
    if last.ask.tier.is_deep:
        return price(deep, usage), MEASURED
    is_triage = last.ask.kind == "triage"
    ratio = tokenizer_ratio(model, deep)
    estimate = baseline_usage(
        usage,
        ratio=ratio,
        contract_tokens=contract.tokens if is_triage else 0,
        contract_place=contract.place_in(usage) if is_triage else ContractPlace.UNCACHED,
        inference_geo=inference_geo,
    )
    less = " less the triage contract" if is_triage and contract.tokens else ""
    return price(deep, estimate), f"estimated: tokens of {model}{less}, times {ratio:.2f} for the tokenizer"


def cold_cache_usd(result: CascadeResult, *, contract: Contract, price: Price) -> float:
    """The extra cost of a deep answer because earlier calls of the conversation did not warm the deep tier's cache.

    In US dollars; 0 where the deep tier did not answer, wrote no cache, or has no price.
    """
    if len(result.steps) == 1:
        return 0.0
    *triage, last = result.steps
    usage, model = _usage_of(last), last.ask.tier.model
    if not last.ask.tier.is_deep or usage is None or not usage.cache_write_tokens:
        return 0.0
    # Triage read this share from its own cache. A deep tier that gets every call would have read it from its own.
    share = max(_share_read(step, contract) for step in triage)
    paid, warm = price(model, usage), price(model, warmed(usage, share=share))
    return max(paid - warm, 0.0) if paid is not None and warm is not None else 0.0


def _share_read(step: Step, contract: Contract) -> float:
    """The share of the caller's prompt that a triage call read from the cache; 0 where it is unknown."""
    usage = _usage_of(step)
    if usage is None or not usage.cache_read_tokens:
        return 0.0
    return share_read(without_contract(usage, tokens=contract.tokens, place=contract.place_in(usage)))


def _usage_of(step: Step) -> Usage | None:
    return step.reply.usage if step.reply else None


def total_usd(hops: Iterable[Hop]) -> float | None:
    """The sum of the hops' costs in US dollars; None where the cost of one is unknown."""
    # The API charges nothing for a request that failed without usage.
    return known_sum([hop.cost_usd for hop in hops if hop.usage is not None or not hop.error])
