"""The cause of an incident, in words."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cheapdeep_ops.guard.formatting import LabelStyle, percent, plain, share, signal_interval

_TOP: Final = 5
_WHOLE: Final = 0.995


def cause_text(cause: Mapping[str, Any], label: LabelStyle = plain) -> str:
    """The cause of a rise on one line. `cause` has the keys of `attribution.as_facts`, and `compared_with`."""
    if cause["kind"] == "unknown":
        return f"unknown: {cause['why']}"
    rise = f"{share(cause['before'])} in {cause['compared_with']}, {share(cause['now'])} now"
    contributors = [part for part in cause["parts"] if part["role"] == "culprit"]
    if not contributors:
        return f"{cause['kind']}: {cause['why'] or _NO_CONTRIBUTOR[cause['kind']]} ({rise})"
    counted = cause.get("counted", "calls")
    text = "; ".join(_contributor(part, cause["kind"], counted, label) for part in contributors)
    # Parts that consist of the same calls are one cause with several names.
    aliases = [f"{part['dimension']} {label(part['element'])}" for part in cause["parts"] if part["role"] == "alike"]
    return f"{text} (the same calls: {', '.join(aliases)})" if aliases else text


def cause_brief(cause: Mapping[str, Any], label: LabelStyle = plain) -> str:
    """The cause of a rise in a few words: what stands out, its share of the rise, and its rates before and now."""
    if cause["kind"] == "unknown":
        return f"unknown: {cause['why']}"
    contributors = [part for part in cause["parts"] if part["role"] == "culprit"]
    if not contributors:
        return f"{cause['kind']}: {cause['why'] or _NO_CONTRIBUTOR[cause['kind']]}"
    first, *others = contributors
    more = f", and {len(others)} more" if others else ""
    return f"{_brief(first, cause.get('counted', 'calls'), label)}{more}"


def _brief(part: Mapping[str, Any], counted: str, label: LabelStyle) -> str:
    before, (of, fail) = part["before"], _FAIL[counted]
    now = f"{percent(part['now']['rate'])} of {_CALLS_OF.get(part['dimension'], 'its')} {of} {fail}"
    rates = f"it is new: {now}" if before["rate"] is None else f"{now}, up from {percent(before['rate'])}"
    # More than all of it, if the rest has become better.
    share_of = "all" if part["share"] >= _WHOLE else f"{part['share']:.0%}"
    return f"{part['dimension']} {label(part['element'])} has {share_of} of the rise ({rates})"


_NO_CONTRIBUTOR: Final = {
    "everything got worse": "no single part of the calls stands out",
    "no part stands out": "the differences may be chance",
}


def _contributor(part: Mapping[str, Any], kind: str, counted: str, label: LabelStyle) -> str:
    name = f"{part['dimension']} {label(part['element'])}: {part['share']:.0%} of the rise"
    if "share_low" in part:
        name = f"{name} (95%: {part['share_low']:.0%} to {part['share_high']:.0%})"
    before, now = part["before"], part["now"]
    was = "new" if before["rate"] is None else percent(before["rate"])
    interval = f"95%: {signal_interval(now)}, n {now['n']}"
    of, fail = _FAIL[counted]
    rates = f"{was} -> {percent(now['rate'])} of {_CALLS_OF.get(part['dimension'], 'its')} {of} {fail} ({interval})"
    if kind != "mix changed":
        return f"{name}, {rates}"
    moved = f"{percent(part['traffic_before'])} -> {percent(part['traffic_now'])} of the {of} belong to it"
    return f"{name}, the mix changed: {moved}; {rates}"


# The rate of a reason is among all calls; the rate of any other part is among its own calls.
_CALLS_OF: Final = {"reason": "all"}
_FAIL: Final = {"calls": ("calls", "escalate"), "grades": ("confident answers", "are wrong")}
"""By what a cause counts: the name of the counted items, and the text for a failure."""


def cause_lines(cause: Any, label: LabelStyle) -> Iterable[str]:
    """The lines of a message about the cause; empty without a cause."""
    if not cause:
        return
    yield f"Cause: {cause_text(cause, label)}"
    if cause["kind"] == "unknown":
        return
    yield (
        f"Compared with {cause['compared_with']}: the changed mix of the calls adds {_points(cause['mix'])} "
        f"to the rate, changed rates add {_points(cause['worse'])}"
    )
    also = [part for part in cause["parts"] if part["role"] == "also"][:_TOP]
    if also:
        named = (f"{part['dimension']} {label(part['element'])} ({part['share']:.0%})" for part in also)
        yield f"The rise also appears in (with its share): {', '.join(named)}"


def _points(change: float) -> str:
    return f"{change * 100:+.1f} points"
