"""The cost of a call in US dollars: tokens times rates, which are looked up once for each model and day.

Rates come from the `genai-prices` package; the user's own dated overrides take precedence. A model has one rate under
all its names (`model_names`). A model without a rate is *unpriced*: its cost is None, never zero and never a default.
So is a call with any part that has no known price.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from math import prod
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from cheapdeep_ops.model_names import ModelName, Version, is_same_model, model_name
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Usage

_PER_MILLION: Final = 1e-6
_THOUSAND: Final = 1000

_NEWER_TOKENIZER: Final[Mapping[str, Version]] = {
    "haiku": (5,), "sonnet": (5,), "opus": (4, 7), "fable": (5,), "mythos": (5,),
}  # fmt: skip
"""The version of each family since which it has the newer tokenizer."""

_REGIONAL_FACTOR: Final = 1.1
_REGIONAL_SINCE: Final = (4, 5)
"""Since this version an endpoint of Bedrock that stays in its region costs more than a global one.

Source: https://platform.claude.com/docs/en/about-claude/pricing, third-party platforms.
"""

TOKENIZER_RATIO: Final = 1.3
"""Tokens of the newer tokenizer for each token of the older one: about 30% more for one text.

Source: Anthropic's migration notes for Opus 4.7 ("up to about 1.35 times, depending on content").
"""


_FACTORS: Final[Mapping[str, Mapping[str, float]]] = {
    "inference_geo": {"": 1.0, "us": 1.1},
    "speed": {"": 1.0, "fast": 6.0},
    # Not `priority`: its capacity is bought in advance, at prices that are not published.
    "service_tier": {"": 1.0},
}
"""By field of the usage: the factor on all rates for each of its values; a call with any other value is unpriced.

Source: https://platform.claude.com/docs/en/about-claude/pricing
"""

_WEB_SEARCHES_USD: Final = 10.0
"""The price of a thousand web searches, whatever the factors. Source: as above."""

_Factors = dict[str, Annotated[float, Field(ge=0)]]


class PriceOverride(BaseModel):
    """The user's own price of a model in US dollars per million tokens, from the day `since` on (UTC).

    `inference_geo`, `speed` and `service_tier` are factors on these rates by value, for example `{"priority": 1}`.
    `web_searches` is the price of a thousand.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    model: str
    since: date = date.min
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float = Field(ge=0)
    cache_write_5m: float = Field(ge=0)
    cache_write_1h: float = Field(ge=0)
    batch_factor: float = Field(default=0.5, ge=0, le=1)
    inference_geo: _Factors = {}
    speed: _Factors = {}
    service_tier: _Factors = {}
    web_searches: float = Field(default=_WEB_SEARCHES_USD, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of one model, in US dollars per million tokens."""

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
    """One model's rates by prompt length: ascending `steps` of (prompt tokens above which the rates hold, rates).

    The highest step that a prompt reaches applies to all of its tokens. `factors` on the rates are by field and value
    of the usage; `web_searches_usd` is the price of a thousand.
    """

    steps: tuple[tuple[int, Rates], ...]
    factors: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: _FACTORS)
    web_searches_usd: float = _WEB_SEARCHES_USD
    _usual_factor: float | None = field(init=False)
    """The factor of a call that states nothing which changes the price, as nearly all do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_usual_factor", self._product([""] * len(self.factors)))

    def cost_of(self, usage: Usage) -> float | None:
        """The cost of `usage` in US dollars; None if any part of it has no known price."""
        is_usual = not (usage.unpriced or usage.inference_geo or usage.speed or usage.service_tier)
        factor = self._usual_factor if is_usual else self._factor(usage)
        if factor is None:
            return None
        rates = self.steps[0][1] if len(self.steps) == 1 else self._rates_for(usage)
        return factor * rates.cost_of(usage) + usage.web_searches * self.web_searches_usd / _THOUSAND

    def _factor(self, usage: Usage) -> float | None:
        """The factor on all rates; None if any part of `usage` has no known price."""
        if usage.unpriced:
            return None
        return self._product([getattr(usage, name) for name in self.factors])

    def _product(self, values: Sequence[str]) -> float | None:
        """The product of the factors for these values of the fields; None if one has no known price."""
        factors = [known.get(value) for known, value in zip(self.factors.values(), values, strict=True)]
        return None if None in factors else prod(factors)  # type: ignore[arg-type]  # all are numbers here

    def _rates_for(self, usage: Usage) -> Rates:
        total = usage.total_input_tokens
        return next(rates for start, rates in reversed(self.steps) if total > start or not start)


_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The end of a period without an end."""


class PriceBook:
    """The costs of calls. Thread-safe, and fast after the first look-up of a model on a day."""

    def __init__(self, overrides: Iterable[PriceOverride] = ()) -> None:
        self._overrides = sorted(overrides, key=lambda override: override.since, reverse=True)
        self._known: dict[tuple[str, int, bool], PriceList | None] = {}

    def cost(self, model: str, usage: Usage, *, at: float, batch: bool = False) -> float | None:
        """The cost of `usage` at Unix time `at`, in US dollars; None if the model or a part of it is unpriced."""
        prices = self.prices(model, at=at, batch=batch)
        return None if prices is None else prices.cost_of(usage)

    def prices(self, model: str, *, at: float, batch: bool = False) -> PriceList | None:
        """The rates of `model` on the day of Unix time `at` (UTC); None if it is unpriced."""
        at = min(at, _LATEST)
        # By the day, because prices have dates. Two threads may look up at once, with equal results.
        key = (model, int(at // DAY_S), batch)
        if key not in self._known:
            self._known[key] = self._look_up(model, datetime.fromtimestamp(at, UTC), batch=batch)
        return self._known[key]

    def _look_up(self, model: str, at: datetime, *, batch: bool) -> PriceList | None:
        in_force = [override for override in self._overrides if override.since <= at.date()]
        named = [override for override in in_force if override.model == model]
        same = [override for override in in_force if _is_price_of(override, model)]
        # The price under exactly this name is the more special one, such as that of a platform.
        if override := next(iter(named or same), None):
            return _from_override(override, batch=batch)
        return _from_catalogue(model_name(model), at, batch=batch)


class ContractPlace(StrEnum):
    """The figure of the usage in which the tokens of the triage contract are counted."""

    UNCACHED = "uncached"
    """No cache breakpoint comes after the contract."""
    READ = "read"
    """The contract is in the part that is read from the cache, if any part is."""
    WRITTEN = "written"
    """Unknown; assumed to be written into the cache, which costs more, so that the baseline is not too high."""


_WRITES: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
_POOLS: Final[Mapping[ContractPlace, tuple[str, ...]]] = {
    ContractPlace.UNCACHED: (),
    ContractPlace.READ: ("cache_read_tokens", *_WRITES),
    ContractPlace.WRITTEN: (*_WRITES, "cache_read_tokens"),
}


_COUNTS: Final = ("input_tokens", "cache_read_tokens", *_WRITES, "output_tokens")


def without_contract(usage: Usage, *, tokens: int, place: ContractPlace) -> Usage:
    """The usage of a triage call without the `tokens` of the triage contract."""
    return replace(usage, **_less_contract(usage, tokens, place))


def _less_contract(usage: Usage, tokens: int, place: ContractPlace) -> dict[str, Any]:
    """The one count that changes without the `tokens` of the triage contract, by its name."""
    pool = next((name for name in _POOLS[place] if getattr(usage, name) >= tokens), "input_tokens")
    return {pool: max(getattr(usage, pool) - tokens, 0)}


def baseline_usage(
    usage: Usage,
    *,
    ratio: float,
    contract_tokens: int,
    contract_place: ContractPlace = ContractPlace.UNCACHED,
    inference_geo: str = "",
) -> Usage:
    """Estimate the deep tier's usage for a call that a cheap tier answered.

    Subtracts the triage contract from the input and the JSON envelope from the output. Scales the rest by `ratio`, the
    ratio of the tokenizers. Assumes that the deep model's cache works like the cheap one's. `contract_tokens` is 0 for
    a call that was not triaged; its output has no envelope. `inference_geo` is the region that the caller asked for.
    """
    envelope = ENVELOPE_TOKENS if contract_tokens else 0
    less = _less_contract(usage, contract_tokens, contract_place)
    less["output_tokens"] = max(usage.output_tokens - envelope, 0)
    scaled: dict[str, Any] = {name: round(less.get(name, getattr(usage, name)) * ratio) for name in _COUNTS}
    # A triage model without a choice of region reports none. Its speed would hold for the deep tier too.
    return replace(usage, **scaled, inference_geo=inference_geo or usage.inference_geo)


def share_read(usage: Usage) -> float:
    """The share of a prompt that was read from the cache (0 to 1); that is always the beginning of the prompt."""
    return usage.cache_read_tokens / max(usage.total_input_tokens, 1)


def warmed(usage: Usage, *, share: float) -> Usage:
    """The usage that a call would have had with the first `share` of its prompt (0 to 1) in the cache.

    The tokens of that part that the call wrote into the cache count as read.
    """
    missed = round(share * usage.total_input_tokens) - usage.cache_read_tokens
    missed = max(min(missed, usage.cache_write_tokens), 0)
    # One-hour entries come first in a prompt: the API accepts breakpoints only in that order.
    for_1h = min(missed, usage.cache_write_1h_tokens)
    return replace(
        usage,
        cache_read_tokens=usage.cache_read_tokens + missed,
        cache_write_1h_tokens=usage.cache_write_1h_tokens - for_1h,
        cache_write_5m_tokens=usage.cache_write_5m_tokens - (missed - for_1h),
    )


ENVELOPE_TOKENS: Final = 15
"""The approximate number of tokens of `{"confidence": 0.95, "answer": ""}` around an answer."""


@lru_cache(maxsize=100)
def tokenizer_ratio(from_model: str, to_model: str) -> float:
    """The approximate number of tokens of `to_model` for each token of `from_model`, for one text."""
    return TOKENIZER_RATIO ** (_is_newer(to_model) - _is_newer(from_model))


def _is_newer(model: str) -> bool:
    name = model_name(model)
    since = _NEWER_TOKENIZER.get(name.family)
    # A name without a version means the newest model of its family.
    return since is not None and (not name.version or name.version >= since)


def _is_price_of(override: PriceOverride, model: str) -> bool:
    """Whether an override holds for `model` under another name; a regional price holds for its own name alone."""
    return is_same_model(override.model, model) and not model_name(override.model).is_regional


def _from_override(override: PriceOverride, *, batch: bool) -> PriceList:
    factor = override.batch_factor if batch else 1.0
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    rates = Rates(**{name: getattr(override, name) * factor for name in names})
    factors = {name: {**known, **getattr(override, name)} for name, known in _FACTORS.items()}
    return PriceList(steps=((0, rates),), factors=factors, web_searches_usd=override.web_searches)


_CATALOGUE_NAMES: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


def _from_catalogue(model: ModelName, at: datetime, *, batch: bool) -> PriceList | None:
    # An unknown ending may name another price, such as that of a fast mode.
    if model.version and not model.is_understood:
        return None
    # Imported late: the catalogue has data of many vendors, and many processes never price a call.
    from genai_prices import data_snapshot  # noqa: PLC0415

    try:
        _, entry = data_snapshot.get_snapshot().find_provider_model(model.name, None, "anthropic", None)
    except LookupError:
        return None
    prices = vars(entry.get_prices(at, {"processing": "batch"} if batch else None))
    if prices.get("input_mtok") is None or prices.get("output_mtok") is None:
        return None
    factor = _REGIONAL_FACTOR if model.is_regional and model.version >= _REGIONAL_SINCE else 1.0
    return _price_list({ours: _ladder(prices.get(theirs), factor) for ours, theirs in _CATALOGUE_NAMES.items()})


def _ladder(price: Any, factor: float) -> dict[int, float] | None:
    """A catalogue price times `factor`, as {prompt tokens above which it holds: US dollars per million tokens}."""
    if price is None:
        return None
    steps = {0: price} if isinstance(price, Decimal) else {0: price.base} | {t.start: t.price for t in price.tiers}
    return {start: float(rate) * factor for start, rate in steps.items()}


def _price_list(ladders: Mapping[str, dict[int, float] | None]) -> PriceList:
    starts = sorted({start for ladder in ladders.values() if ladder for start in ladder})
    return PriceList(steps=tuple((start, _rates_from(ladders, start)) for start in starts))


# For models whose cache rates the catalogue lacks: Anthropic's usual multiples of the input rate
# (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing).
_USUAL_MULTIPLES: Final = {"cache_read": 0.1, "cache_write_5m": 1.25, "cache_write_1h": 2.0}


def _rates_from(ladders: Mapping[str, dict[int, float] | None], start: int) -> Rates:
    known = {name: ladder[max(step for step in ladder if step <= start)] for name, ladder in ladders.items() if ladder}
    usual = {name: multiple * known["input"] for name, multiple in _USUAL_MULTIPLES.items()}
    return Rates(**{**usual, **known})


def known_sum(costs: Iterable[float | None]) -> float | None:
    """The sum of `costs`; None if one of them is None."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


_LEAST_PRICED: Final = 0.5


def is_covered(*, unpriced: int, of: int) -> bool:
    """Whether a figure over the priced calls is shown for all `of` calls: at least half of them must be priced.

    Unpriced calls are mostly those of one model or one feature, so the priced ones may differ from them. With fewer
    priced calls, most of the cost would be unknown. A mean or a saving would then describe a minority of the calls.
    """
    return of > unpriced and of - unpriced >= _LEAST_PRICED * of
