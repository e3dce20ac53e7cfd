"""The windows of a storm rule, over the counts of seconds and of the minutes before them. Pure."""

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from cheapdeep_ops.guard.rules.escalation.detection import DetectorRun, SecondOfCalls, WindowReading, climb_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import Variation, past_until
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store.second_counts import SecondCounts, together
from cheapdeep_ops.units import MINUTE_S

CountsByRoute = Mapping[str, Sequence[SecondCounts]]
"""The counts of seconds, or of longer rows, by route, oldest first."""

ReadCounts = Callable[[float, float], CountsByRoute]
"""Takes since and until (Unix times); returns the counts in between."""

_LONG_GAP: Final = 10
"""After so many mean gaps without a call, the calls before say nothing of the present."""

_AT: Final = attrgetter("at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The minutes before `until` (Unix time of a whole minute), and what is known of their variance."""

    until: float
    minutes: CountsByRoute
    variation: Variation = field(default_factory=Variation)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongWindow:
    """What the rows in the long window of some routes say together; `fresh` ones may be evidence."""

    entries: Sequence[SecondCounts]
    calls: Proportion
    actual: Proportion
    fresh: Proportion
    fresh_seconds: int
    climb: DetectorRun
    until: float
    """The end of the window when this was computed (Unix time)."""


Cached = Callable[[object, str, Callable[[], LongWindow]], LongWindow]
"""Takes what a result rests on, its scope, and the function that computes it; returns the result, cached or not."""


def uncached(_rests_on: object, _scope: str, compute: Callable[[], LongWindow]) -> LongWindow:
    """The result of `compute`."""
    return compute()


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationWindows:
    """The counts of a rule's windows, which end at `until` (Unix time)."""

    rule: StormRule
    until: float
    seconds: CountsByRoute
    """All that a window may reach back to, oldest first, by route: minutes, then seconds."""
    over: Mapping[str, float]
    """The end of the rule's last incident, by scope (Unix time): older calls are no evidence for a new one."""
    variation: Variation = field(default_factory=Variation)
    cached: Cached = uncached
    """Caches long windows that reach back: most of them have the same rows in many evaluations."""

    def reading(self, routes: Collection[str], *, limit: float | None, scope: str) -> WindowReading:
        """The base escalation rate of `routes` together, as the reading of `scope`."""
        rows, dispersion = self._within_reach(routes), self.variation.of(routes)
        # A call before the end of the last incident of its scope or route is no evidence for a new one.
        over = [max(self.over.get(scope, 0.0), self.over.get(route, 0.0)) for route in routes]

        def summed() -> LongWindow:
            since = self._since(rows)
            counted = [rows_since(each, since) for each in rows]
            entries = together(counted)
            is_fresh = max(over, default=0.0) <= since
            fresh = entries if is_fresh else together(map(rows_since, counted, over))
            return LongWindow(
                entries=entries,
                calls=_base_rate(entries),
                actual=Proportion(
                    hits=sum(each.escalated for each in entries), n=sum(each.triaged for each in entries)
                ),
                fresh=_base_rate(fresh),
                fresh_seconds=sum(each.base_mask.bit_count() for each in fresh),
                climb=climb_of(self.rule, limit, calls_of(fresh), until=self.until, dispersion=dispersion),
                until=self.until,
            )

        # Other windows lose and gain rows in most evaluations, and may have many.
        rests_on = (rows, over, limit, dispersion)
        long = self.cached(rests_on, scope, summed) if self._reaches_back(rows) else summed()
        short = long.entries[self._short_begins(long.entries) :]
        return WindowReading(
            long=long.calls,
            short=_base_rate(short),
            seconds=long.fresh_seconds,
            limit=limit,
            fresh=long.fresh,
            climb=long.climb.longer_by(self.until - long.until),
            actual=long.actual,
            long_s=self._length(long.entries, self.rule.windows.long),
            short_s=self._length(short, self.rule.windows.short),
            dispersion=dispersion,
            is_current=self._is_current(long),
        )

    def reaches(self, routes: Collection[str]) -> float:
        """When the first entry in the long window of `routes` began (Unix time); infinity if there is none."""
        rows = self._within_reach(routes)
        since = self._since(rows)
        return min((each[0].at for each in (rows_since(each, since) for each in rows) if each), default=math.inf)

    def _within_reach(self, routes: Collection[str]) -> list[Sequence[SecondCounts]]:
        """All rows of each of `routes` that the long window may have."""
        begin = self.until - max(self.rule.reach, self.rule.windows.long)
        return [rows_since(self.seconds.get(route, ()), begin) for route in routes]

    def _since(self, rows: Sequence[Sequence[SecondCounts]]) -> float:
        """When the long window of these rows begins: earlier than the rule says where it has too few calls."""
        since, calls = self.until - self.rule.windows.long, 0
        if not self._reaches_back(rows):
            return since
        # Merged from the newest on, so that only as many are read as the window needs.
        for second in heapq.merge(*map(reversed, rows), key=_AT, reverse=True):
            # Bypassed calls alone bring nothing that the window could use.
            if second.triaged:
                since, calls = float(second.at), calls + second.triaged
            if calls >= self._enough:
                break
        return since

    def _reaches_back(self, rows: Sequence[Sequence[SecondCounts]]) -> bool:
        """Whether the long window has too few calls, and there are earlier ones."""
        begin = self.until - self.rule.windows.long
        places = [bisect_left(each, begin, key=_AT) for each in rows]
        pairs = list(zip(rows, places, strict=True))
        calls = sum(second.triaged for each, place in pairs for second in each[place:])
        return calls < self._enough and any(second.triaged for each, place in pairs for second in each[:place])

    @property
    def _enough(self) -> int:
        """With fewer calls, the long window reaches back."""
        return max(self.rule.reach_calls, self.rule.min_calls)

    def _short_begins(self, entries: Sequence[SecondCounts]) -> int:
        """The place of the short window's first entry: earlier than the rule says where it has too few calls."""
        since, enough = self.until - self.rule.windows.short, self.rule.min_calls / 2
        place, calls = len(entries), 0
        while place and (entries[place - 1].at >= since or calls < enough):
            place -= 1
            calls += entries[place].triaged
        return place

    def _length(self, entries: Sequence[SecondCounts], usual_s: float) -> float:
        """How many seconds a window covers; whole minutes where it reaches back."""
        if not entries or entries[0].at >= self.until - usual_s:
            return usual_s
        # Rounded, because each new value is written to the store.
        return float(-(-(self.until - entries[0].at) // MINUTE_S) * MINUTE_S)

    def _is_current(self, long: LongWindow) -> bool:
        """Whether the last call is as recent as the pace of the calls lets expect."""
        if not long.calls.n:
            return False
        first = next(each.at for each in long.entries if each.triaged)
        last = next(each.at + each.width_s for each in reversed(long.entries) if each.triaged)
        gap = (last - first) / long.calls.n
        return self.until - last < max(self.rule.windows.short, _LONG_GAP * gap)


def windows_of(
    rule: StormRule,
    count: ReadCounts,
    now: float,
    *,
    over: Mapping[str, float],
    past: Past | None = None,
    cached: Cached = uncached,
) -> EscalationWindows:
    """The rule's windows that end at `now`, without the second that has just begun.

    They reach back into the minutes of `past`; the seconds that follow those are counted.
    """
    # The second that has just begun would be read twice, with different counts.
    until = float(int(now))
    if past is None:
        return EscalationWindows(rule=rule, until=until, seconds=count(until - rule.windows.long, until), over=over)
    seconds = count(past.until, until)
    routes = {*seconds, *past.minutes}
    both = {route: [*past.minutes.get(route, ()), *seconds.get(route, ())] for route in routes}
    return EscalationWindows(rule=rule, until=until, seconds=both, over=over, variation=past.variation, cached=cached)


def reach_of(rule: StormRule, now: float) -> tuple[float, float]:
    """The begin and the end of the minutes that windows may reach back to, from `now` until the next minute begins.

    They depend on the time alone: at each time, every guard and a backtest count the calls of one period singly.
    """
    until = past_until(rule, now)
    return math.ceil((until + rule.windows.long - rule.reach) / MINUTE_S) * MINUTE_S, until


def calls_of(entries: Iterable[SecondCounts]) -> list[SecondOfCalls]:
    """Counts as the sequential test reads them; those without triaged calls are left out."""
    return [
        SecondOfCalls(each.at, each.base_escalated, each.triaged, each.base_mask.bit_count() or 1)
        for each in entries
        if each.triaged
    ]


def rows_since(rows: Sequence[SecondCounts], at: float) -> Sequence[SecondCounts]:
    """Those of `rows`, oldest first, that began at `at` or later."""
    return rows[bisect_left(rows, at, key=_AT) :]


def _base_rate(entries: Iterable[SecondCounts]) -> Proportion:
    return Proportion(hits=sum(each.base_escalated for each in entries), n=sum(each.triaged for each in entries))
