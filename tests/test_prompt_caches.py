"""Prompt caches in a cascade, over HTTP: what breakpoints read and write at each tier, and what it costs."""

from dataclasses import replace
from random import Random

import pytest

from cheapdeep_ops.claude.cache_breakpoints import contract_place
from cheapdeep_ops.claude.conversion import read_usage
from cheapdeep_ops.claude.prompt import CONTRACT, triage_prompt
from cheapdeep_ops.costing import MEASURED
from cheapdeep_ops.pricing import ENVELOPE_TOKENS
from cheapdeep_ops.testing import FrozenClock, Reply, SimulatedAnthropic
from cheapdeep_ops.testing.messages_api.models import SimulatedModel
from cheapdeep_ops.values import Usage

HAIKU, SONNET, OPUS = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
NANO = 1_000_000_000

# Billionths of a dollar for a token, from Anthropic's price list: input, output, cache read, written for 5m, for 1h.
PRICES = {HAIKU: (1_000, 5_000, 100, 1_250, 2_000), OPUS: (5_000, 25_000, 500, 6_250, 10_000)}

CONTRACT_TOKENS = len(CONTRACT) // 4
TEMPLATE = "Reply with JSON: confidence and answer. Asked: {{user_input}}"


@pytest.fixture(scope="module")
def clock():
    return FrozenClock()


@pytest.fixture(scope="module")
def served(clock):
    with SimulatedAnthropic(clock=clock) as api:
        yield api


@pytest.fixture
def api(served):
    """A simulated API whose caches age only when a test says so."""
    served.clear()
    yield served
    served.clear()


def text(characters, mark=None, *, letter="a"):
    return {"type": "text", "text": letter * characters, **({"cache_control": mark} if mark else {})}


def turns(*contents):
    return [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]


def asked(*contents, **more):
    """A request; a question has one character more than a multiple of four, so that no rounding shows in a sum."""
    return {"max_tokens": 100, "messages": turns(*(contents or ("hello",))), **more}


def ships(api, times=1):
    for _ in range(times):
        api.enqueue(Reply.triage(0.95, "Yes.", usage={"output_tokens": 20}), model=HAIKU)


def escalates(api, times=1):
    for _ in range(times):
        api.enqueue(Reply.triage(0.3, None, usage={"output_tokens": 12}), model=HAIKU)
        api.enqueue(Reply.text("Deep.", usage={"output_tokens": 300}), model=OPUS)


def nusd(usd):
    return round(usd * NANO)


def price(model, usage):
    """What the list says that `usage` costs, in billionths of a dollar."""
    counts = (
        usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
        usage.cache_write_5m_tokens, usage.cache_write_1h_tokens,
    )  # fmt: skip
    return sum(count * rate for count, rate in zip(counts, PRICES[model], strict=True))


def prompt_of(usage):
    """Tokens read, written for five minutes, and for an hour."""
    return usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens


# The caller's breakpoints


@pytest.mark.parametrize("template", [None, "JSON with confidence and answer, please.", TEMPLATE])
@pytest.mark.parametrize("mark", [FIVE, HOUR])
def test_a_breakpoint_in_the_system_prompt_is_read_at_triage_from_the_second_call_on(api, open_shell, template, mark):
    ships(api, 3)
    shell = open_shell(triage_template=template)
    system = [text(20_000, mark)]
    decisions = [shell.route(**asked(word, system=system)).decision for word in ("hello", "again", "third")]
    written = (0, 0, 5_000) if mark is HOUR else (0, 5_000, 0)
    assert [prompt_of(decision.hops[0].usage) for decision in decisions] == [written, (5_000, 0, 0), (5_000, 0, 0)]
    assert [each.model for each in api.requests] == [HAIKU] * 3


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_breakpoint_in_an_earlier_turn_is_read_at_triage_from_the_second_call_on(api, open_shell, template):
    ships(api, 2)
    shell = open_shell(triage_template=template)
    past = ([text(20_001, FIVE)], "b" * 8)
    usages = [shell.route(**asked(*past, word)).decision.hops[0].usage for word in ("hello", "again")]
    before = 5_001 if template else (len(CONTRACT) + 20_001 + 3) // 4
    assert [prompt_of(usage) for usage in usages] == [(0, before, 0), (before, 0, 0)]


def test_a_conversation_that_grows_reads_its_past_at_triage(api, open_shell):
    ships(api, 2)
    shell = open_shell()
    shell.route(**asked([text(20_001, FIVE)]))
    grown = asked([text(20_001)], "b" * 8, [text(400, FIVE)])
    usage = shell.route(**grown).decision.hops[0].usage
    assert prompt_of(usage) == ((len(CONTRACT) + 20_001 + 3) // 4, 102, 0)
    assert usage.input_tokens == 0


def test_a_breakpoint_in_the_last_turn_is_kept_where_a_template_words_that_turn(api, open_shell):
    ships(api, 2)
    shell = open_shell(triage_template=TEMPLATE)
    request = asked([text(20_001, FIVE), text(8)])
    usages = [shell.route(**request).decision.hops[0].usage for _ in range(2)]
    before = (len(TEMPLATE.partition("{{")[0]) + 20_001 + 3) // 4
    assert [prompt_of(usage) for usage in usages] == [(0, before, 0), (before, 0, 0)]


def test_a_mark_on_the_request_caches_at_both_tiers(api, open_shell):
    escalates(api, 2)
    shell = open_shell()
    first = asked("a" * 20_001, cache_control=FIVE)
    second = asked("a" * 20_001, "b" * 8, "c" * 8, cache_control=FIVE)
    before = (len(CONTRACT) + 20_001 + 3) // 4
    expected = [[(0, before, 0), (0, 5_001, 0)], [(before, 4, 0), (5_001, 4, 0)]]
    hops = [shell.route(**request).decision.hops for request in (first, second)]
    assert [[prompt_of(hop.usage) for hop in each] for each in hops] == expected


def test_the_deep_tier_reads_its_own_cache_from_the_second_escalation_on(api, open_shell):
    escalates(api, 2)
    shell = open_shell()
    prompt = {"system": [text(20_000, HOUR), text(4_000, FIVE)]}
    hops = [shell.route(**asked(word, **prompt)).decision.hops for word in ("hello", "again")]
    assert [prompt_of(hop.usage) for hop in hops[0]] == [(0, 1_000, 5_000)] * 2
    assert [prompt_of(hop.usage) for hop in hops[1]] == [(6_000, 0, 0)] * 2
    assert [each.body["system"][:2] for each in api.requests] == [prompt["system"]] * 4


def test_a_deep_call_that_was_never_triaged_warms_the_cache_for_those_that_escalate(api, open_shell):
    shell = open_shell()
    prompt = {"system": [text(20_000, FIVE)]}
    shell.route(**asked(**prompt, stop_sequences=["x"]))
    escalates(api)
    decision = shell.route(**asked(**prompt)).decision
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(0, 5_000, 0), (5_000, 0, 0)]
    assert decision.cold_cache_usd == 0


def test_a_prefix_below_the_smallest_is_cached_nowhere(api, open_shell):
    escalates(api, 2)
    shell = open_shell()
    for word in ("hello", "again"):
        decision = shell.route(**asked(word, system=[text(4 * 2_000, FIVE)])).decision
        assert [prompt_of(hop.usage) for hop in decision.hops] == [(0, 0, 0)] * 2
        assert decision.cold_cache_usd == 0


@pytest.mark.parametrize(
    ("params", "template", "place"),
    [
        ({"messages": turns("hello")}, None, "uncached"),
        ({"messages": turns("hello"), "system": [text(4, FIVE)]}, None, "uncached"),
        ({"messages": turns("hello"), "cache_control": FIVE}, None, "read"),
        ({"messages": turns("hello"), "cache_control": FIVE, "system": [text(4, FIVE)]}, None, "written"),
        ({"messages": turns([text(4, FIVE)], "b", "c")}, None, "read"),
        ({"messages": turns([text(4, FIVE)], "b", [text(4, FIVE)]), "system": "a"}, None, "read"),
        ({"messages": turns([text(4, FIVE)], "b", "c")}, TEMPLATE, "uncached"),
        ({"messages": turns("a", "b", [text(4), text(4, FIVE)])}, TEMPLATE, "read"),
        ({"messages": turns([text(4, FIVE)], "b", [text(4, FIVE)])}, TEMPLATE, "written"),
        ({"messages": turns([text(4)], ["b"], None)}, None, "uncached"),
    ],
)
def test_where_the_contracts_tokens_are_counted(params, template, place):
    assert contract_place(params, triage_prompt(template)) == place


# What it costs


@pytest.mark.parametrize("mark", [FIVE, HOUR])
def test_a_shipped_call_costs_what_its_tier_asks_for_what_it_wrote_and_read(api, open_shell, mark):
    ships(api, 2)
    shell = open_shell()
    first, second = (shell.route(**asked(system=[text(20_000, mark)])).decision for _ in range(2))
    uncached = CONTRACT_TOKENS + 2
    write = PRICES[HAIKU][4] if mark is HOUR else PRICES[HAIKU][3]
    assert nusd(first.cost_usd) == uncached * 1_000 + 20 * 5_000 + 5_000 * write
    assert nusd(second.cost_usd) == uncached * 1_000 + 20 * 5_000 + 5_000 * 100
    # All-deep: 30% more tokens, the contract and fifteen tokens of JSON less, and the deep tier's cache alike.
    deep_write = PRICES[OPUS][4] if mark is HOUR else PRICES[OPUS][3]
    assert nusd(first.baseline_cost_usd) == 3 * 5_000 + 6 * 25_000 + 6_500 * deep_write
    assert nusd(second.baseline_cost_usd) == 3 * 5_000 + 6 * 25_000 + 6_500 * 500


def test_where_a_turn_has_a_breakpoint_the_contract_comes_off_what_was_cached(api, open_shell):
    ships(api, 2)
    shell = open_shell()
    first, second = (shell.route(**asked([text(20_001, FIVE)])).decision for _ in range(2))
    assert nusd(first.baseline_cost_usd) == 6 * 25_000 + round(5_001 * 1.3) * 6_250
    assert nusd(second.baseline_cost_usd) == 6 * 25_000 + round(5_001 * 1.3) * 500


@pytest.mark.parametrize(("mark", "written"), [(FIVE, 6_250), (HOUR, 10_000)])
def test_a_cold_cache_costs_the_difference_of_writing_and_reading(api, open_shell, mark, written):
    ships(api)
    escalates(api, 2)
    shell = open_shell()
    request = asked(system=[text(20_000, mark)])
    shell.route(**request)
    cold, warm = (shell.route(**request).decision for _ in range(2))
    triage = (CONTRACT_TOKENS + 2) * 1_000 + 12 * 5_000 + 5_000 * 100
    answer = 2 * 5_000 + 300 * 25_000
    assert nusd(cold.triage_cost_usd) == nusd(warm.triage_cost_usd) == triage
    assert nusd(cold.cost_usd) == triage + answer + 5_000 * written
    assert nusd(cold.cold_cache_usd) == 5_000 * (written - 500)
    assert nusd(cold.baseline_cost_usd) == answer + 5_000 * 500
    assert cold.baseline_basis == f"{MEASURED}, less what its cold prompt cache cost"
    assert nusd(warm.cost_usd) == triage + answer + 5_000 * 500
    assert nusd(warm.baseline_cost_usd) == answer + 5_000 * 500
    assert (warm.cold_cache_usd, warm.baseline_basis) == (0, MEASURED)


def test_only_what_triage_read_is_missed_at_the_deep_tier(api, open_shell):
    ships(api)
    escalates(api)
    shell = open_shell()
    shell.route(**asked([text(20_001, FIVE)]))
    grown = asked([text(20_001)], "b" * 8, [text(2_000, FIVE)])
    decision = shell.route(**grown).decision
    assert prompt_of(decision.hops[1].usage) == (0, 5_503, 0)
    assert nusd(decision.cold_cache_usd) == 5_001 * 5_750
    assert nusd(decision.baseline_cost_usd) == 300 * 25_000 + 5_001 * 500 + 502 * 6_250


def test_what_lives_for_an_hour_is_missed_first(api, open_shell):
    ships(api)
    escalates(api)
    shell = open_shell()
    shell.route(**asked(system=[text(20_000, HOUR)]))
    decision = shell.route(**asked(system=[text(20_000, HOUR), text(4_000, FIVE)])).decision
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(5_000, 1_000, 0), (0, 1_000, 5_000)]
    assert nusd(decision.cold_cache_usd) == 5_000 * 9_500
    assert nusd(decision.baseline_cost_usd) == 2 * 5_000 + 300 * 25_000 + 5_000 * 500 + 1_000 * 6_250


def test_a_prompt_that_is_new_to_both_tiers_was_missed_by_none(api, open_shell):
    escalates(api)
    decision = open_shell().route(**asked(system=[text(20_000, FIVE)])).decision
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(0, 5_000, 0)] * 2
    assert (decision.cold_cache_usd, decision.baseline_basis) == (0, MEASURED)


@pytest.mark.parametrize(("pause_s", "missed"), [(299, 5_000), (300, 0)])
def test_a_cache_that_is_older_than_its_time_is_cold_at_all_deep_too(api, clock, open_shell, pause_s, missed):
    ships(api)
    escalates(api)
    shell = open_shell()
    request = asked(system=[text(20_000, FIVE)])
    shell.route(**request)
    clock.advance(pause_s)
    decision = shell.route(**request).decision
    assert prompt_of(decision.hops[1].usage) == (0, 5_000, 0)
    assert nusd(decision.cold_cache_usd) == missed * 5_750


def test_the_first_triage_tier_that_read_tells_what_is_missed(api, open_shell):
    shell = open_shell(tiers=(HAIKU, SONNET, OPUS))
    ships(api)
    request = asked(system=[text(20_000, FIVE)])
    shell.route(**request)
    api.enqueue(Reply.triage(0.3, None), model=SONNET)
    escalates(api)
    decision = shell.route(**request).decision
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(5_000, 0, 0), (0, 5_000, 0), (0, 5_000, 0)]
    assert nusd(decision.cold_cache_usd) == 5_000 * 5_750


def test_a_triage_call_that_failed_tells_nothing(api, open_shell):
    ships(api)
    shell = open_shell()
    request = asked(system=[text(20_000, FIVE)])
    shell.route(**request)
    api.enqueue(Reply.error(529), model=HAIKU)
    decision = shell.route(**request).decision
    assert prompt_of(decision.hops[-1].usage) == (0, 5_000, 0)
    assert decision.cold_cache_usd == 0


def test_a_deep_tier_that_gets_all_calls_in_shadow_mode_has_no_cold_cache(api, open_shell, ledger):
    ships(api)
    request = asked(system=[text(20_000, FIVE)])
    open_shell().route(**request)
    escalates(api)
    shell = open_shell(router={"recorder": ledger}, mode="shadow", shadow_share=1.0, record=True)
    shell.route(**request)
    shell.close()
    (decision,) = ledger.decisions
    assert decision.is_shadow
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(5_000, 0, 0), (0, 5_000, 0)]
    assert (decision.cold_cache_usd, decision.baseline_basis) == (0, MEASURED)


def test_an_unpriced_deep_tier_has_no_cold_cache_to_pay(api, open_shell):
    api.put_model(SimulatedModel(id="claude-nine", display_name="Nine", line="opus"))
    shell = open_shell(tiers=(HAIKU, "claude-nine"))
    ships(api)
    request = asked(system=[text(20_000, FIVE)])
    shell.route(**request)
    api.enqueue(Reply.triage(0.3, None), model=HAIKU)
    decision = shell.route(**request).decision
    assert [prompt_of(hop.usage) for hop in decision.hops] == [(5_000, 0, 0), (0, 5_000, 0)]
    assert (decision.cost_usd, decision.baseline_cost_usd, decision.cold_cache_usd) == (None, None, 0)


# Streams


def same_but_output(usage):
    return replace(usage, output_tokens=0, is_estimate=False)


def test_a_streamed_call_costs_what_a_whole_one_costs(api, open_shell, ledger):
    shell = open_shell(router={"recorder": ledger})
    request = asked(system=[text(20_000, HOUR), text(400, FIVE)])
    for way in (shell.create, shell.streamed_events, shell.final_message):
        api.clear()
        ships(api, 2)
        escalates(api, 2)
        for _ in range(4):
            way(**request)
    whole, events, helped = (ledger.decisions[at : at + 4] for at in (0, 4, 8))
    assert [prompt_of(decision.hops[-1].usage) for decision in whole] == [
        (0, 100, 5_000), (5_100, 0, 0), (0, 100, 5_000), (5_100, 0, 0),
    ]  # fmt: skip
    for streamed in (events, helped):
        for ours, theirs in zip(streamed, whole, strict=True):
            assert nusd(ours.cold_cache_usd) == nusd(theirs.cold_cache_usd)
            assert nusd(ours.baseline_cost_usd) == nusd(theirs.baseline_cost_usd)
            assert ours.hops[-1].usage == theirs.hops[-1].usage
            # A triage stream that escalates is left early; all else of it is what the whole one is.
            first, other = ours.hops[0].usage, theirs.hops[0].usage
            assert same_but_output(first) == same_but_output(other)
            saved = (other.output_tokens - first.output_tokens) * PRICES[HAIKU][1]
            assert nusd(theirs.cost_usd) - nusd(ours.cost_usd) == saved
    assert [nusd(decision.cold_cache_usd) for decision in events] == [0, 0, 5_000 * 9_500 + 100 * 5_750, 0]


def test_costs_of_all_hops_are_those_of_the_price_list(api, open_shell, ledger):
    shell = open_shell(router={"recorder": ledger})
    ships(api)
    escalates(api, 3)
    for length in (4, 4, 8, 12):
        grown = [text(20_001, HOUR), *(text(400, letter=letter) for letter in "bcdefghijklm"[:length])]
        shell.route(**asked(grown, cache_control=FIVE))
    seen = set()
    for decision in ledger.decisions:
        hops = [(hop.tier.model, hop.usage) for hop in decision.hops]
        assert nusd(decision.cost_usd) == sum(price(model, usage) for model, usage in hops)
        seen |= {(model, name) for model, usage in hops for name in Usage.__slots__ if getattr(usage, name)}
    kinds = ("output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    assert seen == {(model, kind) for model in (HAIKU, OPUS) for kind in kinds}


# Against the truth

PLAIN = "JSON with confidence and answer, please."
"""A contract of a whole number of the simulator's tokens, so that nothing is lost to rounding."""


def traffic(rng, *, marks_in):
    """Questions to three assistants, in conversations that grow, with pauses that let caches die now and then."""
    talks = {}
    for _ in range(60):
        letter = rng.choice("abc")
        talk = talks.setdefault(letter, [])
        if len(talk) > 6:
            talk.clear()
        talk.append("xyzuvw"[len(talk) % 6] * (4 * rng.randint(1, 900)))
        marks = [rng.choice([FIVE, HOUR]) if where in marks_in else None for where in ("system", "turns")]
        mark, last_mark = (FIVE, FIVE) if None not in marks else marks
        *past, last = talk
        request = asked(*past, [text(0, last_mark) | {"text": last}], system=[text(20_000, mark, letter=letter)])
        yield request, rng.random() < 0.4, rng.choice([1, 30, 200, 301, 3_601] if rng.random() < 0.3 else [5])
        talk.append("Deep.")


def compared(api, clock, shell, bare, *, marks_in):
    """The decisions of some traffic, each with what its request costs where all of it goes to the deep tier."""
    asked_for, decisions, costs = list(traffic(Random(7), marks_in=marks_in)), [], []
    for request, is_hard, pause_s in asked_for:
        api.enqueue(Reply.triage(0.3 if is_hard else 0.9, "Yes.", usage={"output_tokens": 20}), model=HAIKU)
        api.enqueue(*[Reply.text("Deep.", usage={"output_tokens": 300})] * is_hard, model=OLDER)
        decisions.append(shell.route(**request).decision)
        clock.advance(pause_s)
    clock.advance(3_600)
    api.clear()
    for request, is_hard, pause_s in asked_for:
        api.enqueue(Reply.text("Deep.", usage={"output_tokens": 300 if is_hard else 20 - ENVELOPE_TOKENS}))
        usage = read_usage(bare.messages.create(model=OLDER, **request).usage)
        costs.append(price(OPUS, usage))  # of the same price
        clock.advance(pause_s)
    return list(zip(decisions, costs, strict=True))


OLDER = "claude-opus-4-6"
"""A deep model with the cheap tier's tokenizer, so that no ratio has to be estimated."""


@pytest.mark.parametrize("marks_in", [("system",), ("turns",)])
def test_the_all_deep_estimate_is_what_all_deep_costs(api, clock, open_shell, bare, marks_in):
    assert len(PLAIN) % 4 == 0
    shell = open_shell(tiers=(HAIKU, OLDER), triage_template=PLAIN)
    found = compared(api, clock, shell, bare, marks_in=marks_in)
    assert [nusd(decision.baseline_cost_usd) for decision, _ in found] == [cost for _, cost in found]
    escalated = [decision for decision, _ in found if decision.escalated]
    assert 0 < sum(decision.cold_cache_usd > 0 for decision in escalated) < len(escalated) < len(found)


def test_where_the_contract_may_be_read_or_written_the_estimate_is_too_low_by_little(api, clock, open_shell, bare):
    shell = open_shell(tiers=(HAIKU, OLDER))
    found = compared(api, clock, shell, bare, marks_in=("system", "turns"))
    rounding = 2 * PRICES[OPUS][4]
    assert all(nusd(decision.baseline_cost_usd) <= cost + rounding for decision, cost in found)
    told, truth = sum(nusd(decision.baseline_cost_usd) for decision, _ in found), sum(cost for _, cost in found)
    without = told + sum(nusd(decision.cold_cache_usd) for decision, _ in found)
    assert 0.95 * truth < told < truth < without / 1.1
