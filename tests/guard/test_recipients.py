"""Who is told: the key `receivers` of a rules file, its faults, and several teams on one guard."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.errors import RulesError, SettingsError
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.receivers import RECEIVERS, receivers_of, senders_for
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.recipients import Recipient, part_for, told
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents

RULES = packaged("alerts/rules.yaml").read_text("utf-8")
TEAMS = """
receivers:
  - {name: payments, routes: [billing, "refund*"], slack_channel: "#payments"}
  - {name: pager, severities: [page], continue: true, webhook: PAGER_URL, webhook_secret: PAGER_SECRET}
  - {name: search, routes: [search], slack_webhook: SEARCH_URL}
  - {name: all, receiver: slack}
"""


@pytest.fixture
def engine():
    return "sqlite"


def recipients_of(tmp_path, text=TEAMS):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES + text)
    return read_rulebook(path).receivers


def incident(scope, severity="page", **more):
    return {"kind": "started", "rule": "EscalationStorm", "scope": scope, "severity": severity, "signal": {}, **more}


@pytest.mark.parametrize(
    ("scope", "severity", "names"),
    [
        ("billing", "page", ["payments"]),
        ("refund-eu", "ticket", ["payments"]),
        ("refun", "ticket", ["all"]),
        ("search", "page", ["pager", "search"]),
        ("search", "ticket", ["search"]),
        ("chat", "page", ["pager", "all"]),
        ("*", "page", ["pager", "all"]),
    ],
)
def test_the_first_receiver_that_matches_is_told_and_with_continue_the_next_ones_too(tmp_path, scope, severity, names):
    assert told(recipients_of(tmp_path), incident(scope, severity)) == names


def test_a_digest_goes_to_the_receivers_of_its_incidents_and_each_gets_its_own(tmp_path):
    recipients = recipients_of(tmp_path)
    digest = {"kind": "digest", "count": 2, "items": [incident("billing", "ticket"), incident("chat", "ticket")]}
    assert told(recipients, digest) == ["payments", "all"]
    part = part_for(recipients, digest, "payments")
    assert (part["count"], [each["scope"] for each in part["items"]]) == (1, ["billing"])
    pins = {**digest, "count": 0, "items": [], "pins": [{"scope": "billing"}, {"scope": "search"}]}
    assert told(recipients, pins) == ["payments", "search"]
    assert [each["scope"] for each in part_for(recipients, pins, "search")["pins"]] == ["search"]
    assert told(recipients, {**digest, "pins": pins["pins"]}) == ["payments", "search", "all"]
    assert told(recipients, {"kind": "report"}) == ["all"], "what is about no incident goes to the default"
    assert part_for((), digest, "any") == digest


PLACES = st.tuples(
    st.none() | st.lists(st.sampled_from(["a", "b", "a*", "*"]), min_size=1, max_size=2).map(tuple),
    st.none() | st.lists(st.sampled_from(["page", "ticket"]), min_size=1, max_size=2).map(tuple),
    st.booleans(),
    st.sampled_from(["#one", "#two"]),
)


@pytest.mark.thorough
@given(st.lists(PLACES, max_size=5), st.sampled_from(["a", "ab", "b", "c", "*"]), st.sampled_from(["page", "ticket"]))
def test_each_message_has_a_receiver_and_no_channel_gets_it_twice(places, scope, severity):
    rows = [
        Recipient(name=f"r{number}", routes=routes, severities=severities, goes_on=goes_on, slack_channel=channel)
        for number, (routes, severities, goes_on, channel) in enumerate([*places, (None, None, False, "#rest")])
    ]
    names = told(rows, incident(scope, severity))
    chosen = [each for each in rows if each.name in names]
    assert names
    assert len({each.slack_channel for each in chosen}) == len(chosen)
    assert all(each.matches(scope, severity) for each in chosen)
    first = next(each for each in rows if each.matches(scope, severity))
    assert names[0] == first.name
    assert first.goes_on or names == [first.name]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[{name: a, slack_channel: x, routes: [b]}]", "the last receiver takes what no other does, so a must have"),
        ("[{name: a, slack_channel: x}, {name: b, slack_channel: y}]", "a takes everything, so b gets nothing"),
        ("[{name: a, slack_channel: x, continue: true}, {name: a, slack_channel: y}]", "has the name a"),
        (
            "[{name: a}]",
            "receiver a: needs exactly one of slack_channel, slack_webhook, webhook, receiver",
        ),
        ("[{name: a, slack_channel: x, receiver: log}]", "it has slack_channel and receiver"),
        ("[{name: a, webhook: URL}]", "receiver a: webhook and webhook_secret need each other"),
        ("[{name: a, slack_webhook: https://hooks/x}]", "receiver a, slack_webhook: String should match pattern"),
        ("[{name: a, slack_webhook: CHEAPDEEP_X}]", "CHEAPDEEP_X is a name of settings"),
        ("[{name: a, slack_chanel: x}]", "did you mean slack_channel?"),
        ("[{name: a, routes: [], slack_channel: x}]", "an empty list matches nothing"),
        ("[{name: A b, receiver: log}]", "receiver A b, name: String should match pattern"),
        ("[{name: a, receiver: email}]", "receiver a, receiver: Input should be 'slack', 'webhook' or 'log'"),
        ("a", "receivers: Input should be a valid tuple"),
    ],
)
def test_a_fault_names_the_receiver_and_the_key(tmp_path, text, fault):
    with pytest.raises(RulesError, match=re.escape(fault)):
        recipients_of(tmp_path, f"\nreceivers: {text}\n")


def test_a_file_without_receivers_leaves_it_to_the_settings(tmp_path):
    assert receivers_of(recipients_of(tmp_path, "")) is RECEIVERS


def test_the_addresses_come_from_the_settings_and_the_environment(tmp_path):
    rows = recipients_of(tmp_path)
    settings = Settings(slack_bot_token="xoxb", slack_channel="#ops")
    environment = {"PAGER_URL": "https://pager/x", "PAGER_SECRET": "s", "SEARCH_URL": "https://hooks/y"}
    senders = senders_for(settings, receivers_of(rows, environment))
    assert list(senders) == ["payments", "pager", "search", "all"]
    assert (senders["payments"].target, senders["all"].target) == ("#payments", "#ops")
    for wrong, fault in (
        ({}, "receiver pager in the rules file: the environment variable PAGER_URL is not set"),
        ({"PAGER_URL": "pager"}, "the variable PAGER_URL needs a URL of the form https://host/path"),
    ):
        with pytest.raises(SettingsError, match=fault):
            senders_for(settings, receivers_of(rows, wrong))
    with pytest.raises(SettingsError, match="slack_channel needs CHEAPDEEP_SLACK_BOT_TOKEN"):
        senders_for(Settings(), receivers_of(rows, environment))


class Inbox:
    def __init__(self):
        self.got = []

    def accepts(self, _payload):
        return True

    def send(self, payload, ref):
        self.got.append((payload["kind"], payload.get("scope")))
        return ref


@pytest.mark.thorough
def test_several_teams_on_one_guard_get_one_message_for_each_incident_of_theirs(store, tmp_path):
    def put(kind, scope, number):
        message = {"incident_id": number, "kind": kind, "payload": {**incident(scope), "kind": kind}, "at": 1.0}
        store.transact(lambda connection: incidents.enqueue(connection, **message))

    def opened(scope):
        return store.transact(
            lambda connection: incidents.open_incident(connection, rule="EscalationStorm", scope=scope, at=1.0)
        )

    def deliver(rows):
        Notifier(store, boxes, recipients=rows).deliver(2.0)
        found = {name: box.got for name, box in boxes.items() if box.got}
        for box in boxes.values():
            box.got = []
        return found

    rows = recipients_of(tmp_path)
    boxes = {each.name: Inbox() for each in rows}
    billing, chat = opened("billing"), opened("chat")
    put("started", "billing", billing)
    put("started", "chat", chat)
    assert deliver(rows) == {
        "payments": [("started", "billing")],
        "pager": [("started", "chat")],
        "all": [("started", "chat")],
    }
    put("resolved", "billing", billing)
    # The file has changed: all that was told is told of the end too.
    assert deliver(rows[-1:]) == {"payments": [("resolved", "billing")], "all": [("resolved", "billing")]}
