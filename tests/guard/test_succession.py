"""A receiver gets another name or another address while incidents are open."""

import pytest

from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.slack import BotSender
from cheapdeep_ops.guard.notify.webhook import SignedWebhookSender
from cheapdeep_ops.guard.rules.recipients import Recipient
from cheapdeep_ops.store import deliveries, incidents, pictures, places
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.units import HOUR_S
from tests.endpoint import listening

from .test_delivery import CHANGED, FIRING, NOW, RESOLVED

pytestmark = pytest.mark.thorough
OUTCOME = {"lasted_s": 600.0, "calls": 1, "escalated": 1, "withheld": 0}


class Desk:
    """A guard that is restarted with other receivers, and what it says of one incident."""

    def __init__(self, store, slack):
        self.store, self.slack, self.now = store, slack, NOW
        opened = {"rule": "EscalationStorm", "scope": "support", "at": NOW}
        self.incident = store.transact(lambda connection: incidents.open_incident(connection, **opened))
        self.fire()

    def fire(self):
        alert = {
            "rule": "EscalationStorm", "scope": "support", "state": "firing", "level": "above", "since": NOW,
            "below_since": None, "incident_id": self.incident, "signal": {}, "updated_at": NOW,
        }  # fmt: skip
        self.store.transact(lambda connection: incidents.save_alerts(connection, [alert]))

    def restart(self, *recipients, senders=None):
        rows = [Recipient(**each) for each in recipients]
        url, token = self.slack.url, self.slack.token
        bots = {each.name: BotSender(token=token, channel=each.slack_channel, base_url=url) for each in rows}
        self.notifier = Notifier(self.store, senders or bots, recipients=rows)
        self.deliver()

    def deliver(self, later_s=0.0):
        self.now += later_s
        self.notifier.deliver(self.now)

    def say(self, payload, *, in_thread=False):
        said = {**payload, "incident_id": self.incident, "started_at": NOW, "at": self.now, "in_thread": in_thread}
        if payload["kind"] == "resolved":
            said |= OUTCOME

        def work(connection):
            if in_thread:
                about = {"incident_id": self.incident, "kind": said["kind"], "payload": said, "at": self.now}
                incidents.enqueue(connection, **about)
                return
            incidents.announce(connection, self.incident, kind=said["kind"], payload=said, at=self.now)
            if said["kind"] == "resolved":
                incidents.resolve_incident(connection, self.incident, at=self.now)

        self.store.transact(work)

    def shown(self):
        with self.store.reading() as connection:
            return incidents.shown(connection, self.incident)

    def states(self):
        """How often each channel got a message of its own, and what the messages show now."""
        return [(post.channel, post.text.split(":")[0].removeprefix("EscalationStorm ")) for post in self.slack.posts]


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def desk(store, slack):
    return Desk(store, slack)


OPS = {"name": "ops", "slack_channel": "#ops"}


def test_a_receiver_of_another_name_goes_on_with_the_message_that_stands_there(desk, slack):
    desk.restart({"name": "payments", "slack_channel": "#ops"})
    desk.say(FIRING)
    desk.deliver()
    (post,) = slack.posts
    # What waits for the former one is neither lost nor sent twice.
    desk.say({**CHANGED, "threshold": "threshold 0.8 -> 0.9"}, in_thread=True)
    desk.restart(OPS)
    assert desk.states() == [("#ops", "firing")]
    assert len(slack.thread(post)) == 1
    desk.say(CHANGED)
    desk.deliver(60)
    assert desk.states() == [("#ops", "still firing")]
    assert (desk.shown()["slack_channel"], desk.shown()["slack_ts"]) == (post.channel_id, post.ts)
    desk.restart({"name": "payments", "slack_channel": "#ops"})
    desk.say(RESOLVED)
    desk.deliver(60)
    assert desk.states() == [("#ops", "resolved")]
    with desk.store.reading() as connection:
        assert deliveries.queue_state(connection)["receivers"].keys() == {"payments"}


@pytest.mark.parametrize("spelt", ["ops", "id"])
def test_another_spelling_of_a_channel_is_the_same_channel(desk, slack, spelt):
    desk.restart(OPS)
    desk.say(FIRING)
    desk.deliver()
    desk.restart({**OPS, "slack_channel": slack.channels.id_of("#ops") if spelt == "id" else spelt})
    desk.say(RESOLVED)
    desk.deliver(60)
    assert desk.states() == [("#ops", "resolved")]


def test_a_message_in_a_channel_that_is_left_is_brought_to_its_end_there(desk, slack):
    desk.restart({"name": "payments", "slack_channel": "#payments"})
    desk.say(FIRING)
    desk.deliver()
    desk.restart(OPS)
    assert desk.states() == [("#payments", "firing"), ("#ops", "firing")]
    old, new = slack.posts
    assert (desk.shown()["slack_channel"], desk.shown()["slack_ts"]) == (new.channel_id, new.ts)
    with desk.store.reading() as connection:
        assert incidents.is_message_of(connection, desk.incident, channel=old.channel_id, ts=old.ts), "clicks hold"
    desk.say(RESOLVED)
    slack.fail_with("fatal_error", method="chat.update", times=2)
    for _ in range(4):
        desk.deliver(61)
    assert desk.states() == [("#payments", "resolved"), ("#ops", "resolved")]
    old, new = slack.posts
    assert len(old.versions) == 2
    desk.deliver(61)
    assert slack.posts == [old, new], "once"
    with desk.store.reading() as connection:
        assert places.left(connection) == []


def test_a_receiver_that_comes_back_goes_on_where_its_message_stands(desk, slack):
    """Its channel is changed and changed back, and then it is removed and comes back."""
    desk.restart(OPS)
    desk.say(FIRING)
    desk.deliver()
    there = {"name": "ops", "slack_channel": "#there"}
    for rows in ([there], [OPS], [{"name": "a", "slack_channel": "#a"}], [OPS]):
        desk.restart(*rows)
        desk.deliver(1)
    assert [channel for channel, _ in desk.states()] == ["#ops", "#there", "#a"]
    desk.say(RESOLVED)
    for _ in range(4):
        desk.deliver(61)
    assert [state for _, state in desk.states()] == ["resolved"] * 3


def test_of_several_receivers_in_one_channel_that_of_the_route_goes_on(desk, slack):
    desk.restart(OPS)
    desk.say(FIRING)
    desk.deliver()
    billing = {"name": "billing", "routes": ["billing"], "slack_channel": "#ops"}
    desk.restart(billing, {"name": "rest", "slack_channel": "#ops"})
    desk.say(RESOLVED)
    desk.deliver(60)
    assert desk.states() == [("#ops", "resolved")]
    with desk.store.reading() as connection:
        assert deliveries.queue_state(connection)["receivers"].keys() == {"rest"}


@pytest.mark.parametrize("both", [False, True])
def test_two_receivers_that_exchange_their_channels_exchange_their_messages(desk, slack, both):
    one, two = {"name": "one", "routes": ["support"], "continue": both}, {"name": "two"}
    desk.restart({**one, "slack_channel": "#a"}, {**two, "slack_channel": "#b"})
    desk.say(FIRING)
    desk.deliver()
    desk.restart({**one, "slack_channel": "#b"}, {**two, "slack_channel": "#a"})
    assert desk.states() == [("#a", "firing"), ("#b", "firing")]
    desk.say(RESOLVED)
    for _ in range(2):
        desk.deliver(61)
    assert desk.states() == [("#a", "resolved"), ("#b", "resolved")]


def test_a_picture_goes_along_and_stays(desk, slack):
    desk.restart(OPS)
    desk.say(FIRING)
    desk.deliver()

    def draw(connection):
        (wanted,) = pictures.wanted(connection, "ops", since=0.0)
        pictures.begin(connection, "ops", "F1", wanted, text="t", at=NOW)
        pictures.ready(connection, "ops", "F1")

    desk.store.transact(draw)
    desk.restart({"name": "renamed", "slack_channel": "#ops"})
    with desk.store.reading() as connection:
        assert [each.file_id for each in pictures.to_show(connection, "renamed", now=NOW + HOUR_S)] == ["F1"]
        assert pictures.wanted(connection, "renamed", since=0.0) == []


def test_a_webhook_of_another_name_is_told_once(desk):
    with listening() as endpoint:
        sender = SignedWebhookSender(url=endpoint.url, secret="whsec")
        desk.restart(senders={"pager": sender})
        desk.say(FIRING)
        desk.deliver()
        desk.restart(senders={"on-call": sender})
        desk.say(RESOLVED)
        desk.deliver(60)
        assert len(endpoint.posts) == 2


def test_a_message_in_a_channel_that_is_gone_is_given_up(desk, slack):
    desk.restart({"name": "payments", "slack_channel": "#payments"})
    desk.say(FIRING)
    desk.deliver()
    desk.restart(OPS)
    slack.channels.archive("#payments")
    desk.say(RESOLVED)
    for _ in range(2):
        desk.deliver(61)
    assert desk.states() == [("#payments", "firing"), ("#ops", "resolved")]
    with desk.store.reading() as connection:
        assert places.left(connection) == []
