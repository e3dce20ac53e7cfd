"""The signed webhook over HTTP: what is sent, how it is signed, and which answers are tried again."""

import hashlib
import json
import logging
import socket
import ssl
from contextlib import suppress
from email.utils import formatdate
from threading import Event, Thread

import pytest

from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.notify import http_endpoint
from cheapdeep_ops.guard.notify.messages import details, digest_message, headline
from cheapdeep_ops.guard.notify.sender import MessageRef, wait_asked_for
from cheapdeep_ops.guard.notify.webhook import SignedWebhookSender
from cheapdeep_ops.guard.reports.weekly import message_of
from tests.endpoint import listening

from .conftest import START
from .test_delivery import FIRING, NOW, RESOLVED, TEST

SECRET = "whsec-s3cret"
WHICH = {
    "incident_id": 7, "started_at": NOW - 60, "at": NOW, "severity": "page", "about": "base_escalation_rate",
    "threshold": "threshold 0.8 -> 0.9", "effective_threshold": 0.9, "delivery_id": "d-1",
    "links": [["Console", "https://guard.example/incidents/7"]],
}  # fmt: skip


@pytest.fixture
def endpoint():
    with listening() as endpoint:
        yield endpoint


@pytest.fixture
def sender(endpoint):
    return SignedWebhookSender(url=endpoint.url, secret=SECRET, clock=lambda: NOW + 0.7)


def posted(sender, endpoint, payload):
    """The JSON of `payload`, as it arrives."""
    assert sender.send(payload, MessageRef()) == MessageRef()
    return json.loads(endpoint.posts[-1].body)


def hmac_by_definition(secret, message):
    """HMAC-SHA256 from the definition in RFC 2104, without the module that the product uses."""
    key = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


@pytest.mark.parametrize("secret", [SECRET, "é" * 80])
def test_the_signature_covers_time_and_body(endpoint, secret):
    SignedWebhookSender(url=endpoint.url, secret=secret, clock=lambda: NOW + 0.7).send(FIRING, MessageRef())
    (request,) = endpoint.posts
    time_part, signature_part = request.headers["X-Cheapdeep-Signature"].split(",")
    assert time_part == f"t={NOW:.0f}"
    signed = f"{NOW:.0f}.".encode() + request.body
    assert signature_part == f"v1={hmac_by_definition(secret.encode(), signed)}"


def test_a_message_about_an_incident_has_the_documented_shape(sender, endpoint):
    assert posted(sender, endpoint, {**FIRING, **WHICH}) == {
        "version": 1,
        "kind": "started",
        "delivery": "d-1",
        "headline": headline(FIRING),
        "details": details({**FIRING, **WHICH}),
        "links": [{"name": "Console", "url": "https://guard.example/incidents/7"}],
        "incident_id": 7,
        "rule": "EscalationStorm",
        "signal": "base_escalation_rate",
        "scope": "support",
        "route": "support",
        "severity": "page",
        "state": "firing",
        "at": NOW,
        "started_at": NOW - 60,
        "ended_at": None,
        "acknowledged": None,
        "figures": {
            "rate": {"value": 0.42, "low": 0.38, "high": 0.46, "n": 512},
            "recent_rate": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100},
            "actual_rate": {"value": 0.44, "low": None, "high": None, "n": None},
        },
        "limit": 0.35,
        "threshold": {"value": 0.9, "change": "threshold 0.8 -> 0.9"},
    }
    (request,) = endpoint.posts
    assert (request.path, request.headers["content-type"]) == ("/hook?key=whsec-in-url", "application/json")
    assert request.headers["X-Cheapdeep-Delivery"] == "d-1"
    assert request.headers["Idempotency-Key"] == '"d-1"'


def test_the_end_says_when_it_was_and_all_routes_are_no_route(sender, endpoint):
    over = {**RESOLVED, **WHICH, "scope": "*", "lasted_s": 90.0, "calls": 9, "escalated": 3, "withheld": 0}
    body = posted(sender, endpoint, over)
    assert (body["state"], body["started_at"], body["ended_at"]) == ("resolved", NOW - 60, NOW + 30)
    assert (body["scope"], body["route"]) == ("*", None)


def test_a_value_without_a_rate_is_a_figure_too(sender, endpoint):
    signal = {"kind": "confidence", "why": "x", "auroc": 0.51, "auroc_low": 0.4, "auroc_high": 0.6}
    body = posted(sender, endpoint, {**FIRING, "about": "confidence_separation", "signal": signal})
    assert body["figures"] == {"auroc": {"value": 0.51, "low": 0.4, "high": 0.6, "n": None}}


def test_a_digest_has_each_incident_and_a_test_has_none(sender, endpoint):
    digest = digest_message([{**FIRING, **WHICH}, {**RESOLVED, **WHICH, "lasted_s": 90.0}], since=NOW - 9, at=NOW)
    body = posted(sender, endpoint, digest)
    assert (body["kind"], body["since"], body["count"]) == ("digest", NOW - 9, 2)
    assert [each["state"] for each in body["incidents"]] == ["firing", "resolved"]
    assert body["incidents"][0]["incident_id"] == 7
    assert posted(sender, endpoint, TEST).keys() == {"version", "kind", "delivery", "headline", "details", "links"}


def test_a_receipt_has_its_figures(sender, endpoint, town):
    town.run(10, [0.95] * 9 + [0.5])
    payload = message_of(town.store, town.settings, since=START - 1, until=town.clock() + 1)
    body = posted(sender, endpoint, payload)
    assert (body["version"], body["kind"], body["since"]) == (1, "report", START - 1)
    assert (body["receipt"]["calls"], body["receipt"]["policy"]["threshold"]) == (100, 0.8)


def test_no_question_and_no_answer_is_sent_and_nothing_that_only_a_thread_repeats(sender, endpoint):
    example = {"call_id": "c1", "confidence": 0.95, "question": "MINE", "answer": "MINE", "reason": "MINE"}
    sender.send({**FIRING, **WHICH, "examples": [example]}, MessageRef())
    assert b"MINE" not in endpoint.posts[0].body
    sender.send({**FIRING, **WHICH, "in_thread": True}, MessageRef())
    assert len(endpoint.posts) == 1
    sender.send({**FIRING, **WHICH, "in_thread": True, "kind": "reminder"}, MessageRef())
    assert json.loads(endpoint.posts[1].body)["kind"] == "reminder"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_takes_the_message(sender, endpoint, status):
    endpoint.status = status
    assert sender.send(FIRING, MessageRef()) == MessageRef()


@pytest.mark.parametrize(
    ("status", "is_about_all"), [(408, False), (425, False), (429, True), (500, True), (503, True), (599, True)]
)
def test_an_answer_that_may_pass_is_tried_again(sender, endpoint, status, is_about_all):
    endpoint.status = status
    with pytest.raises(DeliveryError, match=f"the webhook answered {status}") as caught:
        sender.send(FIRING, MessageRef())
    assert (caught.value.is_final, caught.value.is_about_all) == (False, is_about_all)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_any_other_refusal_is_final(sender, endpoint, status):
    endpoint.status = status
    with pytest.raises(DeliveryError, match=f"answered {status}: the message is not sent again") as caught:
        sender.send(FIRING, MessageRef())
    assert caught.value.is_final
    assert not caught.value.is_about_all


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(sender, endpoint, status):
    endpoint.answers = [(status, {"location": "/elsewhere"})]
    with pytest.raises(DeliveryError, match="redirects are not followed") as caught:
        sender.send(FIRING, MessageRef())
    assert caught.value.is_final
    assert [each.path for each in endpoint.requests] == ["/hook?key=whsec-in-url"]


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, None), ("7", 7.0), ("0", 0.0), ("-3", 0.0), ("86400", 300.0), ("inf", 300.0), ("nan", None),
        ("soon", None), (formatdate(NOW + 60, usegmt=True), 60.0), (formatdate(NOW - 60, usegmt=True), 0.0),
        ("Mon, 99 Zzz 99999 99:99:99 GMT", None),
    ],
)  # fmt: skip
def test_a_receiver_may_ask_for_time_within_bounds(sender, endpoint, header, wait_s):
    assert wait_asked_for(header, NOW) == wait_s
    endpoint.answers = [(503, {} if header is None else {"retry-after": header})]
    with pytest.raises(DeliveryError) as caught:
        sender.send(FIRING, MessageRef())
    assert caught.value.retry_after_s == (wait_s if wait_s in (None, 0.0, 300.0, 7.0) else pytest.approx(wait_s, abs=1))


def test_a_receiver_that_is_gone_is_out_of_reach(endpoint):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeliveryError, match="out of reach: ConnectError") as caught:
        SignedWebhookSender(url=f"http://127.0.0.1:{port}/", secret=SECRET).send(FIRING, MessageRef())
    assert caught.value.unreachable


def test_a_receiver_that_answers_byte_by_byte_is_left_after_the_timeout(monkeypatch):
    monkeypatch.setattr(http_endpoint, "_TIMEOUT_S", 0.3)

    def drip(listener):
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(1_000):  # until the sender has gone
                connection.sendall(b"x: y\r\n")
                Event().wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=drip, args=(listener,))
        thread.start()
        sender = SignedWebhookSender(url=f"http://127.0.0.1:{listener.getsockname()[1]}/", secret=SECRET)
        with pytest.raises(DeliveryError, match="TimeoutError") as caught:
            sender.send(FIRING, MessageRef())
        thread.join(60)
    assert not thread.is_alive()
    assert caught.value.unreachable


def test_certificates_are_checked(endpoint):
    sender = SignedWebhookSender(url=endpoint.url.replace("http:", "https:"), secret=SECRET)
    assert (sender._endpoint._tls.verify_mode, sender._endpoint._tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    with pytest.raises(DeliveryError, match="ConnectError") as caught:
        sender.send(FIRING, MessageRef())
    assert caught.value.unreachable
    assert endpoint.requests == []


def test_a_user_in_the_address_is_sent_as_basic_authentication(endpoint):
    url = endpoint.url.replace("http://", "http://ann:pw@")
    SignedWebhookSender(url=url, secret=SECRET).send(FIRING, MessageRef())
    assert endpoint.posts[0].headers["authorization"] == "Basic YW5uOnB3"


@pytest.mark.parametrize("status", [200, 404, 503])
def test_neither_the_address_nor_the_secret_is_logged_at_any_level(sender, endpoint, caplog, status):
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    endpoint.status = status
    with suppress(DeliveryError) if status == 200 else pytest.raises(DeliveryError) as caught:
        sender.send(FIRING, MessageRef())
    assert "whsec" not in f"{caught and caught.value} {caplog.text}"


def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(endpoint, monkeypatch):
    sender = SignedWebhookSender(url="http://hooks.example/path", secret=SECRET)
    monkeypatch.setenv("http_proxy", endpoint.url.partition("/hook")[0])
    sender.send(FIRING, MessageRef())
    assert endpoint.posts[0].path == "http://hooks.example/path"
    monkeypatch.setenv("no_proxy", "hooks.example")
    assert sender._endpoint._proxy is None


def test_it_is_checked_without_a_message(sender, endpoint):
    endpoint.status = 405
    assert sender.check() == "127.0.0.1 answers (405); cheapdeep-ops alert test sends a signed message"
    assert [each.method for each in endpoint.requests] == ["HEAD"]
    with pytest.raises(SettingsError, match="CHEAPDEEP_WEBHOOK_URL: the webhook is out of reach: ConnectError"):
        SignedWebhookSender(url="http://127.0.0.1:1/", secret=SECRET).check()
