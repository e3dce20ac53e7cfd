import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.alerts import acknowledge, silence
from cheapdeep_ops.guard.actions.operations import OPERATIONS
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.store import policies


@pytest.fixture
def engine():
    return "sqlite"


def test_every_wrong_field_is_named_and_nothing_is_changed(town):
    with pytest.raises(PolicyError, match=r"^threshold: Input should be .*; why: .*; more: Extra inputs") as error:
        town.do(pin, threshold=2.0, author="ann", why=" ", more=1)
    assert str(error.value).count("; ") == 2
    assert town.threshold() == 0.8


def test_a_row_id_is_a_part_of_the_path_and_not_of_the_request():
    request, ids = acknowledge.checked({"incident_id": 7, "author": " ann ", "why": "on it"})
    assert (request.model_dump(), ids) == ({"author": "ann", "why": "on it"}, {"incident_id": 7})
    assert acknowledge.path.format(**ids) == "/api/v1/incidents/7/ack"


def test_operations_differ_and_each_says_what_it_does_in_one_paragraph():
    assert len({each.name for each in OPERATIONS}) == len({(each.method, each.path) for each in OPERATIONS}) == 15
    for each in OPERATIONS:
        assert each.description.endswith(".")
        assert "Raises" not in each.description


# Routes that no call has named

BY = {"author": "ann", "why": "trial"}


@pytest.fixture
def called(town):
    """A town whose calls have named two routes."""
    for route in ("support", "chat-v1"):
        town.run(2, [0.95], route=route)
    return town


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("route", "meant"),
    [
        ("suport", "support"),
        ("Support", "support"),
        ("SUPPORT", "support"),
        ("support ", "support"),
        ("supports", "support"),
        ("suppotr", "support"),
        ("sup_port", "support"),
        ("upport", "support"),
        ("support2", "support"),
        ("chat_v1", "chat-v1"),
        ("chatv1", "chat-v1"),
        ("caht-v1", "chat-v1"),
    ],
)
def test_a_misspelt_route_is_not_pinned_and_the_known_one_is_asked_for(called, route, meant):
    with pytest.raises(
        PolicyError, match=rf"no call has named the route {route}: did you mean {meant}\? .*--new-route"
    ):
        called.do(pin, threshold=0.7, route=route, **BY)
    assert (called.threshold(route), called.threshold(meant)) == (0.8, 0.8)
    with pytest.raises(PolicyError, match="did you mean"):
        called.do(silence, rule="EscalationStorm", route=route, for_s=60.0, **BY)


@pytest.mark.parametrize(("route", "new"), [("suport", True), ("returns", False), ("returns", True), ("s", False)])
def test_a_new_route_is_pinned_and_it_is_said_that_no_call_has_named_it(called, route, new):
    pinned = called.do(pin, threshold=0.7, route=route, new_route=new, **BY)
    assert pinned["scopes"][route]["pin"] == 0.7
    assert pinned["note"] == f"no call has named the route {route} yet"
    # It is known now, so that it can be changed without a word, and another one can be mistaken for it.
    assert called.do(pin, threshold=0.6, route=route, **BY)["note"]
    assert called.do(silence, rule="EscalationStorm", route=route, for_s=60.0, **BY)
    called.do(release, route=route, **BY)


def test_a_route_that_was_pinned_before_its_first_call_is_known(town):
    assert town.do(pin, threshold=0.7, route="refunds", **BY)["note"]
    with pytest.raises(PolicyError, match="did you mean refunds"):
        town.do(pin, threshold=0.7, route="refund", **BY)


@pytest.mark.parametrize("route", ["support", "chat-v1", "*"])
def test_nothing_is_said_of_a_route_that_calls_have_named(called, route):
    assert called.do(pin, threshold=0.7, route=route, **BY)["note"] == ""


def test_a_rule_that_is_misspelt_is_answered_with_the_one_that_was_meant(called):
    with pytest.raises(MissingError, match="no rule EscalationStrom; did you mean EscalationStorm"):
        called.do(silence, rule="EscalationStrom", for_s=60.0, **BY)


def test_over_http_the_check_is_the_one_of_the_operation(called):
    settings = called.settings.model_copy(update={"api_tokens": (SecretStr("s3same"),)})
    api = make_api(called.store, settings=settings, collector=None, is_ready=str, clock=called.clock)
    client = TestClient(api, base_url="http://localhost", headers={"Authorization": "Bearer s3same"})
    asked = {"threshold": 0.7, "route": "suport", **BY}
    refused = client.put("/api/v1/policy/pin", json=asked)
    assert (refused.status_code, "did you mean support?" in refused.text) == (409, True)
    pinned = client.put("/api/v1/policy/pin", json={**asked, "new_route": True})
    assert (pinned.status_code, pinned.json()["note"]) == (200, "no call has named the route suport yet")


# Orders that end by themselves

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8


@pytest.mark.thorough
def test_a_pin_ends_at_its_time_and_the_raise_that_it_prevented_follows(town):
    town.run(200, CALM)
    town.do(pin, threshold=0.8, route="support", for_s=400.0, **BY)
    town.run(300, STORM)
    assert town.threshold() == 0.8
    # The message names who has pinned, and until when.
    (shown,) = [each for each in town.inbox.payloads if each["kind"] == "started"]
    assert shown["orders"][0]["author"] == "ann"
    assert "until 20" in shown["orders"][0]["what"]
    town.run(120, STORM)
    assert town.threshold() == 0.9
    with town.store.reading() as connection:
        newest = policies.history(connection)[:2]
    assert [(each["act"], each["author"], each["why"]) for each in newest] == [
        ("raise", "", ""),
        ("unpin", "ann", "the time of the pin is over"),
    ]


@pytest.mark.thorough
def test_a_pin_shows_in_the_open_incidents_of_its_scope_at_once(town):
    town.run(200, CALM)
    town.run(200, STORM)
    town.do(pin, threshold=0.8, route="support", **BY)
    town.guard.deliver(town.clock())
    told = town.inbox.payloads[-1]
    assert (told["kind"], told["effective_threshold"], told["orders"][0]["author"]) == ("changed", 0.8, "ann")
    town.do(release, route="support", **BY)
    town.guard.deliver(town.clock())
    assert "orders" not in town.inbox.payloads[-1]


@pytest.mark.thorough
def test_a_silence_until_the_incident_is_over_lets_its_end_through(town):
    town.run(200, CALM)
    town.run(200, STORM)
    number = town.inbox.payloads[-1]["incident_id"]
    known = {"rule": "EscalationStorm", "for_s": 86_400.0, "incident_id": number, **BY}
    with pytest.raises(PolicyError, match="is of EscalationStorm in support"):
        town.do(silence, route="billing", new_route=True, **known)
    town.do(silence, route="support", ends_with_incident=True, **known)
    town.run(150, STORM)
    assert town.inbox.payloads[-1]["orders"][0]["what"] == "Silenced until the incident is over"
    town.run(700, CALM)
    assert town.inbox.kinds[-1] == "resolved"
    assert town.do(silence, route="support", **{**known, "incident_id": None})[0]["until"] > town.clock()
