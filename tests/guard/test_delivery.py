import logging
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender
from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.store import deliveries, incidents
from cheapdeep_ops.testing import SimulatedSlack

NOW = 1_800_000_000.0
TEST = {"kind": "test", "rule": "Test", "signal": {}}
FIRING = {
    "kind": "started", "about": "base_escalation_rate", "rule": "EscalationStorm", "scope": "support",
    "window_s": 300.0, "keep_firing_for_s": 120.0,
    "signal": {
        "rate": 0.42, "low": 0.38, "high": 0.46, "n": 512, "limit": 0.35, "recent_rate": 0.5, "recent_n": 100,
        "recent_low": 0.4, "recent_high": 0.6, "recent_window_s": 60.0,
        "actual_rate": 0.44,
    },
}  # fmt: skip
CHANGED, RESOLVED = {**FIRING, "kind": "changed"}, {**FIRING, "kind": "resolved"}


class HangingSlack:
    """Takes connections and never answers."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._taken = []
        self.called = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api/"

    def _take(self):
        try:
            while True:
                self._taken.append(self._listener.accept()[0])
                self.called.set()
        except OSError:
            return

    @property
    def calls(self):
        return len(self._taken)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._listener, *self._taken):
            each.close()


@contextmanager
def answering(body, *, status=200, content_type="application/json"):
    """A server that always gives the same answer; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing: pytest shows what matters."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def hanging():
    hanging = HangingSlack()
    yield hanging
    hanging.close()


def bot_for(url, token="xoxb-simulated"):
    return BotSender(token=token, channel="C1", base_url=url)


def put(store, *payloads, at=NOW, incident=None):
    """Put one message per payload into the outbox, each of an incident of its own unless one is named."""
    for payload in payloads:
        with store.engine.begin() as connection:
            of = incident or incidents.open_incident(connection, rule="EscalationStorm", scope="support", at=at)
            incidents.enqueue(connection, incident_id=of, kind=payload["kind"], payload=payload, at=at)


def opened(store, at=NOW):
    return store.transact(lambda connection: incidents.open_incident(connection, rule="Storm", scope="*", at=at))


def outbox(store):
    with store.reading() as connection:
        return deliveries.queue_state(connection)


class Refusing:
    """Fails every message with the same error."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def accepts(self, payload):
        return True

    def send(self, payload, place):
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (DeliveryError("timed out", unreachable=True), 1),
        (DeliveryError("slow down", retry_after_s=30), 1),
        (DeliveryError("invalid_blocks"), 3),
        (RuntimeError("xoxb-secret"), 3),
    ],
)
def test_a_batch_ends_where_the_receiver_is_down_but_not_where_it_refuses_one_message(store, error, calls):
    put(store, TEST, TEST, TEST)
    sender = Refusing(error)
    assert Notifier(store, {"slack": sender}).deliver(NOW) == 0
    assert sender.calls == calls
    assert outbox(store)["attempts"] == calls
    assert "xoxb" not in outbox(store)["last_error"]


def test_a_message_that_a_sender_stumbles_over_does_not_hold_up_the_others(store, slack):
    put(store, {"kind": "started"}, FIRING)
    notifier = Notifier(store, {"slack": bot_for(slack.url)})
    assert notifier.deliver(NOW) == 1
    assert outbox(store)["waiting"] == 1
    assert "KeyError" in outbox(store)["last_error"]
    assert notifier.deliver(NOW + 1) == 0
    assert outbox(store)["attempts"] == 2


def test_no_send_begins_after_the_patience_is_gone(store, inbox):
    put(store, *[TEST] * 5)
    ticks = iter(range(100))
    notifier = Notifier(store, {"slack": inbox}, monotonic=lambda: float(next(ticks)))
    assert notifier.deliver(NOW, patience_s=3) == 2
    assert notifier.deliver(NOW) == 3


@pytest.mark.parametrize("outage", [{"close_connections": True}, {"close_connections": False}])
def test_slack_being_down_costs_one_request_a_batch(store, slack, outage):
    put(store, TEST, TEST)
    with slack.outage(**outage):
        Notifier(store, {"slack": bot_for(slack.url)}).deliver(NOW)
        Notifier(store, {"slack": WebhookSender(url=slack.webhook_url)}).deliver(NOW)
    assert outbox(store)["attempts"] == 2
    assert Notifier(store, {"slack": bot_for(slack.url)}).deliver(NOW + 10) == 2


@pytest.mark.thorough
def test_a_guard_that_stops_while_slack_hangs_does_so_soon_and_the_next_one_tells(store, settings, hanging, inbox):
    settings = settings.model_copy(update={"evaluate_every_s": 0.05})
    put(store, FIRING, FIRING, FIRING, at=time.time())
    service = Service(settings, senders={"slack": bot_for(hanging.url)})
    service.start()
    assert hanging.called.wait(60)
    begun = time.monotonic()
    service.stop()
    assert time.monotonic() - begun < 30  # it promises 7.5 s, and the machine may be busy; Slack hangs for ever
    assert hanging.calls <= 2
    assert outbox(store)["waiting"] == 3

    later = Service(settings, senders={"inbox": inbox}, clock=lambda: time.time() + 60)
    assert later.guard.step(later._clock())
    later.guard.deliver(later._clock())
    later.stop()
    rules = [payload["rule"] for payload in inbox.payloads]
    assert rules == [FIRING["rule"]] * 3 + ["SchedulerStalled"]


@pytest.mark.parametrize("gone", ["message_not_found", "edit_window_closed", "cant_update_message"])
def test_an_incident_whose_message_is_gone_is_posted_anew_and_goes_on_there(store, slack, gone):
    incident = opened(store)
    notifier = Notifier(store, {"slack": bot_for(slack.url)})
    put(store, FIRING, incident=incident)
    notifier.deliver(NOW)
    (first,) = slack.messages
    slack.clear()
    if gone != "message_not_found":
        slack.fail_with(gone)
    put(store, CHANGED, incident=incident)
    assert notifier.deliver(NOW + 1) == 1
    put(store, RESOLVED, incident=incident)
    assert notifier.deliver(NOW + 2) == 1
    (second,) = slack.messages
    assert second.ts > first.ts
    assert "still firing" in second.versions[0].text
    assert "resolved" in second.text


def test_other_refusals_to_edit_are_not_answered_with_a_second_message(slack):
    bot = bot_for(slack.url)
    place = bot.send(FIRING, MessageRef())
    slack.fail_with("channel_not_found")
    with pytest.raises(DeliveryError, match="channel_not_found"):
        bot.send(RESOLVED, place)
    assert len(slack.messages) == 1


@pytest.mark.parametrize(
    "body", [b'"a string"', b"[1]", b"7", b"null", b'{"ok": true}', b'{"ok": true, "ts": ""}', b""]
)
def test_an_answer_that_makes_no_sense_is_a_delivery_error(body):
    with answering(body) as url, pytest.raises(DeliveryError) as caught:
        bot_for(url).send(TEST, MessageRef())
    assert not caught.value.unreachable


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "text/plain; charset=no-such-charset"])
def test_an_answer_that_cannot_be_read_is_a_delivery_error(content_type):
    with answering(b"\xff\xfe", content_type=content_type) as url:
        for sender in (bot_for(url), WebhookSender(url=f"{url}/services/T0/B0/secret")):
            with pytest.raises(DeliveryError, match=r"UnicodeDecodeError|LookupError"):
                sender.send(TEST, MessageRef())


BAD_URLS = ["hooks.example/services/T0/B0/secret", "https://[hooks/services/T0/B0/secret",
            " https://hooks.example/services/T0/B0/secret", "http://127.0.0.1:1/services/T0/B0/secret x",
            "http://\udcff.example/services/T0/B0/secret"]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_a_bad_url_is_a_delivery_error_and_no_log_at_any_level_has_it(caplog, capfd, url, level):
    caplog.set_level(level)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(level, logger=name)
    for sender in (WebhookSender(url=url), bot_for(url)):
        with pytest.raises(DeliveryError) as caught:
            sender.send(TEST, MessageRef())
        assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("token", ["xoxb-secret\n", "xoxb-secret\udcff"])
def test_a_bad_token_is_told_without_it(slack, caplog, token):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DeliveryError) as caught:
        bot_for(slack.url, token).send(TEST, MessageRef())
    assert "secret" not in str(caught.value) + caplog.text


def test_the_bodies_of_errors_are_kept_short_and_without_the_webhooks_path():
    with answering(b"no /services/T0/B0/secret here " + b"x" * 100_000, status=404, content_type="text/html") as url:
        for sender in (WebhookSender(url=f"{url}/services/T0/B0/secret"), bot_for(url)):
            with pytest.raises(DeliveryError) as caught:
                sender.send(TEST, MessageRef())
            assert len(str(caught.value)) < 300
            assert not caught.value.unreachable
    with answering(b"no /services/T0/B0/secret here", status=404) as url, pytest.raises(DeliveryError) as caught:
        WebhookSender(url=f"{url}/services/T0/B0/secret").send(TEST, MessageRef())
    assert "secret" not in str(caught.value)


def test_it_is_not_ready_where_its_last_evaluation_lies_in_the_future(settings, inbox):
    now = [NOW]
    service = Service(settings, senders={"inbox": inbox}, clock=lambda: now[0])
    service.guard.step(NOW)
    now[0] = NOW - 4
    assert service._missing() == ""
    now[0] = NOW - 3_600
    assert service._missing() == "the last evaluation lies 1 h in the future: the clock was set back"
    service.stop()


def test_jobs_run_on_after_the_clock_was_set_back(settings, inbox):
    service = Service(settings.model_copy(update={"evaluate_every_s": 0.05}), senders={"inbox": inbox})
    step, ran, ran_again = service.guard.step, threading.Event(), threading.Event()

    def watched(now):
        is_rescheduled = service._jobs[("evaluate", "rescheduled")] > 0
        step(now)
        (ran_again if is_rescheduled else ran).set()

    service.guard.step = watched
    service._scheduler.remove_all_jobs()
    service._add_job(service._scheduler, "evaluate", service.guard.step, 0.05)
    service.start()
    assert ran.wait(60)
    with service._scheduler._jobstores_lock:
        # To a scheduler that goes by wall time, a clock set back by an hour is a next run an hour away.
        service._scheduler.modify_job("evaluate", next_run_time=datetime.now(UTC) + timedelta(hours=1))
    assert ran_again.wait(60)
    service.stop()


def test_a_clock_that_was_set_back_wakes_each_job_once_with_one_warning(settings, inbox, caplog):
    service = Service(settings, senders={"inbox": inbox})
    service._scheduler.start(paused=True)
    now = min(job.next_run_time for job in service._scheduler.get_jobs()) - timedelta(seconds=1)
    service._wake_sleepers(now)
    assert not any(service._jobs[(job.id, "rescheduled")] for job in service._scheduler.get_jobs())
    for _ in range(3):
        service._wake_sleepers(now - timedelta(hours=1))
    rescheduled = {job: service._jobs[(job, "rescheduled")] for job in ("evaluate", "deliver", "grade", "models")}
    # The models are asked once a day: an hour more is no sleep that is too long.
    assert rescheduled == {"evaluate": 1, "deliver": 1, "grade": 1, "models": 0}
    assert caplog.text.count("the clock was set back") == 1
    service.stop()
