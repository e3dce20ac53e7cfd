import json
from dataclasses import replace

import pytest
from sqlalchemy import event, update

from cheapdeep_ops.errors import DeliveryError, StoreError
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.notify.messages import details
from cheapdeep_ops.guard.notify.slack import rendered
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.guard.rules.model import Action
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.tables.alert_tables import AlertRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import ALL_ROUTES, Outcome, Reason
from tests.guard.conftest import without

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8
BAND30 = [0.95] * 2 + [0.9] * 2 + [0.85] * 2 + [0.8] + [0.7] * 3
"""Escalates 30% at 0.8 and 60% at 0.9, with confidences of exactly 0.8 and 0.9 among them."""


def changes(town):
    with town.store.reading() as connection:
        return policies.history(connection)[::-1]


def alerts(town):
    with town.store.reading() as connection:
        return {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}


def acts(town):
    return [(each["act"], each["scope"], each["applied"]) for each in changes(town)]


def test_a_storm_raises_the_threshold_tells_slack_and_lets_go_when_it_is_over(town):
    town.run(300, CALM)
    assert town.inbox.kinds == []
    town.run(240, STORM)
    assert town.threshold() == 0.9
    assert town.inbox.kinds[0] == "started"
    town.run(400, CALM)
    assert town.threshold() == 0.8
    assert town.inbox.kinds[-1] == "resolved"
    assert acts(town) == [("raise", "support", True), ("release", "support", True)]


@pytest.mark.thorough
def test_a_policy_change_carries_its_cause_with_its_numbers(town):
    town.run(120, CALM)
    town.run(240, STORM, look_every_s=5)
    (raised,) = changes(town)
    assert (raised["from_threshold"], raised["to_threshold"], raised["cause"]) == (0.8, 0.9, "EscalationStorm")
    signal = raised["signal"]
    assert signal["decided_by"] == "sequence"
    assert signal["evidence"] >= signal["evidence_limit"] == pytest.approx(14.509, abs=1e-3)
    assert signal["recent_low"] > signal["limit"] == 0.35
    assert (signal["n"] >= 100, signal["recent_n"] <= 60) == (True, True)


@pytest.mark.thorough
def test_raising_does_not_feed_the_storm(town):
    town.run(900, BAND30)
    assert changes(town) == []
    town.do(pin, threshold=0.9, route="support", author="me", why="test")
    town.run(900, BAND30)
    alert = alerts(town)[("EscalationStorm", "support")]
    assert alert["state"] == "inactive"
    assert alert["signal"]["rate"] == pytest.approx(0.3)
    assert alert["signal"]["actual_rate"] == pytest.approx(0.6)


@pytest.mark.thorough
def test_a_raised_route_is_released_although_it_escalates_more_than_the_limit_while_raised(town):
    town.run(200, STORM)
    assert town.threshold() == 0.9
    town.run(500, BAND30)
    assert town.threshold() == 0.8
    assert town.inbox.kinds[-1] == "resolved"


def test_confidences_of_exactly_the_thresholds_count_as_shipped_in_the_rule_as_in_the_flow(town):
    town.run(60, [0.8] * 10)
    assert alerts(town)[("EscalationStorm", "support")]["signal"]["rate"] == 0
    town.do(pin, threshold=0.9, route="support", author="me", why="test")
    town.run(60, [0.9] * 10)
    alert = alerts(town)[("EscalationStorm", "support")]
    assert (alert["signal"]["rate"], alert["signal"]["actual_rate"]) == (0, 0)
    assert all(decision.shipped for decision in town.decisions)


def test_a_withheld_answer_is_not_a_base_escalation(town):
    town.do(pin, threshold=0.9, route="support", author="me", why="test")
    town.run(1, [0.85])
    (decision,) = town.decisions
    assert (decision.base_outcome, decision.reason) == (Outcome.SHIP, Reason.RAISED_THRESHOLD)


def test_one_burst_within_a_second_moves_nothing(town):
    town.run(60, [0.95])
    town.run(1, [0.5] * 500)
    town.look()
    town.run(60, [0.95])
    assert changes(town) == []


def test_few_calls_say_nothing(town):
    town.run(60, [0.5])
    assert alerts(town).get(("EscalationStorm", "support"), {"state": "inactive"})["state"] == "inactive"
    assert town.threshold() == 0.8


@pytest.mark.thorough
def test_no_data_neither_resolves_nor_fires(town):
    town.run(200, STORM)
    town.run(1_200, [])
    assert town.threshold() == 0.9
    assert alerts(town)[("EscalationStorm", "support")]["level"] == "no_data"
    town.run(300, CALM)
    assert town.threshold() == 0.8


def test_a_storm_on_one_route_leaves_the_others_alone(town):
    for _ in range(20):
        town.run(10, STORM, route="legal")
        town.run(10, CALM, route="support")
    assert town.threshold("legal") == 0.9
    assert town.threshold("support") == 0.8
    assert [payload["scope"] for payload in town.inbox.payloads if payload["kind"] == "started"] == ["legal"]


def test_many_small_routes_together_raise_everywhere(town):
    for second in range(200):
        for route in range(20):
            if (second + route) % 10 == 0:
                town.put(0.5, route=f"small-{route}")
        town.clock.advance(1)
        town.recorder.drain(town.clock())
        if second % 5 == 4:
            town.look()
    assert [payload["scope"] for payload in town.inbox.payloads] == [ALL_ROUTES]
    assert town.threshold("small-3") == town.threshold("never-seen") == 0.9


def test_one_route_alone_is_one_incident_not_two(town):
    town.run(200, STORM)
    with town.store.reading() as connection:
        assert [row["scope"] for row in incidents.incidents(connection)] == ["support"]


def test_a_pin_wins_over_a_raise_and_the_raise_comes_when_the_pin_goes(town):
    town.do(pin, threshold=0.7, route="support", author="ann", why="trial")
    town.run(200, STORM)
    assert town.threshold() == 0.7
    assert town.inbox.kinds[0] == "started"
    assert "pinned" in town.inbox.payloads[0]["threshold"]
    assert acts(town)[-1] == ("raise", "support", False)
    town.do(release, route="support", author="ann", why="")
    town.run(10, STORM)
    assert town.threshold() == 0.9


@pytest.mark.thorough
def test_a_pin_during_a_raise_holds_until_released(town):
    town.run(200, STORM)
    town.do(pin, threshold=0.95, route=ALL_ROUTES, author="ann", why="audit")
    town.run(600, CALM)
    assert town.threshold() == 0.95
    town.do(release, route=ALL_ROUTES, author="ann", why="")
    town.run(10, CALM)
    assert town.threshold() == 0.8


@pytest.mark.thorough
def test_observe_mode_records_what_it_would_do_and_does_nothing(make_town):
    town = make_town(mode="observe")
    town.run(200, STORM)
    assert town.threshold() == 0.8
    assert acts(town) == [("raise", "support", False)]
    assert "observe mode" in town.inbox.payloads[0]["threshold"]
    town.run(500, CALM)
    assert town.inbox.kinds[-1] == "resolved"


def test_a_rule_that_is_taken_out_of_the_book_lets_go_of_what_it_held(town):
    town.run(200, STORM)
    town.guard.close()
    town.guard = town.another_guard(without("EscalationStorm"))
    town.look()
    assert town.threshold() == 0.8


@pytest.mark.thorough
def test_a_restarted_guard_goes_on_where_the_other_stopped(town):
    town.run(200, STORM)
    town.guard.close()
    town.guard = town.another_guard()
    town.run(100, STORM)
    assert town.inbox.kinds.count("started") == 1
    town.run(500, CALM)
    assert town.inbox.kinds.count("resolved") == 1
    assert acts(town) == [("raise", "support", True), ("release", "support", True)]


def test_of_two_guards_one_acts_and_the_other_takes_over(town):
    first, second = town.guard, town.another_guard()
    assert first.step(town.clock())
    assert not second.step(town.clock())
    for _ in range(7):
        assert not second.step(town.clock.advance(1))
    assert second.step(town.clock.advance(1))
    assert not first.step(town.clock())


def test_transition_policy_and_message_are_one_transaction(town, monkeypatch):
    town.run(60, CALM)

    def fail(*_args, **_kwargs):
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(incidents, "announce", fail)
        for _ in range(200):
            for confidence in STORM:
                town.put(confidence)
            town.clock.advance(1)
        town.recorder.drain(town.clock())
        with pytest.raises(StoreError):
            town.guard.step(town.clock())
    assert changes(town) == []
    assert alerts(town)[("EscalationStorm", "support")]["state"] == "inactive"
    town.look()
    assert acts(town) == [("raise", "support", True)]
    assert town.inbox.kinds == ["started"]


def test_a_message_says_what_the_storm_is_made_of(town):
    town.run(200, [*STORM[:-2], None, None], cls="invoice")
    payload = town.inbox.payloads[0]
    assert [name for name, _ in payload["reasons"]] == ["low_confidence", "malformed"]
    assert payload["input_classes"][0][0] == "invoice"
    assert payload["cause"]["kind"] == "unknown"  # nothing is known of before


@pytest.mark.thorough
def test_a_message_says_what_the_rise_is_made_of(town):
    for cls, calls in (("invoice", [0.95] * 9 + [0.5]), ("invoice", [0.5] * 10)):
        for _ in range(15):
            town.run(18, calls, cls=cls)
            town.run(12, [0.95] * 14 + [0.5], cls="<b>chat")
    cause = town.inbox.payloads[0]["cause"]
    assert (cause["kind"], cause["dimension"], cause["element"]) == ("got worse", "input class", "invoice")
    lines = details(town.inbox.payloads[0])
    (line,) = [line for line in lines if line.startswith("Cause: ")]
    assert line == f"Cause: {cause['text']}"
    assert line.startswith("Cause: input class invoice: ")
    assert "10.0% -> " in line
    assert any(line.startswith("Compared with the hour before: the changed mix of the calls adds ") for line in lines)
    text = json.dumps(rendered(town.inbox.payloads[0])[1])
    assert "input class `invoice`" in text


@pytest.mark.thorough
def test_the_new_policy_of_a_raise_is_not_taken_for_the_cause_of_its_storm(town):
    town.run(400, [0.95] * 19 + [0.5])
    town.run(300, [0.95] * 5 + [0.5] * 15)
    town.run(300, [0.95] * 1 + [0.5] * 19)
    assert "changed" in town.inbox.kinds
    named = {payload["cause"]["dimension"] for payload in town.inbox.payloads}
    assert "policy version" not in named


@pytest.mark.thorough
def test_an_open_incident_is_told_again_when_its_rate_has_moved_and_not_otherwise(town):
    town.run(240, [0.95] * 5 + [0.5] * 5)
    town.run(300, [0.95] * 5 + [0.5] * 5)
    settled = len(town.inbox.kinds)
    town.run(600, [0.95] * 5 + [0.5] * 5)
    assert len(town.inbox.kinds) == settled
    town.run(300, [0.5] * 10)
    assert town.inbox.kinds[settled:]
    assert set(town.inbox.kinds[settled:]) == {"changed"}


@pytest.mark.thorough
def test_messages_wait_for_a_receiver_that_is_down_and_keep_their_order(town):
    town.inbox.failures = [DeliveryError("down")] * 4
    town.run(200, STORM, look_every_s=5)
    town.run(500, CALM)
    assert town.inbox.kinds[0] == "started"
    assert town.inbox.kinds[-1] == "resolved"
    assert len({place.ts for place in town.inbox.places[1:]}) == 1


def test_a_receiver_that_asks_for_time_gets_it(town):
    town.inbox.failures = [DeliveryError("slow down", retry_after_s=30)]
    town.run(150, STORM)
    first_try = next(each["at"] for each in changes(town))
    town.run(10, STORM)
    assert town.inbox.kinds in ([], ["started"])
    town.run(40, STORM)
    assert town.inbox.kinds[0] == "started"
    assert town.clock() >= first_try + 30


def test_an_alert_state_of_another_version_stops_no_rule(town):
    town.run(200, STORM)
    town.store.transact(lambda connection: connection.execute(update(table_of(AlertRow)).values(state="silenced")))
    town.run(20, STORM)
    assert alerts(town)[("EscalationStorm", "support")]["state"] == "firing"


def test_many_routes_with_too_few_calls_each_are_seen_together(town):
    for second in range(10):
        for route in range(15):
            for _ in range(2):
                town.put(0.5, route=f"r{second * 15 + route}")
        town.clock.advance(1)
    town.look()
    assert alerts(town)[("EscalationStorm", ALL_ROUTES)]["state"] == "firing"


@pytest.mark.thorough
def test_a_rule_that_tells_nobody_still_ends_its_incident(town):
    rule = read_rulebook().rules[0].model_copy(update={"actions": frozenset({Action.RAISE_THRESHOLD})})
    town.guard.close()
    town.guard = town.another_guard(Rulebook(rules=(rule,)))
    town.run(200, STORM)
    town.run(500, CALM)
    with town.store.reading() as connection:
        (incident,) = incidents.incidents(connection)
    assert incident["resolved_at"] is not None
    assert town.inbox.kinds == []


def test_a_rule_that_is_taken_out_says_that_its_incident_is_over(town):
    town.run(200, STORM)
    town.guard.close()
    town.guard = town.another_guard(without("EscalationStorm"))
    town.look()
    assert town.inbox.kinds == ["started", "resolved"]


def test_a_raise_never_lowers(make_town):
    town = make_town(base_threshold=0.95, raised_threshold=0.95)
    town.run(200, STORM)
    lower = town.recorder.book
    assert replace(lower, raised=0.9).for_route("support").threshold == 0.95


@pytest.mark.thorough
def test_a_changed_raised_threshold_reaches_the_routers_of_a_raise_that_is_held(town, settings):
    town.run(200, STORM)
    town.guard.close()
    town.guard = town.another_guard(settings=settings.model_copy(update={"raised_threshold": 0.95}))
    town.run(5, STORM)
    assert town.threshold() == 0.95
    assert changes(town)[-1]["why"] == "the raised threshold is 0.95 now"


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_no_evaluation_walks_through_the_history(town):
    """Every statement on the counters, also of the steps that open and end an incident, goes by the index on time."""
    asked = []

    def note(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT") and "FROM bucket" in statement:
            asked.append((statement, parameters))

    event.listen(town.store.engine, "before_cursor_execute", note)
    town.run(200, STORM, cls="invoice")
    town.run(300, CALM)
    event.remove(town.store.engine, "before_cursor_execute", note)
    assert town.inbox.kinds[-1] == "resolved"
    plans = {}
    with town.store.reading() as connection:
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans[statement] = " ".join(str(row[-1]) for row in rows)
    assert len(plans) >= 4
    assert [plan for plan in plans.values() if "ix_bucket_at (at>?" not in plan] == []
