"""Counts and sums of calls, as they are read from the store."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from cheapdeep_ops.call_counters import Counters
from cheapdeep_ops.units import USD_PER_NUSD


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
