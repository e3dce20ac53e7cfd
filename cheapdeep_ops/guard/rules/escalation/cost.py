"""What a storm costs: the escalations beyond what was usual, at what an escalation costs today."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from cheapdeep_ops.guard.notify.messages import shown_window_s
from cheapdeep_ops.guard.rules.model import StormRule
from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS
from cheapdeep_ops.guard.statistics.intervals import Estimate, Proportion, difference
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S, USD_PER_NUSD

_CONFIDENCE: Final = 0.95
_NAMES: Final = ("triaged", "escalated", "bypassed", "unpriced", "cost_nusd", "triage_cost_nusd")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCounts:
    """What was counted of the calls of a period; costs are in billionths of a US dollar."""

    triaged: int
    escalated: int
    bypassed: int = 0
    unpriced: int = 0
    cost_nusd: int = 0
    triage_cost_nusd: int = 0

    @classmethod
    def read(cls, connection: Connection, *, since: float, until: float, scope: str) -> Self:
        """The spell `[since, until)` of one route or of all."""
        return cls(**counters.sums_of(connection, _NAMES, since=since, until=until, scope=scope))

    @property
    def rate(self) -> Proportion:
        """The share of triaged calls that escalated, whatever the threshold was."""
        return Proportion(hits=self.escalated, n=self.triaged)

    @property
    def escalation_usd(self) -> float | None:
        """What an escalated call cost more than a shipped one, on average; None where that is not known.

        Both have paid for their triage, so it is what the deep calls cost. Which of the unpriced calls escalated is not
        counted, so with any of them it is not known.
        """
        deep = self.escalated + self.bypassed
        return None if self.unpriced or not deep else (self.cost_nusd - self.triage_cost_nusd) * USD_PER_NUSD / deep


def storm_consequence(
    connection: Connection,
    rule: StormRule,
    signal: Mapping[str, Any],
    *,
    scope: str,
    started_at: float,
    is_over: bool,
    now: float,
) -> dict[str, Any]:
    """What a storm costs at present or, when it is over, has cost since it was seen at `started_at`: as facts.

    At present is the stretch of calls that its headline is about. Usual is the hour before it was seen, or the day
    where that hour has too few calls, as for its cause.
    """
    since = started_at if is_over else now - shown_window_s(signal, rule.windows.long)
    usual, said = _usual(connection, started_at - rule.windows.long, scope)
    spell = PeriodCounts.read(connection, since=since, until=now, scope=scope)
    return {**consequence_of(spell, usual, seconds=max(now - since, 1.0)), "compared_with": said}


def _usual(connection: Connection, onset: float, scope: str) -> tuple[PeriodCounts, str]:
    hour = PeriodCounts.read(connection, since=onset - HOUR_S, until=onset, scope=scope)
    if hour.triaged >= MIN_CALLS:
        return hour, "the hour before"
    return PeriodCounts.read(connection, since=onset - DAY_S, until=onset, scope=scope), "the day before"


def consequence_of(now: PeriodCounts, usual: PeriodCounts, *, seconds: float) -> dict[str, Any]:
    """The escalations of `now` beyond the usual share, what they cost, and what they cost an hour.

    US dollars; the bounds are 95%, of the rates alone: what an escalation costs is taken as it is. All of it is None,
    with the reason in `why`, where prices, calls before or calls now are missing.
    """
    if why := _unknown(now, usual):
        return {**dict.fromkeys(_FIGURES), "why": why, **_rates(now, usual)}
    later, earlier = _estimate(now.rate), _estimate(usual.rate)
    change = later.rate - earlier.rate
    low, high = difference(later, earlier, _CONFIDENCE)
    each = now.escalation_usd or 0.0
    extra = {"": change * now.triaged, "_low": low * now.triaged, "_high": high * now.triaged}
    figures = {
        **{f"extra_calls{end}": calls for end, calls in extra.items()},
        **{f"usd{end}": calls * each for end, calls in extra.items()},
        **{f"usd_per_hour{end}": calls * each * HOUR_S / seconds for end, calls in extra.items()},
        "escalation_usd": each,
    }
    return {**figures, "why": "", **_rates(now, usual)}


_FIGURES: Final = (
    *(f"{name}{end}" for name in ("extra_calls", "usd", "usd_per_hour") for end in ("", "_low", "_high")),
    "escalation_usd",
)


def _unknown(now: PeriodCounts, usual: PeriodCounts) -> str:
    if usual.triaged < MIN_CALLS:
        return "too few calls before to know what is usual"
    if not now.triaged:
        return "no calls"
    if now.unpriced:
        return f"{now.unpriced} calls are unpriced"
    return "" if now.escalation_usd is not None else "no call has gone to the deep tier"


def _estimate(rate: Proportion) -> Estimate:
    return Estimate(rate=rate.rate or 0.0, n=rate.n, count=rate.n)


def _rates(now: PeriodCounts, usual: PeriodCounts) -> Mapping[str, Any]:
    """Both shares of calls that escalated, with interval and n."""
    sides = {"now": now.rate, "usual": usual.rate}
    return {name: _share(rate) for name, rate in sides.items()}


def _share(rate: Proportion) -> dict[str, Any]:
    low, high = rate.interval(_CONFIDENCE)
    return {"rate": rate.rate, "low": low, "high": high, "n": rate.n}
