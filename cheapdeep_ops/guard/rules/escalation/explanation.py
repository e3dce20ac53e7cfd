"""From stored counters to what a storm is made of, against what was before it."""

from collections.abc import Iterator
from typing import Any, Final

from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS, Cause, as_facts, cause_of
from cheapdeep_ops.guard.statistics.contributions import BeforeAfter, Counts, Dimension, by_name, by_reason, is_named
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.counters import TrafficMix
from cheapdeep_ops.store.engine import Connection

_HOUR_S: Final = 3_600.0
_DAY_S: Final = 86_400.0
_LATEST_S: Final = 3_600.0
"""What is said of a storm that goes on is said of its last hour: reading it must not cost more the longer it lasts."""


def storm_cause(
    connection: Connection, *, scope: str, started_at: float, long_s: float, rise_s: float | None = None, now: float
) -> dict[str, Any]:
    """What a storm that was seen at `started_at` in windows of `long_s` seconds is made of, as facts.

    Now is from `rise_s` seconds before it was seen (one long window, where that is not known), at most the last hour;
    before is the hour before that long window, or the day where the hour has too few calls. Where the day has too few
    as well, the cause is unknown.
    """
    onset = started_at - long_s
    begun = started_at - (long_s if rise_s is None else min(rise_s, long_s))
    latest = counters.makeup(connection, since=max(begun, now - _LATEST_S), until=now, scope=scope)
    earlier, said = _before(connection, onset, scope)
    # A raise gives all later calls a new policy version, so once a storm has been seen, the version proves nothing.
    cause = compared(earlier, latest, with_policy=now <= started_at)
    return {**as_facts(cause), "compared_with": said}


def _before(connection: Connection, onset: float, scope: str) -> tuple[TrafficMix, str]:
    """What the hour before was made of, or the day where the hour has too few calls; and which of them it is."""
    hour = counters.makeup(connection, since=onset - _HOUR_S, until=onset, scope=scope)
    if sum(hour.calls.values()) >= MIN_CALLS:
        return hour, "the hour before"
    return counters.makeup(connection, since=onset - _DAY_S, until=onset, scope=scope), "the day before"


def compared(before: TrafficMix, now: TrafficMix, *, with_policy: bool = True) -> Cause:
    """What the change between two make-ups is made of."""
    sides = {
        Dimension.INPUT_CLASS: BeforeAfter(before=_by_key(before, 1), now=_by_key(now, 1)),
        Dimension.ROUTE: BeforeAfter(before=_by_key(before, 0), now=_by_key(now, 0)),
        Dimension.REASON: BeforeAfter(before=_reasons(before), now=_reasons(now)),
    }
    for place, dimension in enumerate((Dimension.MODEL, Dimension.PROMPT_VERSION, Dimension.POLICY_VERSION)):
        found = BeforeAfter(before=_by_origin(before, place), now=_by_origin(now, place))
        if is_named(found.before) and (with_policy or dimension is not Dimension.POLICY_VERSION):
            sides[dimension] = found
    return cause_of(_whole(before), _whole(now), sides)


def _by_key(makeup: TrafficMix, place: int) -> Counts:
    return by_name((key[place], makeup.base_escalated.get(key, 0), calls) for key, calls in makeup.calls.items())


def _by_origin(makeup: TrafficMix, place: int) -> Counts:
    """By model, prompt or policy version; calls of which none was counted have no name, so they are never blamed."""
    return by_name(_origins(makeup, place))


def _origins(makeup: TrafficMix, place: int) -> Iterator[tuple[str, int, int]]:
    for origin, calls in makeup.origins.items():
        names = origin.rsplit("|", 2)
        yield names[place] if len(names) > place else "", makeup.base_origins.get(origin, 0), calls
    whole = _whole(makeup)
    yield "", whole.hits - sum(makeup.base_origins.values()), whole.n - sum(makeup.origins.values())


def _reasons(makeup: TrafficMix) -> Counts:
    return by_reason(makeup.base_reasons, _whole(makeup).n)


def _whole(makeup: TrafficMix) -> Proportion:
    return Proportion(hits=sum(makeup.base_escalated.values()), n=sum(makeup.calls.values()))
