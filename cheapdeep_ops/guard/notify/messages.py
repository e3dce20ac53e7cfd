"""What a message about an incident says, in numbers; how it looks is the sender's affair."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from cheapdeep_ops.guard.formatting import (
    LONGEST_LABEL,
    LabelStyle,
    duration,
    moment,
    money,
    percent,
    plain,
    scope_text,
)
from cheapdeep_ops.guard.notify.receipt_text import receipt_headline, receipt_lines
from cheapdeep_ops.guard.rules.cause_text import cause_lines, cause_text
from cheapdeep_ops.guard.rules.escalation.cost_text import affected, cost_lines, hourly
from cheapdeep_ops.guard.rules.escalation.detection import WindowReading, decided_by
from cheapdeep_ops.guard.rules.model import AnyRule, StormRule
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.policy import EffectivePolicy

__all__ = [
    "LONGEST_LABEL",
    "Kind",
    "LabelStyle",
    "breakdown_of",
    "cause_text",
    "details",
    "digest_message",
    "duration",
    "headline",
    "history",
    "incident_message",
    "is_history",
    "is_reply",
    "links",
    "moment",
    "money",
    "percent",
    "plain",
    "quotes",
    "scope_text",
    "shown_window_s",
    "storm_signal",
    "threshold_text",
]

Kind = Literal["started", "changed", "acknowledged", "reminder", "resolved", "digest", "report", "test"]
Payload = Mapping[str, Any]
Signal = Mapping[str, Any]
"""What a rule saw, as it is stored."""

_TOP: Final = 5
_LONGEST_SAID: Final = 240
_LONGEST_QUOTE: Final = 200
"""Characters of a question or an answer that a message quotes."""

_LONGEST_REASON: Final = 120
_LONGEST_ID: Final = 40
_MOST_COLLECTED: Final = 20
_STATES: Final = {
    "started": "firing",
    "changed": "still firing",
    "acknowledged": "firing, acknowledged",
    "resolved": "resolved",
}


def storm_signal(rule: StormRule, reading: WindowReading, actual: Proportion) -> dict[str, Any]:
    """A reading as it is stored with alerts, policy changes and messages; intervals are 95%.

    Where the sequential test decides, `recent` is the climb that it has found: both windows may still be full of the
    calm before. `evidence` is a natural logarithm.
    """
    by = decided_by(rule, reading)
    recent, recent_window_s = reading.climb.stretch if by == "sequence" else reading.recent(rule)
    (low, high), (recent_low, recent_high) = reading.long.interval(), recent.interval()
    return {
        "rate": reading.long.rate,
        "low": low,
        "high": high,
        "n": reading.long.n,
        "limit": reading.limit,
        "recent_rate": recent.rate,
        "recent_low": recent_low,
        "recent_high": recent_high,
        "recent_n": recent.n,
        "recent_window_s": recent_window_s,
        "actual_rate": actual.rate,
        "evidence": reading.climb.evidence,
        "evidence_limit": rule.evidence_limit,
        "decided_by": by,
    }


def breakdown_of(*, reasons: Mapping[str, int], by_class: Mapping[str, int]) -> dict[str, Any]:
    """What an incident is made of, by reason and by input class, largest first."""
    classes = {name: count for name, count in by_class.items() if name and count}
    return {"reasons": _largest(reasons), "input_classes": _largest(classes)}


def incident_message(
    kind: Kind, rule: AnyRule, scope: str, *, signal: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The payload of one message: everything a sender may want to say."""
    return {
        "kind": kind,
        "about": getattr(rule, "signal", ""),
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
    """What was done to the threshold, in words; `would_be` is what a mode that changes nothing kept it from."""
    if after.pinned:
        return f"threshold pinned at {after.threshold:g} by a person: not changed"
    if would_be is not None:
        return f"{mode} mode: the threshold stays at {after.threshold:g}, it would be {would_be:g}"
    if before.threshold == after.threshold and after.causes:
        return f"threshold stays at {after.threshold:g}, held by {', '.join(sorted(after.causes))}"
    if before.threshold == after.threshold:
        return f"threshold unchanged at {after.threshold:g}"
    return f"threshold {before.threshold:g} -> {after.threshold:g}"


def headline(payload: Mapping[str, Any], *, label: LabelStyle = plain) -> str:
    """The message in one line: numbers, interval and n."""
    if payload["kind"] == "test":
        return "Test alert: cheapdeep-ops can reach this channel"
    if payload["kind"] == "digest":
        return f"{payload['count']} more alert{'' if payload['count'] == 1 else 's'} since {moment(payload['since'])}"
    if payload["kind"] == "report":
        return receipt_headline(payload)
    say = _HEADLINES.get(payload.get("about", ""), _storm_headline)
    is_over = payload["kind"] == "resolved"
    return f"{payload['rule']} {_state(payload)}: {say(payload, scope_text(payload['scope'], label), is_over)}"


def _state(payload: Payload) -> str:
    if payload["kind"] == "reminder":
        return f"still firing since {moment(payload['started_at'])}"
    return _STATES[payload["kind"]]


def _storm_headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    if is_over:
        return (
            f"back to {percent(signal['recent_rate'])} of the calls of {scope} escalating at base "
            f"({_interval(signal, 'recent_')}, {signal['recent_n']} calls in {duration(signal['recent_window_s'])}; "
            f"limit {percent(signal['limit'])})"
        )
    prefix, window_s = "recent_" if _is_sudden(signal) else "", shown_window_s(signal, payload["window_s"])
    return (
        f"{percent(signal[f'{prefix}rate'])} of the calls of {scope} escalate at base ({_interval(signal, prefix)}, "
        f"{signal[f'{prefix}n']} calls in {duration(window_s)}; limit {percent(signal['limit'])})"
        f"{hourly(payload.get('consequence'))}"
    )


def shown_window_s(signal: Signal, window_s: float) -> float:
    """How many seconds of calls a storm's headline is about, of a rule that looks at `window_s`.

    What a sequential test has called is shown in the calls that it rests on: older ones are of the calm before.
    """
    return float(signal["recent_window_s"]) if _is_sudden(signal) else window_s


def _is_sudden(signal: Signal) -> bool:
    return signal.get("decided_by") == "sequence"


def _quality_headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal, now = payload["signal"], "now " if is_over else ""
    known = f"{_interval(signal)}, {signal['n']} grades{' of calls made since' if is_over else ''}"
    rate = f"{now}{percent(signal['rate'])} of the confident answers of {scope} are wrong"
    return f"{rate} ({known}; {_limit_text(signal)})"


def _limit_text(signal: Signal) -> str:
    if signal.get("normal_rate") is None:
        return f"limit {percent(signal['limit'])}"
    normal = f"{percent(signal['normal_rate'])}, {_interval(signal, 'normal_')}, {signal['normal_n']} grades"
    return f"normal {normal}; alarm level {percent(signal['limit'])}"


def _grader_headline(payload: Payload, _scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    return "grades come in again" if is_over else f"false confidence is not known: {_said(payload['signal']['why'])}"


def _said(text: str) -> str:
    """Words of the API's, without what a sender would read as markup."""
    return plain(text.replace("*", "").replace("_", " ").replace("`", "'").replace("~", ""), _LONGEST_SAID)


def _undecided_headline(_payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    if is_over:
        return f"the grades of {scope} say enough now, or its raise has ended"
    return f"the threshold of {scope} is raised, and too few grades tell whether it still must be: please decide"


def _gate_headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    if not is_over:
        return f"{scope}: {_said(payload['signal']['why'])}"
    kinds = str(payload["signal"].get("kind", "")).split(",")
    return f"{scope}: {' and '.join(text for kind, text in _GATE_MENDED.items() if kind in kinds) or 'it is over'}"


_GATE_MENDED: Final = {
    "confidence": "confidence tells right from wrong again",
    "share": "some calls escalate at base, and some do not",
}


_MENDED: Final = {
    "router_silent": "every router shows itself, has signed off, or stopped a day ago",
    "router_outdated": "the routers follow the policy",
    "recorder_dropping": "every decision is counted again",
    "notifications_failing": "messages arrive again",
    "scheduler_stalled": "the rules are evaluated again",
    "clock_skewed": "no router is ahead of the guard's clock",
    "model_retiring": "no model in use is about to retire",
    "schema_changed": "the store is at this guard's schema",
}
"""What is so of each watcher once its alert is over."""


def _watcher_headline(payload: Payload, _scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    return _MENDED[payload["about"]] if is_over else _said(payload["signal"]["why"])


_HEADLINES: Final[Mapping[str, Callable[[Payload, str, bool], str]]] = {
    **dict.fromkeys(_MENDED, _watcher_headline),
    "base_escalation_rate": _storm_headline,
    "false_confident_rate": _quality_headline,
    "confidence_separation": _gate_headline,
    "grader_failing": _grader_headline,
    "undecided_raise": _undecided_headline,
}


def _interval(signal: Signal, prefix: str = "") -> str:
    return f"{percent(signal[f'{prefix}low'])} to {percent(signal[f'{prefix}high'])}"


def details(payload: Mapping[str, Any], *, label: LabelStyle = plain) -> list[str]:
    """The lines under the headline."""
    if payload["kind"] == "test":
        return []
    if payload["kind"] == "digest":
        return list(_collected(payload, label))
    if payload["kind"] == "report":
        return receipt_lines(payload, label)
    about = payload.get("about", "")
    lines = [*cost_lines(payload), *_MEASURED.get(about, _storm_measured)(payload["signal"])]
    lines += _acknowledged(payload, label)
    lines += cause_lines(payload.get("cause"), label)
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    if payload.get("effect"):
        lines.append(f"Effect: {payload['effect']}")
    lines += _end(payload)
    lines += _parts("By reason", payload.get("reasons"), plain)
    lines += _parts(_CLASSES.get(about, "By input class"), payload.get("input_classes"), label)
    lines += _number(payload)
    if payload.get("runbook") and not any(name == "Runbook" for name, _ in links(payload)):
        lines.append(f"Runbook: {payload['runbook']}")
    return lines


def digest_message(told: Sequence[Payload], *, since: float, at: float) -> dict[str, Any]:
    """The payload of one message about several incidents, each as it would have been told by itself."""
    kept = ("kind", "about", "rule", "scope", "signal", "window_s", "consequence")
    items = [{name: each[name] for name in kept if name in each} for each in told[:_MOST_COLLECTED]]
    return {"kind": "digest", "rule": "Digest", "since": since, "at": at, "count": len(told), "items": items}


def _collected(payload: Payload, label: LabelStyle) -> Iterable[str]:
    """A line each; a digest of more than can be read says how many it leaves out."""
    yield from (headline(each, label=label) for each in payload["items"])
    if rest := payload["count"] - len(payload["items"]):
        yield f"and {rest} more: cheapdeep-ops status"


def history(payload: Payload, *, label: LabelStyle = plain) -> list[str]:
    """What the thread of an incident says of one turn of it: when it was, the headline, and what was done."""
    lines = [f"{moment(payload['at'])}: {headline(payload, label=label)}"]
    if payload["kind"] == "acknowledged":
        return [*lines, *_acknowledged(payload, label)]
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    return [*lines, *_outcome(payload)]


def is_reply(payload: Payload) -> bool:
    """Whether it goes into an incident's thread, where there are threads."""
    return bool(payload.get("in_thread"))


def is_history(payload: Payload) -> bool:
    """Whether it says again what a message has said, so that a sender without threads leaves it out."""
    return is_reply(payload) and payload["kind"] != "reminder"


def links(payload: Payload) -> list[tuple[str, str]]:
    """What the message leads to, by name; they are no part of `details`, since each sender has its own way to link."""
    return [(name, address) for name, address in payload.get("links") or ()]


def quotes(payload: Mapping[str, Any], quote: Callable[[str, int], str]) -> list[list[str]]:
    """The lines of each wrong answer that the payload has the words of; `quote` shows so many characters of a text.

    They are no part of `details`: only a sender that people have asked to quote answers says them.
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


def _number(payload: Payload) -> list[str]:
    """Which incident it is, for those who want to acknowledge it."""
    number = payload.get("incident_id")
    if number is None or payload["kind"] == "resolved" or payload.get("acknowledged"):
        return []
    return [f"Nobody has acknowledged incident {number}: cheapdeep-ops alert ack {number} --why TEXT"]


def _acknowledged(payload: Payload, label: LabelStyle) -> list[str]:
    found = payload.get("acknowledged")
    if not found:
        return []
    said = label(found["why"], _LONGEST_QUOTE)
    return [f"Acknowledged by {label(found['author'])}, {moment(found['at'])}: {said}"]


def _storm_measured(signal: Signal) -> Iterable[str]:
    yield f"Actual escalation rate: {percent(signal['actual_rate'])}"


def _quality_measured(signal: Signal) -> Iterable[str]:
    shipped = f"{percent(signal['shipped_rate'])} ({_interval(signal, 'shipped_')}, {signal['shipped_n']} grades)"
    yield f"Of what was shipped: {shipped}; in the judge's eyes, uncorrected for its errors"


_WHAT_TO_DO: Final = (
    "What can be done: pin the threshold (cheapdeep-ops threshold set VALUE --why TEXT), or have more answers graded "
    "(CHEAPDEEP_SAMPLE_RATE)"
)
_MEASURED: Final[Mapping[str, Callable[[Signal], Iterable[str]]]] = {
    **dict.fromkeys(_MENDED, lambda _signal: ()),
    "base_escalation_rate": _storm_measured,
    "false_confident_rate": _quality_measured,
    "confidence_separation": lambda _signal: (),
    "grader_failing": lambda _signal: (),
    "undecided_raise": lambda _signal: (_WHAT_TO_DO,),
}
_CLASSES: Final = {"false_confident_rate": "Wrong answers by input class"}


def _end(payload: Mapping[str, Any]) -> list[str]:
    """When it is over, or what it has been."""
    if payload.get("lasted_s") is not None:
        return _outcome(payload)
    if payload.get("release_alpha"):
        level, sure = percent(payload["signal"]["limit"]), percent(payload["release_confidence"])
        rate = f"fewer than {level} of the confident answers to calls made since are wrong, shipped or held back"
        wrong = f"a test that is wrong at most once in {1 / payload['release_alpha']:,.0f} grades"
        return [f"Lets go: once {rate}, with {sure} confidence and by {wrong}"]
    if payload.get("about", "base_escalation_rate") != "base_escalation_rate":
        return []
    hold = duration(payload["keep_firing_for_s"])
    return [f"Lets go: once the base rate has been at the limit or below for {hold}"]


def _outcome(payload: Payload) -> list[str]:
    """How long it lasted and what passed meanwhile; nothing while it goes on."""
    if payload.get("lasted_s") is None:
        return []
    passed = f"{payload['calls']} calls, {payload['escalated']} escalated, {payload['withheld']} of them held back"
    return [f"Lasted {duration(payload['lasted_s'])}: {passed} by the raise alone{affected(payload)}"]


def _parts(title: str, counts: Any, label: LabelStyle) -> list[str]:
    if not counts:
        return []
    total = sum(count for _, count in counts)
    return [f"{title}: " + ", ".join(f"{label(name)} {count} ({count / total:.0%})" for name, count in counts)]


def _largest(counts: Mapping[str, int]) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ordered[:_TOP]]
