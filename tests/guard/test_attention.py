import re

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.guard.actions.alerts import acknowledge, silence, unsilence
from cheapdeep_ops.guard.formatting import moment
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.incidents.attention import active_silences, is_silenced
from cheapdeep_ops.guard.notify.messages import details, headline, history
from cheapdeep_ops.guard.notify.slack import WebhookSender, rendered
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.store import deliveries, incidents
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing.slack.slack_wire import texts_of
from tests.guard.conftest import without

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8
HOSTILE = "<!channel> `x` *y*\n<https://evil|z> &"
HEADERS = {"Authorization": "Bearer s3same"}
ANN = {"author": "ann", "why": "on it"}


def quiet(town, lasts_s=600.0, *, rule="EscalationStorm", route=None, **by):
    """Silence; returns the newest silence."""
    return town.do(silence, rule=rule, route=route, for_s=lasts_s, **{**ANN, **by})[-1]


def ack(town, incident_id=1, **by):
    return town.do(acknowledge, incident_id=incident_id, **{**ANN, **by})


def outbox(town):
    with town.store.reading() as connection:
        return deliveries.queue_state(connection)


# Silences


def test_a_silence_keeps_the_message_back_but_not_the_raise_and_then_lets_it_go(town):
    town.run(200, CALM)
    quiet(town, 300.0)
    town.run(200, STORM)
    assert town.threshold() == 0.9
    assert town.inbox.payloads == []
    assert outbox(town)["waiting"] == 0
    town.run(105, STORM)
    assert town.inbox.kinds == ["started"]
    first = town.inbox.payloads[0]
    assert first["threshold"] == "threshold stays at 0.9, held by EscalationStorm"
    assert f"Began {moment(first['started_at'])}, figures of {moment(first['at'])}" in details(first)


@pytest.mark.thorough
def test_what_began_and_ended_under_a_silence_is_never_told(town):
    town.run(200, CALM)
    quiet(town, 3_600.0)
    town.run(100, STORM)
    assert town.threshold() == 0.9
    town.run(500, CALM)
    assert town.threshold() == 0.8
    town.clock.advance(3_600)
    town.look()
    assert town.inbox.payloads == []


@pytest.mark.thorough
def test_the_end_of_what_was_told_is_told_once_the_silence_is_over(town):
    town.run(200, CALM)
    town.run(100, STORM)
    told = list(town.inbox.kinds)
    assert told[0] == "started"
    asked = quiet(town, 3_600.0)
    town.run(500, CALM)
    assert town.threshold() == 0.8
    assert town.inbox.kinds == told
    town.do(unsilence, silence_id=asked["id"], author="bob", why="")
    town.look()
    town.look()
    assert town.inbox.kinds == [*told, "resolved"]
    last = town.inbox.payloads[-1]
    assert last["lasted_s"] < 600
    ended = moment(last["started_at"] + last["lasted_s"])
    assert f"Began {moment(last['started_at'])}, ended {ended}" in details(last)
    assert history(last)[0].startswith(f"{ended}: EscalationStorm resolved")
    assert last["at"] > last["started_at"] + last["lasted_s"]


def test_a_rule_that_is_taken_out_under_a_silence_is_told_of_afterwards(town):
    town.run(200, STORM)
    told = list(town.inbox.kinds)
    quiet(town, 300.0)
    town.guard.close()
    town.guard = town.another_guard(without("EscalationStorm"))
    town.look()
    assert town.inbox.kinds == told
    town.clock.advance(301)
    town.look()
    assert town.inbox.kinds == [*told, "resolved"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("asked", "is_quiet"),
    [
        ({}, True),
        ({"route": "support"}, True),
        ({"route": "sales"}, False),
        ({"rule": "GraderFailing"}, False),
    ],
)
def test_a_silence_is_of_its_rule_and_its_route_only(town, asked, is_quiet):
    quiet(town, 3_600.0, **asked)
    town.run(200, STORM)
    assert (town.inbox.kinds == []) is is_quiet


def test_a_silence_ends_by_itself_or_by_a_persons_word_and_only_once(town):
    def lasting():
        with town.store.reading() as connection:
            return active_silences(connection, town.clock())

    first, second = quiet(town, 60.0), quiet(town, 600.0, route="support", author="bob", why="deploying")
    assert [each["id"] for each in lasting()] == [first["id"], second["id"]]
    assert lasting()[1] == {
        "id": second["id"], "rule": "EscalationStorm", "route": "support", "since": town.clock(),
        "until": town.clock() + 600, "author": "bob", "why": "deploying", "incident_id": None,
    }  # fmt: skip
    town.clock.advance(60)
    assert [each["id"] for each in lasting()] == [second["id"]]
    by = {"author": "ann", "why": "done"}
    with pytest.raises(MissingError, match="there is no active silence 1"):
        town.do(unsilence, silence_id=first["id"], **by)
    assert town.do(unsilence, silence_id=second["id"], **by) == lasting() == []
    with pytest.raises(MissingError):
        town.do(unsilence, silence_id=second["id"], **by)


def test_a_rule_that_is_not_there_cannot_be_silenced(town):
    with pytest.raises(MissingError, match=r"no rule Storm; rules are: EscalationStorm, "):
        quiet(town, rule="Storm")


def test_silences_of_nothing_silence_nothing():
    assert not is_silenced([], "EscalationStorm", "*")
    assert is_silenced([{"rule": "R", "scope": None}], "R", "*")


# Acknowledgements


@pytest.mark.thorough
def test_an_acknowledged_incident_says_who_looks_after_it_until_its_end(town):
    town.run(200, CALM)
    town.run(100, STORM)
    asked = "Incident 1 is not acknowledged: cheapdeep-ops alert ack 1 --why TEXT"
    assert asked in details(town.inbox.payloads[0])
    found = ack(town)
    assert found["acknowledged"] == {"author": "ann", "why": "on it", "at": town.clock()}
    town.look()
    assert town.inbox.kinds[-1] == "acknowledged"
    # Its figures are still those of before.
    assert town.inbox.payloads[-1]["measured_at"] == town.inbox.payloads[-2]["measured_at"]
    assert headline(town.inbox.payloads[-1]).startswith("EscalationStorm firing, acknowledged: ")
    assert asked not in details(town.inbox.payloads[-1])
    town.run(500, CALM)
    assert town.inbox.kinds[-1] == "resolved"
    (line,) = [line for line in details(town.inbox.payloads[-1]) if line.startswith("Acknowledged by")]
    assert line.startswith("Acknowledged by ann, 20")
    assert line.endswith(" UTC: on it")
    with town.store.reading() as connection:
        assert incidents.incidents(connection)[0]["acknowledged"]["author"] == "ann"


def test_the_newest_acknowledgement_counts(town):
    town.run(200, STORM)
    ack(town)
    assert ack(town, author="bob")["acknowledged"]["author"] == "bob"


@pytest.mark.thorough
def test_what_is_not_open_cannot_be_acknowledged_and_what_is_open_is_named(town):
    with pytest.raises(MissingError, match=r"no open incident 1$"):
        ack(town)
    town.run(200, STORM)
    with pytest.raises(MissingError, match="no open incident 9; open are 1"):
        town.do(acknowledge, incident_id=9, author="ann", why="on it")
    town.run(500, CALM)
    with pytest.raises(MissingError, match="no open incident 1"):
        ack(town)


def test_an_acknowledgement_under_a_silence_is_kept_and_told_with_the_rest(town):
    quiet(town, 300.0)
    town.run(200, STORM)
    ack(town)
    town.run(150, STORM)
    assert town.inbox.kinds[0] == "started"
    assert town.inbox.payloads[0]["acknowledged"]["why"] == "on it"


def test_an_acknowledgement_is_no_message_where_messages_cannot_be_edited(town):
    town.run(200, STORM)
    ack(town)
    town.look()
    with SimulatedSlack() as slack:
        sender = WebhookSender(url=slack.webhook_url)
        for payload in town.inbox.payloads:
            sender.send(payload, town.inbox.places[0])
        assert len(slack.messages) == len(town.inbox.kinds) - 1


def test_what_people_say_is_data(town):
    town.run(200, STORM)
    ack(town, author=HOSTILE.replace("\n", " "), why=HOSTILE * 20)
    town.look()
    payload = town.inbox.payloads[-1]
    assert len(history({**payload, "at": 0.0})) == 2
    for form in (payload, {**payload, "in_thread": True}):
        for each in texts_of(rendered(form)[1]):
            text = re.sub(r"<!date\^[^<>]*>", "", each["text"])
            assert not set("<>") & set(text)
            assert all(line.count("`") % 2 == 0 for line in text.splitlines())
            assert len(text) < 3_000


# Over HTTP


@pytest.fixture
def client(make_town):
    town = make_town(api_tokens=(SecretStr("s3same"),))
    api = make_api(town.store, settings=town.settings, collector=None, is_ready=str, clock=town.clock)
    client = TestClient(api, base_url="http://localhost")
    client.town = town
    return client


def test_people_silence_and_acknowledge_over_http(client):
    client.town.run(200, STORM)
    asked = {"rule": "EscalationStorm", "route": "support", "for_s": 7200.0, **ANN}
    (made,) = client.post("/api/v1/silences", json=asked, headers=HEADERS).json()
    assert (made["route"], made["until"] - made["since"]) == ("support", 7_200)
    assert client.get("/api/v1/silences").json() == [made]
    assert status(client.town.store, client.town.settings, client.town.clock())["silences"] == [made]
    found = client.post("/api/v1/incidents/1/ack", json=ANN, headers=HEADERS).json()
    assert found["acknowledged"]["author"] == "ann"
    assert client.get("/api/v1/incidents").json() == [found]
    gone = client.request("DELETE", f"/api/v1/silences/{made['id']}", json={"author": "bob"}, headers=HEADERS)
    assert (gone.status_code, gone.json()) == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/silences", {"rule": "EscalationStorm", "for_s": 60.0, **ANN}),
        ("POST", "/api/v1/incidents/1/ack", ANN),
        ("DELETE", "/api/v1/silences/1", ANN),
    ],
)
def test_every_such_change_needs_a_token_and_something_to_change(client, method, path, body):
    assert client.request(method, path, json=body).status_code == 401
    assert client.request(method, path, json={**body, "author": " "}, headers=HEADERS).status_code == 422
    assert client.request(method, path, json={**body, "more": 1}, headers=HEADERS).status_code == 422
    body = {**body, "rule": "Storm"} if "rule" in body else body
    missing = client.request(method, path, json=body, headers=HEADERS)
    assert (missing.status_code, missing.text.startswith("there is no ")) == (404, True)


@pytest.mark.thorough
@pytest.mark.parametrize("for_s", [0, -1, 30 * 86_400 + 1, True, "60", None])
def test_a_silence_lasts_some_time_and_thirty_days_at_most(client, for_s):
    asked = {"rule": "EscalationStorm", "for_s": for_s, **ANN}
    assert client.post("/api/v1/silences", json=asked, headers=HEADERS).status_code == 422
