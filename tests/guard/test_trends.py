from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.trends import MOST_ROUTES, step_of, trends

STORM = [0.95] * 2 + [0.5] * 8


def test_trends_add_up_to_the_receipt_of_the_same_period(town):
    town.run(90, STORM)
    period = {"since": town.clock() - 60.5, "until": town.clock() - 3.5}
    found, whole = trends(town.store, town.settings, **period), receipt(town.store, town.settings, **period)
    for name in ("calls", "triaged", "escalated", "cost_usd"):
        assert sum(each[name] for each in found["points"]) == pytest.approx(whole[name])
    assert whole["calls"] > 0
    assert (found["since"], found["until"]) == (town.clock() - 60, period["until"])
    assert all(found["since"] <= each["middle"] <= found["until"] for each in found["points"])


def test_trends_begin_with_the_first_call_and_leave_gaps(town):
    began = town.clock()
    town.run(10, STORM)
    town.clock.advance(3_600)
    town.run(10, STORM)
    found = trends(town.store, town.settings, since=began - 86_400, until=town.clock())
    assert began <= found["since"] <= began + 1
    assert {each["at"] + found["step_s"] for each in found["points"][:-1]} == {e["at"] for e in found["points"][1:]}
    calls = [each["calls"] for each in found["points"]]
    assert (sum(calls), calls[1:-1].count(0)) == (200, len(calls) - 2)
    assert found["points"][5]["escalation_rate"] is None


def test_without_a_call_there_are_no_points(town):
    found = trends(town.store, town.settings, since=0.0, until=town.clock())
    assert (found["points"], found["quality"], found["changes"]) == ([], {}, [])


def test_changes_are_those_in_force_of_the_period(town):
    began = town.clock()
    town.run(60, STORM)
    (found,) = trends(town.store, town.settings, since=began, until=town.clock())["changes"]
    assert (found["scope"], found["cause"], found["to_threshold"]) == ("support", "EscalationStorm", 0.9)
    assert not trends(town.store, town.settings, since=began, until=found["at"])["changes"]


@pytest.mark.thorough
def test_quality_has_grades_by_route_and_normals(school):
    began = school.clock()
    school.teach(250, 0.1)
    (quality,) = trends(school.store, school.settings, since=began, until=school.clock())["quality"].items()
    assert quality[0] == "support"
    assert sum(each["graded"] for each in quality[1]["points"]) == 250
    assert 0 < quality[1]["normal"]["rate"] < quality[1]["normal"]["alarm_level"]
    for name in range(MOST_ROUTES + 1):
        school.run(1, [0.95], route=str(name))
    scopes = list(trends(school.store, school.settings, since=began, until=school.clock())["quality"])
    assert scopes[:2] == ["*", "support"]
    assert len(scopes) == MOST_ROUTES + 1


@given(st.floats(0.001, 4e9), st.sampled_from([14, 80]))
def test_steps_are_handy_and_few(period_s, most):
    step_s = step_of(period_s, most)
    assert step_s * most >= period_s * (1 - 1e-9)
    assert step_s == int(step_s)
    assert any(step_s % each == 0 for each in (86_400, 3_600, 300, 1))


def test_steps_grow_with_the_period():
    steps = [step_of(10.0**power, 80) for power in range(10)]
    assert all(early <= late for early, late in pairwise(steps))
