"""From counters to what a rule sees of each route, and of all of them."""

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cheapdeep_ops.guard.rules import StormRule
from cheapdeep_ops.guard.stats import Proportion
from cheapdeep_ops.guard.storms import Reading
from cheapdeep_ops.store.counters import RouteCounts

Count = Callable[[float, float], Mapping[str, RouteCounts]]
"""Counts by route of the seconds in `[since, until)`: how signals are asked for, whatever the store."""


Seconds = Callable[[float, float], Mapping[str, AbstractSet[int]]]
"""The seconds in `[since, until)` that had a base escalation, by route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteWindows:
    """What a rule's two windows hold, by route."""

    long: Mapping[str, RouteCounts]
    short: Mapping[str, RouteCounts]
    seconds: Mapping[str, AbstractSet[int]]
    """The seconds of the long window that had a base escalation."""

    def reading(self, routes: Collection[str], *, limit: float | None) -> Reading:
        """The base escalation rate of `routes` together, with the distinct seconds that it comes from."""
        return Reading(
            long=_base_rate(self.long, routes),
            short=_base_rate(self.short, routes),
            seconds=len(set[int]().union(*(self.seconds.get(route, ()) for route in routes))),
            limit=limit,
        )

    def actual(self, routes: Collection[str]) -> Proportion:
        """The actual escalation rate of `routes` together, over the long window."""
        found = [self.long[route] for route in routes if route in self.long]
        return Proportion(hits=sum(each.escalated for each in found), n=sum(each.triaged for each in found))


def windows_of(rule: StormRule, count: Count, seconds: Seconds, now: float) -> RouteWindows:
    """The rule's windows that end at `now`; the second that has just begun is left for the next time."""
    until = float(int(now))
    since = until - rule.windows.long
    short = count(until - rule.windows.short, until)
    return RouteWindows(long=count(since, until), short=short, seconds=seconds(since, until))


def _base_rate(counts: Mapping[str, RouteCounts], routes: Collection[str]) -> Proportion:
    found = [counts[route] for route in routes if route in counts]
    return Proportion(hits=sum(each.base_escalated for each in found), n=sum(each.triaged for each in found))
