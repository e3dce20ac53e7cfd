"""The text about incidents: cards, timelines, silences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.guard.console.charts import Options
from cheapdeep_ops.guard.formatting import plain, scope_text
from cheapdeep_ops.guard.notify.buttons import may_relearn
from cheapdeep_ops.guard.notify.messages import details, done, headline, is_history, links, rule_in_words
from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.guard.rules.cause_text import cause_brief
from cheapdeep_ops.guard.rules.kinds import text_of
from cheapdeep_ops.guard.state_text import silence_end
from cheapdeep_ops.store.records import Acknowledged, Alert, Incident, IncidentMessage, IncidentStory, PolicyChange
from cheapdeep_ops.values import ALL_ROUTES

LONGEST: Final = 240
"""The longest text of a person or an error on a page, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceCard:
    """A silence that has not ended; `until` is None if it ends with an incident."""

    id: int
    line: str
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What people have done about an incident, and what they can do.

    `pin_scope` is the scope of the pin in force, None without one. `may_relearn`: it may be no problem.
    """

    incident: int
    rule: str
    scope: str
    pin_scope: str | None
    may_relearn: bool
    acknowledged: Acknowledged | None
    silences: tuple[SilenceCard, ...]
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident on a page: what it is, its figures, what was done, its acknowledgement and its silences.

    `facts_at` is the time of the message that has the cause and the cost; None without either. `runbook` is a web
    address; empty without one.
    """

    incident: int
    title: str
    severity: str
    since: float
    until: float | None
    figures: str
    figures_at: float
    facts: Mapping[str, str]
    facts_at: float | None
    runbook: str
    attention: Attention
    chart: Options | None


def silences_of(rule: str, scope: str, silences: Sequence[Silence]) -> list[Silence]:
    """The silences that suppress the messages of a rule in a scope."""
    return [each for each in silences if each["rule"] == rule and each["route"] in (None, scope)]


def silence_cards(silences: Sequence[Silence]) -> tuple[SilenceCard, ...]:
    """The silences as cards."""
    return tuple(_silence_card(each) for each in silences)


def _silence_card(silence: Silence) -> SilenceCard:
    where = "in all routes" if silence["route"] is None else f"in {scope_text(silence['route'])}"
    by = f"{plain(silence['author'])}: {plain(silence['why'], LONGEST)}"
    about = f"Silence {silence['id']}: {plain(silence['rule'])} {where}"
    line = f"{about} is silenced by {by}; until"
    # A page shows a time in the reader's zone.
    if silence["incident_id"] is not None:
        return SilenceCard(id=silence["id"], line=f"{line} {silence_end(silence)}", until=None)
    return SilenceCard(id=silence["id"], line=line, until=silence["until"])


def title_of(rule: str, scope: str) -> str:
    """An incident in a few words, as its message says it: `Escalation storm on billing`."""
    return f"{rule_in_words(rule)} on {'all routes' if scope == ALL_ROUTES else plain(scope)}"


def incident_card(
    incident: Incident,
    silences: Sequence[Silence] = (),
    *,
    alert: Alert | None = None,
    chart: Options | None = None,
    pin_scope: str | None = None,
) -> IncidentCard:
    """The present figures of an incident, what was done about it, its acknowledgement, and its silences.

    Without its `alert`, the figures are those of its last message.
    """
    payload = shown = incident["announced"]
    # The alert's figures are of the last evaluation, those of a message may be much older.
    if payload and alert is not None and alert["signal"]:
        payload = {**payload, "signal": alert["signal"]}
        # The cost is of the message: it stands among the facts, which say of when they are.
        shown = {name: value for name, value in payload.items() if name != "consequence"}
    is_over = incident["resolved_at"] is not None
    where = scope_text(incident["scope"])
    return IncidentCard(
        incident=incident["id"],
        title=title_of(incident["rule"], incident["scope"]),
        severity=str(payload.get("severity", "")),
        since=incident["started_at"],
        until=incident["resolved_at"],
        # An incident that was silenced from its start has no message.
        figures=_sentence(text_of(shown).headline(shown, where, is_over)) if shown else "Nothing was said of it.",
        figures_at=alert["updated_at"] if alert is not None else incident["announced_at"],
        facts=_facts(payload),
        facts_at=incident["announced_at"] if payload.get("cause") or payload.get("consequence") else None,
        runbook=dict(links(payload)).get("Runbook", ""),
        attention=Attention(
            incident=incident["id"],
            rule=incident["rule"],
            scope=incident["scope"],
            pin_scope=pin_scope,
            may_relearn=bool(payload) and may_relearn(payload),
            acknowledged=incident["acknowledged"],
            silences=silence_cards(silences_of(incident["rule"], incident["scope"], silences)),
            is_over=is_over,
        ),
        chart=chart,
    )


def _facts(payload: Mapping[str, Any]) -> Mapping[str, str]:
    """Why an incident is open, what was done about it, what it costs and when it ends; only what is known."""
    if not payload:
        return {}
    words = text_of(payload)
    cause, is_open = payload.get("cause"), payload.get("lasted_s") is None
    measured = dict(_named(line) for line in words.measured(payload))
    lines = {
        "Why": _sentence(cause_brief(cause)) if cause else "",
        "Done": _sentence(done(payload)),
        "Effect": _sentence(payload.get("effect") or ""),
        **measured,
        "Ends": "\n".join(words.release(payload)) if is_open else "",
    }
    return {name: line for name, line in lines.items() if line}


def _named(line: str) -> tuple[str, str]:
    """The name and the text of a line such as `Cost: about $3 an hour more than usual`."""
    name, _, text = line.partition(": ")
    return (name, _sentence(text)) if text else ("Figures", line)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of an incident's timeline."""

    at: float
    title: str
    lines: tuple[str, ...]
    icon: str


def timeline(story: IncidentStory) -> tuple[Entry, ...]:
    """What was said, changed and acknowledged in an incident, newest first."""
    known = story["acknowledged"]
    acknowledged = [_acknowledgement(known)] if known else []
    # With threads, each message is in the store twice: as the incident's message, and as the reply that repeats it.
    said = [each for each in story["messages"] if not is_history(each["payload"])]
    entries = [*map(_message, said), *map(_change, story["policy_changes"]), *acknowledged]
    return tuple(sorted(entries, key=lambda entry: -entry.at))


def _message(each: IncidentMessage) -> Entry:
    line, arrival = headline(each["payload"]), _arrival(each)
    return Entry(at=each["created_at"], title=f"Said: {each['kind']}", lines=(line, arrival), icon="chat")


def _change(each: PolicyChange) -> Entry:
    by = plain(each["author"] or each["cause"])
    prevented = () if each["applied"] else ("Not applied: observe mode, shadow mode or a pin prevented it.",)
    return Entry(
        at=each["at"],
        title=f"Threshold {each['from_threshold']:g} \u2192 {each['to_threshold']:g}",
        lines=(f"{_sentence(plain(each['act']))} in {scope_text(each['scope'])} by {by}", *prevented),
        icon="tune",
    )


def _acknowledgement(known: Acknowledged) -> Entry:
    return Entry(
        at=known["at"],
        title=f"Acknowledged by {plain(known['author'])}",
        lines=(plain(known["why"], LONGEST),),
        icon="task_alt",
    )


def _arrival(message: IncidentMessage) -> str:
    receivers = ", ".join(f"{plain(each['receiver'])} {each['state']}" for each in message["deliveries"])
    error = f": {plain(message['error'], LONGEST)}" if message["error"] else ""
    return f"{_sentence(receivers)}{error}" if receivers else f"Not yet delivered{error}"


def details_of(story: IncidentStory) -> tuple[str, ...]:
    """The lines of the last message."""
    message = {name: value for name, value in story["announced"].items() if name not in _OF_THE_COMMAND_LINE}
    return tuple(details(message)) if message else ()


_OF_THE_COMMAND_LINE: Final = ("acknowledged", "incident_id")
"""Keys of a message that pages leave out, because they read the acknowledgement from the store."""


def labels_of(story: IncidentStory) -> tuple[str, ...]:
    """The rule, the scope, the severity, and the reasons and input classes of the incident's calls."""
    payload = story["announced"]
    named = [plain(story["rule"]), scope_text(story["scope"])]
    severity = [f"severity {plain(str(payload['severity']))}"] if payload.get("severity") else []
    reasons = [f"reason {plain(name)}: {count:,}" for name, count in payload.get("reasons") or ()]
    counted = payload.get("input_classes") or ()
    classes = [f"class {plain(name)}: {count:,}" if name else f"no class: {count:,}" for name, count in counted]
    return (*named, *severity, *reasons, *classes)
