"""What costs say where some calls have no price: figures over the others, how many those are, or that it is unknown."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.render.terminal import receipt_facts
from cheapdeep_ops.demo.report import money_of
from cheapdeep_ops.guard.console.tiles import saving
from cheapdeep_ops.guard.formatting import coverage
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.reports.costs import cost_figures
from cheapdeep_ops.guard.reports.receipt import caches_of, receipt, shadow_of, triage_of
from cheapdeep_ops.guard.reports.weekly import message_of
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.testing import Reply
from cheapdeep_ops.values import Outcome, Reason
from tests.stores import migrated
from tests.test_keeping import BYPASSED, ESCALATED, SHIPPED

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
KINDS = (SHIPPED, ESCALATED, BYPASSED)


def shadowed(decision, usd=0.001):
    return replace(decision, is_shadow=True, routed_cost_usd=usd)


def sums_of(decisions):
    tally = Tally()
    for each in decisions:
        tally.add(each)
    return Sums(**tally.row())


def unpriced(decision):
    return replace(decision, cost_usd=None, routed_cost_usd=None)


MEANS = {
    "cost_per_call_usd", "baseline_per_call_usd", "saving", "triage_cost_per_call_usd", "cold_cache_usd",
    "cold_cache_share",
}  # fmt: skip


def means(decisions):
    sums = sums_of(decisions)
    told = {**cost_figures(sums), **triage_of(sums), **caches_of(sums)}
    in_shadow = {f"shadow_{name}": value for name, value in (shadow_of(sums) or {}).items() if name in MEANS}
    of_a_run = {f"run_{name}": value for name, value in money_of(decisions).items() if name in MEANS}
    return {name: value for name, value in told.items() if name in MEANS} | in_shadow | of_a_run


calls = st.lists(st.builds(lambda kind, is_shadow: shadowed(kind) if is_shadow else kind,
                           st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=12)  # fmt: skip


@given(calls, st.data())
def test_unpriced_calls_change_no_mean_as_long_as_half_of_each_kind_has_a_price(priced, data):
    beside = [unpriced(each) for each in priced if data.draw(st.booleans())]
    assert means([*priced, *beside]) == pytest.approx(means(priced))


@given(calls)
def test_with_fewer_priced_calls_than_half_every_mean_is_unknown(priced):
    beside = [unpriced(each) for each in priced for _ in range(2)]
    assert set(means([*priced, *beside]).values()) == {None}


@pytest.mark.parametrize(
    ("without", "of", "covered"),
    [(0, 0, False), (0, 1, True), (1, 1, False), (1, 2, True), (2, 3, False), (1, 4_792, True), (2_396, 4_792, True),
     (2_397, 4_792, False)],
)  # fmt: skip
def test_half_of_the_calls_is_enough(without, of, covered):
    assert is_covered(unpriced=without, of=of) is covered


def test_the_coverage_in_words():
    assert (coverage(1, 4_792), coverage(0, 5)) == (" over 4,791 of 4,792 calls", "")


def test_a_call_counts_as_unpriced_where_it_would_count_in_a_mean():
    escalated = replace(ESCALATED, reason=Reason.LOW_CONFIDENCE, base_outcome=Outcome.ESCALATE)
    sums = sums_of([unpriced(each) for each in (SHIPPED, escalated, BYPASSED, shadowed(SHIPPED))])
    assert (sums.unpriced, sums.unpriced_triaged, sums.unpriced_deep, sums.unpriced_shadowed) == (4, 3, 2, 1)


def test_a_run_leaves_the_same_calls_out_of_cost_and_baseline():
    found = money_of([SHIPPED, replace(SHIPPED, baseline_cost_usd=None), replace(SHIPPED, cost_usd=None), SHIPPED])
    assert found == {
        "unpriced_calls": 2,
        "cost_usd": pytest.approx(0.0008),
        "baseline_cost_usd": pytest.approx(0.008),
        "cost_per_call_usd": pytest.approx(0.0004),
        "saving": pytest.approx(0.9),
    }
    assert money_of([]) == {
        "unpriced_calls": 0, "cost_usd": 0.0, "baseline_cost_usd": 0.0, "cost_per_call_usd": None, "saving": None,
    }  # fmt: skip


@pytest.fixture
def settings(store_url, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    return Settings(store_url=store_url)


@pytest.fixture
def store(settings):
    store = migrated(settings.store_url)
    yield store
    store.close()


@pytest.fixture
def decisions(api, open_shell, store, store_url):
    """Three calls over HTTP, of which the last is billed for something that has no price."""
    usage = {"input_tokens": 1_000, "output_tokens": 100}
    api.always(Reply.triage(0.95, "Yes.", usage=usage))
    shell = open_shell(record=True, store_url=store_url)
    made = [shell.ask().decision for _ in range(2)]
    api.always(Reply.triage(0.95, "Yes.", usage=usage | {"inference_geo": "moon"}))
    made.append(shell.ask().decision)
    shell.close()
    return made


def test_one_unpriced_call_is_told_wherever_costs_are_shown(capsys, settings, store, decisions):
    over = "over 2 of 3 calls"
    assert [each.cost_usd is None for each in decisions] == [False, False, True]
    with store.reading() as connection:
        sums = counters.summed(connection, since=0, until=2**40)
    assert (sums.calls, sums.unpriced, sums.unpriced_triaged) == (3, 1, 1)
    found = receipt(store, settings, since=0.0, until=decisions[-1].started_at + 5)
    assert found["cost_per_call_usd"] == found["triage_cost_per_call_usd"] == pytest.approx(0.0015)
    assert found["saving"] is not None
    facts = receipt_facts(found)
    assert all(over in facts[name] for name in ("blended", "all-deep", "saving"))
    assert over in saving([found]).note
    payload = message_of(store, settings, since=0.0, until=decisions[-1].started_at + 5)
    assert over in headline(payload)
    assert [line for line in details(payload) if "1 of 3 calls have no price and are left out" in line]
    assert main(["report", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["calls"], told["unpriced_calls"], told["cost_usd"]) == (3, 1, pytest.approx(0.003))
