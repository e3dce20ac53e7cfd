"""The text of the pages: reports in, lines and rows of text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.formatting import (
    bounded,
    coverage,
    duration,
    exact_money,
    percent,
    plain,
    rate,
    scope_text,
    timestamp,
    two_digits,
    waiting_time,
)
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.report_types.figures import CallFigures, FalseConfidence, Latest
from cheapdeep_ops.guard.report_types.labels import Review
from cheapdeep_ops.guard.report_types.state import Policy, Present, Silence
from cheapdeep_ops.guard.state_text import outcomes_words
from cheapdeep_ops.store.records import (
    Acknowledged,
    Alert,
    Incident,
    IncidentMessage,
    IncidentStory,
    PolicyChange,
)

Rows = Sequence[Sequence[str]]
_QUIET: Final = "inactive"
_LONGEST: Final = 240
"""The longest text of a person or an error on a page, in characters."""

ROUTES: Final = ("route", "threshold", "calls", "escalated at base", "escalated", "wrong among shipped")
INCIDENTS: Final = ("incident", "scope", "began", "lasted", "acknowledged by", "last message")
CHANGES: Final = ("version", "at", "scope", "act", "from", "to", "who", "why", "in force")
ALERTS: Final = ("incident", "alert", "scope", "state", "since", "acknowledged by", "silenced until")


_OF_THE_COMMAND_LINE: Final = ("acknowledged", "incident_id")
"""Keys of a message that pages leave out, because they read the acknowledgement from the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceCard:
    """A silence that has not ended; `route` is None if it applies to all routes."""

    id: int
    rule: str
    route: str | None
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident on a page: a title, lines below it, its acknowledgement and its silences."""

    incident: int
    rule: str
    scope: str
    title: str
    lines: tuple[str, ...]
    acknowledged: str
    silences: tuple[SilenceCard, ...]
    is_over: bool


def figures(latest: Latest) -> dict[str, str]:
    """The figures of a period."""
    return {
        "calls": f"{latest['calls']:,}; {latest['shipped']:,} shipped, {latest['escalated']:,} escalated, "
        f"{latest['bypassed']:,} bypassed triage, {latest['errors']:,} ended in an error",
        "escalated at base": _base(latest),
        "escalated": _escalated(latest),
        "wrong among shipped": f"{_wrong(latest)}; by the grader, {latest['judge_correction']}",
        "escalated by a raised threshold": f"{latest['withheld']:,} calls",
        "cost": f"{exact_money(latest['cost_per_call_usd'])} a call; all-deep (estimate) "
        f"{exact_money(latest['baseline_per_call_usd'])}; saving {percent(latest['saving'])}"
        f"{coverage(latest['unpriced_calls'], latest['calls'])}; {latest['unpriced_calls']:,} calls unpriced",
    }


def _base(calls: CallFigures) -> str:
    return rate(calls["base_escalation_rate"], calls["base_escalation_interval"], calls["triaged"])


def _escalated(calls: CallFigures) -> str:
    return rate(calls["escalation_rate"], calls["escalation_interval"], calls["triaged"])


def _wrong(quality: FalseConfidence) -> str:
    return rate(quality["false_confident_rate"], quality["false_confident_interval"], quality["graded"])


def state(status: Present) -> dict[str, str]:
    """The state of policy, grader, queue and processes."""
    policy, grader, queue, watchers = status["policy"], status["grader"], status["queue"], status["watchers"]
    raised = f"base {policy['base']:g}, raised {policy['raised']:g}"
    problem = f": {plain(grader['why'], _LONGEST)}" if grader["why"] else ""
    last_error = f"; last error: {plain(queue['last_error'], _LONGEST)}" if queue["last_error"] else ""
    return {
        "threshold of all routes": f"{policy['threshold']:g} ({raised}; mode {status['mode']})",
        "grader": f"{grader['state']}{problem}; {grader['model']}, last grade {timestamp(grader['last_grade_at'])}; "
        f"{exact_money(grader['spent_24h_usd'])} of {exact_money(grader['limit_24h_usd'])} spent in 24 hours",
        "samples that wait": f"{grader['waiting']:,}{_oldest(grader['oldest_wait_s'])}",
        "user outcomes, 24 hours": outcomes_words(status["outcomes"]),
        "messages": f"{queue['waiting']:,} wait, {queue['delivered']:,} delivered{last_error}",
        "guards and routers": f"{watchers['guards']} and {watchers['routers']} seen in the last minute; "
        f"{watchers['dropped']:,} decisions dropped, {watchers['late']:,} calls too late to count",
        "last heartbeat of a guard": timestamp(watchers["guard_last_seen"]),
    }


def _oldest(wait_s: float | None) -> str:
    return "" if wait_s is None else f", the oldest for {waiting_time(wait_s)}"


def route_rows(policy: Policy, by_route: Mapping[str, Latest]) -> Rows:
    """The threshold and the figures of each route."""
    return [
        (
            plain(name),
            threshold(policy, name),
            f"{latest['calls']:,}",
            _base(latest),
            _escalated(latest),
            _wrong(latest),
        )
        for name, latest in sorted(by_route.items())
    ]


def threshold(policy: Policy, route: str) -> str:
    """The threshold in force for a route, and its cause."""
    scope = policy["scopes"].get(route)
    if scope is None:
        return f"{policy['threshold']:g}"
    if scope["pin"] is not None:
        return f"{scope['threshold']:g}, pinned by a person"
    held = ", ".join(plain(cause) for cause in scope["causes"])
    return f"{scope['threshold']:g}, held by {held}" if held else f"{scope['threshold']:g}"


def alert_rows(alerts: Sequence[Alert], stories: Sequence[Incident], silences: Sequence[Silence]) -> Rows:
    """The alerts that are pending or firing; `stories` are their incidents, `silences` the active ones."""
    active = [each for each in alerts if each["state"] != _QUIET]
    authors: dict[int | None, str] = {each["id"]: _author(each) for each in stories}
    return [
        (
            "" if each["incident_id"] is None else str(each["incident_id"]),
            plain(each["rule"]),
            scope_text(each["scope"]),
            plain(each["state"]),
            timestamp(each["since"]),
            authors.get(each["incident_id"], ""),
            _silenced_until(silences_of(each["rule"], each["scope"], silences)),
        )
        for each in sorted(active, key=lambda each: -each["since"])
    ]


def silences_of(rule: str, scope: str, silences: Sequence[Silence]) -> list[Silence]:
    """The silences that suppress the messages of a rule in a scope."""
    return [each for each in silences if each["rule"] == rule and each["route"] in (None, scope)]


def _silenced_until(silences: Sequence[Silence]) -> str:
    return timestamp(max(each["until"] for each in silences)) if silences else ""


def silence_cards(silences: Sequence[Silence]) -> tuple[SilenceCard, ...]:
    """The silences as cards."""
    return tuple(
        SilenceCard(id=each["id"], rule=each["rule"], route=each["route"], line=_silence(each)) for each in silences
    )


def _silence(silence: Silence) -> str:
    where = "in all routes" if silence["route"] is None else f"in {scope_text(silence['route'])}"
    by = f"{plain(silence['author'])}: {plain(silence['why'], _LONGEST)}"
    about = f"Silence {silence['id']}: {plain(silence['rule'])} {where}"
    return f"{about} is silenced until {timestamp(silence['until'])} by {by}"


def incident_card(incident: Incident, silences: Sequence[Silence] = ()) -> IncidentCard:
    """The last message about an incident, its acknowledgement, and its silences."""
    message = {name: value for name, value in incident["announced"].items() if name not in _OF_THE_COMMAND_LINE}
    # An incident that was silenced from its start has no message.
    title = headline(message) if message else f"{plain(incident['rule'])}: {scope_text(incident['scope'])}"
    return IncidentCard(
        incident=incident["id"],
        rule=incident["rule"],
        scope=incident["scope"],
        title=title,
        lines=tuple(details(message)) if message else (),
        acknowledged=_acknowledged(incident["acknowledged"]),
        silences=silence_cards(silences_of(incident["rule"], incident["scope"], silences)),
        is_over=incident["resolved_at"] is not None,
    )


def _acknowledged(by: Acknowledged | None) -> str:
    if by is None:
        return "Not acknowledged"
    return f"Acknowledged by {plain(by['author'])}, {timestamp(by['at'])}: {plain(by['why'], _LONGEST)}"


def _author(incident: Incident) -> str:
    return plain(incident["acknowledged"]["author"]) if incident["acknowledged"] else ""


def incident_rows(incidents: Sequence[Incident]) -> Rows:
    """The incidents, one in each row."""
    return [
        (
            f"{each['id']} {plain(each['rule'])}",
            scope_text(each["scope"]),
            timestamp(each["started_at"]),
            lasted(each),
            _author(each),
            incident_card(each).title,
        )
        for each in incidents
    ]


def lasted(incident: Incident) -> str:
    """The duration of an incident; `still open` if it has not ended."""
    if incident["resolved_at"] is None:
        return "still open"
    return duration(incident["resolved_at"] - incident["started_at"])


def incident_facts(story: IncidentStory) -> dict[str, str]:
    """The scope, the start and the duration of an incident."""
    return {
        "scope": scope_text(story["scope"]),
        "began": timestamp(story["started_at"]),
        "lasted": lasted(story),
    }


def message_rows(messages: Sequence[IncidentMessage]) -> Rows:
    """The messages about an incident, with the time of delivery."""
    return [(timestamp(each["created_at"]), headline(each["payload"]), _arrival(each)) for each in messages]


def _arrival(message: IncidentMessage) -> str:
    if message["delivered_at"] is not None:
        return timestamp(message["delivered_at"])
    states = {each["state"] for each in message["deliveries"]}
    state = ", ".join(sorted(states)) if states and "waiting" not in states else "not yet"
    return f"{state}: {plain(message['error'], _LONGEST)}" if message["error"] else state


def change_rows(changes: Sequence[PolicyChange]) -> Rows:
    """The policy changes with time, author and reason."""
    return [
        (
            str(each["version"]),
            timestamp(each["at"]),
            scope_text(each["scope"]),
            plain(each["act"]),
            f"{each['from_threshold']:g}",
            f"{each['to_threshold']:g}",
            plain(each["author"] or each["cause"]),
            plain(each["why"], _LONGEST) if each["why"] else "",
            "yes" if each["applied"] else "no",
        )
        for each in changes
    ]


def review_facts(review: Review) -> dict[str, str]:
    """How far the grader agrees with people, and how many labels are missing."""
    needed, waiting = review["needed"], review["waiting"]
    return {
        "grader": f"{plain(review['judge']['model'])}, prompt {plain(review['judge']['prompt'])}",
        "labels": _labels(review),
        "agreement (kappa)": bounded(review["kappa"], review["kappa_interval"], two_digits),
        "wrong answers that it detects": bounded(review["tpr"], review["tpr_interval"]),
        "right answers that it rejects": bounded(review["fpr"], review["fpr_interval"]),
        "labels still needed": f"{needed['judged_correct']} of answers graded correct, "
        f"{needed['judged_incorrect']} of answers graded incorrect",
        "answers that can be labelled": f"{waiting['judged_correct']:,} and {waiting['judged_incorrect']:,}",
    }


def _labels(review: Review) -> str:
    if not review["authors"]:
        return "no labels yet"
    return f"{review['labels']:,}, by {', '.join(map(plain, review['authors']))}"
