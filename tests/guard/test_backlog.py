"""What people get after messages had to wait: how things stand now, in the channel that is configured now."""

from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.errors import DeliveryError, MissingError
from cheapdeep_ops.guard.actions.alerts import drop, retry
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.formatting import moment
from cheapdeep_ops.guard.notify.backlog import BACKLOG_S, catch_up
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.guard.rules.self_monitoring import fleet
from cheapdeep_ops.store import deliveries, incidents, stories
from cheapdeep_ops.store.backlogs import WaitingMessage
from cheapdeep_ops.testing import SimulatedSlack

from .conftest import Inbox
from .test_delivery import CHANGED, FIRING, NOW, RESOLVED, TEST, Refusing

HOUR_S = 3_600.0
BY = {"author": "ann", "why": "the channel is gone"}


@pytest.fixture
def slack():
    with SimulatedSlack(clock=lambda: NOW) as slack:
        yield slack


def bot(slack, channel="#alerts"):
    return BotSender(token=slack.token, channel=channel, base_url=slack.url)


def begin(store, at=NOW):
    """An incident that fires, and has been announced."""
    incident = store.transact(
        lambda each: incidents.open_incident(each, rule="EscalationStorm", scope="support", at=at)
    )
    alert = {"rule": "EscalationStorm", "scope": f"support {incident}", "state": "firing", "level": "above",
             "since": at, "below_since": None, "incident_id": incident, "signal": {}, "updated_at": at}  # fmt: skip
    store.transact(lambda connection: incidents.save_alerts(connection, [alert]))
    say(store, incident, FIRING, at)
    return incident


def say(store, incident, message, at, *, threads=True):
    """Announce as the guard does: the incident's message, and the reply in its thread."""
    payload = {**message, "incident_id": incident, "started_at": NOW, "at": at}

    def work(connection):
        incidents.announce(connection, incident, kind=message["kind"], payload=payload, at=at)
        if threads:
            reply = {**payload, "in_thread": True}
            incidents.enqueue(connection, incident_id=incident, kind=message["kind"], payload=reply, at=at)

    store.transact(work)


def end(store, incident, at):
    outcome = {"lasted_s": at - NOW, "calls": 1, "escalated": 1, "withheld": 0}
    say(store, incident, {**RESOLVED, **outcome}, at)
    store.transact(lambda connection: incidents.resolve_incident(connection, incident, at=at))


def queue(store):
    with store.reading() as connection:
        return deliveries.queue_state(connection)


def states(store):
    with store.reading() as connection:
        numbers = [each["id"] for each in incidents.incidents(connection)]
        told = [stories.story(connection, number)["messages"] for number in numbers]
    return Counter(each["state"] for messages in told for message in messages for each in message["deliveries"])


def deliver(notifier, *times):
    return [notifier.deliver(at, patience_s=60) for at in times]


# A backlog


def test_after_an_outage_each_incident_is_one_message_in_order_and_what_is_over_is_a_line(store, slack):
    notifier = Notifier(store, {"slack": bot(slack)})
    told = begin(store)
    deliver(notifier, NOW)
    slack.down = True
    over, open_one = begin(store), begin(store)
    gone = begin(store)
    for minute in range(1, 180):
        at = NOW + 60 * minute
        for incident in (open_one, told, *([over, gone] if minute < 60 else [])):
            say(store, incident, CHANGED, at)
        deliver(notifier, at)
    end(store, over, NOW + HOUR_S)
    end(store, gone, NOW + 2 * HOUR_S)
    end(store, told, NOW + 3 * HOUR_S)
    slack.down = False
    deliver(notifier, NOW + 3 * HOUR_S + 300)
    assert queue(store)["waiting"] == 0
    first, second, digest = slack.posts
    assert [first.text.split(":")[0], len(first.versions)] == ["EscalationStorm resolved", 2]
    assert [each.text.split(": ")[1] for each in slack.thread(first)] == [
        "EscalationStorm firing",
        "EscalationStorm resolved",
    ]
    assert [second.text.split(":")[0], len(second.versions)] == ["EscalationStorm firing", 1]
    assert f"Began {moment(NOW)}, figures of {moment(NOW + 60 * 179)}" in str(second.blocks)
    assert slack.thread(second) == []
    assert digest.text == f"2 alerts began and ended since {moment(NOW)}, while messages did not arrive"
    lines = [each["text"]["text"] for each in digest.blocks[1:]]
    assert [line.rpartition(" | ")[2] for line in lines] == [
        f"Began {moment(NOW)}, ended {moment(NOW + hours * HOUR_S)}" for hours in (1, 2)
    ]


def test_a_short_outage_changes_nothing_in_what_is_told(store, slack):
    notifier, incident = Notifier(store, {"slack": bot(slack)}), begin(store)
    with slack.outage():
        deliver(notifier, NOW)
        say(store, incident, CHANGED, NOW + 60)
        end(store, incident, NOW + 90)
    deliver(notifier, NOW + BACKLOG_S - 1)
    (post,) = slack.posts
    assert (len(post.versions), len(slack.thread(post))) == (3, 3)
    assert "superseded" not in states(store)


def test_what_ends_while_the_digest_itself_waits_is_a_line_of_that_digest(store, slack):
    notifier = Notifier(store, {"slack": bot(slack)})
    slack.down = True
    for hour in range(30):
        end(store, begin(store), NOW + HOUR_S * (hour + 1))
        deliver(notifier, NOW + HOUR_S * (hour + 1) + 600)
    slack.down = False
    deliver(notifier, NOW + 40 * HOUR_S)
    (digest,) = slack.posts
    assert digest.text.startswith("30 alerts began and ended since ")
    assert len(digest.blocks) == 22


@pytest.mark.thorough
def test_the_alert_on_a_backlog_counts_from_its_first_message_however_often_it_is_replaced(store, slack):
    notifier, incident = Notifier(store, {"slack": bot(slack)}), begin(store)
    slack.channels.archive("#alerts")
    for minute in range(1, 121):
        say(store, incident, CHANGED, NOW + 60 * minute)
        deliver(notifier, NOW + 60 * minute)
    with store.reading() as connection:
        outbox = fleet.Outbox(**deliveries.oldest_waiting(connection))
    found = fleet.undelivered(outbox, NOW + 2 * HOUR_S)
    assert found.level is Level.ABOVE
    assert found.signal["why"].endswith("the oldest for 2 h: Slack answered is_archived for channel #alerts")
    assert outbox.waiting <= 12
    assert 15 < outbox.attempts < 40


messages = st.lists(
    st.builds(
        WaitingMessage,
        message_id=st.integers(1, 10**6),
        incident_id=st.none() | st.integers(1, 4),
        kind=st.sampled_from(["started", "changed", "acknowledged", "reminder", "resolved", "digest"]),
        in_thread=st.booleans(),
        since=st.floats(NOW - 1_000, NOW),
        attempts=st.integers(0, 5),
        error=st.sampled_from(["", "down"]),
        is_told=st.just(False),
    ),
    max_size=25,
    unique_by=lambda each: each.message_id,
)  # fmt: skip


@given(messages, st.sets(st.integers(1, 4)))
def test_a_backlog_becomes_one_message_for_each_incident(waiting, told):
    waiting = [
        WaitingMessage(
            **{**{name: getattr(each, name) for name in each.__slots__}, "is_told": each.incident_id in told}
        )
        for each in waiting
    ]
    plan = catch_up(waiting, now=NOW)
    over, kept = {each.message_id for each in plan.over}, {each.message_id: each for each in plan.kept}
    ordered = sorted(
        (each for each in waiting if each.incident_id), key=lambda each: (each.incident_id, each.message_id)
    )
    for incident, group in groupby(ordered, key=lambda each: each.incident_id):
        of_it = list(group)
        left = [each for each in of_it if each.message_id not in plan.superseded]
        if min(each.since for each in of_it) > NOW - BACKLOG_S:
            assert left == of_it
            continue
        mains = [each for each in of_it if not each.in_thread]
        newest = (mains or of_it)[-1]
        if newest.kind == "resolved" and incident not in told:
            assert left == []
            assert over & {each.message_id for each in of_it} == {newest.message_id}
            continue
        assert [each for each in left if not each.in_thread] == mains[-1:]
        assert len([each for each in left if each.in_thread]) <= 1
        assert all(
            kept[each.message_id].since == min(one.since for one in of_it) for each in left if len(left) < len(of_it)
        )
    assert not set(plan.superseded) & {each.message_id for each in waiting if each.incident_id is None}


# The channel


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "code"),
    [("archive", "is_archived"), ("delete", "channel_not_found"), ("leave", "not_in_channel")],
)
@pytest.mark.parametrize("by_id", [False, True])
def test_an_incident_goes_on_in_the_channel_of_now(store, slack, change, code, by_id):
    first = slack.channels.id_of("#alerts") if by_id else "#alerts"
    incident = begin(store)
    deliver(Notifier(store, {"slack": bot(slack, first)}), NOW)
    getattr(slack.channels, change)("#alerts")
    notifier = Notifier(store, {"slack": bot(slack, first)})
    say(store, incident, CHANGED, NOW + 60)
    deliver(notifier, *(NOW + 60 + second for second in range(60)))
    assert queue(store)["last_error"] == f"Slack answered {code} for channel {first}"
    assert queue(store)["attempts"] < 10
    notifier = Notifier(store, {"slack": bot(slack, "#ops")})
    deliver(notifier, NOW + 120)
    end(store, incident, NOW + 180)
    deliver(notifier, NOW + 180)
    old, new = slack.posts
    assert (old.channel, new.channel) == (first, "#ops")
    assert [each.text.split(":")[0] for each in new.versions] == [
        "EscalationStorm still firing",
        "EscalationStorm resolved",
    ]
    assert [each.text.split(": ")[1] for each in slack.thread(new)][-1] == "EscalationStorm resolved"
    assert queue(store)["waiting"] == 0


def test_a_channel_that_was_changed_by_the_setting_is_told_of_what_is_open_at_once(store, slack):
    incident = begin(store)
    deliver(Notifier(store, {"slack": bot(slack)}), NOW)
    other = Notifier(store, {"slack": bot(slack, "#ops")})
    deliver(other, NOW + HOUR_S, NOW + HOUR_S + 1)
    say(store, incident, CHANGED, NOW + HOUR_S + 60)
    deliver(other, NOW + HOUR_S + 60)
    old, new = slack.posts
    assert (len(old.versions), len(new.versions), len(slack.thread(new))) == (1, 2, 1)
    assert f"Began {moment(NOW)}" in str(new.versions[0].blocks)
    with store.reading() as connection:
        assert incidents.shown(connection, incident)["slack_ts"] == new.ts


def test_a_channel_keeps_its_incidents_under_a_new_name_also_those_to_come(store, slack):
    incident = begin(store)
    deliver(Notifier(store, {"slack": bot(slack)}), NOW)
    slack.channels.rename("#alerts", "#alerts-of-old")
    notifier = Notifier(store, {"slack": bot(slack)})
    say(store, incident, CHANGED, NOW + 60)
    deliver(notifier, NOW + 60)
    begin(store, NOW + 120)
    deliver(notifier, NOW + 120)
    assert queue(store)["waiting"] == 0
    assert len({post.channel_id for post in slack.posts}) == 1
    assert len(slack.posts) == 2


def test_a_new_channel_of_the_old_name_is_the_channel_of_now(store, slack):
    incident = begin(store)
    notifier = Notifier(store, {"slack": bot(slack)})
    deliver(notifier, NOW)
    slack.channels.delete("#alerts")
    slack.channels.create("#alerts")
    say(store, incident, CHANGED, NOW + 60)
    deliver(notifier, NOW + 60)
    old, new = slack.posts
    assert (len(old.versions), len(slack.thread(old)), len(slack.thread(new))) == (1, 1, 1)
    assert old.channel_id != new.channel_id


@pytest.mark.parametrize("kind", ["bot", "webhook"])
def test_blocks_that_slack_refuses_are_left_out_and_the_text_arrives(store, slack, kind):
    begin(store)
    slack.fail_with("invalid_blocks")
    sender = bot(slack) if kind == "bot" else WebhookSender(url=slack.webhook_url)
    deliver(Notifier(store, {"slack": sender}), NOW)
    (post,) = slack.posts
    assert post.blocks == ()
    assert post.text.startswith("EscalationStorm firing: ")


def test_a_reply_whose_channel_is_gone_is_a_new_message_in_the_channel_of_now(store, slack):
    incident = begin(store)
    notifier = Notifier(store, {"slack": bot(slack)})
    deliver(notifier, NOW)
    slack.channels.delete("#alerts")
    slack.channels.create("#alerts")
    reminder = {**FIRING, "kind": "reminder", "started_at": NOW, "at": NOW + 60, "in_thread": True}
    said = {"incident_id": incident, "kind": "reminder", "payload": reminder, "at": NOW + 60}
    store.transact(lambda connection: incidents.enqueue(connection, **said))
    deliver(notifier, NOW + 60)
    (_, new) = slack.posts
    assert new.text.startswith(f"EscalationStorm still firing since {moment(NOW)}")
    with store.reading() as connection:
        assert incidents.shown(connection, incident)["slack_ts"] == new.ts


# Pauses


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["bot", "webhook"])
def test_a_retry_after_holds_for_the_receiver_also_over_a_restart(store, slack, kind):
    for _ in range(20):
        begin(store)
    senders = {"slack": bot(slack) if kind == "bot" else WebhookSender(url=slack.webhook_url)}
    slack.rate_limit(1, retry_after_s=60)
    deliver(Notifier(store, senders), *(NOW + second for second in range(30)))
    assert queue(store)["attempts"] == 1
    restarted = Notifier(store, senders)
    deliver(restarted, *(NOW + second for second in range(30, 60)))
    assert queue(store)["attempts"] == 1
    deliver(restarted, NOW + 60)
    assert len(slack.posts) == 20


@pytest.mark.thorough
@pytest.mark.parametrize(
    "code", ["invalid_auth", "account_inactive", "missing_scope", "channel_not_found", "is_archived", "rate_limited"]
)
def test_what_slack_refuses_for_good_is_asked_for_ever_more_rarely(store, slack, code):
    for _ in range(20):
        begin(store)
    slack.fail_with(code, times=1_000)
    notifier = Notifier(store, {"slack": bot(slack)})
    deliver(notifier, *(NOW + 5 * step for step in range(720)))
    assert 15 < queue(store)["attempts"] < 25
    slack.clear()
    deliver(notifier, NOW + HOUR_S + 300, NOW + HOUR_S + 301)
    assert (len(slack.posts), queue(store)["waiting"]) == (20, 0)


def test_a_message_that_slack_refuses_once_does_not_wait_for_the_outage_before_that_too(store, slack):
    incident = begin(store)
    notifier = Notifier(store, {"slack": bot(slack)})
    with slack.outage():
        deliver(notifier, *(NOW + second for second in (0, 2, 6, 14, 30)))
    slack.fail_with("internal_error")
    deliver(notifier, NOW + 62)
    end(store, incident, NOW + 63)
    deliver(notifier, NOW + 64)
    (post,) = slack.posts
    assert "resolved" in post.text


def test_pauses_that_slack_asked_for_do_not_make_the_pause_after_a_failure_longer(store, slack):
    begin(store)
    notifier = Notifier(store, {"slack": bot(slack)})
    slack.rate_limit(5, retry_after_s=1)
    deliver(notifier, *(NOW + second for second in range(5)))
    with slack.outage():
        deliver(notifier, NOW + 5)
    deliver(notifier, NOW + 7)
    assert len(slack.posts) == 1


def test_a_guard_that_sends_again_after_an_hour_does_not_count_the_failures_before(store, slack):
    begin(store)
    first, second = (Notifier(store, {"slack": bot(slack)}) for _ in range(2))
    with slack.outage():
        deliver(first, *(NOW + second for second in (0, 2, 6, 14, 30)))
    deliver(second, NOW + 60)
    begin(store, NOW + HOUR_S)
    with slack.outage():
        deliver(first, NOW + HOUR_S)
    deliver(first, NOW + HOUR_S + 2)
    assert len(slack.posts) == 2


# Receivers


@pytest.mark.parametrize("kind", ["bot", "webhook"])
def test_slack_that_is_connected_later_is_told_of_what_is_open_now(store, slack, kind, caplog):
    log = Notifier(store, {"log": LogSender()})
    open_one, over = begin(store), begin(store)
    say(store, open_one, CHANGED, NOW + 60)
    end(store, over, NOW + 120)
    deliver(log, NOW + 120)
    later = Notifier(store, {"slack": bot(slack) if kind == "bot" else WebhookSender(url=slack.webhook_url)})
    deliver(later, NOW + HOUR_S, NOW + HOUR_S + 1, NOW + HOUR_S + 2)
    (post,) = slack.posts
    assert post.text.startswith("EscalationStorm firing: ")
    assert f"Began {moment(NOW)}, figures of {moment(NOW + 60)}" in str(post.blocks)
    deliver(Notifier(store, {"slack": bot(slack)} if kind == "bot" else later._senders), NOW + 2 * HOUR_S)
    assert len(slack.posts) == 1


def test_a_receiver_hears_of_an_incident_first_as_started(store):
    incident = begin(store)
    failing = Inbox()
    failing.failures = [DeliveryError("refused", is_final=True)] * 2
    notifier = Notifier(store, {"inbox": failing})
    deliver(notifier, NOW)
    say(store, incident, CHANGED, NOW + 60, threads=False)
    say(store, incident, CHANGED, NOW + 120, threads=False)
    deliver(notifier, NOW + 120)
    assert [each["kind"] for each in failing.payloads if not each.get("in_thread")] == ["started", "changed"]


# What a person does about a stuck message


def context(store, settings, at):
    return ActionContext(store=store, settings=settings, clock=lambda: at)


def test_a_message_can_be_given_up_and_that_is_on_record(store, settings):
    incident = begin(store)
    stuck = Inbox()
    stuck.failures = [DeliveryError("invalid_arguments")]
    notifier = Notifier(store, {"inbox": stuck})
    deliver(notifier, NOW)
    first = drop.perform(context(store, settings, NOW + 1), message_id=1, **BY)
    assert [(each["message_id"], each["state"]) for each in first] == [(2, "waiting")]
    deliver(notifier, NOW + 10)
    assert [each["in_thread"] for each in stuck.payloads] == [True]
    with store.reading() as connection:
        (dropped, _) = stories.story(connection, incident)["messages"]
    assert dropped["deliveries"][0]["state"] == "dropped"
    assert dropped["deliveries"][0]["acts"] == [{"act": "drop", "at": NOW + 1, **BY}]
    assert dropped["error"] == "invalid_arguments"
    for operation in (drop, retry):
        with pytest.raises(MissingError, match="there is no undelivered message 1"):
            operation.perform(context(store, settings, NOW + 2), message_id=1, **BY)


def test_a_retry_is_made_at_once_also_where_the_receiver_rests_or_has_refused(store, settings, slack):
    begin(store)
    slack.fail_with("invalid_auth", times=1_000)
    notifier = Notifier(store, {"slack": bot(slack)})
    deliver(notifier, *(NOW + second for second in range(600)))
    attempts = queue(store)["attempts"]
    deliver(notifier, NOW + 600)
    assert queue(store)["attempts"] == attempts
    slack.clear()
    (waits,) = retry.perform(context(store, settings, NOW + 600), message_id=1, author="ann", why="")
    assert waits["error"] == "Slack answered invalid_auth"
    deliver(notifier, NOW + 601)
    assert len(slack.posts) == 1
    refusing = Refusing(DeliveryError("410", is_final=True))
    refusing.target = "#alerts"
    begin(store, NOW + 700)
    deliver(Notifier(store, {"slack": refusing}), NOW + 700)
    (failed, _) = retry.perform(context(store, settings, NOW + 701), message_id=3, author="ann", why="")
    assert failed["state"] == "waiting"
    deliver(Notifier(store, {"slack": bot(slack)}), NOW + 702, NOW + 703)
    assert len(slack.posts) == 2


def test_a_retry_of_an_old_message_does_not_show_an_incident_that_has_ended_as_firing(store, settings, slack):
    incident = begin(store)
    refusing = Refusing(DeliveryError("410", is_final=True))
    refusing.target = "#alerts"
    deliver(Notifier(store, {"slack": refusing}), NOW)
    notifier = Notifier(store, {"slack": bot(slack)})
    end(store, incident, NOW + 60)
    deliver(notifier, NOW + 60)
    retry.perform(context(store, settings, NOW + 70), message_id=1, author="ann", why="")
    deliver(notifier, NOW + 71)
    (shown, _reply) = slack.messages
    assert [version.text.split(":")[0] for version in shown.versions] == ["EscalationStorm resolved"] * 2
    assert queue(store)["waiting"] == 0


def test_a_digest_of_what_is_over_says_its_times():
    over = {**RESOLVED, "started_at": NOW, "lasted_s": 60.0}
    payload = {"kind": "digest", "late": True, "since": NOW, "at": NOW, "count": 1, "items": [over]}
    assert headline(payload).startswith("1 alert began and ended since ")
    assert details(payload)[0].endswith(f" | Began {moment(NOW)}, ended {moment(NOW + 60)}")
    assert details(TEST) == []
