"""From counters to what a rule sees of each route, and of all of them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cheapdeep_ops.guard.rules.escalation.detection import SecondOfCalls, WindowReading, climb_of
from cheapdeep_ops.guard.rules.model import StormRule
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store.counters import SecondCounts

Count = Callable[[float, float], Mapping[str, Sequence[SecondCounts]]]
"""Counts of the seconds in `[since, until)`, oldest first, by route: how signals are asked for, whatever the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationWindows:
    """What a rule's long window holds, second by second; it ends at `until` (Unix time)."""

    rule: StormRule
    until: float
    seconds: Mapping[str, Sequence[SecondCounts]]
    """The long window's seconds, oldest first, by route."""
    over: Mapping[str, float]
    """When the rule's last incident was over, by scope (Unix time): what lies before does not speak for a new one."""

    def reading(self, routes: Collection[str], *, limit: float | None, scope: str) -> WindowReading:
        """The base escalation rate of `routes` together, which are judged as `scope`."""
        found = [second for route in routes for second in self.seconds.get(route, ())]
        since = self.until - self.rule.windows.short
        return WindowReading(
            long=_base_rate(found),
            short=_base_rate(second for second in found if second.at >= since),
            seconds=len({second.at for second in found if second.base_escalated}),
            limit=limit,
            climb=climb_of(self.rule, limit, self._fresh(routes, scope), until=self.until),
        )

    def actual(self, routes: Collection[str]) -> Proportion:
        """The actual escalation rate of `routes` together, over the long window."""
        found = [second for route in routes for second in self.seconds.get(route, ())]
        return Proportion(hits=sum(each.escalated for each in found), n=sum(each.triaged for each in found))

    def _fresh(self, routes: Collection[str], scope: str) -> list[SecondOfCalls]:
        """Seconds of `routes` together that began after the scope's and each route's last incident was over."""
        hits: dict[int, int] = {}
        calls: dict[int, int] = {}
        for route in routes:
            over = max(self.over.get(scope, 0.0), self.over.get(route, 0.0))
            for second in self.seconds.get(route, ()):
                if second.at >= over and second.triaged:
                    hits[second.at] = hits.get(second.at, 0) + second.base_escalated
                    calls[second.at] = calls.get(second.at, 0) + second.triaged
        return [SecondOfCalls(at, hits[at], calls[at]) for at in sorted(calls)]


def windows_of(rule: StormRule, count: Count, now: float, *, over: Mapping[str, float]) -> EscalationWindows:
    """The rule's windows that end at `now`; the second that has just begun is left for the next time."""
    until = float(int(now))
    return EscalationWindows(rule=rule, until=until, seconds=count(until - rule.windows.long, until), over=over)


def _base_rate(seconds: Iterable[SecondCounts]) -> Proportion:
    hits = n = 0
    for second in seconds:
        hits, n = hits + second.base_escalated, n + second.triaged
    return Proportion(hits=hits, n=n)
