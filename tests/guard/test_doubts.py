"""What a person reads in Slack after answers that were lost, requests that were late, and guards that were killed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cheapdeep_ops.errors import DeliveryError, LeaseLostError
from cheapdeep_ops.guard.notify.doubts import DoubtWatch
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender
from cheapdeep_ops.store import deliveries, in_doubt, incidents
from cheapdeep_ops.testing import FrozenClock, SimulatedSlack
from tests.ports import free_port
from tests.stores import migrated

NOW = 1_800_000_000.0
FIRING = {
    "kind": "started", "about": "base_escalation_rate", "rule": "EscalationStorm", "window_s": 300.0,
    "keep_firing_for_s": 120.0,
    "signal": {
        "rate": 0.42, "low": 0.38, "high": 0.46, "n": 512, "limit": 0.35, "recent_rate": 0.5, "recent_n": 100,
        "recent_low": 0.4, "recent_high": 0.6, "recent_window_s": 60.0, "actual_rate": 0.44,
    },
}  # fmt: skip
ENDED = {"lasted_s": 60.0, "calls": 10, "escalated": 5, "withheld": 0}
POST, EDIT = "chat.postMessage", "chat.update"


class KilledError(BaseException):
    """The end of a process."""


class Killable(BotSender):
    """A bot whose process ends before or after its next request."""

    ends = ""

    def send(self, payload, ref):
        if self.ends == "before":
            raise KilledError
        place = super().send(payload, ref)
        if self.ends == "after":
            raise KilledError
        return place


class Office:
    """A store, a channel, and guards in virtual time; an incident has a route of its own."""

    def __init__(self, store, slack, clock, channel="C0ALERTS"):
        self.store, self.slack, self.clock, self.channel = store, slack, clock, channel
        self.has_threads = False
        self.restart()

    def restart(self):
        self.bot = Killable(token=self.slack.token, channel=self.channel, base_url=self.slack.url, timeout_s=60)
        self.notifier = Notifier(self.store, {"slack": self.bot})

    def begin(self, route="support"):
        with self.store.engine.begin() as connection:
            incident = incidents.open_incident(connection, rule="EscalationStorm", scope=route, at=self.clock())
        self.say(incident, "started", route)
        return incident

    def say(self, incident, kind, route="support"):
        ended = {**ENDED, "started_at": self.clock() - 60} if kind == "resolved" else {}
        payload = {**FIRING, **ended, "kind": kind, "scope": route, "at": self.clock(), "incident_id": incident}
        with self.store.engine.begin() as connection:
            for in_thread in (False, True) if self.has_threads else (False,):
                message = {**payload, "in_thread": True} if in_thread else payload
                incidents.enqueue(connection, incident_id=incident, kind=kind, payload=message, at=self.clock())

    def deliver(self, after_s=0.0):
        self.clock.advance(after_s)
        return self.notifier.deliver(self.clock())

    def killed(self, ends):
        """Deliver with a guard that is killed; another one takes over."""
        self.bot.ends = ends
        with pytest.raises(KilledError):
            self.deliver()
        self.restart()

    def rest(self, seconds=420):
        for _ in range(seconds // 30):
            self.deliver(30)

    @property
    def texts(self):
        return [each.text for each in self.slack.posts]

    @property
    def doubts(self):
        with self.store.reading() as connection:
            return in_doubt.over(connection, "slack")


@pytest.fixture(scope="module")
def clock():
    return FrozenClock(NOW)


@pytest.fixture(scope="module")
def server(clock):
    with SimulatedSlack(clock=clock, port=free_port()) as server:  # one test stops it for a while
        yield server


@pytest.fixture
def slack(server):
    yield server
    server.clear()
    server.scopes = {"chat:write", "channels:history", "groups:history"}


@pytest.fixture
def office(store, slack, clock):
    return Office(store, slack, clock)


def lost(slack):
    slack.lose_answers(method=POST)


def failed(slack):
    slack.lose_answers(method=POST, status=503)


def catastrophic(slack):
    slack.fail_with("internal_error", method=POST)


@pytest.mark.parametrize(
    ("fault", "posts_before"),
    [
        (lost, 1),
        pytest.param(failed, 1, marks=pytest.mark.thorough),
        pytest.param(catastrophic, 0, marks=pytest.mark.thorough),
    ],
)
def test_a_post_without_an_answer_is_found_and_edited_from_then_on(office, fault, posts_before):
    incident = office.begin()
    fault(office.slack)
    assert office.deliver() == 0
    assert len(office.slack.posts) == posts_before
    office.say(incident, "resolved")
    assert office.deliver(3) == 2
    (post,) = office.slack.posts
    assert "resolved" in post.text
    assert len(post.versions) == 2, "posted once, edited once"
    office.rest()
    assert (len(office.slack.posts), office.doubts) == (1, [])


@pytest.mark.parametrize(("ends", "posts_before"), [("before", 0), ("after", 1)])
def test_a_guard_that_takes_over_finds_what_the_killed_one_has_posted(office, ends, posts_before):
    incident = office.begin()
    office.killed(ends)
    assert len(office.slack.posts) == posts_before
    office.say(incident, "resolved")
    assert office.deliver() == 2
    office.rest()
    assert ["resolved" in text for text in office.texts] == [True]


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["before", "after"])
def test_slack_that_does_not_answer_in_time_has_one_message_all_the_same(office, moment):
    incident = office.begin()
    office.bot = Killable(token=office.slack.token, channel="C0ALERTS", base_url=office.slack.url, timeout_s=1)
    office.notifier = Notifier(office.store, {"slack": office.bot})
    hold = office.slack.hold(POST, moment)
    assert office.deliver() == 0
    office.restart()
    if moment == "before":
        assert office.deliver(3) == 1
    hold.release()
    office.say(incident, "resolved")
    until_posted = 2 if moment == "before" else 1
    office.slack.wait_for(lambda _: len(office.slack.posts) == until_posted, timeout_s=60)
    office.deliver(3)
    office.deliver(31)
    assert ["resolved" in text for text in office.texts] == [True]


def test_a_reply_that_was_accepted_without_an_answer_comes_once(office):
    office.has_threads = True
    incident = office.begin()
    office.deliver()
    office.say(incident, "changed")
    office.slack.lose_answers(method=POST)
    office.deliver(1)
    office.deliver(5)
    (post,) = office.slack.posts
    assert [each.text.split(": ")[1] for each in office.slack.thread(post)] == [
        "EscalationStorm firing", "EscalationStorm still firing",
    ]  # fmt: skip


def test_a_post_that_arrives_after_the_next_attempt_is_deleted_within_a_minute(office):
    office.has_threads = True
    incident = office.begin()
    office.slack.delay(method=POST)
    assert (office.deliver(), office.deliver(3)) == (0, 2)
    office.say(incident, "changed")
    office.slack.delay(method=POST)
    assert (office.deliver(10), office.deliver(3)) == (1, 1)
    assert office.slack.apply_late() == 2
    assert len(office.slack.posts) == 2
    (first, _) = office.slack.posts
    office.deliver(31)
    (post,) = office.slack.posts
    assert post.ts == first.ts
    assert len(office.slack.thread(post)) == 2


def test_an_edit_that_arrives_late_does_not_keep_the_message_red(office):
    incident = office.begin()
    office.deliver()
    office.say(incident, "changed")
    office.slack.delay(method=EDIT)
    office.deliver()
    office.say(incident, "resolved")
    assert office.deliver(3) == 2
    office.slack.apply_late()
    assert ["still firing" in text for text in office.texts] == [True]
    office.deliver(31)
    assert ["resolved" in text for text in office.texts] == [True]


@pytest.mark.thorough
def test_a_message_that_people_were_told_of_only_in_a_digest_ends_as_resolved(office):
    incident = office.begin()
    office.slack.lose_answers(method=POST)
    office.deliver()
    office.slack.down = True
    office.say(incident, "resolved")
    for _ in range(30):
        office.deliver(10)
    assert ["firing" in text for text in office.texts] == [True]
    office.slack.down = False
    office.rest(600)
    post, digest = office.slack.posts
    assert "resolved" in post.text
    assert "1 alert began and ended" in digest.text


def test_a_digest_whose_place_another_one_took_does_not_stay(office):
    office.slack.down = True
    office.say(office.begin("a"), "resolved", "a")
    office.deliver(130)
    office.slack.down = False
    office.slack.delay(method=POST)
    office.deliver(20)
    office.slack.down = True
    office.say(office.begin("b"), "resolved", "b")
    office.deliver(130)
    office.slack.down = False
    office.slack.apply_late()
    office.rest(600)
    assert [text.split(" since")[0] for text in office.texts] == ["2 alerts began and ended"]


@pytest.mark.thorough
def test_without_the_scope_a_message_comes_at_least_once_and_the_log_says_so_once(office, caplog):
    office.slack.scopes = {"chat:write"}
    first, second = office.begin("a"), office.begin("b")
    office.slack.lose_answers(2, method=POST)
    office.deliver()
    office.rest()
    assert len(office.slack.posts) == 4
    office.say(first, "resolved", "a")
    office.say(second, "resolved", "b")
    office.rest()
    assert sorted("resolved" in text for text in office.texts) == [False, False, True, True]
    assert caplog.text.count("a message may come twice") == 1
    assert "channels:history" in caplog.text
    assert office.doubts == []


def test_a_channel_that_the_setting_names_is_read_once_its_id_is_known(store, slack, clock):
    office = Office(store, slack, clock, channel="#alerts")
    incident = office.begin()
    office.killed("after")
    office.say(incident, "resolved")
    office.deliver()
    assert ["resolved" in text for text in office.texts] == [True], "the double went in the same run"
    office.begin("sales")
    office.killed("after")
    office.slack.fail_with("internal_error", method=POST)
    assert office.deliver() == 1, "found by the id that an earlier message has told, and not posted"


@pytest.mark.thorough
def test_messages_of_another_store_in_the_channel_are_left_alone(office, slack, clock):
    with_other = migrated("sqlite://")
    other = Office(with_other, slack, clock)
    for each in (office, other):
        each.begin()
        each.killed("after")
    for each in (office, other):
        each.deliver()
        each.rest()
    assert len(slack.posts) == 2
    with_other.close()


@pytest.mark.thorough
def test_a_guard_that_was_frozen_while_it_posted_leaves_one_message(office, slack):
    incident = office.begin()
    frozen, other = office.notifier, Killable(token=slack.token, channel="C0ALERTS", base_url=slack.url)
    send = office.bot.send

    def slow(payload, ref):
        office.notifier = Notifier(office.store, {"slack": other})
        assert office.deliver(20) == 1, "the next guard sends it too"
        double = send(payload, ref)
        assert len(slack.posts) == 2
        return double

    office.bot.send = slow
    frozen.deliver(office.clock())
    (post,) = slack.posts
    office.say(incident, "resolved")
    office.deliver(1)
    assert [each.ts for each in slack.posts] == [post.ts]
    assert "resolved" in slack.posts[0].text


def test_two_guards_that_read_at_once_do_not_delete_the_messages_of_each_other(office, slack):
    class Late(BotSender):
        def send(self, payload, ref):
            slack.apply_late()
            return super().send(payload, ref)

    office.begin()
    slack.delay(method=POST)
    office.deliver()
    where = {"token": slack.token, "channel": "C0ALERTS", "base_url": slack.url, "timeout_s": 30}
    frozen, acting = (Notifier(office.store, {"slack": make(**where)}) for make in (BotSender, Late))
    reading, deleting = slack.hold("conversations.history", "before"), slack.hold("chat.delete", "before")
    with ThreadPoolExecutor(2) as pool:
        pool.submit(frozen.deliver, office.clock() + 3)
        assert reading.reached.wait(60)
        pool.submit(acting.deliver, office.clock() + 20)
        assert deleting.reached.wait(60), "the acting guard posts too, and is about to delete the double"
        reading.release()
        slack.wait_for(lambda _: len(slack.posts) == 1, 120)
        deleting.release()
    assert len(slack.posts) == 1


def test_a_guard_that_has_lost_its_lease_ends_its_reading_and_blames_no_message(office, caplog):
    def overtaken(_connection):
        raise LeaseLostError("another guard has taken over this work: deliver")

    office.begin()
    office.killed("after")
    office.deliver(20)
    assert office.doubts
    office.clock.advance(3_600)
    doubts = DoubtWatch(office.store.fenced(overtaken), complete=dict)
    with pytest.raises(LeaseLostError):
        doubts.run("slack", office.bot, office.clock())
    assert "cannot be corrected" not in caplog.text


def test_a_guard_that_is_killed_while_it_deletes_doubles_has_left_none(office):
    office.begin()
    office.slack.delay(3, method=POST)
    for _ in range(4):
        office.deliver(20)
    office.slack.apply_late()
    assert len(office.slack.posts) == 4
    office.slack.fail_with("internal_error", method="chat.delete")
    office.deliver(31)
    assert len(office.slack.posts) > 1
    office.restart()
    office.deliver(1)
    assert len(office.slack.posts) == 1


@pytest.mark.thorough
def test_a_message_that_a_person_deleted_is_not_posted_again_by_reading(office):
    office.begin()
    office.slack.lose_answers(method=POST)
    office.deliver()
    office.deliver(3)
    office.slack.delete(office.slack.posts[0])
    office.rest()
    assert office.texts == []


@pytest.mark.thorough
@pytest.mark.parametrize("code", ["cant_delete_message", "compliance_exports_prevent_deletion"])
def test_a_double_that_slack_keeps_holds_up_nothing(office, code):
    incident = office.begin()
    office.slack.delay(method=POST)
    office.deliver()
    office.deliver(3)
    office.slack.apply_late()
    office.slack.fail_with(code, times=20, method="chat.delete")
    office.say(incident, "resolved")
    assert office.deliver(1) == 1
    office.rest()
    assert "resolved" in office.texts[0]


def test_slack_that_shows_no_history_at_present_is_asked_again_before_the_post(office):
    office.begin()
    office.slack.lose_answers(method=POST)
    office.deliver()
    office.slack.rate_limit(method="conversations.history", retry_after_s=30)
    assert office.deliver(3) == 0
    assert office.deliver(31) == 1
    assert len(office.slack.posts) == 1


def test_metadata_that_slack_refuses_are_left_out(office):
    office.begin()
    office.slack.fail_with("metadata_must_be_sent_from_app", method=POST)
    assert office.deliver() == 1
    assert [each.metadata for each in office.slack.posts] == [{}]


def test_a_connection_that_is_refused_leaves_no_doubt(office):
    office.slack.stop()
    office.begin()
    assert office.deliver() == 0
    with office.store.reading() as connection:
        waiting = deliveries.next_due(connection, "slack", now=office.clock() + 100)
    assert (waiting.attempts, waiting.is_in_doubt) == (1, False)
    with pytest.raises(DeliveryError) as caught:
        office.bot.send({**FIRING, "scope": "a"}, MessageRef())
    assert not caught.value.may_be_sent
    office.slack.start()


@pytest.mark.parametrize(
    ("channel", "change", "note"),
    [
        ("C0ALERTS", None, ""),
        ("C0ALERTS", lambda slack: slack.scopes.discard("channels:history"), "missing_scope"),
        ("C0ALERTS", lambda slack: slack.channels.leave("C0ALERTS"), "not_in_channel"),
        ("#alerts", None, ""),
        (
            "#alerts",
            lambda slack: slack.scopes.difference_update({"channels:history", "groups:history"}),
            "missing_scope",
        ),
    ],
)
def test_the_check_says_whether_the_bot_may_read_the_history(slack, channel, change, note):
    if change:
        change(slack)
    said = BotSender(token=slack.token, channel=channel, base_url=slack.url).check()
    assert said.startswith(f"bot cheapdeep in Simulated, channel {channel}")
    assert note in said
    assert ("may come twice" in said) is bool(note)
