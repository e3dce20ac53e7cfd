"""What the pages say: plain objects in, lines and rows of text out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cheapdeep_ops.guard.notify.messages import details, duration, headline, percent, plain, scope_text

Facts = Mapping[str, Any]
Rows = Sequence[Sequence[str]]
_QUIET: Final = "inactive"
ROUTES: Final = ("route", "threshold", "calls", "escalated at base", "escalated", "wrong among shipped")
INCIDENTS: Final = ("incident", "scope", "began", "lasted", "acknowledged by", "what was last said")
CHANGES: Final = ("version", "at", "scope", "act", "from", "to", "who", "why", "in force")
ALERTS: Final = ("alert", "scope", "state", "since", "acknowledged by", "silenced until")
NORMALS: Final = ("route", "normal", "alarm level", "learned", "who", "why")


_OF_THE_COMMAND_LINE: Final = ("acknowledged", "incident_id")
"""What messages say of who looks after an incident, and how to say so there: pages have it from the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceCard:
    """A silence that lasts; `route` is None where every one is meant."""

    id: int
    rule: str
    route: str | None
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident as it is told: `title` and the lines below it, its id, and what people have said of it."""

    incident: int
    rule: str
    scope: str
    title: str
    lines: tuple[str, ...]
    acknowledged: str
    silences: tuple[SilenceCard, ...]
    is_over: bool


def moment(at: float | None) -> str:
    """A time (UTC), or `never`."""
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def usd(value: float | None) -> str:
    """US dollars with as many digits as small amounts need, or `unknown`."""
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.6f}"


def rate(value: float | None, interval: Sequence[float], n: int) -> str:
    """A share with its 95% interval and n; an unknown one is said to be unknown."""
    if value is None:
        return "unknown: n 0"
    return f"{percent(value)} ({percent(interval[0])} to {percent(interval[1])}, n {n:,})"


def figures(found: Facts) -> dict[str, str]:
    """The figures of a stretch, as in `series.latest`."""
    return {
        "calls": f"{found['calls']:,}; {found['shipped']:,} shipped, {found['escalated']:,} escalated, "
        f"{found['bypassed']:,} bypassed triage, {found['errors']:,} ended in an error",
        "escalated at base": _base(found),
        "escalated": _escalated(found),
        "wrong among shipped": f"{_wrong(found)}; in the judge's eyes, {found['judge_correction']}",
        "held back by a raise": f"{found['withheld']:,} calls",
        "cost": f"{usd(found['cost_per_call_usd'])} a call; all-deep, as an estimate, "
        f"{usd(found['baseline_per_call_usd'])}; saving {percent(found['saving'])}; "
        f"{found['unpriced_calls']:,} calls unpriced",
    }


def _base(found: Facts) -> str:
    return rate(found["base_escalation_rate"], found["base_escalation_interval"], found["triaged"])


def _escalated(found: Facts) -> str:
    return rate(found["escalation_rate"], found["escalation_interval"], found["triaged"])


def _wrong(found: Facts) -> str:
    return rate(found["false_confident_rate"], found["false_confident_interval"], found["graded"])


def state(found: Facts) -> dict[str, str]:
    """Policy, grader, queue and watchers, as in `status`."""
    policy, grader, queue, watchers = (found[name] for name in ("policy", "grader", "queue", "watchers"))
    raised = f"base {policy['base']:g}, raised {policy['raised']:g}"
    trouble = f": {plain(grader['why'], 240)}" if grader["why"] else ""
    failing = f"; the last error: {plain(queue['last_error'], 240)}" if queue["last_error"] else ""
    return {
        "threshold of all routes": f"{policy['threshold']:g} ({raised}; mode {found['mode']})",
        "grader": f"{grader['state']}{trouble}; {grader['model']}, last grade {moment(grader['last_grade_at'])}; "
        f"{usd(grader['spent_24h_usd'])} of {usd(grader['limit_24h_usd'])} spent in 24 hours",
        "grades that wait": f"{grader['waiting']:,}{_oldest(grader['oldest_wait_s'])}",
        "messages": f"{queue['waiting']:,} wait, {queue['delivered']:,} went out{failing}",
        "guards and routers": f"{watchers['guards']} and {watchers['routers']} seen within a minute; "
        f"{watchers['dropped']:,} decisions dropped",
        "last sign of a guard": moment(watchers["guard_last_seen"]),
    }


def _oldest(wait_s: float | None) -> str:
    # In whole minutes, so that a page does not change each time that it looks.
    return "" if wait_s is None else f", the oldest for {duration(wait_s // 60 * 60)}"


def route_rows(policy: Facts, by_route: Mapping[str, Facts]) -> Rows:
    """Every route's threshold and figures; `by_route` is as in `series.latest`."""
    return [
        (plain(name), threshold(policy, name), f"{found['calls']:,}", _base(found), _escalated(found), _wrong(found))
        for name, found in sorted(by_route.items())
    ]


def threshold(policy: Facts, route: str) -> str:
    """The threshold in force for a route, and why it is that."""
    scope = policy["scopes"].get(route)
    if scope is None:
        return f"{policy['threshold']:g}"
    if scope["pin"] is not None:
        return f"{scope['threshold']:g}, pinned by a person"
    held = ", ".join(plain(cause) for cause in scope["causes"])
    return f"{scope['threshold']:g}, held by {held}" if held else f"{scope['threshold']:g}"


def alert_rows(alerts: Sequence[Facts], stories: Sequence[Facts], silences: Sequence[Facts]) -> Rows:
    """Alerts that are not at rest; `stories` are their incidents, `silences` those that last."""
    awake = [each for each in alerts if each["state"] != _QUIET]
    authors = {each["id"]: _author(each) for each in stories}
    return [
        (
            plain(each["rule"]),
            scope_text(each["scope"]),
            plain(each["state"]),
            moment(each["since"]),
            authors.get(each["incident_id"], ""),
            _silenced_until(silences_of(each, silences)),
        )
        for each in sorted(awake, key=lambda each: -each["since"])
    ]


def silences_of(alert: Facts, silences: Sequence[Facts]) -> list[Facts]:
    """Those of these silences, as in `attention.silences`, that keep messages of an alert or incident back."""
    return [each for each in silences if each["rule"] == alert["rule"] and each["route"] in (None, alert["scope"])]


def _silenced_until(silences: Sequence[Facts]) -> str:
    return moment(max(each["until"] for each in silences)) if silences else ""


def quiet(silences: Sequence[Facts]) -> tuple[SilenceCard, ...]:
    """Silences, as in `attention.silences`, in words."""
    return tuple(
        SilenceCard(id=each["id"], rule=each["rule"], route=each["route"], line=_silence(each)) for each in silences
    )


def _silence(found: Facts) -> str:
    where = "in every route" if found["route"] is None else f"in {scope_text(found['route'])}"
    by = f"{plain(found['author'])}: {plain(found['why'], 240)}"
    return f"{plain(found['rule'])} {where} is silenced until {moment(found['until'])} by {by}"


def told(incident: Facts, silences: Sequence[Facts] = ()) -> IncidentCard:
    """What was last said of an incident, who looks after it, and which of the silences that last are of it."""
    said = {name: value for name, value in incident["announced"].items() if name not in _OF_THE_COMMAND_LINE}
    title = headline(said) if said else f"{plain(incident['rule'])}: {scope_text(incident['scope'])}"
    return IncidentCard(
        incident=incident["id"],
        rule=incident["rule"],
        scope=incident["scope"],
        title=title,
        lines=tuple(details(said)) if said else (),
        acknowledged=_acknowledged(incident["acknowledged"]),
        silences=quiet(silences_of(incident, silences)),
        is_over=incident["resolved_at"] is not None,
    )


def _acknowledged(found: Facts | None) -> str:
    if found is None:
        return "Nobody has acknowledged it"
    return f"Acknowledged by {plain(found['author'])}, {moment(found['at'])}: {plain(found['why'], 240)}"


def _author(incident: Facts) -> str:
    return plain(incident["acknowledged"]["author"]) if incident["acknowledged"] else ""


def incident_rows(incidents: Sequence[Facts]) -> Rows:
    """Incidents, one in each row."""
    return [
        (
            f"{each['id']} {plain(each['rule'])}",
            scope_text(each["scope"]),
            moment(each["started_at"]),
            lasted(each),
            _author(each),
            told(each).title,
        )
        for each in incidents
    ]


def lasted(incident: Facts) -> str:
    """How long an incident was, or that it goes on."""
    if incident["resolved_at"] is None:
        return "goes on"
    return duration(incident["resolved_at"] - incident["started_at"])


def incident_facts(story: Facts) -> dict[str, str]:
    """An incident, as in `stories.story`."""
    return {
        "scope": scope_text(story["scope"]),
        "began": moment(story["started_at"]),
        "lasted": lasted(story),
    }


def message_rows(messages: Sequence[Facts]) -> Rows:
    """What was said of an incident, and whether it arrived."""
    return [(moment(each["created_at"]), headline(each["payload"]), _arrival(each)) for each in messages]


def _arrival(message: Facts) -> str:
    if message["delivered_at"] is not None:
        return moment(message["delivered_at"])
    return f"not yet: {plain(message['error'], 240)}" if message["error"] else "not yet"


def change_rows(changes: Sequence[Facts]) -> Rows:
    """Changes of policy, with author or cause, time and reason."""
    return [
        (
            str(each["version"]),
            moment(each["at"]),
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


def normal_rows(normals: Mapping[str, Facts]) -> Rows:
    """What is normal for each route, as in `status`."""
    return [
        (
            plain(route),
            _normal(found),
            percent(found["alarm_level"]),
            moment(found["learned_at"]),
            plain(found["author"]) if found["author"] else "",
            plain(found["why"], 240) if found["why"] else "",
        )
        for route, found in normals.items()
    ]


def _normal(found: Facts) -> str:
    if found["rate"] is None:
        return f"being learned: {found['grades']:,} grades"
    return rate(found["rate"], (found["low"], found["high"]), found["grades"])


def review_facts(found: Facts) -> dict[str, str]:
    """How far the judge agrees with people, as in `review.review_of`."""
    needed, waiting = found["needed"], found["waiting"]
    return {
        "judge": f"{plain(found['judge']['model'])}, prompt {plain(found['judge']['prompt'])}",
        "labels": f"{found['labels']:,}, by {', '.join(map(plain, found['authors'])) or 'nobody'}",
        "agreement (kappa)": _bounded(found, "kappa", "{:.2f}".format),
        "wrong answers that it sees": _bounded(found, "tpr", percent),
        "right answers that it blames": _bounded(found, "fpr", percent),
        "still needed": f"{needed['judged_correct']} of answers judged correct, "
        f"{needed['judged_incorrect']} of those judged incorrect",
        "that can be labelled": f"{waiting['judged_correct']:,} and {waiting['judged_incorrect']:,}",
    }


def _bounded(found: Facts, name: str, say: Callable[[float], str]) -> str:
    if found[name] is None:
        return "unknown"
    low, high = found[f"{name}_interval"]
    return f"{say(found[name])} ({say(low)} to {say(high)})"
