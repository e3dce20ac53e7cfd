"""The words of the pages: reports in, lines and rows of text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.formatting import (
    bounded,
    duration,
    exact_money,
    percent,
    plain,
    rate,
    scope_text,
    timestamp,
    two_digits,
)
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.report_types.figures import CallFigures, FalseConfidence, Latest
from cheapdeep_ops.guard.report_types.labels import Review
from cheapdeep_ops.guard.report_types.state import Policy, Present, Silence
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
ROUTES: Final = ("route", "threshold", "calls", "escalated at base", "escalated", "wrong among shipped")
INCIDENTS: Final = ("incident", "scope", "began", "lasted", "acknowledged by", "what was last said")
CHANGES: Final = ("version", "at", "scope", "act", "from", "to", "who", "why", "in force")
ALERTS: Final = ("alert", "scope", "state", "since", "acknowledged by", "silenced until")


_OF_THE_COMMAND_LINE: Final = ("acknowledged", "incident_id")
"""Keys of a message that only the command line needs; pages read the acknowledgement from the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceCard:
    """A silence that has not ended; `route` is None where it holds in every route."""

    id: int
    rule: str
    route: str | None
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident on a page: `title` and the lines below it, its acknowledgement and its silences."""

    incident: int
    rule: str
    scope: str
    title: str
    lines: tuple[str, ...]
    acknowledged: str
    silences: tuple[SilenceCard, ...]
    is_over: bool


def figures(latest: Latest) -> dict[str, str]:
    """The figures of a stretch."""
    return {
        "calls": f"{latest['calls']:,}; {latest['shipped']:,} shipped, {latest['escalated']:,} escalated, "
        f"{latest['bypassed']:,} bypassed triage, {latest['errors']:,} ended in an error",
        "escalated at base": _base(latest),
        "escalated": _escalated(latest),
        "wrong among shipped": f"{_wrong(latest)}; in the judge's eyes, {latest['judge_correction']}",
        "held back by a raise": f"{latest['withheld']:,} calls",
        "cost": f"{exact_money(latest['cost_per_call_usd'])} a call; all-deep, as an estimate, "
        f"{exact_money(latest['baseline_per_call_usd'])}; saving {percent(latest['saving'])}; "
        f"{latest['unpriced_calls']:,} calls unpriced",
    }


def _base(calls: CallFigures) -> str:
    return rate(calls["base_escalation_rate"], calls["base_escalation_interval"], calls["triaged"])


def _escalated(calls: CallFigures) -> str:
    return rate(calls["escalation_rate"], calls["escalation_interval"], calls["triaged"])


def _wrong(quality: FalseConfidence) -> str:
    return rate(quality["false_confident_rate"], quality["false_confident_interval"], quality["graded"])


def state(status: Present) -> dict[str, str]:
    """Policy, grader, queue and watchers."""
    policy, grader, queue, watchers = status["policy"], status["grader"], status["queue"], status["watchers"]
    raised = f"base {policy['base']:g}, raised {policy['raised']:g}"
    trouble = f": {plain(grader['why'], 240)}" if grader["why"] else ""
    failing = f"; the last error: {plain(queue['last_error'], 240)}" if queue["last_error"] else ""
    return {
        "threshold of all routes": f"{policy['threshold']:g} ({raised}; mode {status['mode']})",
        "grader": f"{grader['state']}{trouble}; {grader['model']}, last grade {timestamp(grader['last_grade_at'])}; "
        f"{exact_money(grader['spent_24h_usd'])} of {exact_money(grader['limit_24h_usd'])} spent in 24 hours",
        "grades that wait": f"{grader['waiting']:,}{_oldest(grader['oldest_wait_s'])}",
        "messages": f"{queue['waiting']:,} wait, {queue['delivered']:,} went out{failing}",
        "guards and routers": f"{watchers['guards']} and {watchers['routers']} seen within a minute; "
        f"{watchers['dropped']:,} decisions dropped",
        "last sign of a guard": timestamp(watchers["guard_last_seen"]),
    }


def _oldest(wait_s: float | None) -> str:
    # In whole minutes, so that a page does not change at each refresh.
    return "" if wait_s is None else f", the oldest for {duration(wait_s // 60 * 60)}"


def route_rows(policy: Policy, by_route: Mapping[str, Latest]) -> Rows:
    """Every route's threshold and figures."""
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
    """Alerts that are pending or firing; `stories` are their incidents, `silences` those that have not ended."""
    awake = [each for each in alerts if each["state"] != _QUIET]
    authors: dict[int | None, str] = {each["id"]: _author(each) for each in stories}
    return [
        (
            plain(each["rule"]),
            scope_text(each["scope"]),
            plain(each["state"]),
            timestamp(each["since"]),
            authors.get(each["incident_id"], ""),
            _silenced_until(silences_of(each["rule"], each["scope"], silences)),
        )
        for each in sorted(awake, key=lambda each: -each["since"])
    ]


def silences_of(rule: str, scope: str, silences: Sequence[Silence]) -> list[Silence]:
    """Those silences that suppress messages of a rule in a scope."""
    return [each for each in silences if each["rule"] == rule and each["route"] in (None, scope)]


def _silenced_until(silences: Sequence[Silence]) -> str:
    return timestamp(max(each["until"] for each in silences)) if silences else ""


def silence_cards(silences: Sequence[Silence]) -> tuple[SilenceCard, ...]:
    """Silences in words."""
    return tuple(
        SilenceCard(id=each["id"], rule=each["rule"], route=each["route"], line=_silence(each)) for each in silences
    )


def _silence(silence: Silence) -> str:
    where = "in every route" if silence["route"] is None else f"in {scope_text(silence['route'])}"
    by = f"{plain(silence['author'])}: {plain(silence['why'], 240)}"
    return f"{plain(silence['rule'])} {where} is silenced until {timestamp(silence['until'])} by {by}"


def incident_card(incident: Incident, silences: Sequence[Silence] = ()) -> IncidentCard:
    """The last message about an incident, its acknowledgement, and its silences."""
    message = {name: value for name, value in incident["announced"].items() if name not in _OF_THE_COMMAND_LINE}
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
        return "Nobody has acknowledged it"
    return f"Acknowledged by {plain(by['author'])}, {timestamp(by['at'])}: {plain(by['why'], 240)}"


def _author(incident: Incident) -> str:
    return plain(incident["acknowledged"]["author"]) if incident["acknowledged"] else ""


def incident_rows(incidents: Sequence[Incident]) -> Rows:
    """Incidents, one a line."""
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
    """How long an incident was open, or that it is."""
    if incident["resolved_at"] is None:
        return "goes on"
    return duration(incident["resolved_at"] - incident["started_at"])


def incident_facts(story: IncidentStory) -> dict[str, str]:
    """An incident: where, when, for how long."""
    return {
        "scope": scope_text(story["scope"]),
        "began": timestamp(story["started_at"]),
        "lasted": lasted(story),
    }


def message_rows(messages: Sequence[IncidentMessage]) -> Rows:
    """The messages about an incident, and whether each was delivered."""
    return [(timestamp(each["created_at"]), headline(each["payload"]), _arrival(each)) for each in messages]


def _arrival(message: IncidentMessage) -> str:
    if message["delivered_at"] is not None:
        return timestamp(message["delivered_at"])
    return f"not yet: {plain(message['error'], 240)}" if message["error"] else "not yet"


def change_rows(changes: Sequence[PolicyChange]) -> Rows:
    """Changes of policy: who, when, why."""
    return [
        (
            str(each["version"]),
            timestamp(each["at"]),
            scope_text(each["scope"]),
            plain(each["act"]),
            f"{each['from_threshold']:g}",
            f"{each['to_threshold']:g}",
            plain(each["author"] or each["cause"]),
            plain(each["why"], 240) if each["why"] else "",
            "yes" if each["applied"] else "no",
        )
        for each in changes
    ]


def review_facts(review: Review) -> dict[str, str]:
    """How far the grader agrees with people."""
    needed, waiting = review["needed"], review["waiting"]
    return {
        "judge": f"{plain(review['judge']['model'])}, prompt {plain(review['judge']['prompt'])}",
        "labels": f"{review['labels']:,}, by {', '.join(map(plain, review['authors'])) or 'nobody'}",
        "agreement (kappa)": bounded(review["kappa"], review["kappa_interval"], two_digits),
        "wrong answers that it sees": bounded(review["tpr"], review["tpr_interval"]),
        "right answers that it blames": bounded(review["fpr"], review["fpr_interval"]),
        "still needed": f"{needed['judged_correct']} of answers judged correct, "
        f"{needed['judged_incorrect']} of those judged incorrect",
        "that can be labelled": f"{waiting['judged_correct']:,} and {waiting['judged_incorrect']:,}",
    }
