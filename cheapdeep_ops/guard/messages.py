"""What a message about an incident says, in numbers; how it looks is the sender's affair."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from cheapdeep_ops.guard.rules import Reading, Rule
from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.policy import Policy
from cheapdeep_ops.store.counters import Sums
from cheapdeep_ops.values import ALL_ROUTES

Kind = Literal["started", "changed", "resolved", "test"]
_TOP: Final = 5
_STATES: Final = {"started": "firing", "changed": "still firing"}


def signal_of(reading: Reading, actual: Proportion) -> dict[str, Any]:
    """A reading as it is stored with alerts, policy changes and messages."""
    low, high = reading.long.interval()
    return {
        "rate": reading.long.rate,
        "low": low,
        "high": high,
        "n": reading.long.n,
        "limit": reading.limit,
        "recent_rate": reading.short.rate,
        "recent_n": reading.short.n,
        "actual_rate": actual.rate,
    }


def breakdown_of(total: Sums, by_class: Mapping[str, Sums]) -> dict[str, Any]:
    """What an escalation storm is made of: base escalations by reason and by input class, largest first."""
    classes = {name: sums.base_escalated for name, sums in by_class.items() if name and sums.base_escalated}
    return {"reasons": _largest(total.base_reasons), "input_classes": _largest(classes)}


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
        "recent_window_s": rule.windows.short,
        "keep_firing_for_s": rule.keep_firing_for,
        "signal": dict(signal),
        **facts,
    }


def threshold_text(before: Policy, after: Policy, *, mode: str, raised: float) -> str:
    """What was done to the threshold, in words."""
    if after.pinned:
        return f"threshold pinned at {after.threshold:g} by a person: not changed"
    if mode == "observe":
        return f"observe mode: the threshold stays at {after.threshold:g}, it would be {raised:g}"
    if before.threshold == after.threshold:
        return f"threshold unchanged at {after.threshold:g}"
    return f"threshold {before.threshold:g} -> {after.threshold:g}"


def scope_text(scope: str) -> str:
    """A scope in words."""
    return "all routes" if scope == ALL_ROUTES else f"route {scope}"


def percent(value: float | None) -> str:
    """A share in words; an unknown one is said to be unknown."""
    return "unknown" if value is None else f"{value * 100:.1f}%"


def headline(payload: Mapping[str, Any]) -> str:
    """The message in one line: numbers, interval and n."""
    if payload["kind"] == "test":
        return "Test alert: cheapdeep-ops can reach this channel"
    signal, scope = payload["signal"], scope_text(payload["scope"])
    if payload["kind"] == "resolved":
        return (
            f"{payload['rule']} resolved: back to {percent(signal['recent_rate'])} of the calls of {scope} escalating "
            f"at base ({signal['recent_n']} calls in {duration(payload['recent_window_s'])}; limit "
            f"{percent(signal['limit'])})"
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


def details(payload: Mapping[str, Any]) -> list[str]:
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
    lines += _parts("By reason", payload.get("reasons")) + _parts("By input class", payload.get("input_classes"))
    if payload.get("runbook"):
        lines.append(f"Runbook: {payload['runbook']}")
    return lines


def _parts(title: str, counts: Any) -> list[str]:
    if not counts:
        return []
    total = sum(count for _, count in counts)
    return [f"{title}: " + ", ".join(f"{name} {count} ({count / total:.0%})" for name, count in counts)]


def _largest(counts: Mapping[str, int]) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ordered[:_TOP]]
