"""Clicks by Socket Mode, over real websockets, with slack_sdk's own client on the guard's side."""

import logging
import os
import subprocess
import sys
import time

import pytest

from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import FrozenClock, SimulatedSlack
from cheapdeep_ops.testing.slack.interactivity import post_signed
from tests.clicks import CHANNEL, RULE, buttons, locked, settings_for, texts
from tests.e2e.test_processes import free_port
from tests.guard.conftest import decided

# slack_sdk leaves a socket open when a handshake takes too long, as it may on a loaded machine.
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
pytestmark = [pytest.mark.thorough, UNCLOSED]
PATIENCE_S = 60.0
STORM = [0.95] * 2 + [0.5] * 8
CALM = [0.95] * 8 + [0.5] * 2


def until(condition, what):
    """Wait for something that another process or thread does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        slack.people.add("U0ANN", "Ann")
        slack.interactivity.patience_s = PATIENCE_S
        yield slack


@pytest.fixture
def settings(slack, sqlite_url):
    changes = {"slack_app_token": slack.app_token, "slack_signing_secret": None, "evaluate_every_s": 0.5}
    return settings_for(slack, sqlite_url, **changes, grade_every_s=3600.0, port=0)


@pytest.fixture
def guard(settings):
    service = Service(settings)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def store(settings):
    store = Store(settings.store_url)
    migrate(store)
    yield store
    store.close()


def storm(settings, seconds=200):
    """A storm that has just happened: calls of the last minutes, stored now."""
    clock = FrozenClock(time.time() - 2 * seconds)
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.refresh(clock())
    for second in range(2 * seconds):
        for confidence in STORM if second >= seconds else CALM:
            policy = recorder.book.for_route("support")
            recorder.put(decided(confidence, policy, route="support", at=clock()))
        clock.advance(1)
        recorder.fold(clock())
    recorder.drain(clock())
    recorder.close()


def message(slack):
    return slack.wait_for(lambda each: each.text.startswith(RULE) and not each.is_reply, PATIENCE_S)


def edited_with(slack, text):
    """The incident's message, once it has this text."""
    return slack.wait_for(lambda each: text in texts(each) and not each.is_reply, PATIENCE_S)


def history(store):
    with store.reading() as connection:
        return policies.history(connection)


def test_a_storm_is_told_a_click_pins_and_every_router_follows(slack, settings, guard, store):
    storm(settings)
    told = message(slack)
    assert buttons(told) == ["acknowledge", "silence", "pin"]
    routers = [Recorder(Settings(store_url=settings.store_url)) for _ in range(4)]

    def thresholds():
        return {router.book.for_route("support").threshold for router in routers}

    try:
        until(lambda: thresholds() == {0.9}, "the raise reaches every router")
        slack.socket_mode.wait(1, PATIENCE_S)
        form = slack.opened(slack.click(told, "cheapdeep_pin", "U0ANN"), PATIENCE_S)
        submitted = slack.submit(form, {"at": "base", "for": "4h", "why": "known batch"}, "U0ANN")
        at = time.monotonic()
        assert submitted.answer == {}
        until(lambda: thresholds() == {0.8}, "the pin reaches every router")
        logging.getLogger(__name__).info("every router followed after %.2f s", time.monotonic() - at)
    finally:
        for router in routers:
            router.close()
    edited = slack.wait_for(
        lambda each: "Threshold pinned at 0.8 until" in texts(each) and not each.is_reply, PATIENCE_S
    )
    assert "by `slack:U0ANN (Ann)`, 20" in texts(edited)
    assert "release" in buttons(edited)
    assert edited.ts == told.ts
    newest = history(store)[0]
    assert (newest["act"], newest["author"], newest["why"]) == ("pin", "slack:U0ANN (Ann)", "known batch")


def test_a_click_goes_to_any_guard_and_the_one_that_delivers_edits(slack, settings, guard, store):
    slack.socket_mode.wait(1, PATIENCE_S)
    storm(settings)
    told = message(slack)
    other = Service(settings)
    other.start()
    try:
        slack.socket_mode.wait(2, PATIENCE_S)
        # By turns, so each guard gets a click or a form of the other one's.
        for act, user in (("acknowledge", "U0ANN"), ("pin", "U0ANN")):
            click = slack.click(message(slack), f"cheapdeep_{act}", user)
            assert slack.submit(slack.opened(click, PATIENCE_S), {}, user).answer == {}
    finally:
        other.stop()
    edited = edited_with(slack, "Threshold pinned at")
    assert "Acknowledged by `slack:U0ANN (Ann)`" in texts(edited)
    assert edited.ts == told.ts
    assert [each["act"] for each in history(store) if each["author"]] == ["pin"]


def test_dead_connections_are_said_and_a_click_that_one_gets_changes_nothing(
    slack, settings, store, caplog, monkeypatch
):
    monkeypatch.setattr("cheapdeep_ops.guard.slack_actions.socket_mode._FRESH_S", 1.0)
    caplog.set_level(logging.INFO, "cheapdeep_ops.guard.slack_actions")
    slack.socket_mode.add_dead(3)
    service = Service(settings)
    service.start()
    try:
        until(lambda: "Slack counts 4 connections of this app" in caplog.text, "the dead connections are said")
        storm(settings)
        told = message(slack)
        slack.interactivity.patience_s = 0.1
        # Of four connections, three are dead.
        answered = [slack.click(told, "cheapdeep_acknowledge", "U0ANN").is_acknowledged for _ in range(3)]
        assert answered.count(False) >= 2
        slack.socket_mode.add_dead(7)
        slack.socket_mode.disconnect("refresh_requested")
        until(lambda: "too_many_websockets" in caplog.text, "the limit is said")
        slack.socket_mode.remove_dead()
    finally:
        service.stop()


def test_a_guard_connects_once_slack_takes_its_token(slack, settings, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "cheapdeep_ops.guard.slack_actions")
    monkeypatch.setattr("cheapdeep_ops.guard.slack_actions.socket_mode._FIRST_WAIT_S", 0.1)
    slack.app_token = "xapp-new"
    monkeypatch.setattr("cheapdeep_ops.guard.slack_actions.socket_mode._LONGEST_WAIT_S", 0.5)
    service = Service(settings)
    service.start()
    try:
        until(lambda: "refuses Socket Mode (invalid_auth)" in caplog.text, "the refusal is said")
        slack.app_token = settings.slack_app_token.get_secret_value()
        slack.socket_mode.wait(1, PATIENCE_S)
        slack.socket_mode.disconnect("refresh_requested")
        slack.socket_mode.wait(1, PATIENCE_S)
    finally:
        service.stop()
    assert settings.slack_app_token.get_secret_value() not in caplog.text
    assert "ticket" not in caplog.text


def served(slack, settings, **more):
    """A guard in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    variables = {
        "CHEAPDEEP_STORE_URL": settings.store_url,
        "CHEAPDEEP_SLACK_BOT_TOKEN": slack.token,
        "CHEAPDEEP_SLACK_CHANNEL": CHANNEL,
        "CHEAPDEEP_SLACK_BASE_URL": slack.url,
        "CHEAPDEEP_SLACK_APP_TOKEN": slack.app_token,
        "CHEAPDEEP_EVALUATE_EVERY_S": "0.5",
        "CHEAPDEEP_PORT": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **more,
    }
    command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=kept | variables, **quiet)


def test_a_guard_that_is_killed_between_click_and_answer_has_done_it_once_or_not_at_all(slack, settings, store):
    storm(settings)
    port = free_port()
    first = served(slack, settings, CHEAPDEEP_PORT=str(port), CHEAPDEEP_SLACK_SIGNING_SECRET=slack.signing_secret)
    address = f"http://127.0.0.1:{port}/slack/interactions"

    def status(secret):
        return post_signed(address, {}, secret=secret, at=time.time(), timeout_s=PATIENCE_S)[0]

    try:
        # It takes signed requests too, and no others.
        until(lambda: status(slack.signing_secret) == 200, "the guard listens")
        assert status("guessed") == 401
        told = message(slack)
        slack.socket_mode.wait(1, PATIENCE_S)
        form = slack.opened(slack.click(told, "cheapdeep_pin", "U0ANN"), PATIENCE_S)
        # The guard waits for the lock when it is killed, so the order is not stored, and Slack gets no answer.
        slack.interactivity.patience_s = 1.0
        with locked(settings.store_url):
            unanswered = slack.submit(form, {"at": "base"}, "U0ANN")
            first.kill()
            first.wait(PATIENCE_S)
        assert not unanswered.is_acknowledged
        assert [each for each in history(store) if each["author"]] == []
    finally:
        first.kill()
        first.wait(PATIENCE_S)
    # Slack shows the person an error in the form, which stays open: another press is an order of the same form.
    slack.socket_mode.wait(0, PATIENCE_S)
    slack.interactivity.patience_s = PATIENCE_S
    second = served(slack, settings)
    try:
        slack.socket_mode.wait(1, PATIENCE_S)
        assert slack.submit(form, {"at": "base"}, "U0ANN").answer == {}
        # A guard that was killed after the order was stored would get this one again too.
        assert slack.interactivity.deliver(unanswered.payload).answer == {}
        assert [each["act"] for each in history(store) if each["author"]] == ["pin"]
    finally:
        second.kill()
        second.wait(PATIENCE_S)


def test_no_incident_is_touched_by_what_slack_sends_of_other_apps(slack, settings, guard, store):
    slack.socket_mode.wait(1, PATIENCE_S)
    answer = slack.interactivity.deliver({"type": "block_actions", "actions": [{"action_id": "other"}]})
    assert answer.answer == {}
    with store.reading() as connection:
        assert not incidents.incidents(connection)
