"""How much a route's minutes varied in calm times, learned from the minutes before; pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

from cheapdeep_ops.guard.rules.escalation.detection import SecondOfCalls, climb_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.statistics.dispersion import dispersion
from cheapdeep_ops.store.second_counts import SecondCounts
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

LEARNED_FROM_S: Final = 3.0 * HOUR_S
"""How many seconds before now it is learned from. More would say little of the present traffic."""

LEARNED_EVERY_S: Final = 600.0
"""How long it is used before it is learned again: at multiples of this, so that all guards learn at one time."""

MIN_MINUTES: Final = 60
"""The fewest calm minutes with calls; with fewer, counts vary as those of independent calls."""

_BEFORE_S: Final = 900.0
"""A storm begins before its alert: so many seconds before an alert are not calm either."""

Alerts = Mapping[str, Sequence[tuple[float, float]]]
"""The start and the end of alerts (Unix times), by scope."""

Minutes = Mapping[str, Sequence[SecondCounts]]
"""The counts of minutes by route, oldest first."""

ReadMinutes = Callable[[float, float, Collection[str] | None], Minutes]
"""Takes since and until (Unix times of whole minutes), and routes or None for all; returns the minutes in between."""


class Variation:
    """The dispersion of some routes' calls together, from counts of calm minutes by route, oldest first."""

    def __init__(
        self,
        minutes: Minutes | None = None,
        *,
        rule: StormRule | None = None,
        limit: float | None = None,
    ) -> None:
        self._minutes = minutes or {}
        self._rule = rule
        self._limit = limit
        self._known: dict[frozenset[str], float] = {}

    def of(self, routes: Collection[str]) -> float:
        """By how much their counts are divided: 1, or the dispersion where it is significant."""
        if not self._minutes:
            return 1.0
        key = frozenset(routes)
        if key not in self._known:
            self._known[key] = self._learned(key)
        return self._known[key]

    def _learned(self, routes: Collection[str]) -> float:
        hits: dict[int, int] = defaultdict(int)
        calls: dict[int, int] = defaultdict(int)
        for route in routes:
            for minute in self._minutes.get(route, ()):
                # Longer rows, of times whose minutes are deleted, vary less than minutes do.
                if minute.triaged and minute.width_s == MINUTE_S:
                    hits[minute.at] += minute.base_escalated
                    calls[minute.at] += minute.triaged
        minutes = [(at, hits[at], calls[at]) for at in sorted(calls)]
        calm = self._without_run(minutes)
        if len(calm) < MIN_MINUTES:
            return 1.0
        hours = (list(group) for _, group in groupby(calm, key=lambda minute: minute[0] // HOUR_S))
        return dispersion([(hit, n) for _, hit, n in hour] for hour in hours)

    def _without_run(self, minutes: Sequence[tuple[int, int, int]]) -> Sequence[tuple[int, int, int]]:
        """The minutes before the present run of evidence: else a storm would count as variance, and hide itself."""
        if self._rule is None or not minutes:
            return minutes
        seconds = [SecondOfCalls(at, hit, n, MINUTE_S) for at, hit, n in minutes]
        until = minutes[-1][0] + MINUTE_S
        run = climb_of(self._rule, self._limit, seconds, until=float(until))
        # A run of one minute is any minute above the limit.
        begin = until - run.lasted if run.lasted > MINUTE_S else until
        return [minute for minute in minutes if minute[0] < begin]


def past_until(rule: StormRule, now: float) -> float:
    """The end of the minutes that windows at `now` may reach back to; the seconds since then are counted singly."""
    return float((int(now) - rule.windows.long) // MINUTE_S * MINUTE_S)


def learned_until(rule: StormRule, now: float) -> float:
    """The end of the minutes from which the variation that counts at `now` is learned.

    It depends on the time alone. So guards that began at different times, and a backtest, use equal ones.
    """
    return past_until(rule, now) // LEARNED_EVERY_S * LEARNED_EVERY_S


def variation_until(
    until: float,
    read: ReadMinutes,
    alerts: Alerts,
    *,
    rule: StormRule,
    limit: float | None,
    shown: Callable[[Minutes], Minutes] = lambda minutes: minutes,
) -> Variation:
    """What the calm minutes before `until` tell (see `learned_until`); `shown` maps their routes to those evaluated."""
    since, day = until - LEARNED_FROM_S, until - DAY_S
    # What it is first used for comes then: a guard that starts later must not know of later alerts.
    first_used = until + rule.windows.long
    known = {scope: [span for span in spans if span[0] < first_used] for scope, spans in alerts.items()}
    minutes = dict(read(since, until, None))
    # After a storm the calm minutes are those before it.
    disturbed = {scope for scope, spans in known.items() if any(end > since for _, end in spans)}
    routes = set(minutes) if ALL_ROUTES in disturbed else disturbed & set(minutes)
    if routes:
        minutes |= read(day, until, sorted(routes))
    return Variation(calm(shown(minutes), known, joint=ALL_ROUTES), rule=rule, limit=limit)


def calm(minutes: Minutes, alerts: Alerts, *, joint: str) -> dict[str, Sequence[SecondCounts]]:
    """The minutes of each route that lie outside its alerts, and outside those of the scope `joint`."""

    def is_calm(minute: SecondCounts, spans: Iterable[tuple[float, float]]) -> bool:
        return not any(begin - _BEFORE_S < minute.at + minute.width_s and minute.at < end for begin, end in spans)

    spans = {route: [*alerts.get(route, ()), *alerts.get(joint, ())] for route in minutes}
    return {
        route: [each for each in counts if is_calm(each, spans[route])] if spans[route] else counts
        for route, counts in minutes.items()
    }
