"""The windows of a storm rule, over the counts of seconds and of the minutes before them. Pure."""

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from cheapdeep_ops.guard.rules.escalation.detection import SecondOfCalls, WindowReading, climb_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import Variation, past_until
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store.second_counts import SecondCounts
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


class _Entry(NamedTuple):
    """The counts of some routes together in a second, or in a longer row; `fresh` ones may be evidence."""

    at: int
    width_s: int
    n: int
    escalated: int
    hits: int
    mask: int
    fresh_n: int
    fresh_hits: int
    fresh_mask: int


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

    def reading(self, routes: Collection[str], *, limit: float | None, scope: str) -> WindowReading:
        """The base escalation rate of `routes` together, as the reading of `scope`."""
        entries = self._long(routes, scope)
        short = entries[self._short_begins(entries) :]
        dispersion = self.variation.of(routes)
        fresh = [
            SecondOfCalls(each.at, each.fresh_hits, each.fresh_n, each.fresh_mask.bit_count() or 1)
            for each in entries
            if each.fresh_n
        ]
        return WindowReading(
            long=_base_rate(entries),
            short=_base_rate(short),
            seconds=sum(each.fresh_mask.bit_count() for each in entries),
            limit=limit,
            fresh=Proportion(hits=sum(each.hits for each in fresh), n=sum(each.n for each in fresh)),
            climb=climb_of(self.rule, limit, fresh, until=self.until, dispersion=dispersion),
            actual=Proportion(hits=sum(each.escalated for each in entries), n=sum(each.n for each in entries)),
            long_s=self._length(entries, self.rule.windows.long),
            short_s=self._length(short, self.rule.windows.short),
            dispersion=dispersion,
            is_current=self._is_current(entries),
        )

    def reaches(self, routes: Collection[str]) -> float:
        """When the first entry in the long window of `routes` began (Unix time); infinity if there is none."""
        since = self._since(routes)
        lists = (self.seconds.get(route, ()) for route in routes)
        begins = (each[place].at for each in lists if (place := bisect_left(each, since, key=_AT)) < len(each))
        return min(begins, default=math.inf)

    def _since(self, routes: Collection[str]) -> float:
        """When the long window begins: earlier than the rule says where it has too few calls."""
        since = self.until - self.rule.windows.long
        lists = [self.seconds.get(route, ()) for route in routes]
        places = [bisect_left(each, since, key=_AT) for each in lists]
        enough = max(self.rule.reach_calls, self.rule.min_calls)
        pairs = list(zip(lists, places, strict=True))
        calls = sum(second.triaged for each, place in pairs for second in each[place:])
        if calls >= enough:
            return since
        # Merged from the newest on, so that only as many are read as the window needs.
        older = heapq.merge(*(_before(each, place) for each, place in pairs), key=_AT, reverse=True)
        for second in older:
            if second.at < self.until - self.rule.reach:
                break
            # Bypassed calls alone bring nothing that the window could use.
            since, calls = (float(second.at), calls + second.triaged) if second.triaged else (since, calls)
            if calls >= enough:
                break
        return since

    def _long(self, routes: Collection[str], scope: str) -> list[_Entry]:
        """The entries of `routes` together in the long window, oldest first."""
        since = self._since(routes)
        added: dict[int, _Entry] = {}
        for route in routes:
            # A call before the end of the last incident of its scope or route is no evidence for a new one.
            over = max(self.over.get(scope, 0.0), self.over.get(route, 0.0))
            seconds = self.seconds.get(route, ())
            for second in seconds[bisect_left(seconds, since, key=_AT) :]:
                at, n, escalated, hits, width_s, _ = second
                mask = second.base_mask
                fresh = (n, hits, mask) if at >= over else (0, 0, 0)
                known = added.get(at)
                if known is None:
                    added[at] = _Entry(at, width_s, n, escalated, hits, mask, *fresh)
                else:
                    added[at] = _Entry(
                        at, max(known.width_s, width_s), known.n + n, known.escalated + escalated, known.hits + hits,
                        known.mask | mask, known.fresh_n + fresh[0], known.fresh_hits + fresh[1],
                        known.fresh_mask | fresh[2],
                    )  # fmt: skip
        return [added[at] for at in sorted(added)]

    def _short_begins(self, entries: Sequence[_Entry]) -> int:
        """The place of the short window's first entry: earlier than the rule says where it has too few calls."""
        since, enough = self.until - self.rule.windows.short, self.rule.min_calls / 2
        place, calls = len(entries), 0
        while place and (entries[place - 1].at >= since or calls < enough):
            place -= 1
            calls += entries[place].n
        return place

    def _length(self, entries: Sequence[_Entry], usual_s: float) -> float:
        """How many seconds a window covers; whole minutes where it reaches back."""
        if not entries or entries[0].at >= self.until - usual_s:
            return usual_s
        # Rounded, because each new value is written to the store.
        return float(-(-(self.until - entries[0].at) // MINUTE_S) * MINUTE_S)

    def _is_current(self, entries: Sequence[_Entry]) -> bool:
        """Whether the last call is as recent as the pace of the calls lets expect."""
        called = [each for each in entries if each.n]
        if not called:
            return False
        last = called[-1].at + called[-1].width_s
        gap = (last - called[0].at) / sum(each.n for each in called)
        return self.until - last < max(self.rule.windows.short, _LONG_GAP * gap)


def windows_of(
    rule: StormRule, count: ReadCounts, now: float, *, over: Mapping[str, float], past: Past | None = None
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
    return EscalationWindows(rule=rule, until=until, seconds=both, over=over, variation=past.variation)


def reach_of(rule: StormRule, now: float) -> tuple[float, float]:
    """The begin and the end of the minutes that windows may reach back to, from `now` until the next minute begins.

    They depend on the time alone: at each time, every guard and a backtest count the calls of one period singly.
    """
    until = past_until(rule, now)
    return math.ceil((until + rule.windows.long - rule.reach) / MINUTE_S) * MINUTE_S, until


def _before(seconds: Sequence[SecondCounts], place: int) -> Iterable[SecondCounts]:
    return (seconds[number] for number in range(place - 1, -1, -1))


def _base_rate(entries: Sequence[_Entry]) -> Proportion:
    return Proportion(hits=sum(each.hits for each in entries), n=sum(each.n for each in entries))
