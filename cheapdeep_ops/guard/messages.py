"""What a message about an incident says, in numbers; how it looks is the sender's affair."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from cheapdeep_ops.guard.rules import Reading, Rule
from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.policy import Policy
from cheapdeep_ops.values import ALL_ROUTES

Kind = Literal["started", "changed", "resolved", "test"]
Label = Callable[[str], str]
"""How a sender shows a name that a caller chose: a route, an input class."""

_TOP: Final = 5
_LONGEST_LABEL: Final = 80
_STATES: Final = {"started": "firing", "changed": "still firing"}


def signal_of(rule: Rule, reading: Reading, actual: Proportion) -> dict[str, Any]:
    """A reading as it is stored with alerts, policy changes and messages; intervals are 95%."""
    recent, recent_window_s = reading.recent(rule)
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
    }


def breakdown_of(*, reasons: Mapping[str, int], by_class: Mapping[str, int]) -> dict[str, Any]:
    """What an escalation storm is made of: base escalations by reason and by input class, largest first."""
    classes = {name: count for name, count in by_class.items() if name and count}
    return {"reasons": _largest(reasons), "input_classes": _largest(classes)}


def incident_message(
    kind: Kind, rule: Rule, scope: str, *, signal: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The payload of one message: everything a sender may want to say."""
    return {
        "kind": kind,
        "rule": rule.alert,
        "scope": scope,
        "summary": rule.annotations.get("summary", rule.alert),
        "runbook": rule.annotations.get("runbook", ""),
        "severity": rule.labels.get("severity", ""),
        "window_s": rule.windows.long,
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
    if before.threshold == after.threshold:
        return f"threshold unchanged at {after.threshold:g}"
    return f"threshold {before.threshold:g} -> {after.threshold:g}"


def plain(label: str) -> str:
    """`label` on one line and no longer than a name needs: it can forge neither a line nor its direction."""
    visible = "".join(each if each.isprintable() else " " for each in label)
    return " ".join(visible.split())[:_LONGEST_LABEL] or "?"


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
    signal, scope = payload["signal"], scope_text(payload["scope"], label)
    if payload["kind"] == "resolved":
        return (
            f"{payload['rule']} resolved: back to {percent(signal['recent_rate'])} of the calls of {scope} escalating "
            f"at base ({percent(signal['recent_low'])} to {percent(signal['recent_high'])}, {signal['recent_n']} calls "
            f"in {duration(signal['recent_window_s'])}; limit {percent(signal['limit'])})"
        )
    return (
        f"{payload['rule']} {_STATES[payload['kind']]}: {percent(signal['rate'])} of the calls of {scope} escalate at "
        f"base ({percent(signal['low'])} to {percent(signal['high'])}, {signal['n']} calls in "
        f"{duration(payload['window_s'])}; limit {percent(signal['limit'])})"
    )


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
    lines = [f"Actual escalation rate: {percent(payload['signal']['actual_rate'])}"]
    if payload.get("threshold"):
        lines.append(f"What was done: {payload['threshold']}")
    if payload.get("lasted_s") is not None:
        lines.append(
            f"Lasted {duration(payload['lasted_s'])}: {payload['calls']} calls, {payload['escalated']} escalated, "
            f"{payload['withheld']} of them held back by the raise alone"
        )
    else:
        hold = duration(payload["keep_firing_for_s"])
        lines.append(f"Lets go: once the base rate has been at the limit or below for {hold}")
    lines += _parts("By reason", payload.get("reasons"), plain)
    lines += _parts("By input class", payload.get("input_classes"), label)
    if payload.get("runbook"):
        lines.append(f"Runbook: {payload['runbook']}")
    return lines


def _parts(title: str, counts: Any, label: Label) -> list[str]:
    if not counts:
        return []
    total = sum(count for _, count in counts)
    return [f"{title}: " + ", ".join(f"{label(name)} {count} ({count / total:.0%})" for name, count in counts)]


def _largest(counts: Mapping[str, int]) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ordered[:_TOP]]
