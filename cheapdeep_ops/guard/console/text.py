"""The text of the pages: reports in, lines and rows of text out."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from cheapdeep_ops.guard.console.incident_text import LONGEST, incident_card, silences_of
from cheapdeep_ops.guard.console.layout import Cell
from cheapdeep_ops.guard.console.moment import Instant
from cheapdeep_ops.guard.formatting import (
    bounded,
    duration,
    exact_money,
    percent,
    plain,
    rate,
    scope_text,
    two_digits,
    waiting_time,
)
from cheapdeep_ops.guard.report_types.figures import CallFigures, FalseConfidence
from cheapdeep_ops.guard.report_types.labels import Review
from cheapdeep_ops.guard.report_types.state import Normal, Policy, Present, Silence
from cheapdeep_ops.guard.state_text import outcomes_words, silence_end, threshold_cause
from cheapdeep_ops.store.records import Alert, Incident, PolicyChange

Rows = Sequence[Sequence[Cell]]
_QUIET: Final = "inactive"

INCIDENTS: Final = ("incident", "state", "scope", "began", "lasted", "acknowledged by", "last message")
CHANGES: Final = ("version", "at", "scope", "act", "from", "to", "who", "why", "in force")
ALERTS: Final = ("incident", "alert", "scope", "state", "since", "acknowledged by", "silenced until")


def state(status: Present) -> dict[str, Cell]:
    """The state of policy, grader, queue and processes."""
    policy, grader, queue, watchers = status["policy"], status["grader"], status["queue"], status["watchers"]
    raised = f"base {policy['base']:g}, raised {policy['raised']:g}"
    problem = f": {plain(grader['why'], LONGEST)}" if grader["why"] else ""
    last_error = f"; last error: {plain(queue['last_error'], LONGEST)}" if queue["last_error"] else ""
    return {
        "threshold of all routes": f"{policy['threshold']:g} ({raised}; mode {status['mode']})",
        "grader": f"{grader['state']}{problem}; {grader['model']}; "
        f"{exact_money(grader['spent_24h_usd'])} of {exact_money(grader['limit_24h_usd'])} spent in 24 hours",
        "last grade": Instant(grader["last_grade_at"]),
        "samples that wait": f"{grader['waiting']:,}{_oldest(grader['oldest_wait_s'])}",
        "user outcomes, 24 hours": outcomes_words(status["outcomes"]),
        "messages": f"{queue['waiting']:,} wait, {queue['delivered']:,} delivered{last_error}",
        "guards and routers": f"{watchers['guards']} and {watchers['routers']} seen in the last minute; "
        f"{watchers['dropped']:,} decisions dropped, {watchers['late']:,} calls too late to count",
        "last evaluation": Instant(watchers["evaluated_at"]),
        "last heartbeat of a guard": Instant(watchers["guard_last_seen"]),
    }


def _oldest(wait_s: float | None) -> str:
    return "" if wait_s is None else f", the oldest for {waiting_time(wait_s)}"


def route_row(
    policy: Policy,
    route: str,
    calls: CallFigures,
    *,
    wrong: FalseConfidence | None,
    normal: Normal | None,
    limit: float,
) -> Mapping[str, Any]:
    """A row of the table of routes: sortable numbers, and their texts; `limit` is that of the escalation rate."""
    base, actual = calls["base_escalation_rate"], calls["escalation_rate"]
    usual = None if normal is None else normal["target"]
    wrong_rate = None if wrong is None else wrong["false_confident_rate"]
    return {
        "route": plain(route),
        "link": f"/why/{quote(route, safe='')}",
        "threshold": threshold(policy, route),
        "calls": calls["calls"],
        "calls_text": f"{calls['calls']:,}",
        "base": base,
        "base_text": rate(base, calls["base_escalation_interval"], calls["triaged"]),
        # By the interval, as rules fire: a point above the limit may be chance.
        "base_over": base is not None and calls["base_escalation_interval"][0] > limit,
        "actual": actual,
        "actual_text": percent(actual),
        "actual_over": False,
        "wrong": wrong_rate,
        "wrong_text": "not graded"
        if wrong is None
        else rate(wrong_rate, wrong["false_confident_interval"], wrong["graded"]),
        "wrong_over": wrong is not None and usual is not None and wrong["false_confident_interval"][0] > usual,
    }


def threshold(policy: Policy, route: str) -> str:
    """The threshold in force for a route, and its cause."""
    scope = policy["scopes"].get(route)
    if scope is None:
        return f"{policy['threshold']:g}"
    cause = threshold_cause(scope)
    return f"{scope['threshold']:g}, {cause}" if cause else f"{scope['threshold']:g}"


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
            Instant(each["since"]),
            authors.get(each["incident_id"], ""),
            _silenced_until(silences_of(each["rule"], each["scope"], silences)),
        )
        for each in sorted(active, key=lambda each: -each["since"])
    ]


def _silenced_until(silences: Sequence[Silence]) -> Cell:
    if not silences:
        return ""
    last = max(silences, key=lambda each: each["until"])
    return Instant(last["until"]) if last["incident_id"] is None else silence_end(last)


def _author(incident: Incident) -> str:
    return plain(incident["acknowledged"]["author"]) if incident["acknowledged"] else ""


def incident_rows(incidents: Sequence[Incident]) -> Rows:
    """The incidents, one in each row."""
    return [
        (
            f"{each['id']} {plain(each['rule'])}",
            "open" if each["resolved_at"] is None else "over",
            scope_text(each["scope"]),
            Instant(each["started_at"]),
            lasted(each),
            _author(each),
            incident_card(each).figures,
        )
        for each in incidents
    ]


def lasted(incident: Incident) -> str:
    """The duration of an incident; `still open` if it has not ended."""
    if incident["resolved_at"] is None:
        return "still open"
    return duration(incident["resolved_at"] - incident["started_at"])


def change_rows(changes: Sequence[PolicyChange]) -> Rows:
    """The policy changes with time, author and reason."""
    return [
        (
            str(each["version"]),
            Instant(each["at"]),
            scope_text(each["scope"]),
            plain(each["act"]),
            f"{each['from_threshold']:g}",
            f"{each['to_threshold']:g}",
            plain(each["author"] or each["cause"]),
            plain(each["why"], LONGEST) if each["why"] else "",
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
