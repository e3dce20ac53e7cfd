"""All-deep by the length of deep answers: from decisions, through the store, to the receipt."""

from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import insert

from cheapdeep_ops.cli.render.terminal import receipt_facts
from cheapdeep_ops.guard.formatting import percent
from cheapdeep_ops.guard.notify.receipt_text import all_deep_words, receipt_headline, receipt_lines, receipt_message
from cheapdeep_ops.guard.reports.all_deep import RouteAnswers, figures_of
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.statistics.ratio import Ratio, ratio_of
from cheapdeep_ops.recorder.answer_lengths import answer_lengths
from cheapdeep_ops.recorder.counter_buffer import Tally
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.counters import Sums
from cheapdeep_ops.store.tables.call_tables import Bucket
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import Decision, Hop, Outcome, Reason, Tier, Usage, Verdict
from tests.stores import migrated

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
DAY_S, NOW = 86_400, 1_760_000_000


def cheap(tokens, *, answer="Yes.", confidence=0.9, base=Outcome.SHIP, is_estimate=False):
    return Hop(
        tier=Tier(model=HAIKU, index=0, is_deep=False), usage=Usage(output_tokens=tokens + 15, is_estimate=is_estimate),
        cost_usd=0.001, verdict=Verdict(confidence=confidence, answer=answer), base_outcome=base,
    )  # fmt: skip


def deep(tokens, **usage):
    return Hop(tier=Tier(model=OPUS, index=1, is_deep=True), usage=Usage(output_tokens=tokens, **usage), cost_usd=0.01)


def decided(*hops, **changes):
    last = hops[-1].tier
    facts = {
        "call_id": "c", "route": "support", "input_class": "", "tier": last.index, "model": last.model,
        "confidence": hops[0].confidence, "threshold": 0.8, "policy_version": 0, "escalated": last.is_deep,
        "reason": Reason.RAISED_THRESHOLD if last.is_deep else None, "bypass_cause": None,
        "base_outcome": hops[0].base_outcome, "base_reason": None, "cost_usd": 0.001, "triage_cost_usd": 0.001,
        "baseline_cost_usd": 0.005, "baseline_basis": "", "started_at": float(NOW), "duration_s": 1.0,
        "triage_duration_s": 1.0, "hops": hops,
    }  # fmt: skip
    return Decision(**{**facts, **changes})


DOUBTFUL = cheap(30, confidence=0.4, base=Outcome.ESCALATE)


@pytest.mark.parametrize(
    ("decision", "counted"),
    [
        (decided(cheap(40)), {"answer_tokens": 40}),
        (decided(cheap(40), baseline_cost_usd=None), {}),
        (decided(cheap(40), deep(80)), {"compared": 1, "compared_tokens": 40, "compared_deep_tokens": 80}),
        (
            decided(cheap(40), deep(80), is_shadow=True),
            {"compared": 1, "compared_tokens": 40, "compared_deep_tokens": 80},
        ),
        (decided(DOUBTFUL, deep(80)), {"doubtful": 1, "doubtful_tokens": 30, "doubtful_deep_tokens": 80}),
        (decided(cheap(5, answer=None, base=Outcome.ESCALATE), deep(80)), {}),
        (decided(cheap(40, is_estimate=True), deep(80)), {}),
        (decided(cheap(40), deep(80, is_estimate=True)), {}),
        (decided(cheap(40), replace(deep(80), usage=None, error="APIError")), {}),
        (decided(deep(80), base_outcome=None), {}),
    ],
)
def test_each_answer_that_was_read_to_its_end_counts(decision, counted):
    assert dict(answer_lengths(decision)) == counted
    tally = Tally()
    tally.add(decision)
    assert {name: getattr(tally, name) for name in counted} == counted


def test_a_ratio_covers_the_truth_although_calls_of_one_period_are_alike():
    random, covered = Random(1), 0
    for _ in range(1_000):
        parts = []
        for _ in range(10):
            times, calls = random.gauss(1.5, 0.2), random.randrange(20, 60)
            lengths = [random.expovariate(1 / 100) for _ in range(calls)]
            parts.append((sum(lengths), sum(length * max(random.gauss(times, 0.5), 0) for length in lengths)))
        found = ratio_of(parts)
        covered += found.low <= 1.5 <= found.high
    assert covered >= 915


@pytest.mark.parametrize("parts", [[], [(10.0, 20.0)] * 4, [(0.0, 0.0)] * 9])
def test_a_ratio_of_few_parts_is_unknown(parts):
    assert ratio_of(parts) is None


def test_a_ratio_of_equal_parts_is_certain():
    assert ratio_of([(10.0, 20.0)] * 5) == Ratio(value=2.0, low=2.0, high=2.0)


SUMS = Sums(baseline_nusd=10 * 10**9, cost_nusd=4 * 10**9)
LONGER = Ratio(value=2.6, low=2.3, high=2.9)
COSTS = {"assumed": 1.3, "token_usd": 25e-6}


def test_sure_comparisons_move_the_figure_and_doubtful_ones_widen_its_interval():
    sure = figures_of([RouteAnswers(tokens=100_000, ratio=LONGER, compared=90, is_sure=True)], SUMS, **COSTS)
    assert sure["usd"] == pytest.approx(10 + 2.5 * 1.3)
    assert sure["interval_usd"] == pytest.approx((10 + 2.5 * 1.0, 10 + 2.5 * 1.6))
    assert (sure["length_ratio"], sure["compared"], sure["sure_share"]) == (pytest.approx(2), 90, 1)
    assert sure["saving_interval"] == pytest.approx((1 - 4 / 12.5, 1 - 4 / 14))

    doubtful = figures_of([RouteAnswers(tokens=100_000, ratio=LONGER, compared=90)], SUMS, **COSTS)
    assert doubtful["usd"] == pytest.approx(10)
    assert doubtful["interval_usd"] == pytest.approx((10, 10 + 2.5 * 1.6))
    assert "100.0% of the shipped text rests on doubtful cheap answers" in all_deep_words(doubtful)

    assert figures_of([RouteAnswers(tokens=100_000)], SUMS, **COSTS) is None
    halves = [RouteAnswers(tokens=50_000), RouteAnswers(tokens=50_000, ratio=LONGER, compared=90, is_sure=True)]
    assert "50.0% is estimated from the cheap answer's length" in all_deep_words(figures_of(halves, SUMS, **COSTS))


@pytest.fixture
def store(tmp_path):
    store = migrated(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


def counted(store, at, decisions, route="support"):
    tally = Tally()
    for decision in decisions:
        tally.add(decision)
    row = {"route": route, "input_class": "", "process": "p", "at": int(at), **tally.row()}
    store.transact(lambda connection: connection.execute(insert(table_of(Bucket)).values(row)))


def test_what_shadow_mode_showed_of_a_route_is_carried_over_to_its_later_receipts(store):
    random = Random(2)
    for day in range(8):
        shadow = [decided(cheap(100), deep(round(random.gauss(260, 10))), is_shadow=True) for _ in range(20)]
        counted(store, NOW - (10 + day) * DAY_S, shadow)
    counted(store, NOW - 600, [decided(cheap(100))] * 200)
    counted(store, NOW - 600, [decided(cheap(100))] * 50, route="other")
    found = receipt(store, Settings(), since=NOW - DAY_S, until=NOW)
    assert found["baseline_cost_usd"] == pytest.approx(250 * 0.005)
    all_deep = found["all_deep"]
    assert all_deep["usd"] == pytest.approx(250 * 0.005 + 200 * 100 * 1.3 * 25e-6, rel=0.02)
    assert all_deep["interval_usd"][0] < all_deep["usd"] < all_deep["interval_usd"][1]
    assert (all_deep["compared"], all_deep["sure_share"]) == (160, 0.8)
    assert all_deep["saving"] > found["saving"]
    message = receipt_message(found, incidents={}, policy={"threshold": 0.8, "base": 0.8, "scopes": {}}, links=[])
    assert found["saved_usd"] == pytest.approx(all_deep["usd"] - found["cost_usd"])
    assert found["saved_interval_usd"][0] < found["saved_usd"] < found["saved_interval_usd"][1]
    share = percent(found["saved_share"])
    assert receipt_headline(message).endswith(f" ({share}), estimated from 160 calls that both tiers answered")
    assert [line for line in receipt_lines(message) if line.startswith("All-deep by length: $1.9")]
    words = receipt_facts(found)["all-deep by length"]
    assert "deep answers are 1.99 times as long as cheap ones" in words
    assert "by 160 calls with both; 20.0% is estimated from the cheap answer's length" in words


def test_doubtful_answers_of_a_route_widen_the_interval_and_leave_the_figure(store):
    for hour in range(6):
        counted(store, NOW - 3_600 * (hour + 1), [*[decided(DOUBTFUL, deep(90))] * 10, *[decided(cheap(100))] * 20])
    all_deep = receipt(store, Settings(), since=NOW - DAY_S, until=NOW)["all_deep"]
    assert all_deep["usd"] == pytest.approx(180 * 0.005)
    assert all_deep["interval_usd"] == pytest.approx((180 * 0.005, 180 * 0.005 + 120 * 100 * 1.7 * 25e-6))
    assert (all_deep["compared"], all_deep["sure_share"], all_deep["doubtful_share"]) == (60, 0, 1)


def test_without_a_comparison_there_is_no_figure_by_length(store):
    counted(store, NOW - 600, [decided(cheap(100))] * 200)
    found = receipt(store, Settings(), since=NOW - DAY_S, until=NOW)
    assert found["all_deep"] is None
    assert "all-deep by length" not in receipt_facts(found)
    assert "from the cheap answer's length" in found["baseline_basis"]
