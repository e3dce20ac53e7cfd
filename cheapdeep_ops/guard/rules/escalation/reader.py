"""Reads base escalations from the counters: in each route, and in all of them together."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

from cheapdeep_ops.guard.rules.breakdown import breakdown_of
from cheapdeep_ops.guard.rules.cause_text import cause_text
from cheapdeep_ops.guard.rules.escalation.cost import storm_consequence
from cheapdeep_ops.guard.rules.escalation.detection import (
    SecondOfCalls,
    WindowReading,
    climb_of,
    level_of,
    storm_signal,
)
from cheapdeep_ops.guard.rules.escalation.explanation import storm_cause
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader, has_left_interval
from cheapdeep_ops.guard.rules.model import Finding, ScopedAlert, Transition
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store import counters, incidents, route_labels
from cheapdeep_ops.store.counts import SecondCounts, merged
from cheapdeep_ops.store.engine import Connection

Count = Callable[[float, float], Mapping[str, Sequence[SecondCounts]]]
"""Takes since and until (Unix times); returns the counts of the seconds in between, oldest first, by route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationWindows:
    """The seconds of a rule's long window, which ends at `until` (Unix time)."""

    rule: StormRule
    until: float
    seconds: Mapping[str, Sequence[SecondCounts]]
    """The long window's seconds, oldest first, by route."""
    over: Mapping[str, float]
    """The end of the rule's last incident, by scope (Unix time): older calls are no evidence for a new one."""

    def reading(self, routes: Collection[str], *, limit: float | None, scope: str) -> WindowReading:
        """The base escalation rate of `routes` together, as the reading of `scope`."""
        seconds = [second for route in routes for second in self.seconds.get(route, ())]
        since = self.until - self.rule.windows.short
        return WindowReading(
            long=_base_rate(seconds),
            short=_base_rate(second for second in seconds if second.at >= since),
            seconds=_distinct(seconds),
            limit=limit,
            climb=climb_of(self.rule, limit, self._fresh(routes, scope), until=self.until),
        )

    def actual(self, routes: Collection[str]) -> Proportion:
        """The actual escalation rate of `routes` together, over the long window."""
        seconds = [second for route in routes for second in self.seconds.get(route, ())]
        return Proportion(hits=sum(each.escalated for each in seconds), n=sum(each.triaged for each in seconds))

    def _fresh(self, routes: Collection[str], scope: str) -> list[SecondOfCalls]:
        """The seconds of `routes` together, since the end of the last incident of the scope and of each route."""
        hits: dict[int, int] = {}
        calls: dict[int, int] = {}
        masks: dict[int, int] = {}
        for route in routes:
            over = max(self.over.get(scope, 0.0), self.over.get(route, 0.0))
            for second in self.seconds.get(route, ()):
                if second.at >= over and second.triaged:
                    hits[second.at] = hits.get(second.at, 0) + second.base_escalated
                    calls[second.at] = calls.get(second.at, 0) + second.triaged
                    if second.width_s > 1:
                        masks[second.at] = masks.get(second.at, 0) | second.base_mask
        return [entry_of(at, hits[at], calls[at], masks.get(at)) for at in sorted(calls)]


def windows_of(rule: StormRule, count: Count, now: float, *, over: Mapping[str, float]) -> EscalationWindows:
    """The rule's windows that end at `now`, without the second that has just begun."""
    # The second that has just begun would be read twice, with different counts.
    until = float(int(now))
    return EscalationWindows(rule=rule, until=until, seconds=count(until - rule.windows.long, until), over=over)


class EscalationReader(SignalReader):
    """Reads base escalations in two windows of the counters."""

    is_joint = True

    def __init__(self, rule: StormRule, context: ReaderContext) -> None:
        self._rule = rule
        self._limit = rule.limit_in(context.settings)
        self._now = context.now
        over = incidents.last_resolved(context.connection, rule=rule.alert)
        count = partial(_by_second, context.connection, context.settings.max_routes)
        self._windows = windows_of(rule, count, context.now, over=over)
        self._rise_s: dict[str, float] = {}
        """How long ago the climb of the sequential test began, in seconds, by scope."""

    @property
    def scopes(self) -> AbstractSet[str]:
        """The routes that had calls in the long window."""
        return self._windows.seconds.keys()

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The base escalation rate of these routes together."""
        reading = self._windows.reading(routes, limit=self._limit, scope=alert.scope)
        signal = storm_signal(self._rule, reading, self._windows.actual(routes))
        # Only the test dates the onset; the cause is that of the calls since then.
        if signal["decided_by"] == "sequence":
            self._rise_s[alert.scope] = signal["recent_window_s"]
        return Finding(level=level_of(self._rule, reading), signal=signal)

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, object]:
        """The calls of the storm by reason and class, and the cause of the rise."""
        long_s, rise_s = self._rule.windows.long, self._rise_of(scope, started_at)
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


def _by_second(connection: Connection, most: int, since: float, until: float) -> Mapping[str, Sequence[SecondCounts]]:
    counted = counters.by_second(connection, since=since, until=until)
    return route_labels.by_shown_route(connection, counted, most=most, add=merged)


def entry_of(at: int, hits: int, calls: int, mask: int | None) -> SecondOfCalls:
    """A second; or a folded minute, if `mask` has its seconds with a base escalation as bits."""
    return SecondOfCalls(at, hits, calls) if mask is None else SecondOfCalls(at, hits, calls, mask.bit_count())


def _distinct(seconds: Iterable[SecondCounts]) -> int:
    """In how many distinct seconds a base escalation fell, in any route."""
    masks: dict[int, int] = {}
    for second in seconds:
        if second.base_escalated:
            masks[second.at] = masks.get(second.at, 0) | second.base_mask
    return sum(mask.bit_count() for mask in masks.values())


def _base_rate(seconds: Iterable[SecondCounts]) -> Proportion:
    hits = n = 0
    for second in seconds:
        hits, n = hits + second.base_escalated, n + second.triaged
    return Proportion(hits=hits, n=n)
