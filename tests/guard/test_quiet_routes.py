"""Storms of routes with few calls, of which the windows reach back into minutes, as the guard reads them."""

import pytest

from cheapdeep_ops.store import counters, incidents

CALM, STORM = [0.95] * 17 + [0.5] * 3, [0.95] * 8 + [0.5] * 12


@pytest.fixture
def engine():
    return "sqlite"


def call(town, number, confidences):
    """One call, five seconds after the last one; the shares of confidences are as even as can be."""
    town.clock.advance(5)
    town.put(confidences[number * 7 % len(confidences)])
    town.recorder.fold(town.clock())  # as its thread does: calls are counted in their own second


def trickle(town, minutes, confidences):
    """Twelve calls a minute; returns how many came until the threshold was raised, None if it was not."""
    for number in range(minutes * 12):
        call(town, number, confidences)
        if number % 4 == 3:
            town.look()
            if town.threshold() == 0.9:
                return number + 1
    return None


def history(town, minutes, confidences):
    """Past minutes of a quiet route, without an evaluation."""
    for number in range(minutes * 12):
        call(town, number, confidences)
    town.recorder.drain(town.clock())


def storm_signal(town):
    with town.store.reading() as connection:
        alerts = incidents.alerts(connection)
    return next(each["signal"] for each in alerts if (each["rule"], each["scope"]) == ("EscalationStorm", "support"))


def test_a_storm_at_twelve_calls_a_minute_is_told_within_180_calls(town):
    history(town, 40, CALM)
    assert trickle(town, 1, CALM) is None
    told = trickle(town, 20, STORM)
    assert told is not None
    assert told <= 180
    signal = storm_signal(town)
    assert signal["n"] >= 300
    assert signal["window_s"] > 1_200


@pytest.mark.thorough
def test_calm_at_twelve_calls_a_minute_is_calm_and_a_storm_ends(town):
    history(town, 40, CALM)
    assert trickle(town, 20, STORM) is not None
    for number in range(240):
        call(town, number, CALM)
        if number % 4 == 3:
            town.look()
    assert town.threshold() == 0.8
    assert trickle(town, 10, CALM) is None


def test_a_route_without_calls_for_long_has_no_data(town):
    history(town, 40, CALM)
    town.look()
    town.clock.advance(900)
    town.look()
    with town.store.reading() as connection:
        (level,) = (each["level"] for each in incidents.alerts(connection) if each["rule"] == "EscalationStorm")
    assert level == "no_data"


@pytest.mark.thorough
def test_the_minutes_of_a_route_are_the_seconds_whether_folded_or_not(town):
    for _ in range(40):
        history(town, 1, STORM)
    town.look()
    since, until = int(town.clock() // 60 - 30) * 60, int(town.clock() // 60 - 5) * 60

    def minutes():
        with town.store.reading() as connection:
            return counters.by_minute(connection, since=since, until=until, routes=["support"])

    def sums():
        with town.store.reading() as connection:
            seconds = counters.by_second(connection, since=since, until=until)["support"]
        return sum(each.triaged for each in seconds), sum(each.base_escalated for each in seconds)

    before = minutes()["support"]
    assert [each.at for each in before] == list(range(since, until, 60))
    assert {each.width_s for each in before} == {60}
    assert (sum(each.triaged for each in before), sum(each.base_escalated for each in before)) == sums()
    town.guard.retain(town.clock())
    with town.store.reading() as connection:
        assert counters.by_minute(connection, since=since, until=until, routes=["faq"]) == {}
        hours = counters.by_hour(connection, since=since, until=until)
    after = minutes()["support"]
    # Also the seconds with a base escalation, which bound the evidence of a minute.
    assert after == before
    assert max(each.base_mask.bit_count() for each in after) > 1
    assert sum(hours["support"].values()) == sum(each.triaged for each in before)


@pytest.mark.thorough
def test_a_storm_that_is_over_is_no_evidence_for_another_one(town):
    history(town, 40, CALM)
    assert trickle(town, 25, STORM) is not None
    history(town, 15, STORM)
    for number in range(240):
        call(town, number, CALM)
        if number % 4 == 3:
            town.look()
            if town.threshold() == 0.8:
                break
    assert town.threshold() == 0.8
    # Half of some eighty calls escalate: by themselves they fire no rule.
    assert trickle(town, 7, [0.95, 0.5]) is None
