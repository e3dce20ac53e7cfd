from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st

from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.series import MOST_STEPS, latest, series
from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.settings import Settings

STORM = [0.95] * 2 + [0.5] * 8
CALM = [0.95] * 9 + [0.5]


def added(points, name):
    return sum(point[name] for point in points)


@pytest.mark.thorough
def test_a_series_shows_a_storm_when_it_was_and_adds_up_to_the_receipt(town):
    town.run(60, CALM)
    town.run(60, STORM, route="billing")
    now = town.clock()
    found = series(town.store, town.settings, now=now, last_s=120, step_s=60)
    calm, storm, _ = found["points"]
    assert (calm["base_escalation_rate"], calm["triaged"]) == (0.1, 600)
    assert (storm["base_escalation_rate"], storm["triaged"]) == (0.8, 600)
    assert storm["base_escalation_interval"] == pytest.approx([0.766, 0.830], abs=0.001)
    assert found["limit"] == 0.35
    whole = receipt(town.store, town.settings, since=found["since"], until=now)
    for name in ("calls", "shipped", "escalated", "cost_usd"):
        assert added(found["points"], name) == pytest.approx(whole[name])
    with town.store.reading() as connection:
        glance = latest(connection, since=found["since"], until=now)
    assert {name: whole[name] for name in glance} == glance | {"judge_correction": whole["judge_correction"]}


def test_steps_without_data_are_there_and_say_that_nothing_is_known(town):
    town.run(60, CALM)
    town.clock.advance(120)
    points = series(town.store, town.settings, now=town.clock(), last_s=180, step_s=60)["points"]
    assert [point["calls"] for point in points] == [600, 0, 0, 0]
    assert points[1]["escalation_rate"] is points[1]["cost_per_call_usd"] is points[1]["false_confident_rate"] is None
    assert points[1]["false_confident_interval"] == (0.0, 1.0)


def test_a_series_of_one_route_leaves_the_others_out(town):
    town.run(60, CALM)
    town.run(60, STORM, route="billing")
    points = series(town.store, town.settings, scope="billing", now=town.clock(), last_s=120, step_s=60)["points"]
    assert [point["calls"] for point in points] == [0, 600, 0]


@pytest.mark.thorough
def test_false_confidence_belongs_to_the_step_of_its_call_and_has_n(school):
    school.teach(200, 0.0)
    school.clock.advance(60 - school.clock() % 60)
    school.teach(200, 0.5)
    school.look()
    found = series(school.store, school.settings, now=school.clock(), last_s=600, step_s=60)
    graded = [point for point in found["points"] if point["graded"]]
    assert graded[0]["false_confident_rate"] == 0.0
    assert graded[-1]["false_confident_rate"] == pytest.approx(0.5, abs=0.1)
    whole = receipt(school.store, school.settings, since=found["since"], until=school.clock())
    assert added(graded, "graded") == whole["graded"] > 300
    assert graded[-1]["false_confident_interval"][0] < 0.5 < graded[-1]["false_confident_interval"][1]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@runs(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(last_s=st.floats(1, 1e6), step_s=st.integers(1, 100_000), now=st.floats(1e9, 2e9))
def test_steps_follow_each_other_cover_the_period_and_are_never_too_many(store, store_url, last_s, step_s, now):
    try:
        found = series(store, Settings(store_url=store_url), now=now, last_s=last_s, step_s=step_s)
    except ValueError:
        assert last_s / step_s > MOST_STEPS - 1
        return
    starts = [point["at"] for point in found["points"]]
    assert all(start % step_s == 0 for start in starts)
    assert [after - before for before, after in pairwise(starts)] == [step_s] * (len(starts) - 1)
    assert starts[0] <= now - last_s
    assert starts[-1] <= now < starts[-1] + step_s
    assert len(starts) <= MOST_STEPS + 2


@pytest.fixture
def client(town, inbox):
    service = Service(town.settings, senders={"inbox": inbox})
    api = make_api(town.store, settings=town.settings, collector=service._collector, is_ready=str, clock=town.clock)
    yield TestClient(api, base_url="http://localhost")
    service.store.close()


def test_the_api_gives_series_of_bounded_size(town, client):
    town.run(60, CALM)
    found = client.get("/api/v1/series", params={"route": "support", "last_s": 600, "step_s": 60}).json()
    assert (found["route"], len(found["points"]), added(found["points"], "calls")) == ("support", 11, 600)
    for wrong in ({"step_s": 0}, {"last_s": 0}, {"last_s": "nan"}, {"last_s": 86_400, "step_s": 1}, {"route": " "}):
        assert client.get("/api/v1/series", params=wrong).status_code == 422, wrong


@pytest.mark.thorough
def test_an_incident_is_read_with_its_messages_and_what_it_changed(town, client):
    town.run(200, STORM, cls="invoice")
    (row,) = client.get("/api/v1/incidents").json()
    found = client.get(f"/api/v1/incidents/{row['id']}").json()
    assert found["messages"][0]["kind"] == "started"
    assert found["messages"][0]["payload"]["signal"]["n"] >= 100
    assert [(each["act"], each["to_threshold"]) for each in found["policy_changes"]] == [("raise", 0.9)]
    assert client.get("/api/v1/incidents/999").status_code == 404
    for wrong in ("0", "-1", "x", str(2**40)):
        assert client.get(f"/api/v1/incidents/{wrong}").status_code == 422, wrong


@pytest.mark.thorough
def test_the_story_of_an_incident_ends_with_it(town, client):
    town.run(200, STORM)
    town.run(450, CALM)
    (row,) = client.get("/api/v1/incidents").json()
    found = client.get(f"/api/v1/incidents/{row['id']}").json()
    assert found["messages"][-1]["kind"] == "resolved"
    assert [each["act"] for each in found["policy_changes"]] == ["raise", "release"]
