from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cheapdeep_ops.guard.formatting import money
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.rules.escalation.cost import PeriodCounts, consequence_of

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8

USUAL = PeriodCounts(triaged=1_000, escalated=100)
NOW = PeriodCounts(triaged=500, escalated=210, cost_nusd=890_000_000, triage_cost_nusd=50_000_000)

counted = st.integers(min_value=30, max_value=100_000)
shares = st.floats(min_value=0, max_value=1)


def spell(n, share, **more):
    return PeriodCounts(triaged=n, escalated=round(n * share), **more)


def test_the_cost_is_the_escalations_beyond_the_usual_share_times_what_a_deep_call_costs():
    found = consequence_of(NOW, USUAL, seconds=300)
    assert found["escalation_usd"] == pytest.approx(0.004)
    assert found["extra_calls"] == pytest.approx(500 * (0.42 - 0.1))
    assert found["usd"] == pytest.approx(0.64)
    assert found["usd_per_hour"] == pytest.approx(7.68)
    assert found["usd_per_hour_low"] < 7.68 < found["usd_per_hour_high"]
    assert (found["now"]["n"], found["usual"]["rate"], found["why"]) == (500, 0.1, "")


@pytest.mark.parametrize(
    ("now", "usual", "why"),
    [
        (
            spell(500, 0.4, unpriced=150, unpriced_deep=101, cost_nusd=10),
            USUAL,
            "150 of 500 calls are unpriced, 101 of 200 to the deep tier",
        ),
        (
            spell(500, 0.4, unpriced=251, unpriced_deep=0, cost_nusd=10),
            USUAL,
            "251 of 500 calls are unpriced, 0 of 200 to the deep tier",
        ),
        (NOW, spell(29, 0.1), "too few calls before to know what is usual"),
        (spell(0, 0), USUAL, "no calls"),
        (spell(500, 0), USUAL, "no call was sent to the deep tier"),
    ],
)
def test_what_cannot_be_known_is_none_and_says_why(now, usual, why):
    found = consequence_of(now, usual, seconds=300)
    assert found["why"] == why
    assert {found[name] for name in ("usd", "usd_per_hour", "usd_low", "extra_calls", "escalation_usd")} == {None}


@pytest.mark.parametrize("unpriced", [0, 1, 100])
def test_unpriced_calls_change_no_mean_as_long_as_half_of_the_deep_calls_have_a_price(unpriced):
    deep = 200 - unpriced
    now = spell(500, 0.4, unpriced=unpriced, unpriced_deep=unpriced, cost_nusd=deep * 4_000_000)
    found = consequence_of(now, USUAL, seconds=300)
    assert found["escalation_usd"] == pytest.approx(0.004)
    assert found["usd"] == pytest.approx(500 * (0.4 - 0.1) * 0.004)
    assert (found["deep_calls"], found["unpriced_deep_calls"], found["why"]) == (200, unpriced, "")


@pytest.mark.thorough
def test_a_storm_says_how_many_calls_its_cost_rests_on(town):
    town.run(900, CALM)
    town.run(240, STORM)
    payload = deepcopy(town.inbox.payloads[0])
    assert "calls" not in details(payload)[0].rsplit(" each", 1)[1]
    payload["consequence"] |= {"deep_calls": 4_792, "unpriced_deep_calls": 1}
    assert details(payload)[0].endswith("each over 4,791 of 4,792 calls")


spells = st.builds(spell, counted, shares, cost_nusd=st.integers(0, 10**12))


@given(spells, spells, st.floats(1, 1e6))
def test_the_bounds_hold_the_estimate_and_an_hour_of_it_is_its_share_of_an_hour(now, usual, seconds):
    assume(now.escalated)
    found = consequence_of(now, usual, seconds=seconds)
    tiny = 1e-9 * (1 + abs(found["usd"]))
    assert found["usd_low"] - tiny <= found["usd"] <= found["usd_high"] + tiny
    assert found["usd_per_hour"] * seconds / 3_600 == pytest.approx(found["usd"], abs=1e-9)
    assert (found["usd"] > 0) <= (now.rate.rate > usual.rate.rate)


def test_calls_that_were_never_triaged_share_the_mean_of_a_deep_call():
    mixed = PeriodCounts(triaged=100, escalated=50, bypassed=50, cost_nusd=500, triage_cost_nusd=100)
    assert mixed.escalation_usd == pytest.approx(4e-9)


@pytest.mark.parametrize(
    ("usd", "text"),
    [(3.1, "$3.10"), (1_234.5, "$1,234.50"), (0.0123, "$0.012"), (-0.5, "-$0.50"), (0.0, "$0.00"),
     (0.0999, "$0.10"), (1e-6, "less than $0.0001")],
)  # fmt: skip
def test_money_in_words(usd, text):
    assert money(usd) == text


@pytest.mark.thorough
def test_a_storm_says_what_it_costs_and_its_end_what_it_has_cost(town):
    town.run(900, CALM)
    town.run(240, STORM)
    town.run(400, CALM)
    first, last = town.inbox.payloads[0], town.inbox.payloads[-1]
    # Ten calls a second, a storm of 80% where 20% is usual, and 0.4 cents for a deep call.
    assert first["consequence"]["escalation_usd"] == pytest.approx(0.004)
    assert headline(first).endswith(" an hour more than usual")
    assert first["consequence"]["usual"]["rate"] == pytest.approx(0.2, abs=0.01)
    assert 0 < first["consequence"]["usd_per_hour"] <= 0.6 * 10 * 3_600 * 0.004 * 1.1
    assert details(first)[0].startswith("Cost: about $")
    # What the raise costs is in it, and people are told.
    assert "any raise included" in details(first)[0]
    assert last["consequence"]["extra_calls"] == pytest.approx(240 * 10 * 0.6, rel=0.15)
    assert last["consequence"]["usd"] == pytest.approx(240 * 10 * 0.6 * 0.004, rel=0.15)
    assert any(line.startswith("Lasted ") and line.endswith("were sent to the deep tier") for line in details(last))
    assert "in the hour before" in details(last)[0]


def test_without_calls_before_nobody_knows_what_a_storm_costs(town):
    town.run(240, STORM)
    assert headline(town.inbox.payloads[0]).endswith("; cost unknown")
    assert details(town.inbox.payloads[0])[0] == "Cost: unknown, too few calls before to know what is usual"


@pytest.mark.parametrize(("changes", "unpriced"), [({}, 0), ({"cost_usd": None}, 5)])
def test_a_few_calls_without_a_price_leave_the_cost_known(town, changes, unpriced):
    town.run(10, STORM)
    for _ in range(5):
        town.recorder.put(replace(town.decisions[-1], started_at=town.clock(), **changes))
    town.clock.advance(1)
    town.look()
    with town.store.reading() as connection:
        period = {"since": town.clock() - 60, "until": town.clock() + 1}
        found = PeriodCounts.read(connection, **period, scope="support")
    assert (found.bypassed, found.unpriced) == (0, unpriced)
    assert found.escalation_usd == pytest.approx(0.004)
