"""Several receivers at once, each with its own attempts, waits and order: Slack and a signed webhook over HTTP."""

import json
from threading import Event

import pytest
from pydantic import SecretStr

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.actions.alerts import acknowledge
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.receivers import RECEIVERS, senders_for
from cheapdeep_ops.guard.notify.slack import BotSender
from cheapdeep_ops.guard.notify.webhook import SignedWebhookSender
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import deliveries, incidents, stories
from cheapdeep_ops.testing import SimulatedSlack
from tests.endpoint import listening

from .conftest import Inbox
from .test_delivery import CHANGED, FIRING, NOW, RESOLVED, Refusing, opened, put

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8


@pytest.fixture
def endpoint():
    with listening() as endpoint:
        yield endpoint


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def town(make_town, slack, endpoint):
    """A town that tells Slack and a webhook, both over HTTP."""
    town = make_town(
        slack_bot_token=SecretStr(slack.token), slack_channel="C1", slack_base_url=slack.url,
        webhook_url=SecretStr(endpoint.url), webhook_secret=SecretStr("whsec"),
    )  # fmt: skip
    restart(town)
    return town


def restart(town):
    town.guard.close()
    town.senders = senders_for(town.settings)
    town.guard = town.another_guard()


def kinds(endpoint):
    return [json.loads(each.body)["kind"] for each in endpoint.posts]


def ids(endpoint):
    return [each.headers["X-Cheapdeep-Delivery"] for each in endpoint.posts]


def queue(store):
    with store.reading() as connection:
        return deliveries.queue_state(connection)


def test_a_receiver_is_used_where_the_settings_configure_it_and_the_log_where_none_is():
    slack, webhook = {"slack_webhook_url": "https://a/b"}, {"webhook_url": "https://c/d", "webhook_secret": "s"}
    assert [each.name for each in RECEIVERS] == ["slack", "webhook"]
    assert isinstance(senders_for(Settings())["log"], LogSender)
    assert senders_for(Settings(**slack)).keys() == {"slack"}
    assert isinstance(senders_for(Settings(**webhook))["webhook"], SignedWebhookSender)
    assert list(senders_for(Settings(**slack, **webhook))) == ["slack", "webhook"]


@pytest.mark.thorough
def test_an_incident_goes_to_all_receivers_in_the_form_of_each(town, slack, endpoint):
    town.run(200, CALM)
    town.run(30, STORM)
    town.do(acknowledge, incident_id=1, author="ann", why="on it")
    town.run(500, CALM)
    (post,) = slack.posts
    assert "resolved" in post.text
    assert len(slack.thread(post)) > 2
    found = kinds(endpoint)
    assert (found[0], found[-1]) == ("started", "resolved")
    assert set(found[1:-1]) == {"acknowledged", "changed"} or found[1:-1] == ["acknowledged"]
    assert len(set(ids(endpoint))) == len(found)
    with town.store.reading() as connection:
        story = stories.story(connection, 1)
    assert all(each["delivered_at"] for each in story["messages"])
    start, reply = ([(each["receiver"], each["state"]) for each in story["messages"][n]["deliveries"]] for n in (0, 1))
    assert start == [("slack", "delivered"), ("webhook", "delivered")]
    assert reply == [("slack", "delivered"), ("webhook", "skipped")]
    assert (story["slack_channel"], story["slack_ts"]) == (post.channel, post.ts)


@pytest.mark.parametrize("down", ["slack", "webhook"])
def test_a_receiver_that_is_down_does_not_hold_up_the_other_and_gets_all_in_order_later(store, slack, endpoint, down):
    senders = {
        "slack": BotSender(token=slack.token, channel="C1", base_url=slack.url),
        "webhook": SignedWebhookSender(url=endpoint.url, secret="whsec"),
    }
    notifier, incident = Notifier(store, senders), opened(store)
    slack.down, endpoint.status = down == "slack", 503 if down == "webhook" else 200
    put(store, FIRING, CHANGED, RESOLVED, incident=incident)
    assert notifier.deliver(NOW) == 3
    versions = [version.text for post in slack.posts for version in post.versions]
    assert (kinds(endpoint), versions) == (
        (["started", "changed", "resolved"], []) if down == "slack" else (["started"], versions)
    )
    assert queue(store)["receivers"][down] == {"waiting": 3, "delivered": 0, "failed": 0, "attempts": 1}
    slack.down, endpoint.status = False, 200
    assert notifier.deliver(NOW + 1) == 0
    assert notifier.deliver(NOW + 10) == 3
    (post,) = slack.posts
    assert [version.text.split(":")[0] for version in post.versions] == [
        f"EscalationStorm {state}" for state in ("firing", "still firing", "resolved")
    ]
    assert kinds(endpoint)[-3:] == ["started", "changed", "resolved"]
    assert queue(store)["waiting"] == 0


def test_a_receiver_that_hangs_does_not_delay_the_other(store):
    reached = Event()

    class Hanging(Inbox):
        def send(self, payload, place):
            assert reached.wait(60), "the other receiver was held up"
            return super().send(payload, place)

    class Quick(Inbox):
        def send(self, payload, place):
            place = super().send(payload, place)
            if len(self.payloads) == 2:
                reached.set()
            return place

    put(store, FIRING, FIRING)
    senders = {"hanging": Hanging(), "quick": Quick()}
    assert Notifier(store, senders).deliver(NOW, patience_s=60) == 4


def test_an_attempt_that_is_repeated_has_the_delivery_id_of_the_first_one(store, endpoint):
    put(store, FIRING)
    endpoint.answers = [(503, {}), (429, {"retry-after": "7"})]
    notifier = Notifier(store, {"webhook": SignedWebhookSender(url=endpoint.url, secret="whsec")})
    assert [notifier.deliver(NOW + later_s) for later_s in (0, 1, 2, 8, 9)] == [0, 0, 0, 0, 1]
    assert len(ids(endpoint)) == 3
    assert len(set(ids(endpoint))) == 1
    assert len({each.body for each in endpoint.posts}) == 1


def test_a_guard_that_ends_between_a_delivery_and_its_record_delivers_once_more_and_no_more(store, endpoint):
    def sender():
        return SignedWebhookSender(url=endpoint.url, secret="whsec")

    class Killed(BaseException):
        """The process ends here."""

    class Dying(Inbox):
        def send(self, payload, place):
            sender().send(payload, place)
            raise Killed

    put(store, FIRING, RESOLVED, incident=opened(store))
    with pytest.raises(Killed):
        Notifier(store, {"webhook": Dying()}).deliver(NOW)
    for _ in range(3):
        Notifier(store, {"webhook": sender()}).deliver(NOW)
    assert kinds(endpoint) == ["started", "started", "resolved"]
    first, second, _ = ids(endpoint)
    assert first == second


def test_a_receiver_that_asks_for_time_gets_no_other_message_before(store):
    asking, other = Refusing(DeliveryError("slow down", retry_after_s=30)), Inbox()
    notifier = Notifier(store, {"asking": asking, "other": other})
    put(store, FIRING)
    notifier.deliver(NOW)
    put(store, FIRING)
    notifier.deliver(NOW + 29)
    assert (asking.calls, len(other.payloads)) == (1, 2)
    notifier.deliver(NOW + 30)
    assert asking.calls == 2


def test_a_clock_that_was_set_back_does_not_make_a_receiver_rest_for_longer(store):
    asking = Refusing(DeliveryError("slow down", retry_after_s=300))
    notifier = Notifier(store, {"asking": asking})
    put(store, FIRING)
    notifier.deliver(NOW)
    put(store, FIRING, at=NOW - 3_600)
    notifier.deliver(NOW - 3_600)
    assert asking.calls == 2


def test_a_message_that_a_receiver_refuses_for_good_is_not_sent_again(store, endpoint, caplog):
    endpoint.status = 410
    put(store, FIRING, RESOLVED, incident=opened(store))
    notifier = Notifier(store, {"webhook": SignedWebhookSender(url=endpoint.url, secret="whsec")})
    assert [notifier.deliver(NOW + later_s) for later_s in (0, 1_000)] == [0, 0]
    assert kinds(endpoint) == ["started", "resolved"]
    assert "message 1 to webhook has failed and is not retried: the webhook answered 410" in caplog.text
    assert queue(store)["receivers"]["webhook"] == {"waiting": 0, "delivered": 0, "failed": 2, "attempts": 2}


@pytest.mark.thorough
def test_refusals_for_good_are_an_alert_until_a_message_arrives(town, slack, endpoint):
    endpoint.status = 401
    town.run(30, CALM)
    town.run(120, STORM)
    (failing,) = [post for post in slack.posts if post.text.startswith("NotificationsFailing")]
    assert "a receiver refused a message for good: the webhook answered 401" in failing.versions[0].text
    endpoint.status = 200
    town.run(200, STORM)
    assert slack.posts[-1].text.startswith("NotificationsFailing resolved")


def test_a_channel_that_is_gone_is_an_alert_and_the_next_one_is_told_of_what_is_open(town, slack, endpoint):
    town.run(120, STORM)
    (old,) = slack.posts
    slack.channels.archive("C1")
    town.run(180, STORM, route="sales")
    failing = [each for each in map(json.loads, (post.body for post in endpoint.posts)) if "Failing" in each["rule"]]
    assert "Slack answered is_archived for channel C1" in failing[-1]["headline"]
    assert slack.posts == [old]
    town.settings = town.settings.model_copy(update={"slack_channel": "C2"})
    restart(town)
    town.run(30, STORM, route="sales")
    _, first, second, *_ = slack.posts
    assert {first.channel, second.channel} == {"C2"}
    assert ["support" in first.text, "sales" in second.text] == [True, True]
    assert "Began 2027-01-15 08:00" in str(first.blocks)


def test_two_guards_that_take_themselves_for_the_leader_make_one_delivery_for_each_receiver(store, inbox):
    put(store, FIRING)
    one, other = (Notifier(store, {"inbox": inbox}) for _ in range(2))
    one._route(NOW)
    with store.reading() as connection:
        first = deliveries.next_due(connection, "inbox", now=NOW)
        again = deliveries.Unrouted(fresh=(first.message_id,), orphaned=())
    store.transact(
        lambda connection: deliveries.route(
            connection, again, delivery_ids={(first.message_id, "inbox"): "another"}, at=NOW
        )
    )
    assert [one.deliver(NOW), other.deliver(NOW)] == [1, 0]
    assert inbox.payloads[0]["delivery_id"] == first.delivery_id != "another"


def test_a_guard_with_another_receiver_sends_what_waits_there(store, inbox):
    put(store, FIRING)
    Notifier(store, {"slack": Refusing(DeliveryError("down", unreachable=True))}).deliver(NOW)
    assert Notifier(store, {"webhook": inbox}).deliver(NOW) == 1
    assert queue(store) == {
        "waiting": 0, "delivered": 1, "attempts": 2, "last_error": "",
        "receivers": {
            "slack": {"waiting": 0, "delivered": 0, "failed": 0, "attempts": 1},
            "webhook": {"waiting": 0, "delivered": 1, "failed": 0, "attempts": 1},
        },
    }  # fmt: skip


@pytest.mark.thorough
def test_more_messages_than_one_transaction_routes_all_arrive(store, inbox):
    with store.engine.begin() as connection:
        for _ in range(450):
            incidents.enqueue(connection, incident_id=None, kind="started", payload=FIRING, at=NOW)
    notifier = Notifier(store, {"inbox": inbox})
    assert sum(notifier.deliver(NOW + turn, patience_s=60) for turn in range(9)) == 450
