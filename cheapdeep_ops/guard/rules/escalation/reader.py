"""Reads base escalations from the counters: in each route, and in all of them together."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

from cheapdeep_ops.guard.rules.breakdown import breakdown_of
from cheapdeep_ops.guard.rules.cause_text import cause_text
from cheapdeep_ops.guard.rules.escalation.cost import storm_consequence
from cheapdeep_ops.guard.rules.escalation.detection import level_of, storm_signal
from cheapdeep_ops.guard.rules.escalation.explanation import storm_cause
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import LEARNED_EVERY_S, Variation, learned_until, variation_until
from cheapdeep_ops.guard.rules.escalation.windows import (
    CountsByRoute,
    LongWindow,
    Past,
    reach_of,
    windows_of,
)
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader, has_left_interval
from cheapdeep_ops.guard.rules.model import Finding, ScopedAlert, Transition
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import counters, incidents, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.second_counts import SecondCounts, merged
from cheapdeep_ops.units import DAY_S, MINUTE_S


class EscalationReader(SignalReader):
    """Reads base escalations in two windows of the counters."""

    is_joint = True

    def __init__(self, rule: StormRule, context: ReaderContext) -> None:
        self._rule = rule
        self._limit = rule.limit_in(context.settings)
        self._now = context.now
        source = _Source(context, rule, self._limit)
        over = incidents.last_resolved(context.connection, rule=rule.alert)
        self._windows = windows_of(
            rule, source.seconds, context.now, over=over, past=source.past(), cached=source.cached
        )
        self._rise_s: dict[str, float] = {}
        """How long ago the climb of the sequential test began, in seconds, by scope."""
        self._long_s: dict[str, float] = {}
        """How many seconds the long window covers, by scope."""

    @property
    def scopes(self) -> AbstractSet[str]:
        """The routes that had calls in the time that their windows may reach back to."""
        return self._windows.seconds.keys()

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The base escalation rate of these routes together."""
        reading = self._windows.reading(routes, limit=self._limit, scope=alert.scope)
        signal = storm_signal(self._rule, reading)
        self._long_s[alert.scope] = reading.long_seconds(self._rule)
        # Only the test dates the onset; the cause is that of the calls since then.
        if signal["decided_by"] == "sequence":
            self._rise_s[alert.scope] = signal["recent_window_s"]
        return Finding(level=level_of(self._rule, reading), signal=signal)

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, object]:
        """The calls of the storm by reason and class, and the cause of the rise."""
        long_s, rise_s = self._long_s.get(scope, self._rule.windows.long), self._rise_of(scope, started_at)
        # The breakdown covers the long window, as do the counts in the signal.
        since, until = self._now - long_s, self._now
        breakdown = breakdown_of(
            reasons=counters.base_reasons(connection, since=since, until=until, scope=scope),
            by_class=counters.base_escalations_by_class(connection, since=since, until=until, scope=scope),
        )
        cause = storm_cause(connection, scope=scope, started_at=started_at, long_s=long_s, rise_s=rise_s, now=self._now)
        return {"window_s": long_s, **breakdown, "cause": {**cause, "text": cause_text(cause)}}

    def _rise_of(self, scope: str, started_at: float) -> float | None:
        # The test dates the onset only when it fires; later the whole short window is part of the storm.
        return self._rise_s.get(scope) if self._now <= started_at else self._rule.windows.short

    def consequence(
        self,
        connection: Connection,
        finding: Finding,
        scope: str,
        started_at: float,
        transition: Transition | None,
    ) -> dict[str, object]:
        """The cost of the storm per hour or, once it has resolved, its whole cost."""
        is_over = transition is Transition.RESOLVED
        times: dict[str, Any] = {"started_at": started_at, "is_over": is_over, "now": self._now}
        return {"consequence": storm_consequence(connection, self._rule, finding.signal, scope=scope, **times)}

    def has_moved(
        self, _connection: Connection, announced: Payload, finding: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Whether the rate lies outside of the interval in the last message."""
        return has_left_interval(announced, finding)


class _Source:
    """Reads the counts of one evaluation. Minutes before the seconds are read once a minute, and cached."""

    def __init__(self, context: ReaderContext, rule: StormRule, limit: float | None) -> None:
        self._connection = context.connection
        self._cached_for = context.cache.cached_for
        self._cached_while = context.cache.cached_while
        self._most = context.settings.max_routes
        self._rule = rule
        self._limit = limit
        self._now = context.now

    def seconds(self, since: float, until: float) -> CountsByRoute:
        """The counts of the seconds in `[since, until)`."""
        return self._shown(counters.by_second(self._connection, since=since, until=until))

    def past(self) -> Past:
        """The minutes that windows may reach back to, and the variance of calm ones."""
        # By the times that they are about, and not by the time of reading: a restart must change nothing.
        learned_at, (_, until) = learned_until(self._rule, self._now), reach_of(self._rule, self._now)
        variation = self._cached_for(LEARNED_EVERY_S, (self._rule.alert, "variation"), learned_at, self._variation)
        past = self._cached_for(MINUTE_S, (self._rule.alert, "past"), until, self._reached)
        return replace(past, variation=variation)

    def cached(self, rests_on: object, scope: str, compute: Callable[[], LongWindow]) -> LongWindow:
        """The cached window of a scope while its rows are unchanged, else the result of `compute`."""
        return self._cached_while(rests_on, (self._rule.alert, "window", scope), self._now, compute)

    def _reached(self) -> Past:
        """The minutes before the seconds, of routes with too few calls in the long window, as far back as needed."""
        since, until = reach_of(self._rule, self._now)
        if since >= until:
            return Past(until=until, minutes={})
        recent = counters.by_second(self._connection, since=until, until=self._now)
        calls = {route: sum(second.triaged for second in seconds) for route, seconds in recent.items()}
        enough = max(self._rule.reach_calls, self._rule.min_calls)
        begins: defaultdict[float, list[str]] = defaultdict(list)
        for route, hours in counters.by_hour(self._connection, since=since, until=until).items():
            # Twice as many calls, because the seconds that are counted singly may be more than the long window.
            if calls.get(route, 0) < 2 * enough:
                begins[max(_reach(hours, enough), since)].append(route)
        minutes: dict[str, list[SecondCounts]] = {}
        for begin, routes in begins.items():
            minutes |= self._minutes(begin, until, routes)
        return Past(until=until, minutes=self._shown(minutes))

    def _variation(self) -> Variation:
        """What is known of the variance of calm minutes."""
        until = learned_until(self._rule, self._now)
        alerts: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for scope, begin, end in incidents.since_of(self._connection, rule=self._rule.alert, since=until - DAY_S):
            alerts[scope].append((begin, math.inf if end is None else end))
        return variation_until(until, self._minutes, alerts, rule=self._rule, limit=self._limit, shown=self._shown)

    def _minutes(self, since: float, until: float, routes: Collection[str] | None) -> dict[str, list[SecondCounts]]:
        """The minutes of `routes`, or of all if that is None."""
        if routes is None:
            return counters.by_minute(self._connection, since=since, until=until)
        minutes: dict[str, list[SecondCounts]] = {}
        routes = list(routes)
        for start in range(0, len(routes), _ROUTES_TOGETHER):
            some = routes[start : start + _ROUTES_TOGETHER]
            minutes |= counters.by_minute(self._connection, since=since, until=until, routes=some)
        return minutes

    def _shown(self, counted: Mapping[str, Sequence[SecondCounts]]) -> CountsByRoute:
        return route_labels.by_shown_route(self._connection, counted, most=self._most, add=merged)


_ROUTES_TOGETHER: Final = 200
"""How many routes one query names."""


def _reach(hours: Mapping[int, int], enough: int) -> float:
    """The start of the hour since which there were enough calls; of the first hour, if there never were."""
    calls = 0
    for at in sorted(hours, reverse=True):
        calls += hours[at]
        if calls >= enough:
            return at
    return min(hours)
