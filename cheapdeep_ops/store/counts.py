"""Counts and sums of calls, as they are read from the store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple, Self

from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """A route's counts over a window."""

    route: str
    calls: int
    triaged: int
    escalated: int
    base_escalated: int
    later_answers: int
    withheld: int

    @property
    def answers(self) -> int:
        """The calls with an answer of a triage tier that ships at the base threshold, shipped or withheld."""
        return self.triaged - self.base_escalated + self.later_answers

    def __add__(self, other: "RouteCounts") -> "RouteCounts":
        """The counts of two routes together, under the name of this one."""
        names = (each.name for each in fields(self) if each.name != "route")
        return RouteCounts(route=self.route, **{name: getattr(self, name) + getattr(other, name) for name in names})


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
        """The seconds with a base escalation, as bits; one of them, where only their number is known to be above 0."""
        return (self.base_seconds or 1) if self.base_escalated else 0

    def within(self, width_s: int) -> Self:
        """These counts as those of the longer row in which the second lies."""
        place = self.at % width_s
        return self._replace(at=self.at - place, width_s=width_s, base_seconds=self.base_mask << place)

    def plus(self, other: Self) -> Self:
        """The counts of both together; `other` began at the same time and is as long."""
        return self._replace(
            triaged=self.triaged + other.triaged,
            escalated=self.escalated + other.escalated,
            base_escalated=self.base_escalated + other.base_escalated,
            base_seconds=self.base_mask | other.base_mask,
        )


def merged(one: Sequence[SecondCounts], other: Sequence[SecondCounts]) -> list[SecondCounts]:
    """The counts of two routes together, oldest first."""
    rows: dict[tuple[int, int], SecondCounts] = {}
    for each in (*one, *other):
        before = rows.get((each.at, each.width_s))
        rows[each.at, each.width_s] = each if before is None else before.plus(each)
    return [rows[key] for key in sorted(rows)]


@dataclass(slots=True, kw_only=True)
class Sums(Counters):
    """Sums of counters over a period."""

    @property
    def answers(self) -> int:
        """The calls with an answer of a triage tier that ships at the base threshold, shipped or withheld."""
        return self.triaged - self.base_escalated + self.later_answers

    def __add__(self, other: "Sums") -> "Sums":
        """The sums of two sets of calls together."""
        numbers = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        counted = {name: dict(Counter(getattr(self, name)) + Counter(getattr(other, name))) for name in COUNTS}
        return Sums(**numbers, **counted)  # type: ignore[arg-type]

    @property
    def cost_usd(self) -> float:
        """Cost of all priced model calls, in US dollars."""
        return self.cost_nusd * USD_PER_NUSD

    @property
    def triage_cost_usd(self) -> float:
        """Cost of the triage calls alone, in US dollars."""
        return self.triage_cost_nusd * USD_PER_NUSD

    @property
    def shadow_cost_usd(self) -> float:
        """Estimated cost of the shadow calls if they had been routed, in US dollars."""
        return self.shadow_cost_nusd * USD_PER_NUSD

    @property
    def shadow_baseline_usd(self) -> float:
        """Real cost of the shadow calls at the deep tier, in US dollars."""
        return self.shadow_baseline_nusd * USD_PER_NUSD

    @property
    def baseline_usd(self) -> float:
        """Estimated cost of all priced calls if each had gone to the deep tier alone, in US dollars."""
        return self.baseline_nusd * USD_PER_NUSD

    @property
    def cold_cache_usd(self) -> float:
        """The part of the cost that a warm deep-tier cache would have saved, in US dollars."""
        return self.cold_cache_nusd * USD_PER_NUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficMix:
    """The composition of a period's triaged calls, and of those that escalated at the base threshold.

    `calls` and `base_escalated` count by (route, input class). `origins` and `base_origins` count by
    `model|prompt version|policy version` of the first tier; older calls may have no origin.
    """

    calls: Mapping[tuple[str, str], int]
    base_escalated: Mapping[tuple[str, str], int]
    base_reasons: Mapping[str, int]
    origins: Mapping[str, int]
    base_origins: Mapping[str, int]


SUMS: Final = tuple(field.name for field in fields(Sums) if field.type is int)
COUNTS: Final = tuple(field.name for field in fields(Sums) if field.type is not int)
