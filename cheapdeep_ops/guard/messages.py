"""What a message about an incident says, in numbers; how it looks is the sender's affair."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from cheapdeep_ops.guard.rules import AnyRule, StormRule
from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.guard.storms import Reading, decided_by
from cheapdeep_ops.policy import Policy
from cheapdeep_ops.values import ALL_ROUTES

Kind = Literal["started", "changed", "resolved", "test"]
Label = Callable[[str], str]
"""How a sender shows a name that a caller chose: a route, an input class."""

Payload = Mapping[str, Any]
Signal = Mapping[str, Any]
"""What a rule saw, as it is stored."""

_TOP: Final = 5
LONGEST_LABEL: Final = 80
_LONGEST_SAID: Final = 240
_LONGEST_QUOTE: Final = 200
"""Characters of a question or an answer that a message quotes."""

_LONGEST_REASON: Final = 120
_LONGEST_ID: Final = 40
_STATES: Final = {"started": "firing", "changed": "still firing"}


def storm_signal(rule: StormRule, reading: Reading, actual: Proportion) -> dict[str, Any]:
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


def threshold_text(before: Policy, after: Policy, *, would_be: float | None) -> str:
    """What was done to the threshold, in words; `would_be` is what observe mode kept it from."""
    if after.pinned:
        return f"threshold pinned at {after.threshold:g} by a person: not changed"
    if would_be is not None:
        return f"observe mode: the threshold stays at {after.threshold:g}, it would be {would_be:g}"
    if before.threshold == after.threshold and after.causes:
        return f"threshold stays at {after.threshold:g}, held by {', '.join(sorted(after.causes))}"
    if before.threshold == after.threshold:
        return f"threshold unchanged at {after.threshold:g}"
    return f"threshold {before.threshold:g} -> {after.threshold:g}"


def plain(label: str, longest: int = LONGEST_LABEL) -> str:
    """`label` on one line and no longer than a name needs: it can forge neither a line nor its direction."""
    visible = "".join(each if each.isprintable() else " " for each in label)
    return " ".join(visible.split())[:longest] or "?"


def scope_text(scope: str, label: Label = plain) -> str:
    """A scope in words."""
    return "all routes" if scope == ALL_ROUTES else f"route {label(scope)}"


def percent(value: float | None) -> str:
    """A share in words; an unknown one is said to be unknown."""
    return "unknown" if value is None else f"{value * 100:.1f}%"


def headline(payload: Mapping[str, Any], *, label: Label = plain) -> str:
    """The message in one line: numbers, interval and n."""
    if payload["kind"] == "test":
        return "Test alert: cheapdeep-ops can reach this channel"
    say = _HEADLINES.get(payload.get("about", ""), _storm_headline)
    is_over = payload["kind"] == "resolved"
    state = "resolved" if is_over else _STATES[payload["kind"]]
    return f"{payload['rule']} {state}: {say(payload, scope_text(payload['scope'], label), is_over)}"


def _storm_headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    if is_over:
        return (
            f"back to {percent(signal['recent_rate'])} of the calls of {scope} escalating at base "
            f"({_interval(signal, 'recent_')}, {signal['recent_n']} calls in {duration(signal['recent_window_s'])}; "
            f"limit {percent(signal['limit'])})"
        )
    # What a sequential test has called is shown in the calls that it rests on: older ones are of the calm before.
    prefix, window_s = ("recent_", signal["recent_window_s"]) if _is_sudden(signal) else ("", payload["window_s"])
    return (
        f"{percent(signal[f'{prefix}rate'])} of the calls of {scope} escalate at base ({_interval(signal, prefix)}, "
        f"{signal[f'{prefix}n']} calls in {duration(window_s)}; limit {percent(signal['limit'])})"
    )


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


def duration(seconds: float) -> str:
    """Seconds in words: 90 -> `1.5 min`."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def details(payload: Mapping[str, Any], *, label: Label = plain) -> list[str]:
    """The lines under the headline."""
    if payload["kind"] == "test":
        return []
    about = payload.get("about", "")
    lines = list(_MEASURED.get(about, _storm_measured)(payload["signal"]))
    lines += _cause_lines(payload.get("cause"), label)
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    if payload.get("effect"):
        lines.append(f"Effect: {payload['effect']}")
    lines += _end(payload)
    lines += _parts("By reason", payload.get("reasons"), plain)
    lines += _parts(_CLASSES.get(about, "By input class"), payload.get("input_classes"), label)
    if payload.get("runbook"):
        lines.append(f"Runbook: {payload['runbook']}")
    return lines


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


def cause_text(cause: Mapping[str, Any], label: Label = plain) -> str:
    """What a rise is made of, in one line; a cause as in `causes.as_facts`, with what it is `compared_with`."""
    if cause["kind"] == "unknown":
        return f"unknown: {cause['why']}"
    rise = f"{_side(cause['before'])} in {cause['compared_with']}, {_side(cause['now'])} now"
    culprits = [part for part in cause["parts"] if part["role"] == "culprit"]
    if not culprits:
        return f"{cause['kind']}: {cause['why'] or _NOBODY[cause['kind']]} ({rise})"
    counted = cause.get("counted", "calls")
    said = "; ".join(_culprit(part, cause["kind"], counted, label) for part in culprits)
    same = [f"{part['dimension']} {label(part['element'])}" for part in cause["parts"] if part["role"] == "alike"]
    return f"{said} (the same calls: {', '.join(same)})" if same else said


_NOBODY: Final = {
    "everything got worse": "no single part of the calls stands out",
    "no part stands out": "what seems to may be chance",
}


def _culprit(part: Mapping[str, Any], kind: str, counted: str, label: Label) -> str:
    name = f"{part['dimension']} {label(part['element'])}: {part['share']:.0%} of the rise"
    if "share_low" in part:
        name = f"{name} (95%: {part['share_low']:.0%} to {part['share_high']:.0%})"
    before, now = part["before"], part["now"]
    was = "new" if before["rate"] is None else percent(before["rate"])
    interval = f"95%: {percent(now['low'])} to {percent(now['high'])}, n {now['n']}"
    of, fail = _FAIL[counted]
    rates = f"{was} -> {percent(now['rate'])} of {_CALLS_OF.get(part['dimension'], 'its')} {of} {fail} ({interval})"
    if kind != "mix changed":
        return f"{name}, {rates}"
    moved = f"{percent(part['traffic_before'])} -> {percent(part['traffic_now'])} of the {of} are of it"
    return f"{name}, the mix changed: {moved}; {rates}"


_CALLS_OF: Final = {"reason": "all"}
_FAIL: Final = {"calls": ("calls", "escalate"), "grades": ("confident answers", "are wrong")}
"""What is counted, and what it does, by what a cause was counted in."""


def _side(side: Mapping[str, Any]) -> str:
    return f"{percent(side['rate'])} ({percent(side['low'])} to {percent(side['high'])}, n {side['n']})"


def _cause_lines(cause: Any, label: Label) -> Iterable[str]:
    if not cause:
        return
    yield f"Cause: {cause_text(cause, label)}"
    if cause["kind"] == "unknown":
        return
    yield (
        f"Against {cause['compared_with']}: the changed mix of the calls adds {_points(cause['mix'])} to the rate, "
        f"changed rates add {_points(cause['worse'])}"
    )
    also = [part for part in cause["parts"] if part["role"] == "also"][:_TOP]
    if also:
        named = (f"{part['dimension']} {label(part['element'])} ({part['share']:.0%})" for part in also)
        yield f"The rise is seen in, with its share: {', '.join(named)}"


def _points(change: float) -> str:
    return f"{change * 100:+.1f} points"


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
        passed = f"{payload['calls']} calls, {payload['escalated']} escalated, {payload['withheld']} of them held back"
        return [f"Lasted {duration(payload['lasted_s'])}: {passed} by the raise alone"]
    if payload.get("release_alpha"):
        level, sure = percent(payload["signal"]["limit"]), percent(payload["release_confidence"])
        rate = f"fewer than {level} of the confident answers to calls made since are wrong, shipped or held back"
        wrong = f"a test that is wrong at most once in {1 / payload['release_alpha']:,.0f} grades"
        return [f"Lets go: once {rate}, with {sure} confidence and by {wrong}"]
    if payload.get("about", "base_escalation_rate") != "base_escalation_rate":
        return []
    hold = duration(payload["keep_firing_for_s"])
    return [f"Lets go: once the base rate has been at the limit or below for {hold}"]


def _parts(title: str, counts: Any, label: Label) -> list[str]:
    if not counts:
        return []
    total = sum(count for _, count in counts)
    return [f"{title}: " + ", ".join(f"{label(name)} {count} ({count / total:.0%})" for name, count in counts)]


def _largest(counts: Mapping[str, int]) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ordered[:_TOP]]
