"""A signed webhook: each message is one POST of JSON to the team's own service.

The body is one JSON object in UTF-8. These keys stay as they are while `version` is 1; others may be added:

- `version`: 1.
- `kind`: `started`, `changed`, `acknowledged`, `reminder` or `resolved` (of one incident), `digest` (of several),
  `report` (the weekly receipt) or `test`.
- `delivery`: the id of the delivery, as in the header.
- `headline`: the message in one line of plain text.
- `details`: further lines of plain text for people, such as the cause; their words may change.
- `links`: objects with `name` and `url`; empty if no address is set.
- of an incident also what `IncidentJson` has; of a digest `since`, `count`, `incidents` (each an `IncidentJson`, at
  most 20) and `pins` (old pins of thresholds, at most 20); of a receipt `since`, `until` and `receipt`, with the keys
  of `cheapdeep-ops report --json`.

It never contains a question or an answer; it contains routes as callers name them.
Times are Unix seconds; rates are from 0 to 1, with intervals of 95%.

The headers are `X-Cheapdeep-Delivery`, the id of the delivery, which stays the same at each attempt, and
`X-Cheapdeep-Signature: t=<Unix seconds>,v1=<hex>`, where `<hex>` is HMAC-SHA256 over `<t>.<body>` with the secret. A
receiver computes it over the bytes that arrived, compares in constant time, and refuses an old `t`. A message may
arrive twice, so a receiver drops an id that it has seen. `Idempotency-Key` has the same id as a quoted string, for
gateways and frameworks that drop duplicates by this header. It stays the same also if a later attempt says more, such
as when the incident began. Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header

An answer of 2xx accepts the message. After 408, 425, 429, 5xx and failures of the network it is sent again: at the time
of `Retry-After`, at most 300 s later. Any other answer refuses the message for good. Redirects are not followed.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

import httpx2

from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.notify.http_endpoint import HttpEndpoint
from cheapdeep_ops.guard.notify.messages import details, ended_at, headline, is_history, links
from cheapdeep_ops.guard.notify.sender import MessageRef, Receiver, Sender, fingerprint
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

VERSION: Final = 1
DELIVERY_HEADER: Final = "X-Cheapdeep-Delivery"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
SIGNATURE_HEADER: Final = "X-Cheapdeep-Signature"
_NOT_IN_RECEIPT: Final = frozenset({"kind", "rule", "links", "delivery_id", "since", "until"})


class Figure(TypedDict):
    """A measured value with its interval of 95% and the number of observations; null if there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None


class ThresholdJson(TypedDict):
    """The threshold in force after the evaluation, and its change in words."""

    value: float | None
    change: str


class IncidentJson(TypedDict):
    """An incident as a message describes it. `route` is null for all routes; an unknown value is null or empty."""

    incident_id: int | None
    rule: str
    signal: str
    """What the rule measures, such as `base_escalation_rate`."""
    scope: str
    route: str | None
    severity: str
    state: str
    """`firing` or `resolved`."""
    at: float | None
    started_at: float | None
    ended_at: float | None
    acknowledged: Mapping[str, Any] | None
    """Who acknowledged it: `author`, `why` and `at`."""
    headline: str
    figures: dict[str, Figure]
    limit: float | None
    threshold: ThresholdJson


def is_configured(settings: Settings) -> bool:
    """Whether the settings name an address."""
    return settings.webhook_url is not None


def make_sender(settings: Settings) -> Sender:
    """The sender to the address of the settings. Raises SettingsError if address or secret is missing."""
    if settings.webhook_url is None or settings.webhook_secret is None:
        raise SettingsError(f"the webhook is not configured: {RECEIVER.needs}")
    url, secret = settings.webhook_url.get_secret_value(), settings.webhook_secret.get_secret_value()
    try:
        return SignedWebhookSender(url=url, secret=secret)
    except httpx2.InvalidURL:
        raise SettingsError("CHEAPDEEP_WEBHOOK_URL is not a valid URL") from None


RECEIVER: Final = Receiver(
    name="webhook",
    title="webhook",
    needs="CHEAPDEEP_WEBHOOK_URL with CHEAPDEEP_WEBHOOK_SECRET",
    is_configured=is_configured,
    make_sender=make_sender,
)


class SignedWebhookSender:
    """Posts each message as signed JSON. It cannot edit a message, so each one is new."""

    def __init__(self, *, url: str, secret: str, clock: Callable[[], float] = time.time) -> None:
        self.target = fingerprint(url)  # the address may contain a secret
        self._endpoint = HttpEndpoint(url, name="the webhook", clock=clock)
        self._secret = secret.encode()
        self._clock = clock

    def accepts(self, payload: Payload) -> bool:
        """All but replies that repeat an earlier message."""
        return not is_history(payload)

    def send(self, payload: Payload, ref: MessageRef) -> MessageRef:
        """Post `payload`, unless `accepts` excludes it. Raises DeliveryError."""
        if not self.accepts(payload):
            return ref
        body = json.dumps(body_of(payload), allow_nan=False).encode()  # NaN is not JSON, and breaks strict readers
        delivery_id = str(payload.get("delivery_id", ""))
        headers = {
            "Content-Type": "application/json",
            DELIVERY_HEADER: delivery_id,
            IDEMPOTENCY_HEADER: f'"{delivery_id}"',
            SIGNATURE_HEADER: signature(self._secret, body, at=int(self._clock())),
        }
        self._endpoint.post(body, headers)
        return ref

    def check(self) -> str:
        """Send a HEAD request to the address. Any status is accepted; raises SettingsError if it is out of reach."""
        try:
            status = self._endpoint.head()
        except DeliveryError as error:
            raise SettingsError(f"CHEAPDEEP_WEBHOOK_URL: {error}") from None
        return f"{self._endpoint.host} answers ({status}); cheapdeep-ops alert test sends a signed message"


def signature(secret: bytes, body: bytes, *, at: int) -> str:
    """The value of the signature's header; `at` is in Unix seconds."""
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def body_of(payload: Payload) -> dict[str, Any]:
    """The JSON of a message, as the docstring of this module describes it."""
    envelope = {
        "version": VERSION,
        "kind": payload["kind"],
        "delivery": payload.get("delivery_id", ""),
        "headline": headline(payload),
        "details": details(payload),
        "links": [{"name": name, "url": address} for name, address in links(payload)],
    }
    if payload["kind"] == "test":
        return envelope
    if payload["kind"] == "digest":
        incidents = [_incident(each) for each in payload["items"]]
        several = {"since": payload["since"], "count": payload["count"], "incidents": incidents}
        return {**envelope, **several, "pins": list(payload.get("pins", ()))}
    if payload["kind"] == "report":
        figures = {name: value for name, value in payload.items() if name not in _NOT_IN_RECEIPT}
        return {**envelope, "since": payload["since"], "until": payload["until"], "receipt": figures}
    return {**envelope, **_incident(payload)}  # flat, because nearly all messages are about one incident


def _incident(payload: Payload) -> IncidentJson:
    scope, signal = payload["scope"], payload["signal"]
    return {
        "incident_id": payload.get("incident_id"),
        "rule": payload["rule"],
        "signal": payload.get("about", ""),
        "scope": scope,
        "route": None if scope == ALL_ROUTES else scope,
        "severity": payload.get("severity", ""),
        "state": "resolved" if payload["kind"] == "resolved" else "firing",
        "at": payload.get("at"),
        "started_at": payload.get("started_at"),
        # Only the last message of an incident says how long it lasted.
        "ended_at": ended_at(payload),
        "acknowledged": payload.get("acknowledged"),
        "headline": headline(payload),
        "figures": _figures(signal),
        "limit": signal.get("limit"),
        "threshold": {"value": payload.get("effective_threshold"), "change": payload.get("threshold", "")},
    }


def _figures(signal: Mapping[str, Any]) -> dict[str, Figure]:
    """Each measured value of a signal by its name; the keys of its interval and n share a prefix with it."""
    rates = {name: name.removesuffix("rate") for name in signal if name == "rate" or name.endswith("_rate")}
    others = {name: f"{name}_" for name in signal if f"{name}_low" in signal}
    return {name: _figure(signal, name, prefix) for name, prefix in (rates | others).items()}


def _figure(signal: Mapping[str, Any], name: str, prefix: str) -> Figure:
    low, high, n = (signal.get(f"{prefix}{each}") for each in ("low", "high", "n"))
    return {"value": signal[name], "low": low, "high": high, "n": n}
