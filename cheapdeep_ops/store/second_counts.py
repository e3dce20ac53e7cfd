"""The counts of a route in single seconds, or in the longer rows into which those are folded. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Self

from cheapdeep_ops.units import MINUTE_S


class SecondCounts(NamedTuple):
    """A route's counts in the second that began at `at` (Unix time); or in `width_s` seconds, where those are folded.

    Bit n of `base_seconds` is set if a base escalation fell in its second n. Rows longer than a minute do not have it.
    """

    # A tuple, because a window has thousands of these and a dataclass takes longer to make.

    at: int
    triaged: int
    escalated: int
    base_escalated: int
    width_s: int = 1
    base_seconds: int = 1

    @property
    def base_mask(self) -> int:
        """The seconds with a base escalation, as bits; one bit if it is only known that there are some."""
        return (self.base_seconds or 1) if self.base_escalated else 0

    def within(self, width_s: int) -> Self:
        """These counts as those of the longer row in which the second lies."""
        place = self.at % width_s
        return self._replace(at=self.at - place, width_s=width_s, base_seconds=self.base_mask << place)

    def plus(self, other: Self) -> Self:
        """The counts of both together, as those of the longer row; `other` began at the same time."""
        return type(self)(
            self.at,
            self.triaged + other.triaged,
            self.escalated + other.escalated,
            self.base_escalated + other.base_escalated,
            max(self.width_s, other.width_s),
            self.base_mask | other.base_mask,
        )


def merged(one: Sequence[SecondCounts], other: Sequence[SecondCounts]) -> list[SecondCounts]:
    """The counts of two routes together, oldest first."""
    rows: dict[tuple[int, int], SecondCounts] = {}
    for each in (*one, *other):
        before = rows.get((each.at, each.width_s))
        rows[each.at, each.width_s] = each if before is None else before.plus(each)
    return [rows[key] for key in sorted(rows)]


def together(of_routes: Iterable[Sequence[SecondCounts]]) -> list[SecondCounts]:
    """The counts of several routes added up, oldest first, one entry for each time at which a row began."""
    entries: dict[int, SecondCounts] = {}
    for each in chain.from_iterable(of_routes):
        before = entries.get(each.at)
        entries[each.at] = each if before is None else before.plus(each)
    return [entries[at] for at in sorted(entries)]


def by_route_of(rows: Sequence[tuple[str, SecondCounts]]) -> dict[str, list[SecondCounts]]:
    """The entries of each route in the order of time, each time once."""
    folded = {(each.at, each.width_s) for _, each in rows if each.width_s > 1}
    seconds: dict[str, list[SecondCounts]] = defaultdict(list)
    if not folded:
        for route, each in rows:
            seconds[route].append(each)
        return dict(seconds)
    # Seconds of some processes may not be folded yet: they go into the entry of their minute.
    entries: dict[tuple[int, str], SecondCounts] = {}
    for route, each in rows:
        entry = each.within(MINUTE_S) if (each.at - each.at % MINUTE_S, MINUTE_S) in folded else each
        before = entries.get((entry.at, route))
        entries[entry.at, route] = entry if before is None else before.plus(entry)
    for (_, route), entry in sorted(entries.items()):
        seconds[route].append(entry)
    return dict(seconds)
