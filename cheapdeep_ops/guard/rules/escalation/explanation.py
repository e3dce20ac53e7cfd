"""The cause of a storm: its calls compared with those before it, from stored counters."""

from collections.abc import Iterator
from typing import Final

from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS, Cause, as_facts, cause_of
from cheapdeep_ops.guard.statistics.contributions import BeforeAfter, Counts, Dimension, by_name, by_reason, is_named
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.counts import TrafficMix
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S

_LATEST_S: Final = 3_600.0
"""A long storm is explained by its last hour, so that the query does not grow with the storm."""


def storm_cause(
    connection: Connection, *, scope: str, started_at: float, long_s: float, rise_s: float | None = None, now: float
) -> dict[str, object]:
    """The cause of a storm that fired at `started_at`, in windows of `long_s` seconds; as facts.

    Now means from `rise_s` seconds before it fired (one long window if that is None), at most the last hour. Before
    means the hour before that long window, or the day before if the hour has too few calls. If the day has too few
    calls as well, the cause is unknown.
    """
    onset = started_at - long_s
    begun = started_at - (long_s if rise_s is None else min(rise_s, long_s))
    latest = counters.traffic_mix(connection, since=max(begun, now - _LATEST_S), until=now, scope=scope)
    earlier, compared_with = _before(connection, onset, scope)
    # A raise gives all later calls a new policy version, so after the first message the version explains nothing.
    cause = compared(earlier, latest, with_policy=now <= started_at)
    return {**as_facts(cause), "compared_with": compared_with}


def _before(connection: Connection, onset: float, scope: str) -> tuple[TrafficMix, str]:
    """The mix of the hour before, or of the day before if the hour has too few calls; and which of them it is."""
    hour = counters.traffic_mix(connection, since=onset - HOUR_S, until=onset, scope=scope)
    # The hour before is the better comparison, because traffic differs over a day.
    if sum(hour.calls.values()) >= MIN_CALLS:
        return hour, "the hour before"
    return counters.traffic_mix(connection, since=onset - DAY_S, until=onset, scope=scope), "the day before"


def compared(before: TrafficMix, now: TrafficMix, *, with_policy: bool = True) -> Cause:
    """The cause of the change from one traffic mix to another."""
    sides = {
        Dimension.INPUT_CLASS: BeforeAfter(before=_by_key(before, 1), now=_by_key(now, 1)),
        Dimension.ROUTE: BeforeAfter(before=_by_key(before, 0), now=_by_key(now, 0)),
        Dimension.REASON: BeforeAfter(before=_reasons(before), now=_reasons(now)),
    }
    for place, dimension in enumerate((Dimension.MODEL, Dimension.PROMPT_VERSION, Dimension.POLICY_VERSION)):
        side = BeforeAfter(before=_by_origin(before, place), now=_by_origin(now, place))
        if is_named(side.before) and (with_policy or dimension is not Dimension.POLICY_VERSION):
            sides[dimension] = side
    return cause_of(_whole(before), _whole(now), sides)


def _by_key(mix: TrafficMix, place: int) -> Counts:
    return by_name((key[place], mix.base_escalated.get(key, 0), calls) for key, calls in mix.calls.items())


def _by_origin(mix: TrafficMix, place: int) -> Counts:
    """By model, prompt or policy version; calls without one have no name, so they are never a contributor."""
    return by_name(_origins(mix, place))


def _origins(mix: TrafficMix, place: int) -> Iterator[tuple[str, int, int]]:
    for origin, calls in mix.origins.items():
        names = origin.rsplit("|", 2)
        yield names[place] if len(names) > place else "", mix.base_origins.get(origin, 0), calls
    whole = _whole(mix)
    yield "", whole.hits - sum(mix.base_origins.values()), whole.n - sum(mix.origins.values())


def _reasons(mix: TrafficMix) -> Counts:
    return by_reason(mix.base_reasons, _whole(mix).n)


def _whole(mix: TrafficMix) -> Proportion:
    return Proportion(hits=sum(mix.base_escalated.values()), n=sum(mix.calls.values()))
