"""The payload of a message, and its headline and lines; each sender has its own way to show them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from cheapdeep_ops.guard.formatting import LabelStyle, cut, duration, minute_of_day, moment, plain, scope_text
from cheapdeep_ops.guard.notify.buttons import order_lines
from cheapdeep_ops.guard.notify.receipt_text import receipt_headline, receipt_lines
from cheapdeep_ops.guard.rules.cause_text import cause_brief, cause_lines
from cheapdeep_ops.guard.rules.kinds import text_of
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.policy import EffectivePolicy
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

Kind = Literal["started", "changed", "acknowledged", "reminder", "resolved", "digest", "report", "test"]

_LONGEST_QUOTE: Final = 200
"""Characters of a question or an answer that a message quotes."""

_LONGEST_REASON: Final = 120
_LONGEST_ID: Final = 40
_MOST_IN_DIGEST: Final = 20
_SHORTEST: Final = 12
"""Characters of a route that a title keeps at least."""

_FOR_PROGRAMS: Final = ("incident_id", "severity", "started_at", "lasted_s", "threshold", "effective_threshold")
"""The keys of an incident in a digest that programs read, and its times."""
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_MOVED: Final = re.compile(r"threshold ([0-9.]+) -> ([0-9.]+)")
_HELD: Final = re.compile(r"threshold stays at ([0-9.]+), held by .*")
"""What `threshold_text` says of a threshold that moves, and of one that is held."""

_RAISE: Final = "meanwhile more calls go to the deep tier, as intended: doubtful answers do not ship"
"""What a raised threshold does to calls."""

_STATES: Final = {
    "started": "firing",
    "changed": "still firing",
    "acknowledged": "firing, acknowledged",
    "resolved": "resolved",
}


def incident_message(
    kind: Kind, rule: Rule, scope: str, *, signal: Mapping[str, object], facts: Mapping[str, object]
) -> Payload:
    """The payload of one message, with everything that a sender may show; `about` is the kind of its rule."""
    return {
        "kind": kind,
        "about": rule.signal,
        "rule": rule.alert,
        "scope": scope,
        "summary": rule.annotations.get("summary", rule.alert),
        "runbook": rule.annotations.get("runbook", ""),
        "severity": rule.labels.get("severity", ""),
        "keep_firing_for_s": rule.keep_firing_for,
        "signal": dict(signal),
        **facts,
    }


def threshold_text(before: EffectivePolicy, after: EffectivePolicy, *, mode: str, would_be: float | None) -> str:
    """The change of the threshold, in words; `would_be` is the threshold that the mode prevented."""
    if after.pinned:
        return f"threshold pinned at {after.threshold:g} by a person: not changed"
    if would_be is not None:
        return f"{mode} mode: the threshold stays at {after.threshold:g}, it would be {would_be:g}"
    if before.threshold == after.threshold and after.causes:
        return f"threshold stays at {after.threshold:g}, held by {', '.join(sorted(after.causes))}"
    if before.threshold == after.threshold:
        return f"threshold unchanged at {after.threshold:g}"
    return f"threshold {before.threshold:g} -> {after.threshold:g}"


def headline(payload: Payload, *, label: LabelStyle = plain) -> str:
    """The message on one line: figures with interval and n."""
    if payload["kind"] == "test":
        return "Test alert: cheapdeep-ops can reach this channel"
    if payload["kind"] == "digest":
        return _digest_headline(payload)
    if payload["kind"] == "report":
        return receipt_headline(payload)
    is_over = payload["kind"] == "resolved"
    text = text_of(payload).headline(payload, scope_text(payload["scope"], label), is_over)
    return f"{payload['rule']} {_state(payload)}: {text}"


def _digest_headline(payload: Payload) -> str:
    count, since = payload["count"], moment(payload["since"])
    if not count and (pins := len(payload.get("pins", ()))):
        return f"{pins} threshold{' has' if pins == 1 else 's have'} been pinned for more than a day"
    alerts = f"alert{'' if count == 1 else 's'}"
    if payload.get("late"):
        return f"{count} {alerts} began and ended since {since}, while messages did not arrive"
    return f"{count} more {alerts} since {since}"


def _state(payload: Payload) -> str:
    if payload["kind"] == "reminder":
        return f"still firing since {moment(payload['started_at'])}"
    return _STATES[payload["kind"]]


def details(payload: Payload, *, label: LabelStyle = plain) -> list[str]:
    """The lines below the headline."""
    if payload["kind"] == "test":
        return []
    if payload["kind"] == "digest":
        return list(_digest_lines(payload, label))
    if payload["kind"] == "report":
        return receipt_lines(payload, label)
    text = text_of(payload)
    lines = [*text.measured(payload), *_times(payload), *acknowledged_by(payload, label)]
    lines += order_lines(payload, label)
    lines += cause_lines(payload.get("cause"), label)
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    if payload.get("effect"):
        lines.append(f"Effect: {payload['effect']}")
    lines += text.release(payload) if payload.get("lasted_s") is None else _outcome(payload)
    lines += _shares("By reason", payload.get("reasons"), plain)
    lines += _shares(text.classes_title, payload.get("input_classes"), label)
    return [*lines, *how_to_acknowledge(payload), *_runbook(payload)]


def _runbook(payload: Payload) -> list[str]:
    # A runbook with a web address is already among the links.
    if not payload.get("runbook") or any(name == "Runbook" for name, _ in links(payload)):
        return []
    return [f"Runbook: {payload['runbook']}"]


def title(payload: Payload, *, longest: int) -> str:
    """What goes wrong where since when, in at most `longest` characters: `Escalation storm on billing since 14:30 UTC`.

    A long route is cut first, then a long name of a rule.
    """
    what, when = rule_in_words(payload["rule"]), _when(payload)
    is_anywhere = payload["scope"] == ALL_ROUTES
    where = "" if is_anywhere and not figures(payload) else "all routes" if is_anywhere else plain(payload["scope"])
    fixed = len(what) + len(when) + len(" on ")
    if where:
        where = f" on {cut(where, max(longest - fixed, _SHORTEST))}"
    return f"{cut(what, longest - len(where) - len(when))}{where}{when}"


def rule_in_words(rule: str) -> str:
    """A rule's name as words, if it is in camel case: `EscalationStorm` is `Escalation storm`."""
    words = _WORD.findall(rule)
    if "".join(words) != rule:
        return plain(rule)
    first, *others = words
    return " ".join([first, *(each if each.isupper() else each.lower() for each in others)])


def _when(payload: Payload) -> str:
    """Since when, or from when to when."""
    began, ended = payload.get("started_at"), ended_at(payload)
    if began is None:
        return " is over" if payload["kind"] == "resolved" else ""
    if ended is not None:
        is_one_day = began // DAY_S == ended // DAY_S
        return f" is over: {minute_of_day(began)} to {minute_of_day(ended, with_day=not is_one_day)} UTC"
    is_today = began // DAY_S == payload.get("at", began) // DAY_S
    return f" since {minute_of_day(began, with_day=not is_today)} UTC"


def figures(payload: Payload) -> list[tuple[str, str]]:
    """The few figures that people look at first, with their names; empty for incidents without figures."""
    return list(text_of(payload).figures(payload, payload["kind"] == "resolved"))


def sentence(payload: Payload, label: LabelStyle) -> str:
    """The problem of an incident, or its end, in one sentence."""
    return text_of(payload).headline(payload, scope_text(payload["scope"], label), payload["kind"] == "resolved")


def why(payload: Payload, label: LabelStyle) -> str:
    """The cause in a few words; empty without a cause."""
    return cause_brief(payload["cause"], label) if payload.get("cause") else ""


def done(payload: Payload) -> str:
    """What was done about the threshold, until when, and what a raise does; empty for a rule that leaves it."""
    change = payload.get("threshold") or ""
    if moved := _MOVED.fullmatch(change):
        before, after = moved.groups()
        is_raised = float(after) > float(before)
        change = f"threshold {'raised' if is_raised else 'lowered'} from {before} to {after}"
    elif held := _HELD.fullmatch(change):
        is_raised, change = True, f"threshold is raised to {held[1]}"
    else:
        return change
    if not is_raised or payload["kind"] == "resolved":
        return change
    until = text_of(payload).until(payload)
    # Without this, a rate that goes on rising looks as if the raise had failed.
    return f"{change}, until {until}; {_RAISE}" if until else f"{change}; {_RAISE}"


def explanation(payload: Payload, *, label: LabelStyle = plain) -> list[str]:
    """The details beyond the title, the figures, the cause and what was done."""
    text = text_of(payload)
    lines = [*text.measured(payload), *_times(payload), *cause_lines(payload.get("cause"), label)]
    if payload.get("effect"):
        lines.append(f"Effect: {payload['effect']}")
    lines += text.release(payload) if payload.get("lasted_s") is None else _outcome(payload)
    lines += _shares("By reason", payload.get("reasons"), plain)
    return [*lines, *_shares(text.classes_title, payload.get("input_classes"), label), *_runbook(payload)]


def digest_message(payloads: Sequence[Payload], *, since: float, at: float, pins: Sequence[Payload] = ()) -> Payload:
    """The payload of one message about several incidents, from the payloads of their own messages.

    `pins` are those that a person may have forgotten: scope, threshold, author, why and time.
    """
    # Only the keys that a headline or a program needs: a digest of many incidents must stay small.
    kept = ("kind", "about", "rule", "scope", "signal", "window_s", "consequence", *_FOR_PROGRAMS)
    items = [{name: each[name] for name in kept if name in each} for each in payloads[:_MOST_IN_DIGEST]]
    digest = {"kind": "digest", "rule": "Digest", "since": since, "at": at, "count": len(payloads), "items": items}
    return {**digest, "pins": list(pins[:_MOST_IN_DIGEST])} if pins else digest


def joined_digest(digests: Sequence[Payload]) -> Payload:
    """One digest with the lines of all `digests`, of which there is at least one."""
    items = [item for each in digests for item in each["items"]]
    since, at = min(each["since"] for each in digests), max(each["at"] for each in digests)
    count = sum(each["count"] for each in digests)
    joined = {"since": since, "at": at, "count": count, "items": items[:_MOST_IN_DIGEST]}
    return {**digests[-1], **joined}


def _digest_lines(payload: Payload, label: LabelStyle) -> Iterable[str]:
    """A line for each incident, one on how many a long digest leaves out, and one for each old pin with what to do."""
    for each in payload["items"]:
        yield " | ".join([f"{_number(each)}{headline(each, label=label)}", *_times(each)])
    if rest := payload["count"] - len(payload["items"]):
        yield f"and {rest} more: cheapdeep-ops status"
    for pin in payload.get("pins", ()):
        where, since = scope_text(pin["scope"], label), duration(payload["at"] - pin["at"])
        by = f"by {label(pin['author'])}: {label(pin['why'], _LONGEST_QUOTE)}"
        yield f"The threshold of {where} has been pinned at {pin['threshold']:g} for {since}, {by}"
    if payload.get("pins"):
        yield "Rules do not move a pinned threshold. To end a pin: cheapdeep-ops threshold release --route NAME"


def _number(payload: Payload) -> str:
    """The number of an open incident, by which people acknowledge it; empty if it is resolved."""
    number = payload.get("incident_id")
    return "" if number is None or payload["kind"] == "resolved" else f"Incident {number}: "


def history(payload: Payload, *, label: LabelStyle = plain) -> list[str]:
    """The lines for an incident's thread: the time, the headline, and the change of the threshold."""
    lines = [f"{moment(ended_at(payload) or payload['at'])}: {headline(payload, label=label)}"]
    if payload["kind"] == "acknowledged":
        return [*lines, *acknowledged_by(payload, label)]
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    return [*lines, *order_lines(payload, label, since=payload["at"]), *_outcome(payload)]


def is_reply(payload: Payload) -> bool:
    """Whether it belongs in the incident's thread, for senders that have threads."""
    return bool(payload.get("in_thread"))


def is_history(payload: Payload) -> bool:
    """Whether it repeats an earlier message, so that a sender without threads leaves it out."""
    return is_reply(payload) and payload["kind"] != "reminder"


def links(payload: Payload) -> list[tuple[str, str]]:
    """The links of the message, by name; not part of `details`, because each sender has its own way to link."""
    # A payload is stored as JSON, which turns pairs into lists.
    return [(name, address) for name, address in payload.get("links") or ()]


def quotes(payload: Payload, quote: Callable[[str, int], str]) -> list[list[str]]:
    """The lines about each wrong answer whose text the payload has; `quote` cuts a text to so many characters.

    They are not part of `details`: only senders that the settings allow to quote answers show them.
    """
    return [
        [
            f"Wrong answer with confidence {each['confidence']:.2f}, call {quote(each['call_id'], _LONGEST_ID)}",
            f"Question: {quote(each['question'], _LONGEST_QUOTE)}",
            f"Answer: {quote(each['answer'], _LONGEST_QUOTE)}",
            f"The grader: {quote(each['reason'], _LONGEST_REASON)}",
        ]
        for each in payload.get("examples") or ()
        if "answer" in each
    ]


def ended_at(payload: Payload) -> float | None:
    """When the incident ended (Unix time); None while it is open, and if that is not known."""
    began, lasted_s = payload.get("started_at"), payload.get("lasted_s")
    # A message may be sent long after the end, for example after a silence.
    return None if began is None or lasted_s is None or payload["kind"] != "resolved" else began + lasted_s


def _times(payload: Payload) -> list[str]:
    """When the incident began and ended; empty for a message in time, which arrives when its figures are measured."""
    began, ended = payload.get("started_at"), ended_at(payload)
    if began is None or (ended is None and not payload.get("late")):
        return []
    if ended is not None:
        return [f"Began {moment(began)}, ended {moment(ended)}"]
    return [
        f"Began {moment(began)}, figures of {moment(payload['at'])}" if "at" in payload else f"Began {moment(began)}"
    ]


def how_to_acknowledge(payload: Payload) -> list[str]:
    """How to acknowledge the incident; empty if it is acknowledged or resolved."""
    number = payload.get("incident_id")
    if number is None or payload["kind"] == "resolved" or payload.get("acknowledged"):
        return []
    return [f"Incident {number} is not acknowledged: cheapdeep-ops alert ack {number} --why TEXT"]


def acknowledged_by(payload: Payload, label: LabelStyle) -> list[str]:
    """Who acknowledged the incident, when and why; empty if it is not acknowledged."""
    acknowledged = payload.get("acknowledged")
    if not acknowledged:
        return []
    why = label(acknowledged["why"], _LONGEST_QUOTE)
    return [f"Acknowledged by {label(acknowledged['author'])}, {moment(acknowledged['at'])}: {why}"]


def _outcome(payload: Payload) -> list[str]:
    """How long the incident lasted, and its calls; empty while it is open."""
    if payload.get("lasted_s") is None:
        return []
    escalated = f"{payload['escalated']} escalated, {payload['withheld']} of them only because of the raise"
    affected = text_of(payload).affected(payload)
    return [f"Lasted {duration(payload['lasted_s'])}: {payload['calls']} calls, {escalated}{affected}"]


def _shares(title: str, counts: Any, label: LabelStyle) -> list[str]:
    if not counts:
        return []
    total = sum(count for _, count in counts)
    return [f"{title}: " + ", ".join(f"{label(name)} {count} ({count / total:.0%})" for name, count in counts)]
