"""Guards in processes of their own that are killed between Slack's answer and its record, and what people then read."""

import contextlib
import signal
import subprocess
import sys
import time

import pytest

from cheapdeep_ops.store import deliveries, incidents
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.testing import SimulatedSlack
from tests.e2e.test_processes import Database, api, caller, environment, is_ready, until
from tests.guard.test_doubts import EDIT, ENDED, FIRING, POST
from tests.patience import PATIENCE_S
from tests.ports import free_port

__all__ = ["api", "environment"]
pytestmark = pytest.mark.thorough


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


class Guards:
    """Processes of `serve`, one after the other or side by side, on one store."""

    def __init__(self, environment):
        self._environment = environment
        self.running = []

    def start(self, *, until_ready=True):
        there = {**self._environment, "CHEAPDEEP_PORT": str(free_port())}
        command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
        process = subprocess.Popen(command, env=there, stderr=subprocess.DEVNULL)
        self.running.append(process)
        if until_ready:
            until(lambda: is_ready(there), "the guard to be ready")
        return process

    def kill_at(self, hold):
        """Kill the oldest guard while its call waits in Slack's server."""
        assert hold.reached.wait(PATIENCE_S)
        killed = self.running.pop(0)
        killed.kill()
        killed.wait(PATIENCE_S)
        hold.release()

    def stop(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        return [process.wait(PATIENCE_S) for process in self.running]


@pytest.fixture
def guards(environment):
    guards = Guards(environment)
    yield guards
    for process in guards.running:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait(PATIENCE_S)


class Outbox:
    """Messages of incidents, as an evaluation stores them."""

    def __init__(self, store):
        self._store = store

    def open(self, route):
        return self._store.transact(
            lambda connection: incidents.open_incident(connection, rule="EscalationStorm", scope=route, at=time.time())
        )

    def say(self, incident, kind, *, in_thread=False):
        at = time.time()
        ended = {**ENDED, "started_at": at - 60} if kind == "resolved" else {}
        payload = {**FIRING, **ended, "kind": kind, "scope": f"route-{incident}", "at": at, "incident_id": incident}
        message = {**payload, "in_thread": True} if in_thread else payload
        self._store.transact(
            lambda connection: incidents.enqueue(connection, incident_id=incident, kind=kind, payload=message, at=at)
        )

    def is_empty(self):
        with self._store.reading() as connection:
            return deliveries.queue_state(connection)["waiting"] == 0

    def wait(self):
        until(self.is_empty, "all messages to be delivered")


def test_six_guards_killed_between_slacks_answer_and_its_record_leave_one_message_each(environment, slack, guards):
    guards.start()
    store = Store(environment["CHEAPDEEP_STORE_URL"])
    outbox = Outbox(store)
    posted = [outbox.open(f"route-{number}") for number in range(3)]
    for incident in posted:
        hold = slack.hold(POST)
        outbox.say(incident, "started")
        guards.kill_at(hold)
        assert len(slack.posts) == incident, "Slack had accepted the message"
        guards.start()
        outbox.wait()

    replied = edited = posted[0]
    hold = slack.hold(POST)
    outbox.say(replied, "started", in_thread=True)
    guards.kill_at(hold)
    guards.start()
    outbox.wait()

    hold = slack.hold(EDIT)
    outbox.say(edited, "changed")
    guards.kill_at(hold)
    guards.start()
    outbox.wait()

    doubled = outbox.open("route-4")
    slack.delay(method=POST)
    hold = slack.hold("chat.delete", "before")
    outbox.say(doubled, "started")
    outbox.wait()
    slack.apply_late()
    assert len(slack.posts) == 5
    guards.kill_at(hold)
    guards.start()

    for incident in (*posted, doubled):
        outbox.say(incident, "resolved")
    outbox.wait()
    until(lambda: len(slack.posts) == 4, "the double to be deleted")
    assert [f"`route-{incident}`" in post.text for incident, post in zip((*posted, doubled), slack.posts, strict=True)]
    assert all("resolved" in post.text for post in slack.posts)
    assert [len(slack.thread(post)) for post in slack.posts] == [1, 0, 0, 0]
    assert guards.stop() == [0]
    store.close()


def test_a_storm_whose_guard_is_killed_as_it_posts_is_one_message_of_the_guard_that_takes_over(
    environment, slack, guards, postgresql_url
):
    environment["CHEAPDEEP_STORE_URL"] = postgresql_url
    guards.start()
    guards.start(until_ready=False)
    database = Database(environment["CHEAPDEEP_STORE_URL"])
    hold = slack.hold(POST)
    with caller(environment) as service:
        until(lambda: len(service.decisions) > 200, "calm traffic")
        service.traffic("legal")
        guards.kill_at(hold)
        (post,) = slack.posts
        assert "EscalationStorm firing" in post.text
        service.traffic("faq")
        slack.wait_for(lambda message: not message.is_reply and "resolved" in message.text, PATIENCE_S)
        until(lambda: database.rows("SELECT 1 FROM delivery WHERE state = 'waiting'") == [], "all replies")
    assert [each.ts for each in slack.posts] == [post.ts]
    ids = [each.metadata["event_payload"]["delivery_id"] for each in slack.thread(post)]
    assert len(ids) == len(set(ids)) >= 2
    assert [each["act"] for each in database.changes()] == ["raise", "release"]
    assert guards.stop() == [0]
