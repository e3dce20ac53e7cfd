"""What `doctor` looks at: each check finds something, says whether it is well, and what to mend."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cheapdeep_ops.claude.profiles import UNKNOWN, profile_of
from cheapdeep_ops.cli.guards.protocol import connected
from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.lifecycle_check import request_lifecycles
from cheapdeep_ops.guard.notify.notifier import LogSender
from cheapdeep_ops.guard.notify.slack import BotSender, sender_for
from cheapdeep_ops.guard.report_types.state import Watchers
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.self_monitoring import fleet
from cheapdeep_ops.guard.rules.self_monitoring.reader import models_of
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.settings import Settings, is_web_address
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import revision, schema_trouble
from cheapdeep_ops.telemetry.setup import SIGNALS, endpoint_of, is_asked_for
from cheapdeep_ops.values import ALL_ROUTES

_OTLP_DEFAULT: Final = "http://localhost:4318"
_CONNECT_S: Final = 3.0
_CLOCK_SLACK_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: `ok` is False where something must be mended."""

    name: str
    ok: bool
    found: str

    @property
    def mark(self) -> str:
        """How it came out."""
        return "ok  " if self.ok else "MEND"

    def as_dict(self) -> dict[str, Any]:
        """The finding as a plain object."""
        return asdict(self)


def examine(settings: Settings) -> list[Check]:
    """Run every check; one that breaks is a finding like any other."""
    return [_run(name, check, settings) for name, check in _CHECKS]


def _run(name: str, check: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name=name, ok=True, found=check(settings))
    except (CheapdeepError, _Problem, OSError) as error:
        return Check(name=name, ok=False, found=str(error))
    except Exception as error:  # noqa: BLE001 - whatever breaks a check is what the reader came to learn
        return Check(name=name, ok=False, found=f"the check broke: {type(error).__name__}: {error}")


class _Problem(Exception):  # noqa: N818 - a finding, not an error that anyone outside sees
    """What must be mended, in words."""


def _key(_settings: Settings) -> str:
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        raise _Problem("no ANTHROPIC_API_KEY is set: routers cannot call the API from here")
    return "set"


def _models(settings: Settings) -> str:
    prices, now = PriceBook(settings.price_overrides), time.time()
    unpriced = [model for model in settings.tiers if prices.prices(model, at=now) is None]
    if unpriced:
        raise _Problem(f"no price is known for {', '.join(unpriced)}: set CHEAPDEEP_PRICE_OVERRIDES")
    unknown = [model for model in settings.tiers if profile_of(model) is UNKNOWN]
    note = f"; nothing is known of what {', '.join(unknown)} refuses" if unknown else ""
    return " -> ".join(settings.tiers) + note


def _lives(settings: Settings) -> str:
    """What the API says now of the models in use, each asked for once."""
    now, names = time.time(), models_of(settings)
    lives = [fleet.ModelLifecycle(**asdict(found), checked_at=now) for found in request_lifecycles(names)]
    if ending := fleet.retiring(names, lives, now).signal["why"]:
        raise _Problem(f"{ending}: name another in CHEAPDEEP_TIERS or CHEAPDEEP_GRADER_MODEL")
    unknown = [name for name in names if name not in {life.model for life in lives}]
    said = ", ".join(f"{life.model} {life.lifecycle}" for life in lives)
    return "; ".join(part for part in (said, f"not known of {', '.join(unknown)}" if unknown else "") if part)


def _store(settings: Settings) -> str:
    store = Store(settings.store_url)
    try:
        if not store.exists:
            folder = Path(store.url.database or ".").parent
            if not os.access(folder, os.W_OK):
                raise _Problem(f"{store.shown_url} does not exist, and {folder} is not writable")
            return f"{store.shown_url} will be made at first use"
        with store.reading() as connection:
            found, trouble = revision(connection), schema_trouble(connection)
        if trouble:
            raise _Problem(f"{store.shown_url} {trouble}")
        return f"{store.shown_url} at {found}"
    finally:
        store.close()


def _watchers(settings: Settings) -> Watchers | None:
    """The processes that wrote a heartbeat within a minute; None if there is no store yet."""
    store = Store(settings.store_url)
    try:
        return present(store, settings, time.time())["watchers"] if store.exists else None
    finally:
        store.close()


def _guard(settings: Settings) -> str:
    state = _watchers(settings)
    if state is None:
        return "not checked: there is no store yet"
    others = [base for base in state["router_base_thresholds"] if base != settings.base_threshold]
    if others:
        raise _Problem(f"routers run with base threshold {others}, the setting here is {settings.base_threshold}")
    if not state["guards"]:
        raise _Problem("no guard has written a heartbeat in the last minute: run cheapdeep-ops serve on the same store")
    return f"seen in the last minute: guards {state['guards']}, routers {state['routers']}"


def _elsewhere(settings: Settings) -> str:
    """Whether the guard that commands ask over HTTP answers, and knows the token."""
    if settings.guard_url is None:
        return "commands use the store; CHEAPDEEP_GUARD_URL would name a guard to ask over HTTP"
    with connected(settings) as guard:
        guard.policy()
        if settings.guard_token is None:
            return "answers; CHEAPDEEP_GUARD_TOKEN is not set, so commands can change nothing there"
        guard.next_sample(ALL_ROUTES, skipped=())  # needs a token, and changes nothing
    return "answers, and knows the token"


def _rules(settings: Settings) -> str:
    rules = read_rulebook(settings.rules_file).rules
    return ", ".join(rule.alert for rule in rules)


def _grader(settings: Settings) -> str:
    """Whether grading can work, and does."""
    if not settings.graded_share:
        return "off: CHEAPDEEP_SAMPLE_RATE or CHEAPDEEP_RETAIN_CONTENT_DAYS is 0, so false confidence stays unknown"
    if PriceBook(settings.price_overrides).prices(settings.grader_model, at=time.time()) is None:
        raise _Problem(f"no price is known for the grader {settings.grader_model}: set CHEAPDEEP_PRICE_OVERRIDES")
    store = Store(settings.store_url)
    try:
        found = present(store, settings, time.time())["grader"] if store.exists else {"state": "idle", "why": ""}
    finally:
        store.close()
    if found["why"]:
        raise _Problem(f"{found['state']}: {found['why']}")
    return f"{found['state']}: {settings.sample_rate:.2%} of confident answers by {settings.grader_model}"


def _slack(settings: Settings) -> str:
    sender = sender_for(settings)
    if isinstance(sender, LogSender):
        raise _Problem("not set up: set CHEAPDEEP_SLACK_BOT_TOKEN with _CHANNEL, or CHEAPDEEP_SLACK_WEBHOOK_URL")
    if isinstance(sender, BotSender):
        return sender.check()
    return "a webhook is set; cheapdeep-ops alert test tries it"


def _telemetry(_settings: Settings) -> str:
    asked = [signal for signal in SIGNALS if is_asked_for(signal)]
    if not asked:
        return "nothing is exported (set OTEL_EXPORTER_OTLP_ENDPOINT to change that)"
    return ", ".join(sorted({_answering(endpoint_of(signal) or _OTLP_DEFAULT) for signal in asked}))


def _answering(endpoint: str) -> str:
    if not is_web_address(endpoint):
        raise _Problem("OTEL_EXPORTER_OTLP_ENDPOINT needs a URL of the form http://host:port")
    parts = urlsplit(endpoint)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # a user's password stays out
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "localhost", port), _CONNECT_S).close()
    except OSError as error:
        raise _Problem(f"{shown} does not answer: {error}") from None
    return f"{shown} answers"


def _clock(settings: Settings) -> str:
    """Whether the guard's clock runs ahead of this one; a guard that lags cannot be told from one that was stopped."""
    watchers = _watchers(settings)
    seen = watchers and watchers["guard_last_seen"]
    if seen is None:
        return "not checked: no guard has written a heartbeat"
    ahead_s = seen - time.time()
    if ahead_s > _CLOCK_SLACK_S:
        raise _Problem(f"the guard's clock is {ahead_s:.0f} s ahead of this one: synchronise both")
    return "the guard's is not ahead"


_CHECKS: Final = (
    ("API key", _key),
    ("models", _models),
    ("retiring", _lives),
    ("store", _store),
    ("guard", _guard),
    ("guard over HTTP", _elsewhere),
    ("rules", _rules),
    ("grader", _grader),
    ("Slack", _slack),
    ("OTLP", _telemetry),
    ("clock", _clock),
)
