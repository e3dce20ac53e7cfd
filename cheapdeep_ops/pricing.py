"""What a call costs, in US dollars: rates looked up once per model and day, then multiplied.

Rates come from the `genai-prices` package; dated overrides of the user's own win over it. A model that neither knows
is *unpriced*: its cost is None, never zero and never a default.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from cheapdeep_ops.values import Usage

_PER_MILLION: Final = 1e-6
_DAY_S: Final = 86_400

_NEWER_TOKENIZER: Final = (
    "claude-haiku-5", "claude-sonnet-5", "claude-opus-4-7", "claude-opus-4-8", "claude-opus-5", "claude-fable",
    "claude-mythos",
)  # fmt: skip
TOKENIZER_RATIO: Final = 1.3
"""Tokens of the newer tokenizer per token of the older one for the same text: about 30% more.

Source: Anthropic's migration notes for Opus 4.7 ("up to about 1.35 times, depending on content").
"""


class PriceOverride(BaseModel):
    """A price of the user's own, in US dollars per million tokens, in force from a day on (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str
    since: date = date.min
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float = Field(ge=0)
    cache_write_5m: float = Field(ge=0)
    cache_write_1h: float = Field(ge=0)
    batch_factor: float = Field(default=0.5, ge=0, le=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars per million tokens of one model."""

    input: float
    output: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float

    def cost_of(self, usage: Usage) -> float:
        """The cost of `usage` in US dollars."""
        return _PER_MILLION * (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_5m_tokens * self.cache_write_5m
            + usage.cache_write_1h_tokens * self.cache_write_1h
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """One model's rates by prompt length: `steps` are (prompt tokens above which they hold, rates), ascending.

    The step that a prompt reaches applies to all of its tokens.
    """

    steps: tuple[tuple[int, Rates], ...]

    def cost_of(self, usage: Usage) -> float:
        """The cost of `usage` in US dollars."""
        if len(self.steps) == 1:
            return self.steps[0][1].cost_of(usage)
        total = usage.total_input_tokens
        return next(rates for start, rates in reversed(self.steps) if total > start or not start).cost_of(usage)


class PriceBook:
    """Costs of calls; safe to share between threads, and cheap after the first call of a model on a day."""

    def __init__(self, overrides: Iterable[PriceOverride] = ()) -> None:
        self._overrides = sorted(overrides, key=lambda override: override.since, reverse=True)
        self._known: dict[tuple[str, int, bool], PriceList | None] = {}

    def cost(self, model: str, usage: Usage, *, at: float, batch: bool = False) -> float | None:
        """The cost of `usage` in US dollars at Unix time `at`, or None where the model is unpriced."""
        prices = self.prices(model, at=at, batch=batch)
        return None if prices is None else prices.cost_of(usage)

    def prices(self, model: str, *, at: float, batch: bool = False) -> PriceList | None:
        """The rates of `model` on the day of Unix time `at` (UTC), or None where it is unpriced."""
        key = (model, int(at // _DAY_S), batch)
        if key not in self._known:
            self._known[key] = self._look_up(model, datetime.fromtimestamp(at, UTC), batch=batch)
        return self._known[key]

    def _look_up(self, model: str, at: datetime, *, batch: bool) -> PriceList | None:
        for override in self._overrides:
            if override.model == model and override.since <= at.date():
                return _from_override(override, batch=batch)
        return _from_catalogue(model, at, batch=batch)


class ContractPlace(StrEnum):
    """Where the triage contract's tokens are counted; of those that are cached, where they are looked for first."""

    UNCACHED = "uncached"
    """No cache breakpoint lies behind it."""
    READ = "read"
    """What is read from the cache has it in it, if anything is read at all."""
    WRITTEN = "written"
    """It may be either: taken to be written, which is dearer. An estimate should rather be too low than too high."""


_WRITES: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_POOLS: Final[Mapping[ContractPlace, tuple[str, ...]]] = {
    ContractPlace.UNCACHED: (),
    ContractPlace.READ: ("cache_read_tokens", *_WRITES),
    ContractPlace.WRITTEN: (*_WRITES, "cache_read_tokens"),
}


def without_contract(usage: Usage, *, tokens: int, place: ContractPlace) -> Usage:
    """What a triage call used for the caller's own prompt, without the `tokens` of the triage contract."""
    pool = next((name for name in _POOLS[place] if getattr(usage, name) >= tokens), "input_tokens")
    less: dict[str, Any] = {pool: max(getattr(usage, pool) - tokens, 0)}
    return replace(usage, **less)


def baseline_usage(
    usage: Usage, *, ratio: float, contract_tokens: int, contract_place: ContractPlace = ContractPlace.UNCACHED
) -> Usage:
    """What a call that a cheap tier answered would have used at the deep tier: an estimate.

    The triage contract's own tokens come off the input and the JSON envelope off the output (none where the call was
    not triaged: `contract_tokens` 0); the rest is scaled by `ratio` for the deep model's tokenizer. A call that used
    the prompt cache is taken to have used the deep model's cache alike.
    """
    envelope = ENVELOPE_TOKENS if contract_tokens else 0
    asked = without_contract(usage, tokens=contract_tokens, place=contract_place)
    return Usage(
        input_tokens=round(asked.input_tokens * ratio),
        output_tokens=round(max(asked.output_tokens - envelope, 0) * ratio),
        cache_read_tokens=round(asked.cache_read_tokens * ratio),
        cache_write_5m_tokens=round(asked.cache_write_5m_tokens * ratio),
        cache_write_1h_tokens=round(asked.cache_write_1h_tokens * ratio),
    )


def share_read(usage: Usage) -> float:
    """The share of a prompt, 0 to 1, that was read from the cache; it is the beginning of the prompt."""
    return usage.cache_read_tokens / max(usage.total_input_tokens, 1)


def warmed(usage: Usage, *, share: float) -> Usage:
    """What a call would have used, had the first `share` of its prompt (0 to 1) been in the cache.

    Of that beginning, what it wrote into the cache it would have read. What is kept for an hour stands before what is
    kept for five minutes: the API takes breakpoints in no other order.
    """
    missed = round(share * usage.total_input_tokens) - usage.cache_read_tokens
    missed = max(min(missed, usage.cache_write_tokens), 0)
    for_1h = min(missed, usage.cache_write_1h_tokens)
    return replace(
        usage,
        cache_read_tokens=usage.cache_read_tokens + missed,
        cache_write_1h_tokens=usage.cache_write_1h_tokens - for_1h,
        cache_write_5m_tokens=usage.cache_write_5m_tokens - (missed - for_1h),
    )


ENVELOPE_TOKENS: Final = 15
"""Tokens of `{"confidence": 0.95, "answer": ""}` around an answer, about."""


def tokenizer_ratio(from_model: str, to_model: str) -> float:
    """Tokens of `to_model` for each token of `from_model` on the same text, about."""
    return TOKENIZER_RATIO ** (_is_newer(to_model) - _is_newer(from_model))


def _is_newer(model: str) -> bool:
    return model.startswith(_NEWER_TOKENIZER)


def _from_override(override: PriceOverride, *, batch: bool) -> PriceList:
    factor = override.batch_factor if batch else 1.0
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    rates = Rates(**{name: getattr(override, name) * factor for name in names})
    return PriceList(steps=((0, rates),))


_CATALOGUE_NAMES: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


def _from_catalogue(model: str, at: datetime, *, batch: bool) -> PriceList | None:
    # Imported late: the catalogue is data for many vendors, and a test may never price a call.
    from genai_prices import data_snapshot  # noqa: PLC0415

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, "anthropic", None)
    except LookupError:
        return None
    prices = vars(found.get_prices(at, {"processing": "batch"} if batch else None))
    if prices.get("input_mtok") is None or prices.get("output_mtok") is None:
        return None
    return _price_list({ours: _ladder(prices.get(theirs)) for ours, theirs in _CATALOGUE_NAMES.items()})


def _ladder(price: Any) -> dict[int, float] | None:
    """A catalogue price as {prompt tokens above which it holds: dollars per million}."""
    if price is None:
        return None
    if isinstance(price, Decimal):
        return {0: float(price)}
    return {0: float(price.base)} | {tier.start: float(tier.price) for tier in price.tiers}


def _price_list(ladders: Mapping[str, dict[int, float] | None]) -> PriceList:
    starts = sorted({start for ladder in ladders.values() if ladder for start in ladder})
    return PriceList(steps=tuple((start, _rates_from(ladders, start)) for start in starts))


# Where the catalogue has no cache rates: Anthropic's usual multiples of the input rate
# (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing).
_USUAL_MULTIPLES: Final = {"cache_read": 0.1, "cache_write_5m": 1.25, "cache_write_1h": 2.0}


def _rates_from(ladders: Mapping[str, dict[int, float] | None], start: int) -> Rates:
    found = {name: ladder[max(step for step in ladder if step <= start)] for name, ladder in ladders.items() if ladder}
    usual = {name: multiple * found["input"] for name, multiple in _USUAL_MULTIPLES.items()}
    return Rates(**{**usual, **found})


def known_sum(costs: Iterable[float | None]) -> float | None:
    """The sum of `costs`, or None where one of them is unknown."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total
