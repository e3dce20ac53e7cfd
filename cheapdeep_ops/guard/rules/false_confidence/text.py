"""The text for false confidence that climbs."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import percent, signal_interval
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText, Signal
from cheapdeep_ops.values import ALL_ROUTES


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal, now = payload["signal"], "now " if is_over else ""
    known = f"{signal_interval(signal)}, {signal['n']} grades{' of calls since its start' if is_over else ''}"
    rate = f"the false-confident rate of {scope} is {now}{percent(signal['rate'])}"
    return f"{rate} ({known}; {_limit(signal)})"


def _limit(signal: Signal) -> str:
    if signal.get("normal_rate") is None:
        return f"limit {percent(signal['limit'])}"
    normal = f"{percent(signal['normal_rate'])}, {signal_interval(signal, 'normal_')}, {signal['normal_n']} grades"
    return f"normal {normal}; alarm level {percent(signal['limit'])}"


def _figures(payload: Payload, is_over: bool) -> Iterable[tuple[str, str]]:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    of = " of calls since its start" if is_over else ""
    yield "False-confident rate", f"{percent(signal['rate'])} ({signal_interval(signal)})"
    if signal.get("normal_rate") is None:
        yield "Limit", percent(signal["limit"])
    else:
        yield "Alarm level", percent(signal["limit"])
        yield "Normal", f"{percent(signal['normal_rate'])} ({signal_interval(signal, 'normal_')})"
    yield "Grades", f"{signal['n']:,}{of}"


def _until(payload: Payload) -> str:
    if payload["signal"].get("raises_in_day"):
        return "a person ends it"
    return f"grades show a false-confident rate below {percent(payload['signal']['limit'])}"


def _measured(payload: Payload) -> Iterable[str]:
    signal = payload["signal"]
    interval = signal_interval(signal, "shipped_")
    shipped = f"{percent(signal['shipped_rate'])} ({interval}, {signal['shipped_n']} grades)"
    yield f"False-confident rate of shipped answers: {shipped}, by the grader, uncorrected for its errors"


def _release(payload: Payload) -> Iterable[str]:
    if not payload.get("release_alpha"):
        return
    if count := payload["signal"].get("raises_in_day"):
        yield from _held(payload, count)
        return
    level, sure = percent(payload["signal"]["limit"]), percent(payload["release_confidence"])
    rate = f"the false-confident rate since its start, of shipped and withheld answers, is below {level}"
    test = f"a test that errs at most once in {1 / payload['release_alpha']:,.0f} grades"
    yield f"Resolves when {rate}, with {sure} confidence and by {test}"


def _held(payload: Payload, count: int) -> Iterable[str]:
    """How a person ends an incident that grades do not end."""
    is_joint = payload["scope"] == ALL_ROUTES
    route = "" if is_joint else f" --route {payload['scope']}"
    relearned = " --route NAME" if is_joint else route
    yield f"Stays raised: it was raised {count} times within a day, so grades alone do not end it"
    yield (
        f"To end it, pin a threshold (cheapdeep-ops threshold set VALUE{route} --why TEXT), or accept the rate "
        f"(cheapdeep-ops normal relearn{relearned} --why TEXT); "
        f"after a pin, cheapdeep-ops threshold release{route} --why TEXT has the rules decide again"
    )


TEXT: Final = RuleText(
    headline=_headline,
    figures=_figures,
    plot="false confidence",
    measured=_measured,
    release=_release,
    until=_until,
    classes_title="Wrong answers by input class",
)
