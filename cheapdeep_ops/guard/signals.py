"""From counters to what a rule sees of each route, and of all of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from cheapdeep_ops.guard.rules import Reading, Rule
from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.store.counters import RouteCounts

Count = Callable[[float, float], Mapping[str, RouteCounts]]
"""Counts by route of the seconds in `[since, until)`: how signals are asked for, whatever the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteWindows:
    """What a rule's two windows hold, by route."""

    long: Mapping[str, RouteCounts]
    short: Mapping[str, RouteCounts]

    def reading(self, routes: Collection[str], *, limit: float | None, seconds: int) -> Reading:
        """The base escalation rate of `routes` together; `seconds` are the distinct ones that it comes from."""
        return Reading(
            long=_base_rate(self.long, routes),
            short=_base_rate(self.short, routes),
            seconds=seconds,
            limit=limit,
        )

    def actual(self, routes: Collection[str]) -> Proportion:
        """The actual escalation rate of `routes` together, over the long window."""
        found = [self.long[route] for route in routes if route in self.long]
        return Proportion(hits=sum(each.escalated for each in found), n=sum(each.triaged for each in found))


def windows_of(rule: Rule, count: Count, now: float) -> RouteWindows:
    """The rule's windows that end at `now`; the second that has just begun is left for the next time."""
    until = float(int(now))
    if rule.signal != "base_escalation_rate":
        return RouteWindows(long={}, short={})  # nothing is graded yet, so every scope of such a rule has no data
    return RouteWindows(long=count(until - rule.windows.long, until), short=count(until - rule.windows.short, until))


def _base_rate(counts: Mapping[str, RouteCounts], routes: Collection[str]) -> Proportion:
    found = [counts[route] for route in routes if route in counts]
    return Proportion(hits=sum(each.base_escalated for each in found), n=sum(each.triaged for each in found))
