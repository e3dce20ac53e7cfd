import re

import pytest
from pydantic import SecretStr

from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender
from cheapdeep_ops.store import deliveries, incidents
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing.slack.slack_wire import texts_of

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8
WORSE = [0.5] * 10
TOLD = {"kind": "started", "rule": "Storm", "scope": "*", "about": "grader_failing", "signal": {"why": "x"}}
REPLY = {**TOLD, "at": 1.0, "in_thread": True}
HOSTILE = "<!channel> `x` *y*\n<https://evil|z> &"


@pytest.fixture
def make_place(make_town):
    """A town that tells a simulated Slack, over HTTP."""
    servers = []

    def make(kind, **changes):
        slack = SimulatedSlack().start()
        servers.append(slack)
        bot = kind == "bot"
        given = {"slack_bot_token": SecretStr(slack.token), "slack_channel": "C1"} if bot else {}
        town = make_town(**given, **changes)
        sender = (
            BotSender(token=slack.token, channel="C1", base_url=slack.url)
            if bot
            else WebhookSender(url=slack.webhook_url)
        )
        restart(town, sender)
        return town, slack

    yield make
    for server in servers:
        server.stop()


def restart(town, sender=None):
    town.guard.close()
    town.inbox = sender or town.inbox
    town.guard = town.another_guard()


def outbox(town):
    with town.store.reading() as connection:
        return deliveries.queue_state(connection)


def icons(messages):
    return [message.blocks[0]["text"]["text"][0] for message in messages]


@pytest.mark.thorough
def test_an_incident_is_one_message_and_its_thread_is_its_history(make_place):
    town, slack = make_place("bot")
    town.run(200, CALM)
    town.run(200, STORM)
    town.run(120, WORSE)
    town.run(500, CALM)
    (post,) = slack.posts
    assert [version.text.split(":")[0] for version in post.versions[:2]] == [
        "EscalationStorm firing",
        "EscalationStorm still firing",
    ]
    red, amber, green = "\N{LARGE RED CIRCLE}", "\N{LARGE ORANGE CIRCLE}", "\N{LARGE GREEN CIRCLE}"
    assert icons([post]) == [green]
    thread = slack.thread(post)
    assert [reply.text.split(": ", 1)[1] for reply in thread] == [version.text for version in post.versions]
    assert icons(thread) == [red, *[amber] * (len(thread) - 2), green]
    assert "*Done:* threshold raised from 0.8 to 0.9, until the base rate" in str(post.versions[0].blocks)
    assert "threshold" not in str(thread[0].blocks)
    assert "Lasted " in thread[-1].blocks[0]["text"]["text"]
    assert all(len(reply.versions) == 1 for reply in thread)


@pytest.mark.thorough
def test_it_is_one_message_also_over_a_restart_and_ten_minutes_without_slack(make_place):
    town, slack = make_place("bot")
    town.run(100, CALM)
    with slack.outage():
        town.run(300, STORM)
        restart(town)
        town.run(300, WORSE)
        assert slack.messages == []
    town.run(330, WORSE)  # the outbox tries again every five minutes by then
    restart(town)
    town.run(500, CALM)
    # That messages did not arrive is an incident of its own.
    post, other = slack.posts
    assert [each.text.split(":")[0] for each in (post, other)] == [
        "EscalationStorm resolved",
        "NotificationsFailing resolved",
    ]
    # What it was like meanwhile is not told any more: the thread begins with what came after the first message.
    assert "figures of" in str(post.versions[0].blocks)
    told = [reply.text.split(": ")[1] for reply in slack.thread(post)]
    assert told[-1] == "EscalationStorm resolved"
    assert set(told[:-1]) <= {"EscalationStorm still firing"}
    assert outbox(town)["waiting"] == 0


def test_a_reply_that_fails_is_tried_again_without_a_second_message(make_place):
    town, slack = make_place("bot")
    opened = {"rule": "EscalationStorm", "scope": "support", "at": town.clock()}
    incident = town.store.transact(lambda connection: incidents.open_incident(connection, **opened))

    def say(payload):
        said = {"incident_id": incident, "kind": "started", "payload": payload, "at": town.clock()}
        town.store.transact(lambda connection: incidents.enqueue(connection, **said))
        town.look()

    say(TOLD)
    slack.fail_with("internal_error")
    say(REPLY)
    assert (len(slack.messages), outbox(town)["last_error"]) == (1, "Slack answered internal_error")
    town.clock.advance(60)
    town.look()
    assert (len(slack.posts), len(slack.messages), outbox(town)["waiting"]) == (1, 2, 0)


@pytest.mark.parametrize("why", ["message_not_found", "restricted_action_thread_locked"])
def test_a_message_that_takes_no_reply_holds_nothing_up(make_place, why):
    _, slack = make_place("bot")
    sender = BotSender(token=slack.token, channel="C1", base_url=slack.url)
    slack.fail_with(why)
    place = MessageRef(channel="C1", ts="1.0")
    assert sender.send(REPLY, place) == place
    assert sender.send(REPLY, MessageRef()) == MessageRef()
    assert slack.messages == []


@pytest.mark.thorough
def test_a_webhook_posts_start_change_and_end_only(make_place):
    town, slack = make_place("webhook")
    town.run(200, STORM)
    town.run(500, CALM)
    told = [post.text.split(":")[0] for post in slack.messages]
    assert told[0] == "EscalationStorm firing"
    assert told[-1] == "EscalationStorm resolved"
    assert set(told[1:-1]) <= {"EscalationStorm still firing"}
    sender = town.inbox
    before = len(slack.messages)
    sender.send(REPLY, MessageRef())
    assert LogSender().send(REPLY, MessageRef()) == MessageRef()
    assert len(slack.messages) == before


@pytest.mark.thorough
def test_a_hostile_route_is_data_in_the_message_and_in_its_thread(make_place):
    town, slack = make_place("bot", grafana_url="https://grafana.example")
    town.run(200, CALM, route=HOSTILE)
    town.run(200, STORM, route=HOSTILE, cls=HOSTILE)
    assert len(slack.messages) > 1
    for message in slack.messages:
        for each in texts_of(message.blocks):
            assert each.get("verbatim") or each["type"] == "plain_text"
            text = re.sub(r"<!date\^[^<>]*>", "", each["text"])
            assert "<!" not in text
            assert text.count("<") == text.count("<https://grafana.example/d/")
            assert all(line.count("`") % 2 == 0 for line in text.splitlines())
