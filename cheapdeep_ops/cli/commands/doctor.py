"""The checks of `doctor`: each one reports a state, or a problem and its repair."""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cheapdeep_ops.access.known_tokens import exposed, read_tokens
from cheapdeep_ops.addresses import is_web_address
from cheapdeep_ops.claude.profiles import UNKNOWN, is_assumed, profile_of
from cheapdeep_ops.claude.rubric import grading_request
from cheapdeep_ops.cli.guard_client import connected
from cheapdeep_ops.errors import CheapdeepError, SettingsError
from cheapdeep_ops.guard.formatting import duration, plain, skew_text
from cheapdeep_ops.guard.lifecycle_check import request_lifecycles
from cheapdeep_ops.guard.notify.receivers import RECEIVERS, bot_channels, configured, receivers_of
from cheapdeep_ops.guard.notify.sender import Receiver
from cheapdeep_ops.guard.report_types.state import Watchers
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.self_monitoring import fleet
from cheapdeep_ops.guard.rules.self_monitoring.reader import models_of
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.recorder.guard_connection import GuardConnection
from cheapdeep_ops.recorder.policy_follower import refusal
from cheapdeep_ops.recorder.wire import POLICIES_PATH, WIRE_HEADER, WIRE_VERSION
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import anchors, processes
from cheapdeep_ops.store.clock import SKEW_S
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import require_writable, revision, schema_trouble
from cheapdeep_ops.telemetry.setup import SIGNALS, endpoint_of, is_asked_for
from cheapdeep_ops.values import Grade, TextTurn, Usage

_OTLP_DEFAULT: Final = "http://localhost:4318"
_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 5.0
_COMPARED: Final = Usage(input_tokens=1_000, output_tokens=1_000)
"""The tokens by whose cost the prices of tiers are compared."""
_EASY_QUESTION: Final = (TextTurn(role="user", text="How many days are in a week?"),)
_EASY_ANSWER: Final = "There are seven days in a week."
_LONGEST_REPLY: Final = 300
"""Characters of a grader's reply that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check; `ok` is False if something must be repaired."""

    name: str
    ok: bool
    found: str
    """The state, or the problem and its repair."""

    @property
    def mark(self) -> str:
        """The result in four characters."""
        return "ok  " if self.ok else "FAIL"

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        return asdict(self)


def examine(settings: Settings, *, asks_grader: bool = False) -> list[Check]:
    """Run all checks; `asks_grader` adds one that costs money. An exception in a check is a problem too."""
    asked = [(f"grader {model}", partial(_graders_answer, model)) for model in _graders(settings)]
    return [_run(name, check, settings) for name, check in (*_CHECKS, *(asked if asks_grader else ()))]


def _run(name: str, check: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name=name, ok=True, found=check(settings))
    except (CheapdeepError, _Problem, OSError) as error:
        return Check(name=name, ok=False, found=str(error))
    except Exception as error:  # noqa: BLE001 - a check that fails must not hide the others
        return Check(name=name, ok=False, found=f"the check failed: {type(error).__name__}: {error}")


class _Problem(Exception):  # noqa: N818 - the result of a check, which leaves this module as a Check
    """Something that must be repaired, in words."""


def _key(_settings: Settings) -> str:
    if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
        raise _Problem("no ANTHROPIC_API_KEY is set: routers cannot call the API from here")
    return "set"


def _models(settings: Settings) -> str:
    prices, now = PriceBook(settings.price_overrides), time.time()
    unpriced = [model for model in settings.tiers if prices.prices(model, at=now) is None]
    if unpriced:
        raise _Problem(f"no price is known for {', '.join(unpriced)}: set CHEAPDEEP_PRICE_OVERRIDES")
    _check_order(settings.tiers, {model: prices.cost(model, _COMPARED, at=now) or 0.0 for model in settings.tiers})
    unknown = [model for model in settings.tiers if profile_of(model) is UNKNOWN]
    note = f"; unknown which parameters {', '.join(unknown)} refuses" if unknown else ""
    return " -> ".join(settings.tiers) + note + "".join(map(_assumption, filter(is_assumed, settings.tiers)))


def _assumption(model: str) -> str:
    profile = profile_of(model)
    newest = f"{profile.family.title()} {'.'.join(map(str, profile.version))}"
    return f"; {model} is not known yet, and is asked as {newest} (known since {profile.known_since})"


def _check_order(tiers: Sequence[str], costs: Mapping[str, float]) -> None:
    """Raise _Problem if a tier costs more than a later one, so that routing would cost more than it saves."""
    cheapest_first = sorted(tiers, key=lambda model: costs[model])
    # Tiers of one price keep their order.
    if cheapest_first == list(tiers):
        return
    dear, cheap = next((a, b) for a, b in pairwise(tiers) if costs[a] > costs[b])
    raise _Problem(
        f"the tiers {','.join(tiers)} are in the wrong order, because {dear} costs more than {cheap}: the cheapest "
        f"comes first, so set CHEAPDEEP_TIERS={','.join(cheapest_first)}"
    )


def _lifecycles(settings: Settings) -> str:
    """The lifecycle of each model in use, as the API reports it now."""
    now, names = time.time(), models_of(settings)
    lifecycles = [fleet.ModelLifecycle(**asdict(each), checked_at=now) for each in request_lifecycles(names)]
    if ending := fleet.retiring(names, lifecycles, now).signal["why"]:
        raise _Problem(f"{ending}: set another model in CHEAPDEEP_TIERS or CHEAPDEEP_GRADER_MODEL")
    unknown = [name for name in names if name not in {each.model for each in lifecycles}]
    known = ", ".join(f"{each.model} {each.lifecycle}" for each in lifecycles)
    return "; ".join(part for part in (known, f"unknown for {', '.join(unknown)}" if unknown else "") if part)


def _store(settings: Settings) -> str:
    if settings.is_store_remote:
        return f"at the guard {settings.store_url}: this service needs no database"
    store = Store(settings.store_url)
    try:
        if not store.exists:
            folder = Path(store.url.database or ".").parent
            if not os.access(folder, os.W_OK):
                raise _Problem(f"{store.shown_url} does not exist, and {folder} is not writable")
            # A router or `serve` creates the SQLite file, so a missing one is no problem yet.
            return f"{store.shown_url} will be created at first use"
        with store.reading() as connection:
            current, trouble = revision(connection), schema_trouble(connection)
        if trouble:
            raise _Problem(f"{store.shown_url} {trouble}")
        require_writable(store)
        return f"{store.shown_url} at {current}"
    finally:
        store.close()


def _watchers(settings: Settings) -> Watchers | None:
    """The processes that wrote a heartbeat in the last minute; None if there is no store yet."""
    store = Store(settings.store_url)
    try:
        return present(store, settings, processes.clock_of(store)())["watchers"] if store.exists else None
    finally:
        store.close()


def _guard(settings: Settings) -> str:
    if settings.is_store_remote:
        return "not checked: the guard itself has the store"
    state = _watchers(settings)
    if state is None:
        return "not checked: there is no store yet"
    # The rules read base outcomes, which each router computes with its own base threshold.
    others = [base for base in state["router_base_thresholds"] if base != settings.base_threshold]
    if others:
        raise _Problem(f"routers run with base threshold {others}, but the setting here is {settings.base_threshold}")
    if not state["guards"]:
        raise _Problem("no guard has written a heartbeat in the last minute: run cheapdeep-ops serve on the same store")
    if not state["evaluates"]:
        raise _Problem("a guard runs but does not evaluate the rules: look at the log of cheapdeep-ops serve")
    return f"seen in the last minute: guards {state['guards']}, routers {state['routers']}"


def _remote_guard(settings: Settings) -> str:
    """Whether the guard answers that commands ask, or to which this service sends, and knows the token."""
    if settings.is_store_remote:
        return _sending(settings)
    if settings.guard_url is None:
        return "not set up: commands use the store (set CHEAPDEEP_GUARD_URL to use a guard over HTTP)"
    with connected(settings) as guard:
        guard.read("policy")
        if settings.guard_token is None:
            return "answers; CHEAPDEEP_GUARD_TOKEN is not set, so commands can only read"
        guard.read("review/next")  # needs a token but changes nothing
    return "answers, and knows the token"


def _sending(settings: Settings) -> str:
    """Whether a router with these settings could follow the policies, and send."""
    shown_url, said = _state_of_guard(settings)
    age_s = said.get("evaluated_age_s")
    if age_s is None:
        raise _Problem(f"{shown_url} answers, but no guard evaluates its store: look at its log")
    return f"{shown_url} takes counts from here; it evaluated {duration(age_s)} ago"


def _state_of_guard(settings: Settings) -> tuple[str, Mapping[str, Any]]:
    """The guard to which this service sends, and what that answers to a router that begins."""
    token = settings.guard_token.get_secret_value() if settings.guard_token else ""
    connection = GuardConnection(settings.store_url, token=token)
    try:
        headers = {WIRE_HEADER: str(WIRE_VERSION)}
        answer = connection.ask("GET", POLICIES_PATH, headers=headers, timeout_s=_ANSWER_S)
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise _Problem(refusal(connection, answer))
    return connection.shown_url, answer.body


def _tokens(settings: Settings) -> str:
    """Whether the file of tokens can be read, is private, and has no token that has expired."""
    path = settings.api_tokens_file
    if path is None:
        return "not set up: there are no tokens with names (CHEAPDEEP_API_TOKENS_FILE, cheapdeep-ops keys make)"
    tokens, now = read_tokens(path), time.time()
    if problem := exposed(path, path.stat().st_mode):
        raise _Problem(problem)
    if expired := [token.name for token in tokens if token.has_expired(now)]:
        names = ", ".join(expired)
        raise _Problem(f"{path} has tokens that have expired: {names}; remove them with cheapdeep-ops keys revoke")
    return f"{path} has {len(tokens)} tokens"


def _rules(settings: Settings) -> str:
    rules = read_rulebook(settings.rules_file).rules
    return ", ".join(rule.alert for rule in rules)


def _grader(settings: Settings) -> str:
    """Whether grading is configured and works."""
    if not settings.graded_share:
        return "off: CHEAPDEEP_SAMPLE_RATE or CHEAPDEEP_RETAIN_CONTENT_DAYS is 0, so false confidence stays unknown"
    if PriceBook(settings.price_overrides).prices(settings.grader_model, at=time.time()) is None:
        raise _Problem(f"no price is known for the grader {settings.grader_model}: set CHEAPDEEP_PRICE_OVERRIDES")
    if settings.is_store_remote:
        return "not checked: the guard grades, with its own settings"
    store = Store(settings.store_url)
    try:
        grader = present(store, settings, time.time())["grader"] if store.exists else {"state": "idle", "why": ""}
    finally:
        store.close()
    if grader["why"]:
        raise _Problem(f"{grader['state']}: {grader['why']}")
    return f"{grader['state']}: {settings.sample_rate:.2%} of confident answers by {settings.grader_model}"


def _labelled_answers(settings: Settings) -> str:
    """Whether the text of labelled answers is kept, and how many can be graded again."""
    days = f"{settings.retain_content_days:g} days"
    if not settings.kept_anchors:
        return (
            f"not kept: those of the last {days} are graded again (CHEAPDEEP_KEEP_ANCHORS=true keeps their text longer)"
        )
    most = f"at most {settings.kept_anchors}, for {settings.retain_anchors_days:g} days (CHEAPDEEP_KEEP_ANCHORS)"
    if settings.is_store_remote:
        return f"the guard keeps text by its own settings; by those here {most}"
    store = Store(settings.store_url)
    try:
        if not store.exists:
            return f"none kept yet; {most}"
        with store.reading() as connection:
            return f"redacted text of {anchors.count(connection)} kept; {most}"
    finally:
        store.close()


def _graders(settings: Settings) -> list[str]:
    return [model for model in (settings.grader_model, settings.second_grader_model) if model is not None]


def _graders_answer(model: str, settings: Settings) -> str:
    """Have the grader grade a right answer, and report what came back."""
    # Loaded here, because the SDK loads slowly and only this check needs it.
    from cheapdeep_ops.claude.grade_request import GraderApi

    api = GraderApi()
    try:
        result, text = api.ask(grading_request(_EASY_QUESTION, _EASY_ANSWER, model=model))
    finally:
        api.close()
    usage, now = result.usage, time.time()
    cost = None if usage is None else PriceBook(settings.price_overrides).cost(model, usage, at=now, batch=False)
    paid = "cost unknown" if cost is None else f"${cost:.4f}"
    if result.grade is None:
        said = plain(text, _LONGEST_REPLY) if text else result.reason or "nothing"
        raise _Problem(f"its reply is no grade ({result.failure}, {paid}): {said}")
    if result.grade is not Grade.CORRECT:
        raise _Problem(f"it grades a right answer as {result.grade} ({paid}): {plain(result.reason, _LONGEST_REPLY)}")
    return f"it grades a right answer as {result.grade} ({paid}): {plain(result.reason, _LONGEST_REPLY)}"


def _receiver(receiver: Receiver, settings: Settings) -> str:
    """The receiver's own check. Without any receiver, the first one is the problem."""
    named = () if settings.is_store_remote else read_rulebook(settings.rules_file).receivers
    if named and all(each.receiver != receiver.name for each in named):
        return "not used: the rules file names the receivers"
    if receiver.is_configured(settings):
        return receiver.make_sender(settings).check()
    if settings.is_store_remote:
        return "not checked: the guard sends messages, with its own settings"
    if receiver is RECEIVERS[0] and not configured(settings) and not named:
        raise _Problem(f"not set up, and no other receiver is: set {receiver.needs}")
    return "not set up"


def _recipients(settings: Settings) -> str:
    """The checks of the receivers in the rules file."""
    recipients = read_rulebook(settings.rules_file).receivers
    if not recipients:
        return "none in the rules file: each receiver that is set up is sent all messages"
    if settings.is_store_remote:
        return "not checked: the guard sends messages, with its own settings"
    said, problems = [], []
    for each in receivers_of(recipients):
        try:
            said.append(f"{each.name}: {each.make_sender(settings).check()}")
        except SettingsError as error:
            problems.append(f"{each.name}: {error}")
    if problems:
        raise _Problem("; ".join(problems))
    return "; ".join(said)


def _buttons(settings: Settings) -> str:
    """Whether people can act from Slack."""
    if settings.is_store_remote:
        return "not checked: the guard receives clicks, with its own settings"
    # Loaded here, because only this check needs it.
    from cheapdeep_ops.guard.slack_actions.check import check_buttons

    return check_buttons(settings, bot_channels(settings, read_rulebook(settings.rules_file).receivers))


def _telemetry(_settings: Settings) -> str:
    exported = [signal for signal in SIGNALS if is_asked_for(signal)]
    if not exported:
        return "not set up: no telemetry is exported (set OTEL_EXPORTER_OTLP_ENDPOINT to export it)"
    return ", ".join(sorted({_answering(endpoint_of(signal) or _OTLP_DEFAULT) for signal in exported}))


def _answering(endpoint: str) -> str:
    """Whether a TCP connection to the endpoint opens."""
    if not is_web_address(endpoint):
        raise _Problem("OTEL_EXPORTER_OTLP_ENDPOINT needs a URL of the form http://host:port")
    parts = urlsplit(endpoint)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # without a user's password
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "localhost", port), _CONNECT_S).close()
    except OSError as error:
        raise _Problem(f"{shown} does not answer: {error}") from None
    return f"{shown} answers"


def _clock(settings: Settings) -> str:
    """Whether the clocks of this host, and of those whose processes run, agree with the store's time."""
    if settings.is_store_remote:
        return _clock_beside_guard(settings)
    store = Store(settings.store_url)
    try:
        if not store.exists:
            return "not checked: there is no store yet"
        here_s = processes.clock_of(store).ahead_s
        hosts = present(store, settings, time.time() - here_s)["watchers"]["skewed_hosts"]
    finally:
        store.close()
    if abs(here_s) > SKEW_S:
        hosts = {**hosts, socket.gethostname(): here_s}
    _check_skew(hosts)
    return "the clocks of this host and of all running processes agree with the store's time"


def _clock_beside_guard(settings: Settings) -> str:
    """Whether the clock of this host agrees with the store's time, as the guard tells it."""
    asked_at = time.time()
    shown_url, said = _state_of_guard(settings)
    here_s = (asked_at + time.time()) / 2 - said["time"]
    _check_skew({socket.gethostname(): here_s} if abs(here_s) > SKEW_S else {})
    return f"the clock of this host agrees with the store's time at {shown_url}"


def _check_skew(hosts: Mapping[str, float]) -> None:
    """Raise _Problem for hosts whose clocks differ by these seconds, if there are any."""
    if hosts:
        raise _Problem(f"{skew_text(hosts)} of the store's time: synchronise their clocks; counts and rules are right")


_CHECKS: Final[tuple[tuple[str, Callable[[Settings], str]], ...]] = (
    ("API key", _key),
    ("models", _models),
    ("retiring", _lifecycles),
    ("store", _store),
    ("guard", _guard),
    ("guard over HTTP", _remote_guard),
    ("tokens", _tokens),
    ("rules", _rules),
    ("grader", _grader),
    ("labelled answers", _labelled_answers),
    *((receiver.title, partial(_receiver, receiver)) for receiver in RECEIVERS),
    ("receivers", _recipients),
    ("Slack buttons", _buttons),
    ("OTLP", _telemetry),
    ("clock", _clock),
)
