"""Incidents for a terminal: a table of them, or one from start to end."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console

from cheapdeep_ops.cli.output import table
from cheapdeep_ops.cli.render.terminal import show_facts
from cheapdeep_ops.guard.formatting import duration, plain, scope_text, timestamp
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.store.records import Incident, IncidentMessage, IncidentStory, PolicyChange

_TITLES: Final = ("incident", "state", "rule", "scope", "began", "acknowledged by")
_LONGEST: Final = 240


def show_incidents(out: Console, incidents: Sequence[Incident], now: float) -> None:
    """Print incidents, open ones first."""
    ordered = sorted(incidents, key=lambda each: (each["resolved_at"] is not None, -each["id"]))
    if not ordered:
        out.print("no incident yet")
        return
    still = sum(each["resolved_at"] is None for each in ordered)
    out.print(
        table(f"Incidents: {still} open, {len(ordered) - still} past", _TITLES, [_row(each, now) for each in ordered])
    )
    out.print(f"One of them: cheapdeep-ops incidents show {ordered[0]['id']}", markup=False)


def _row(incident: Incident, now: float) -> Sequence[str]:
    by = plain(incident["acknowledged"]["author"]) if incident["acknowledged"] else ""
    return (
        str(incident["id"]),
        _course(incident, now),
        plain(incident["rule"]),
        scope_text(incident["scope"]),
        timestamp(incident["started_at"]),
        by,
    )


def _course(incident: Incident, now: float) -> str:
    if incident["resolved_at"] is None:
        return f"open for {duration(max(now - incident['started_at'], 0))}"
    return f"lasted {duration(incident['resolved_at'] - incident['started_at'])}"


def show_incident(out: Console, story: IncidentStory, now: float) -> None:
    """Print one incident: what is known of it, then its history."""
    is_open = story["resolved_at"] is None
    title = f"Incident {story['id']}: {plain(story['rule'])}, {scope_text(story['scope'])}, {_course(story, now)}"
    out.print(title, style="bold red" if is_open else "bold", markup=False)
    said = story["announced"]
    if said:
        out.print(headline(said), markup=False)
    show_facts(out, _facts(story, now))
    if said:
        out.print()
        for line in details(said):
            out.print(line, markup=False)
    out.print()
    out.print("History (UTC)", style="bold")
    for at, what in sorted(_history(story), key=lambda each: each[0]):
        out.print(f"  {timestamp(at)}  {what}", markup=False)


def _facts(story: IncidentStory, now: float) -> dict[str, str]:
    acknowledged = story["acknowledged"]
    by = (
        f"by {plain(acknowledged['author'])}, {timestamp(acknowledged['at'])}: {plain(acknowledged['why'], _LONGEST)}"
        if acknowledged
        else "no"
    )
    ago = f" ({duration(max(now - story['started_at'], 0))} ago)"
    ended = {} if story["resolved_at"] is None else {"ended": timestamp(story["resolved_at"])}
    return {"began": f"{timestamp(story['started_at'])}{ago}", **ended, "acknowledged": by}


def _history(story: IncidentStory) -> Iterator[tuple[float, str]]:
    """What happened, each with its time."""
    yield story["started_at"], "began"
    for message in story["messages"]:
        yield message["created_at"], _message(message)
    for change in story["policy_changes"]:
        yield change["at"], _change(change)
    if story["acknowledged"]:
        yield story["acknowledged"]["at"], f"acknowledged by {plain(story['acknowledged']['author'])}"
    if story["resolved_at"] is not None:
        yield story["resolved_at"], "resolved"


def _message(message: IncidentMessage) -> str:
    arrivals = ", ".join(f"{each['receiver']} {each['state']}" for each in message["deliveries"]) or "not sent yet"
    error = f": {plain(message['error'], _LONGEST)}" if message["error"] else ""
    return f"message, {message['kind']} ({arrivals}{error})"


def _change(change: PolicyChange) -> str:
    moved = f"threshold {change['from_threshold']:g} -> {change['to_threshold']:g}"
    prevented = "" if change["applied"] else ", not applied"
    return f"{change['act']}: {moved} by {plain(change['author'] or change['cause'])}{prevented}"
