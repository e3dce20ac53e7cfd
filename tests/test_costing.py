"""What a call cost, by hand: one token costs one dollar at the cheap tier and ten at the deep one."""

from dataclasses import replace

import pytest

from cheapdeep_ops.costing import MEASURED, Contract, baseline, cold_cache_usd, total_usd
from cheapdeep_ops.flow import Ask, CascadeResult, Step
from cheapdeep_ops.pricing import ENVELOPE_TOKENS, TOKENIZER_RATIO, ContractPlace
from cheapdeep_ops.values import Hop, Reason, Tier, TierReply, Usage

HAIKU = Tier(model="claude-haiku-4-5", index=0, is_deep=False)
OPUS = Tier(model="claude-opus-4-7", index=1, is_deep=True)
RATES = {HAIKU.model: 1.0, OPUS.model: 10.0}
RATIO = TOKENIZER_RATIO
USAGE = Usage(input_tokens=1, output_tokens=1)
WRITTEN = Usage(input_tokens=0, output_tokens=0, cache_write_5m_tokens=100)


def price(model, usage):
    cached = 0.1 * usage.cache_read_tokens + 1.25 * usage.cache_write_tokens
    return RATES[model] * (usage.input_tokens + usage.output_tokens + cached)


def contract(tokens=40, place=ContractPlace.READ):
    return Contract(tokens=tokens, place=lambda: place)


def step(tier, usage=None, *, kind=None, error=None):
    reply = None if usage is None and error is not None else TierReply(usage=usage)
    return Step(ask=Ask(tier=tier, kind=kind or ("original" if tier.is_deep else "triage")), reply=reply, error=error)


def result(*steps):
    last = steps[-1]
    return CascadeResult(
        steps=steps, answer=last.reply, error=last.error, reason=None, base_outcome=None, base_reason=None,
        confidence=None, escalated=len(steps) > 1,
    )  # fmt: skip


def of(*steps, **changes):
    return baseline(result(*steps), deep=OPUS.model, contract=changes.pop("contract", contract()), price=price)


class TestTheBaseline:
    def test_of_a_deep_answer_is_its_own_cost(self):
        deep = of(step(HAIKU, USAGE), step(OPUS, Usage(input_tokens=3, output_tokens=4)))
        assert (deep.usd, deep.basis, deep.cold_cache_usd) == (70.0, MEASURED, 0.0)

    def test_of_a_cheap_answer_is_an_estimate_without_contract_and_envelope(self):
        deep = of(step(HAIKU, Usage(input_tokens=140, output_tokens=100 + ENVELOPE_TOKENS)))
        assert deep.usd == 10 * (round(100 * RATIO) + round(100 * RATIO))
        less = " less the triage contract"
        assert deep.basis == f"estimated: tokens of claude-haiku-4-5{less}, times {RATIO:.2f} for the tokenizer"

    def test_of_a_cheap_answer_without_triage_has_nothing_taken_off(self):
        deep = of(step(HAIKU, Usage(input_tokens=100, output_tokens=100), kind="original"))
        assert deep.usd == 10 * 2 * round(100 * RATIO)
        assert "contract" not in deep.basis

    @pytest.mark.parametrize(("reported", "asked", "there"), [
        ("", "us", "us"), ("us", "", "us"), ("", "", ""),
    ])  # fmt: skip
    def test_of_a_cheap_answer_is_in_the_region_that_the_caller_asked_for(self, reported, asked, there):
        seen = []

        def price(model, usage):
            seen.append((model, usage.inference_geo))
            return 1.0

        usage = replace(USAGE, inference_geo=reported)
        baseline(result(step(HAIKU, usage)), deep=OPUS.model, contract=contract(), price=price, inference_geo=asked)
        assert seen == [(OPUS.model, there)]

    def test_of_a_call_that_failed_is_nothing(self):
        deep = of(step(OPUS, error=TimeoutError()))
        assert deep.usd == 0.0
        assert deep.basis.startswith("none")

    def test_is_unknown_where_no_usage_was_reported(self):
        deep = of(step(OPUS))
        assert deep.usd is None
        assert deep.basis.startswith("unknown")

    def test_is_less_what_a_cold_cache_cost(self):
        cheap = Usage(input_tokens=0, output_tokens=1, cache_read_tokens=140)
        deep = of(step(HAIKU, cheap), step(OPUS, WRITTEN))
        assert deep.cold_cache_usd == pytest.approx(10 * (125 - 10))
        assert deep.usd == pytest.approx(10 * 10)
        assert deep.basis == f"{MEASURED}, less what its cold prompt cache cost"


class TestAColdCache:
    def cost(self, *steps, **changes):
        return cold_cache_usd(result(*steps), contract=contract(**changes), price=price)

    def test_costs_what_the_deep_tier_wrote_of_what_triage_read(self):
        half = Usage(input_tokens=100, output_tokens=1, cache_read_tokens=100)
        assert self.cost(step(HAIKU, half), step(OPUS, WRITTEN), tokens=0) == pytest.approx(10 * 50 * (1.25 - 0.1))

    @pytest.mark.parametrize(
        "steps",
        [
            [step(OPUS, WRITTEN)],
            [step(HAIKU, Usage(input_tokens=9, output_tokens=9, cache_read_tokens=9))],
            [step(HAIKU, USAGE), step(OPUS, USAGE)],
            [step(HAIKU, error=TimeoutError()), step(OPUS, WRITTEN)],
        ],
        ids=["no triage", "no deep answer", "nothing written", "nothing read"],
    )
    def test_costs_nothing(self, steps):
        assert self.cost(*steps) == 0.0

    def test_costs_nothing_that_is_known_without_a_price(self):
        read = Usage(input_tokens=0, output_tokens=1, cache_read_tokens=100)
        steps = (step(HAIKU, read), step(OPUS, WRITTEN))
        assert cold_cache_usd(result(*steps), contract=contract(), price=lambda _model, _usage: None) == 0.0


def test_the_place_of_the_contract_is_looked_up_only_where_a_cache_was_used():
    def unwanted():
        raise AssertionError

    assert Contract(tokens=9, place=unwanted).place_in(Usage(input_tokens=1, output_tokens=1)) is ContractPlace.UNCACHED
    used = Usage(input_tokens=1, output_tokens=1, cache_read_tokens=1)
    assert contract(place=ContractPlace.WRITTEN).place_in(used) is ContractPlace.WRITTEN


@pytest.mark.parametrize(
    ("hops", "usd"),
    [
        ([], 0.0),
        ([Hop(tier=HAIKU, usage=USAGE, cost_usd=2.0), Hop(tier=OPUS, usage=USAGE, cost_usd=20.0)], 22.0),
        ([Hop(tier=HAIKU, usage=USAGE, cost_usd=None), Hop(tier=OPUS, usage=USAGE, cost_usd=20.0)], None),
        ([Hop(tier=HAIKU, usage=None, cost_usd=None, error="X", reason=Reason.TRIAGE_ERROR)], 0.0),
        ([Hop(tier=HAIKU, usage=USAGE, cost_usd=2.0, error="X")], 2.0),
    ],
    ids=["none", "two", "one without a price", "one that failed", "one that broke off"],
)
def test_a_total_is_of_what_the_api_charges_for(hops, usd):
    assert total_usd(hops) == usd
