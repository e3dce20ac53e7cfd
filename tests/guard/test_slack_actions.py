import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from cheapdeep_ops.cli.commands import doctor
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.notify.buttons import action_blocks
from cheapdeep_ops.guard.rules.recipients import Recipient
from cheapdeep_ops.guard.slack_actions.check import check_buttons
from cheapdeep_ops.guard.slack_actions.endpoint import is_signed
from cheapdeep_ops.guard.slack_actions.requests import read
from cheapdeep_ops.guard.slack_actions.socket_mode import SocketConnection
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing.slack.interactivity import post_signed
from tests.clicks import CHANNEL, Place, buttons, locked, settings_for, texts

TOLD = {
    "kind": "started",
    "incident_id": 7,
    "scope": "support",
    "about": "escalation_rate",
    "buttons": {"pinned": False},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def acts(**changes):
    return [each["action_id"] for block in action_blocks({**TOLD, **changes}) for each in block["elements"]]


# What is pure


def test_a_message_has_the_buttons_that_fit_its_state():
    raised = {"threshold": "threshold 0.8 -> 0.9"}
    assert acts(**raised) == ["cheapdeep_acknowledge", "cheapdeep_silence", "cheapdeep_pin"]
    assert acts() == ["cheapdeep_acknowledge", "cheapdeep_silence"]
    assert acts(acknowledged={"author": "ann"}) == ["cheapdeep_silence"]
    assert "cheapdeep_release" in acts(buttons={"pinned": True})
    assert "cheapdeep_relearn" in acts(about="false_confident_rate")
    assert "cheapdeep_relearn" not in acts(about="false_confident_rate", scope="*")
    assert acts(kind="resolved") == acts(buttons=None) == acts(incident_id=None) == []


@examples(max_examples=30)
@given(JSON, st.sampled_from(["block_actions", "view_submission", "shortcut"]))
def test_an_interaction_of_any_form_is_read_without_an_error(payload, kind):
    read({"type": kind, "actions": [payload], "container": payload, "view": payload, "user": payload})
    read({"type": kind, "view": {"callback_id": "cheapdeep_pin", "private_metadata": json.dumps(payload)}})


@examples(max_examples=30)
@given(st.binary(max_size=60), st.text(max_size=20), st.text(max_size=80))
def test_only_a_request_that_is_signed_is_taken(body, at, signature):
    headers = {"x-slack-request-timestamp": at, "x-slack-signature": signature}
    assert not is_signed(SignatureVerifier("secret"), body, headers)


@pytest.mark.parametrize("frame", ['["hello"]', '"hello"', '{"type": "hello", "num_connections": "x"}', '"hello" {'])
def test_a_frame_of_any_form_does_not_end_the_connection(frame):
    SocketConnection(app_token="xapp-1", base_url="http://127.0.0.1/", handler=None, guards=int)._note(frame)


def test_who_may_act_is_named_by_ids():
    with pytest.raises(SettingsError, match=r"CHEAPDEEP_SLACK_MAY_ACT.*not 'ann'"):
        Settings(slack_may_act="U01,ann")
    with pytest.raises(SettingsError, match="CHEAPDEEP_SLACK_APP_TOKEN needs CHEAPDEEP_SLACK_BOT_TOKEN"):
        Settings(slack_app_token="xapp-1")
    assert Settings(slack_may_lower="U01, S02").slack_may_lower == ("U01", "S02")


# Over HTTP, with signed requests


@pytest.fixture(scope="module")
def slack():
    with SimulatedSlack() as slack:
        slack.people.add("U0ANN", "Ann")
        slack.people.add("U0BOB", "Bob")
        yield slack


@pytest.fixture
def make_place(slack, sqlite_url):
    places = []

    def make(*, answer_s=30.0, recipients=(), **changes):
        settings = settings_for(slack, **{"store_url": sqlite_url, **changes})
        places.append(Place(slack, settings, answer_s=answer_s, recipients=recipients))
        return places[-1]

    yield make
    for each in places:
        each.close()
    slack.clear()
    slack.interactivity.ephemerals.clear()


@pytest.fixture
def place(make_place):
    return make_place()


pytestmark = pytest.mark.filterwarnings("error")
thorough = pytest.mark.thorough


def test_a_click_on_acknowledge_asks_why_and_the_message_then_shows_the_person(place):
    number = place.incident()
    assert "cheapdeep-ops alert ack" in texts(place.message(number))  # another way, if clicks are not heard
    form = place.form(number, "acknowledge", "U0ANN")
    (why,) = [block["element"] for block in form["blocks"] if block["type"] == "input"]
    assert why["initial_value"]
    assert place.slack.submit(form, {"why": "mine"}, "U0ANN").answer == {}
    assert place.acknowledged(number)["author"] == "slack:U0ANN (Ann)"
    message = place.message(number)
    assert "Acknowledged by `slack:U0ANN (Ann)`" in texts(message)
    assert "acknowledge" not in buttons(message)


@thorough
def test_a_pin_is_in_the_message_with_name_and_end_and_can_be_released(place):
    number = place.incident()
    assert place.order(number, "pin", "U0ANN", at="base", **{"for": "4h"}) == {}
    message = place.message(number)
    assert "Threshold pinned at 0.8 until " in texts(message)
    assert "by `slack:U0ANN (Ann)`" in texts(message)
    assert "release" in buttons(message)
    (reply,) = [each for each in place.slack.thread(message) if "pinned at 0.8" in texts(each)]
    assert "slack:U0ANN (Ann)" in texts(reply)
    assert place.order(number, "release", "U0BOB") == {}
    assert "release" not in buttons(place.message(number))
    assert [(each["act"], each["author"]) for each in place.history()] == [
        ("unpin", "slack:U0BOB (Bob)"),
        ("pin", "slack:U0ANN (Ann)"),
    ]


@thorough
@pytest.mark.parametrize(
    ("chosen", "shown"), [("1h", "Silenced until 20"), ("over", "Silenced until the incident is over")]
)
def test_a_silence_is_in_the_message_and_one_until_it_is_over_ends_then(place, chosen, shown):
    number = place.incident()
    assert place.order(number, "silence", "U0ANN", **{"for": chosen}) == {}
    assert shown in texts(place.message(number))
    place.resolve(number)
    assert len(place.silences()) == (chosen == "1h")


@thorough
def test_learning_again_asks_first_and_says_for_how_long_the_route_is_blind(place):
    number = place.incident(about="false_confident_rate", rule="FalseConfidenceClimbing")
    form = place.form(number, "relearn", "U0ANN")
    said = str(form["blocks"])
    assert "blind until 200 of its answers are graded again" in said
    assert "the last day has no grades" in said
    # No answer of this route was ever graded, which the form says instead of an order that does nothing.
    assert "ever graded" in place.slack.submit(form, {}, "U0ANN").answer["errors"]["why"]


@thorough
def test_buttons_work_in_the_channel_of_each_receiver_and_a_webhook_has_none(make_place, slack, tmp_path, monkeypatch):
    monkeypatch.setenv("WEBHOOK_OF_SEARCH", slack.webhook_url)
    rules, teams = packaged("alerts/rules.yaml").read_text("utf-8"), tmp_path / "rules.yaml"
    teams.write_text(f"""{rules}
receivers:
  - {{name: payments, routes: [billing], slack_channel: C0PAYMENTS}}
  - {{name: search, routes: [search], slack_webhook: WEBHOOK_OF_SEARCH}}
  - {{name: rest, slack_channel: C0ALERTS}}
""")
    place = make_place(rules_file=teams)
    number = place.incident(scope="billing")
    assert place.order(number, "acknowledge", "U0ANN", why="mine") == {}
    assert place.acknowledged(number)["author"] == "slack:U0ANN (Ann)"
    assert place.message(number).channel_id == "C0PAYMENTS"
    place.incident(scope="search")
    (posted,) = [each for each in slack.messages if each.via == "webhook"]
    assert buttons(posted) == []


@thorough
def test_a_submission_that_comes_twice_is_carried_out_once(place):
    number = place.incident()
    form = place.form(number, "pin", "U0ANN")
    first = place.slack.submit(form, {}, "U0ANN")
    assert first.answer == place.slack.interactivity.deliver(first.payload).answer == {}
    assert [each["act"] for each in place.history()] == ["pin"]


@thorough
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_submission_that_two_guards_get_at_once_is_carried_out_once(make_place, request, engine):
    url = request.getfixturevalue(f"{engine}_url")
    first, second = make_place(store_url=url), make_place(store_url=url)
    number = first.incident()
    form = first.form(number, "pin", "U0ANN")
    payload = first.slack.interactivity.submission(form, {}, "U0ANN")
    begin = threading.Barrier(2)

    def receive(place):
        begin.wait(30.0)
        return place.handler.receive(payload).body

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(receive, (first, second))) == [{}, {}]
    assert [each["act"] for each in first.history()] == ["pin"]


@thorough
@pytest.mark.parametrize("metadata", ["", "[]", '{"act": "acknowledge"}', '{"a_newer_fact": 1}'])
def test_a_form_of_another_version_is_not_closed_as_if_it_was_done(place, metadata):
    number = place.incident()
    form = {**place.form(number, "acknowledge", "U0ANN"), "private_metadata": metadata}
    assert "another version" in place.slack.submit(form, {}, "U0ANN").answer["errors"]["why"]
    assert place.acknowledged(number) is None


@thorough
def test_a_message_to_one_person_has_no_markup(place):
    place.handler._tell(CHANNEL, "U0ANN", "changed by <!channel> & <https://a.example|b>")
    assert place.told("hanged by") == "Changed by &lt;!channel&gt; &amp; &lt;https://a.example|b&gt;"


@thorough
def test_a_click_that_comes_twice_opens_one_form(place):
    number = place.incident()
    click = place.click(number, "pin", "U0ANN")
    place.slack.opened(click, 20.0)
    told = list(place.slack.interactivity.ephemerals)
    # Without a server in between, so that it is over when this returns.
    place.handler.receive(click.payload).then()
    assert place.slack.interactivity.ephemerals == told, "the person is not told that there is no form"
    assert not place.history()


@thorough
def test_forged_and_expired_requests_are_refused(place):
    number = place.incident()
    form, now = place.form(number, "acknowledge", "U0ANN"), time.time()
    payload = place.slack.submit(form, {"why": "x"}, "U0ANN").payload
    again = {**payload, "view": {**payload["view"], "id": "V0FORGED"}}
    secret = place.slack.signing_secret
    assert post_signed(place.url, again, secret="guessed", at=now)[0] == 401
    assert post_signed(place.url, again, secret=secret, at=now, signature="v0=ü".encode().decode("latin-1"))[0] == 401
    assert post_signed(place.url, again, secret=secret, at=now - 301)[0] == 401
    assert post_signed(place.url, again, secret=secret, at=now + 400)[0] == 401
    with place.store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM acknowledgement").scalar() == 1
    assert post_signed(place.url, again, secret=secret, at=now - 290)[0] == 200


@thorough
def test_old_clicks_and_old_forms_are_refused(place):
    number = place.incident()
    form = place.form(number, "acknowledge", "U0ANN")
    click = place.click(number, "silence", "U0ANN")
    place.offset_s = 1_000.0
    place.slack.interactivity.url = None
    answer = place.handler.receive(place.slack.submit(form, {}, "U0ANN").payload).body
    assert "old: nothing was changed" in answer["errors"]["why"]
    place.handler.receive(click.payload).then()
    assert "old: nothing was changed" in place.told("This click is")
    assert place.acknowledged(number) is None


@thorough
def test_of_two_people_at_once_the_second_is_told_of_the_first(place):
    number = place.incident()
    forms = {user: place.form(number, "pin", user) for user in ("U0ANN", "U0BOB")}
    assert place.slack.submit(forms["U0ANN"], {"at": "base"}, "U0ANN").answer == {}
    refused = place.slack.submit(forms["U0BOB"], {"at": "raised"}, "U0BOB").answer["errors"]["why"]
    assert "threshold 0.8 by slack:U0ANN (Ann)" in refused
    assert len(place.history()) == 1


@thorough
def test_a_click_on_what_is_over_or_on_another_message_changes_nothing(place):
    number = place.incident()
    message = place.message(number)
    form = place.form(number, "acknowledge", "U0ANN")
    place.resolve(number)
    assert "is over" in place.slack.submit(form, {}, "U0ANN").answer["errors"]["why"]
    place.slack.click(message, "cheapdeep_acknowledge", "U0ANN")
    assert place.told("Incident") == f"Incident {number} is over: nothing was changed."
    other = place.incident(scope="billing")
    place.store.transact(lambda connection: connection.exec_driver_sql("UPDATE message_ref SET ts = '1.0'"))
    place.slack.click(place.slack.posts[-1], "cheapdeep_acknowledge", "U0ANN")
    assert f"not the present message of an incident {other}" in place.told("not the present")


@thorough
@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"is_restricted": True}, "no guests"),
        ({"is_ultra_restricted": True}, "no guests"),
        ({"is_bot": True}, "people of this workspace"),
        ({"deleted": True}, "people of this workspace"),
        ({"team": "T0OTHER"}, "people of this workspace"),
        ({"is_stranger": True}, "people of this workspace"),
    ],
)
def test_guests_strangers_and_bots_may_not_act(place, flags, why):
    number = place.incident()
    place.slack.people.add("U0EVE", "Eve", **flags)
    place.click(number, "acknowledge", "U0EVE")
    assert place.told(why).endswith("nothing was changed.")


@thorough
def test_a_person_outside_of_the_channel_may_not_act_and_a_form_of_another_person_neither(place):
    number = place.incident()
    place.slack.people.add("U0OUT", "Out", channels=())
    form = place.form(number, "acknowledge", "U0ANN")
    assert "who are in this channel" in place.slack.submit(form, {}, "U0OUT").answer["errors"]["why"]
    assert place.acknowledged(number) is None


@thorough
def test_lists_and_groups_say_who_may_act_and_who_may_lower(make_place, slack):
    slack.people.groups["S0LEADS"] = ["U0BOB"]
    place = make_place(slack_may_act=("U0ANN", "S0LEADS"), slack_may_lower=("S0LEADS",))
    number = place.incident()
    slack.people.add("U0DAN", "Dan")
    place.click(number, "acknowledge", "U0DAN")
    assert "CHEAPDEEP_SLACK_MAY_ACT" in place.told("not among those")
    # Ann may raise, but not lower again; Bob may.
    assert place.order(number, "pin", "U0ANN", at="raised") == {}
    assert "CHEAPDEEP_SLACK_MAY_LOWER" in place.order(number, "pin", "U0ANN", at="base")["errors"]["why"]
    assert "CHEAPDEEP_SLACK_MAY_LOWER" in place.order(number, "release", "U0ANN")["errors"]["why"]
    assert place.order(number, "pin", "U0BOB", at="base") == {}


def test_a_click_in_a_channel_of_the_rules_file_is_taken_and_every_channel_shows_it(make_place):
    rows = [
        Recipient(name="support", routes=("support",), slack_channel="C0SUPPORT", goes_on=True),
        Recipient(name="all", slack_channel="C0OTHERS"),
    ]
    place = make_place(recipients=rows)
    number = place.incident()
    assert place.order(number, "acknowledge", "U0ANN") == {}
    place.deliver()
    posts = [each for each in place.slack.posts if not each.thread_ts]
    assert {each.channel for each in posts} == {"C0SUPPORT", "C0OTHERS"}
    assert all("Acknowledged by `slack:U0ANN (Ann)`" in texts(each) for each in posts)


@thorough
def test_a_name_can_neither_break_out_of_the_message_nor_pose_as_another_author(place):
    number = place.incident()
    place.slack.people.add("U0EVE", "x) slack:U0ANN (Ann <!channel> `*")
    assert place.order(number, "acknowledge", "U0EVE") == {}
    assert place.acknowledged(number)["author"] == "slack:U0EVE (x slackU0ANN Ann !channel ')"
    assert "<!channel>" not in texts(place.message(number))


@thorough
def test_without_a_scope_or_without_slack_nothing_is_done_and_the_person_reads_why(place):
    number = place.incident()
    form = place.form(number, "acknowledge", "U0ANN")
    place.handler._people._known.clear()
    place.slack.scopes.discard("users:read")
    try:
        refused = place.slack.submit(form, {}, "U0ANN").answer["errors"]["why"]
    finally:
        place.slack.scopes.add("users:read")
    assert "lacks the scope users:read" in refused
    place.slack.fail_with("internal_error", method="users.info")
    assert "did not say who you are" in place.slack.submit(form, {}, "U0ANN").answer["errors"]["why"]
    assert place.acknowledged(number) is None
    # The form is still open, and the next press works.
    assert place.slack.submit(form, {}, "U0ANN").answer == {}


@thorough
def test_a_store_that_is_slow_gets_an_answer_in_time_and_the_outcome_follows(make_place):
    place = make_place(answer_s=0.05)
    number = place.incident()
    form = place.form(number, "acknowledge", "U0ANN")
    with locked(place.settings.store_url):
        answer = place.slack.submit(form, {"why": "x"}, "U0ANN").answer
        assert answer["response_action"] == "update"
        assert "not known yet" in str(answer["view"])
    assert place.told("it is done") == f"Incident {number}: it is done."
    assert place.acknowledged(number)["why"] == "x"


@thorough
def test_doctor_says_what_buttons_lack(slack, sqlite_url):
    both = settings_for(slack, sqlite_url, slack_app_token=slack.app_token)
    found = check_buttons(both)
    assert "Socket Mode and requests that Slack posts to /slack/interactions" in found
    assert "members may act" in found
    assert "not set up" in check_buttons(Settings(store_url=sqlite_url))
    with pytest.raises(SettingsError, match="begins with xapp-"):
        check_buttons(settings_for(slack, sqlite_url, slack_app_token=slack.token))
    with pytest.raises(SettingsError, match="no app-level token that Slack knows"):
        check_buttons(settings_for(slack, sqlite_url, slack_app_token="xapp-other"))
    slack.scopes.discard("users:read")
    try:
        with pytest.raises(SettingsError, match="lacks the scopes users:read"):
            check_buttons(both)
    finally:
        slack.scopes.add("users:read")


@thorough
def test_doctor_asks_for_the_members_of_each_channel_of_the_rules_file(slack, sqlite_url, tmp_path):
    teams = tmp_path / "rules.yaml"
    teams.write_text(f"""{packaged("alerts/rules.yaml").read_text("utf-8")}
receivers:
  - {{name: payments, routes: [billing], slack_channel: G0PAYMENTS}}
  - {{name: search, routes: [search], slack_channel: "#search"}}
  - {{name: pager, severities: [page], continue: true, slack_channel: C0PAGER}}
  - {{name: rest, slack_channel: C0REST}}
""")
    # The channel of the settings is not used.
    settings = settings_for(slack, sqlite_url, rules_file=teams, slack_channel=None)
    found = {name: check for name, check in doctor._CHECKS if name in {"Slack", "receivers", "Slack buttons"}}
    states = {name: doctor._run(name, check, settings) for name, check in found.items()}
    assert [each.ok for each in states.values()] == [True, True, True], states
    assert "not used" in states["Slack"].found

    def problem():
        return doctor._run("Slack buttons", found["Slack buttons"], settings).found

    slack.channels.leave("C0PAGER")
    assert problem().endswith("no member may act there: C0PAGER: invite the bot (not_in_channel)")
    slack.scopes.remove("groups:read")
    assert "the app lacks the scopes groups:read" in problem()
    slack.scopes.remove("files:write")
    assert "no pictures: give the app the scope files:write" in doctor._recipients(settings)


def test_a_body_that_is_no_interaction_is_answered_and_does_nothing(place):
    body = urlencode({"ssl_check": "1"})
    assert body
    assert post_signed(place.url, [], secret=place.slack.signing_secret, at=time.time()) == (200, {})
