import csv
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cheapdeep_ops.pricing import (
    ENVELOPE_TOKENS,
    ContractPlace,
    PriceBook,
    PriceOverride,
    baseline_usage,
    share_read,
    tokenizer_ratio,
    warmed,
    without_contract,
)
from cheapdeep_ops.values import Usage

PRICES = Path(__file__).parents[2] / "shared" / "data" / "prices_claude.csv"
HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
MILLION = 1_000_000

BOOK = PriceBook()


def rates(model, *, batch=False, tokens=1_000):
    """Dollars per million by kind of token, read off the costs of one kind at a time."""
    kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    costs = [BOOK.cost(model, Usage(**{kind: tokens}), at=NOW, batch=batch) for kind in kinds]
    return [cost * MILLION / tokens for cost in costs]


def recorded():
    return list(csv.DictReader(PRICES.read_text("utf-8").splitlines()))


@pytest.mark.shared
@pytest.mark.skipif(not PRICES.is_file(), reason="the recorded price list is not part of this repository")
def test_all_recorded_models_have_the_recorded_rates():
    assert len(recorded()) == 12
    for row in recorded():
        names = ("in", "out", "cache_read", "cache_write5m", "cache_write1h")
        expected = [float(row[f"{name}_litellm"]) for name in names]
        assert rates(row["model"]) == pytest.approx(expected), row["model"]
        halved = [float(row[f"batch_{name}_litellm"]) for name in ("in", "out")]
        assert rates(row["model"], batch=True)[:2] == pytest.approx(halved), row["model"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (HAIKU, [1, 5, 0.10, 1.25, 2]),
        (f"{HAIKU}-20251001", [1, 5, 0.10, 1.25, 2]),
        ("claude-sonnet-4-6", [3, 15, 0.30, 3.75, 6]),
        (OPUS, [5, 25, 0.50, 6.25, 10]),
        ("claude-opus-5-5", [4, 20, 0.20, 5, 8]),
    ],
)
def test_rates_of_the_usual_models(model, expected):
    assert rates(model) == pytest.approx(expected)


def test_a_batch_costs_half():
    assert rates(OPUS, batch=True) == pytest.approx([rate / 2 for rate in rates(OPUS)])


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=100_000), 0.01),
        (Usage(input_tokens=100_001), 0.0500005),
        (Usage(input_tokens=1, cache_read_tokens=100_000), 0.0050005),
        (Usage(input_tokens=100_000, output_tokens=50_000), 0.035),
        (Usage(input_tokens=100_001, output_tokens=1_000), 0.0525005),
    ],
)
def test_a_prompt_above_a_step_pays_the_higher_rates_for_all_of_it(usage, dollars):
    assert BOOK.cost("claude-haiku-5-5", usage, at=NOW) == pytest.approx(dollars, abs=5e-7)


@pytest.mark.parametrize(
    ("model", "usage", "dollars"),
    [
        (HAIKU, Usage(input_tokens=320, output_tokens=40), 0.000520),
        (OPUS, Usage(input_tokens=320, output_tokens=400), 0.011600),
        (OPUS, Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2_000), 0.001110),
        (OPUS, Usage(cache_write_5m_tokens=2_000, cache_write_1h_tokens=1_000), 0.022500),
        (HAIKU, Usage(), 0.0),
    ],
)
def test_costs_are_right_to_the_micro_dollar(model, usage, dollars):
    assert BOOK.cost(model, usage, at=NOW) == pytest.approx(dollars, abs=1e-9)


@pytest.mark.parametrize("model", ["claude-nine", "", "gpt-4o-of-another-vendor"])
def test_an_unknown_model_is_unpriced(model):
    assert BOOK.cost(model, Usage(input_tokens=1), at=NOW) is None
    assert BOOK.prices(model, at=NOW) is None


# What changes the price of tokens, and what is billed besides

THOUSAND = Usage(input_tokens=1_000, output_tokens=1_000)


@pytest.mark.parametrize(
    ("billed", "dollars"),
    [
        ({"inference_geo": "us"}, 0.033),
        ({}, 0.030),
        ({"speed": "fast"}, 0.180),
        ({"speed": "fast", "inference_geo": "us"}, 0.198),
        ({"web_searches": 3}, 0.060),
        ({"web_searches": 3, "inference_geo": "us"}, 0.063),
    ],
)
def test_the_region_the_speed_and_web_searches_are_paid_for(billed, dollars):
    assert BOOK.cost(OPUS, replace(THOUSAND, **billed), at=NOW) == pytest.approx(dollars, abs=1e-12)


def test_a_batch_halves_the_tokens_and_not_the_searches():
    usage = replace(THOUSAND, inference_geo="us", web_searches=1)
    assert BOOK.cost(OPUS, usage, at=NOW, batch=True) == pytest.approx(0.0165 + 0.01)


@pytest.mark.parametrize("kind", ["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"])
def test_a_factor_holds_for_cached_tokens_too(kind):
    plain, there = (BOOK.cost(OPUS, Usage(**{kind: 1_000}, inference_geo=geo), at=NOW) for geo in ("", "us"))
    assert there == pytest.approx(1.1 * plain)


UNPRICED = [
    {"inference_geo": "moon"},
    {"speed": "warp"},
    {"service_tier": "priority"},
    {"unpriced": ("code_execution",)},
    {"unpriced": ("code_execution",), "web_searches": 3},
]


@pytest.mark.parametrize("billed", UNPRICED)
def test_a_call_with_a_part_that_has_no_price_is_unpriced(billed):
    assert BOOK.cost(OPUS, replace(THOUSAND, **billed), at=NOW) is None


def test_an_override_can_price_what_the_list_does_not():
    own = override(inference_geo={"moon": 2}, service_tier={"priority": 0.5}, web_searches=1_000)
    book = PriceBook([own])
    million = Usage(input_tokens=MILLION)
    assert book.cost(OPUS, replace(million, inference_geo="moon"), at=NOW) == pytest.approx(2.0)
    assert book.cost(OPUS, replace(million, service_tier="priority"), at=NOW) == pytest.approx(0.5)
    assert book.cost(OPUS, replace(million, inference_geo="us", web_searches=2), at=NOW) == pytest.approx(3.1)
    assert book.cost(OPUS, replace(million, unpriced=("code_execution",)), at=NOW) is None
    with pytest.raises(ValidationError):
        override(speed={"fast": -1})


# Overrides


def override(model=OPUS, price=1.0, **more):
    kinds = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    return PriceOverride(model=model, **dict.fromkeys(kinds, price) | more)


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("moment", "dollars"),
    [
        ("2026-09-30T23:59:59+00:00", 5.0),
        ("2026-10-01T00:00:00+00:00", 2.0),
        ("2026-10-01T01:00:00+02:00", 5.0),
        ("2026-10-31T23:59:59+00:00", 2.0),
        ("2026-11-01T00:00:00+00:00", 3.0),
    ],
)
def test_a_dated_price_holds_from_its_day_until_the_next(moment, dollars):
    book = PriceBook([override(price=3, since=date(2026, 11, 1)), override(price=2, since=date(2026, 10, 1))])
    assert book.cost(OPUS, Usage(input_tokens=MILLION), at=at(moment)) == pytest.approx(dollars)
    assert book.cost(HAIKU, Usage(input_tokens=MILLION), at=at(moment)) == pytest.approx(1.0)


def test_a_price_of_ones_own_makes_an_unknown_model_priced_even_at_zero():
    book = PriceBook([override("claude-nine", price=0)])
    assert book.cost("claude-nine", Usage(input_tokens=5, output_tokens=5), at=NOW) == 0.0
    assert book.cost("claude-nine-b", Usage(input_tokens=5), at=NOW) is None


def test_batches_of_an_override_cost_its_factor():
    book = PriceBook([override(), override(HAIKU, batch_factor=0.25)])
    usage = Usage(input_tokens=MILLION, output_tokens=MILLION)
    assert book.cost(OPUS, usage, at=NOW, batch=True) == pytest.approx(1.0)
    assert book.cost(HAIKU, usage, at=NOW, batch=True) == pytest.approx(0.5)
    assert book.cost(HAIKU, usage, at=NOW) == pytest.approx(2.0)


@pytest.mark.parametrize("price", [-0.1, float("inf"), float("nan")])
def test_prices_that_are_none_are_refused(price):
    with pytest.raises(ValidationError):
        override(price=price)


# The baseline


def test_the_baseline_takes_the_contract_and_the_envelope_off_and_scales_the_rest():
    used = Usage(
        input_tokens=1_200, output_tokens=115, cache_read_tokens=10, cache_write_5m_tokens=20, cache_write_1h_tokens=30
    )
    assert baseline_usage(used, ratio=1.3, contract_tokens=200) == Usage(
        input_tokens=1_300, output_tokens=130, cache_read_tokens=13, cache_write_5m_tokens=26, cache_write_1h_tokens=39
    )
    assert baseline_usage(used, ratio=1.0, contract_tokens=0) == used


def test_the_baseline_has_the_region_the_speed_and_the_searches_of_the_call():
    used = Usage(input_tokens=10, output_tokens=10, inference_geo="us", speed="fast", web_searches=2, unpriced=("x",))
    there = baseline_usage(used, ratio=2.0, contract_tokens=0)
    assert there == replace(used, input_tokens=20, output_tokens=20)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 1_000))
def test_a_baseline_is_never_negative(tokens_in, tokens_out, contract):
    usage = baseline_usage(Usage(input_tokens=tokens_in, output_tokens=tokens_out), ratio=1.3, contract_tokens=contract)
    assert usage.input_tokens == round(max(tokens_in - contract, 0) * 1.3)
    assert usage.output_tokens == round(max(tokens_out - ENVELOPE_TOKENS, 0) * 1.3)


@pytest.mark.parametrize(
    ("pair", "ratio"),
    [
        ((HAIKU, OPUS), 1.3),
        ((OPUS, HAIKU), 1 / 1.3),
        ((HAIKU, "claude-opus-4-6"), 1.0),
        ((OPUS, "claude-opus-5-5"), 1.0),
        (("claude-haiku-5-5", OPUS), 1.0),
    ],
)
def test_tokenizers_are_told_apart_by_generation(pair, ratio):
    assert tokenizer_ratio(*pair) == pytest.approx(ratio)


# Linearity

counts = st.integers(0, 50_000)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_5m_tokens=counts,
    cache_write_1h_tokens=counts,
)


def added(one, other):
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in Usage.__slots__})


@given(usages, usages, st.sampled_from([HAIKU, OPUS, "claude-sonnet-4-6", "claude-opus-5-5"]), st.booleans())
def test_cost_is_linear_in_usage(one, other, model, batch):
    apart = [BOOK.cost(model, usage, at=NOW, batch=batch) for usage in (one, other)]
    assert BOOK.cost(model, added(one, other), at=NOW, batch=batch) == pytest.approx(sum(apart), abs=1e-12)


# Prompt caches


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("uncached", (200, 500, 300, 40)),
        ("read", (400, 300, 300, 40)),
        ("written", (400, 500, 100, 40)),
    ],
)
def test_the_contract_comes_off_where_it_was_counted(place, expected):
    usage = Usage(input_tokens=400, cache_read_tokens=500, cache_write_5m_tokens=300, cache_write_1h_tokens=40)
    left = without_contract(usage, tokens=200, place=ContractPlace(place))
    counts = (left.input_tokens, left.cache_read_tokens, left.cache_write_5m_tokens, left.cache_write_1h_tokens)
    assert counts == expected


def test_a_contract_that_was_not_cached_comes_off_the_input_wherever_a_breakpoint_stands():
    usage = Usage(input_tokens=400, cache_read_tokens=199, cache_write_1h_tokens=199)
    for place in ContractPlace:
        assert without_contract(usage, tokens=200, place=place) == replace(usage, input_tokens=200)


def test_a_breakpoint_of_an_hour_comes_before_one_of_five_minutes_in_what_is_missed():
    usage = Usage(input_tokens=100, cache_read_tokens=100, cache_write_1h_tokens=300, cache_write_5m_tokens=500)
    assert warmed(usage, share=0.1) == usage
    assert warmed(usage, share=0.2) == replace(usage, cache_read_tokens=200, cache_write_1h_tokens=200)
    both = replace(usage, cache_read_tokens=500, cache_write_1h_tokens=0, cache_write_5m_tokens=400)
    assert warmed(usage, share=0.5) == both
    whole = Usage(input_tokens=100, cache_read_tokens=900)
    assert warmed(usage, share=1.0) == whole


@given(usages, usages, st.integers(0, 5_000), st.sampled_from(ContractPlace), st.sampled_from([HAIKU, OPUS]))
def test_what_cold_caches_cost_lies_between_nothing_and_what_was_written(deep, triage, contract, place, model):
    asked = without_contract(triage, tokens=contract, place=place)
    assert 0 <= share_read(asked) <= 1
    warm = warmed(deep, share=share_read(asked))
    assert warm.total_input_tokens == deep.total_input_tokens
    assert (warm.input_tokens, warm.output_tokens) == (deep.input_tokens, deep.output_tokens)
    cold = BOOK.cost(model, deep, at=NOW) - BOOK.cost(model, warm, at=NOW)
    written = Usage(cache_write_5m_tokens=deep.cache_write_5m_tokens, cache_write_1h_tokens=deep.cache_write_1h_tokens)
    assert -1e-12 <= cold <= BOOK.cost(model, written, at=NOW) + 1e-12
    read = triage.cache_read_tokens
    assert warmed(deep, share=share_read(replace(asked, cache_read_tokens=0))) == deep
    assert warm == deep or (read and deep.cache_write_tokens)


@given(usages, st.floats(0, 1), st.floats(0, 1))
def test_the_more_triage_read_the_more_was_missed(deep, one, other):
    less, more = (warmed(deep, share=share) for share in sorted((one, other)))
    assert deep.cache_read_tokens <= less.cache_read_tokens <= more.cache_read_tokens
