"""A storm rule over recorded data. Windows move over stored seconds, of which one hour is in memory at a time.

Seconds are stored for an hour. An older period is read in minutes, and evaluated once a minute. The minutes of two
days are in memory, because windows may reach back by one.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from cheapdeep_ops.guard.rules.escalation.detection import BurstCap, SecondOfCalls, level_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import Minutes, Variation, learned_until, variation_until
from cheapdeep_ops.guard.rules.escalation.windows import (
    EscalationWindows,
    Past,
    ReadCounts,
    calls_of,
    reach_of,
    rows_since,
    windows_of,
)
from cheapdeep_ops.guard.rules.interface import RecordedPast, RuleBacktest
from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.second_counts import SecondCounts, together
from cheapdeep_ops.units import DAY_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

STRETCH_S: Final = 3_600.0
"""How many seconds are read at once; a busy second of a route takes about 150 bytes."""


class ReadAhead:
    """Counts for windows that move on; it reads `stretch_s` seconds at a time and keeps only those."""

    def __init__(self, read: ReadCounts, *, stretch_s: float = STRETCH_S) -> None:
        self._read = read
        self._stretch_s = stretch_s
        self._seconds: Mapping[str, Sequence[SecondCounts]] = {}
        self._places: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {}
        self._span = (0.0, 0.0)

    def __call__(self, since: float, until: float) -> dict[str, Sequence[SecondCounts]]:
        """The counts of the seconds in `[since, until)`; routes without counts are left out, as in the store.

        A folded minute counts once it is over, because a guard would not have known its last seconds before.
        """
        if since < self._span[0] or until > self._span[1]:
            self._read_stretch(since, max(until, since + self._stretch_s))
        cut = {}
        for route, seconds in self._seconds.items():
            begins, ends = self._places[route]
            cut[route] = seconds[bisect_left(begins, since) : bisect_right(ends, until)]
        return {route: seconds for route, seconds in cut.items() if seconds}

    def _read_stretch(self, since: float, until: float) -> None:
        self._seconds = self._read(since, until)
        self._places = {
            route: ([second.at for second in seconds], [_end(second) for second in seconds])
            for route, seconds in self._seconds.items()
        }
        self._span = (since, until)


class EscalationHistory:
    """The windows of a storm rule. In calm times an upper bound on the evidence shows that it cannot fire."""

    grades_read = 0
    is_known = True

    def __init__(self, rule: StormRule, count: ReadCounts, *, limit: float, minutes: ReadCounts | None = None) -> None:
        self._rule = rule
        self._count = count
        self._limit = limit
        self._minutes = minutes
        self._windows = EscalationWindows(rule=rule, until=0.0, seconds={}, over={})
        self._past: Past | None = None
        self._variation = Variation()
        self._learned_at = -math.inf
        """The end of the minutes from which the variation was learned."""
        self._alerts: dict[str, list[tuple[float, float]]] = {}
        self._bounds: dict[str, BurstCap] = {}
        self._known_until = 0.0
        self._singly_since = math.inf
        """When the first second began that the bounds have read by itself."""

    def look(self, now: float, resolved_at: Mapping[str, float]) -> Collection[str]:
        """Move the windows on; returns the routes that have calls in the long one."""
        self._windows = windows_of(self._rule, self._count, now, over=dict(resolved_at), past=self._past_at(now))
        # The bound must read each second once, though windows overlap.
        fresh = {
            route: seconds[bisect_right(seconds, self._known_until, key=_end) :]
            for route, seconds in self._windows.seconds.items()
        }
        for route, seconds in fresh.items():
            singly = (second.at for second in seconds if second.width_s == 1)
            self._singly_since = min(self._singly_since, next(singly, math.inf))
            self._take_in(route, calls_of(seconds))
        self._take_in(ALL_ROUTES, calls_of(together(fresh.values())))
        self._known_until = self._windows.until
        return self._windows.seconds.keys()

    def _past_at(self, now: float) -> Past | None:
        """The minutes before the seconds at `now`, read anew for each minute; None if minutes are not read."""
        since, until = reach_of(self._rule, now)
        if self._minutes is None or (self._past is not None and until == self._past.until):
            return self._past
        learned_at = learned_until(self._rule, now)
        if learned_at != self._learned_at:
            self._variation = variation_until(
                learned_at, self._minutes_of, self._alerts, rule=self._rule, limit=self._limit
            )
            self._learned_at = learned_at
        reached = self._minutes(since, until) if since < until else {}
        self._past = Past(until=until, minutes=reached, variation=self._variation)
        return self._past

    def _minutes_of(self, since: float, until: float, routes: Collection[str] | None) -> Minutes:
        """The minutes of `routes`, or of all if that is None."""
        minutes = self._minutes(since, until) if self._minutes is not None else {}
        return minutes if routes is None else {route: minutes[route] for route in routes if route in minutes}

    def _take_in(self, scope: str, seconds: Iterable[SecondOfCalls]) -> None:
        bound = self._bounds.setdefault(scope, BurstCap(self._rule, self._limit))
        for second in seconds:
            bound.take_in(second)

    def level(self, alert: ScopedAlert, routes: Collection[str]) -> Level:
        """The level of the windows; for an inactive alert `unclear` means that it cannot fire."""
        if alert.state is AlertState.FIRING:
            self._fires(alert)
        # The full test of every window would take most of the time of a backtest.
        if alert.state is AlertState.INACTIVE and self._is_calm(alert.scope, routes):
            return Level.UNCLEAR
        return level_of(self._rule, self._windows.reading(routes, limit=self._limit, scope=alert.scope))

    def _fires(self, alert: ScopedAlert) -> None:
        """Note that the alert fires until now."""
        spans = self._alerts.setdefault(alert.scope, [])
        if spans and spans[-1][0] == alert.since:
            spans.pop()
        spans.append((alert.since, self._windows.until))

    def _is_calm(self, scope: str, routes: Collection[str]) -> bool:
        """Whether neither the sequential test nor the windows can be above the limit."""
        is_bound = (scope != ALL_ROUTES or self._is_whole(routes)) and self._is_as_read(routes)
        bound = self._bounds.get(scope)
        return is_bound and bound is not None and not bound.is_reached and not self._is_high(routes)

    def _is_as_read(self, routes: Collection[str]) -> bool:
        """Whether the window has the very entries that the bound has read, with no dispersion."""
        if self._windows.variation.of(routes) > 1:
            return False
        # Minutes that a window reaches back to may have been read as seconds.
        past = self._past
        return past is None or past.until <= self._singly_since or self._windows.reaches(routes) >= past.until

    def _is_whole(self, routes: Collection[str]) -> bool:
        """Whether all calls of all routes count: the bound on all routes has read exactly those."""
        begin = self._windows.reaches(routes)
        return set(routes) == set(self._windows.seconds) and max(self._windows.over.values(), default=0.0) <= begin

    def _is_high(self, routes: Collection[str]) -> bool:
        """Whether the rate of the short window is above the limit; else its lower bound is not either."""
        begin = self._windows.until - self._rule.windows.short
        recent = [second for route in routes for second in rows_since(self._windows.seconds.get(route, ()), begin)]
        calls = sum(second.triaged for second in recent)
        return sum(second.base_escalated for second in recent) > self._limit * calls


def _end(second: SecondCounts) -> int:
    """When a second, or a folded minute, is over (Unix time)."""
    return second.at + second.width_s


def replay(rule: StormRule, past: RecordedPast) -> RuleBacktest | None:
    """The replay of a storm rule over stored counters, with one query a stretch. None if its limit is not set."""
    limit = rule.limit_in(past.settings)
    if limit is None:
        return None

    def read(since: float, until: float) -> Mapping[str, Sequence[SecondCounts]]:
        with past.store.reading() as connection:
            return counters.by_second(connection, since=since, until=until, scope=past.route)

    def read_minutes(since: float, until: float) -> Mapping[str, Sequence[SecondCounts]]:
        whole = (since // MINUTE_S * MINUTE_S, math.ceil(until / MINUTE_S) * MINUTE_S)
        with past.store.reading() as connection:
            return counters.by_minute(connection, since=whole[0], until=whole[1], scope=past.route)

    minutes = ReadAhead(read_minutes, stretch_s=2.0 * DAY_S)
    history = EscalationHistory(rule, ReadAhead(read), limit=limit, minutes=minutes)
    return RuleBacktest(history=history, begin=past.counted, every_s=past.resolution_s)
