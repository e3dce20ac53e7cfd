"""The cost of a storm: the escalations beyond the usual share, times the present cost of an escalation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from cheapdeep_ops.guard.report_types.units import ShareFacts
from cheapdeep_ops.guard.rules.escalation.detection import shown_window_s
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS
from cheapdeep_ops.guard.statistics.intervals import Estimate, Proportion, difference
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S, USD_PER_NUSD

_CONFIDENCE: Final = 0.95
_NAMES: Final = ("triaged", "escalated", "bypassed", "unpriced", "unpriced_deep", "cost_nusd", "triage_cost_nusd")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCounts:
    """The counters of a period; costs are in billionths of a US dollar.

    `unpriced_deep` are the unpriced ones of the calls that escalated or were bypassed.
    """

    triaged: int
    escalated: int
    bypassed: int = 0
    unpriced: int = 0
    unpriced_deep: int = 0
    cost_nusd: int = 0
    triage_cost_nusd: int = 0

    @classmethod
    def read(cls, connection: Connection, *, since: float, until: float, scope: str) -> Self:
        """The counters of one route or of all routes in `[since, until)` (Unix time)."""
        return cls(**counters.sums_of(connection, _NAMES, since=since, until=until, scope=scope))

    @property
    def rate(self) -> Proportion:
        """The share of triaged calls that escalated, at the threshold in force."""
        return Proportion(hits=self.escalated, n=self.triaged)

    @property
    def escalation_usd(self) -> float | None:
        """The extra cost of an escalated call over a shipped one, on average; None if that is unknown.

        Both include triage, so the difference is the cost of the deep call. The mean is over priced calls: at least
        half of all, and of those that went to the deep tier.
        """
        is_known = is_covered(unpriced=self.unpriced, of=self.triaged + self.bypassed)
        if not is_known or not is_covered(unpriced=self.unpriced_deep, of=self.deep):
            return None
        return (self.cost_nusd - self.triage_cost_nusd) * USD_PER_NUSD / (self.deep - self.unpriced_deep)

    @property
    def deep(self) -> int:
        """The number of calls that went to the deep tier."""
        return self.escalated + self.bypassed


def storm_consequence(
    connection: Connection,
    rule: StormRule,
    signal: Mapping[str, object],
    *,
    scope: str,
    started_at: float,
    is_over: bool,
    now: float,
) -> dict[str, object]:
    """The present cost of a storm or, when it is over, its cost since it fired at `started_at`; as facts.

    The present cost is that of the calls in the headline. Usual means the hour before it began, or the day before if
    that hour has too few calls. The storm's cause uses the same periods.
    """
    # While it lasts, the cost covers the calls in the headline, so that both figures agree.
    since = started_at if is_over else now - shown_window_s(signal, rule.windows.long)
    usual, compared_with = _usual(connection, started_at - rule.windows.long, scope)
    counts = PeriodCounts.read(connection, since=since, until=now, scope=scope)
    return {**consequence_of(counts, usual, seconds=max(now - since, 1.0)), "compared_with": compared_with}


def _usual(connection: Connection, onset: float, scope: str) -> tuple[PeriodCounts, str]:
    hour = PeriodCounts.read(connection, since=onset - HOUR_S, until=onset, scope=scope)
    # The hour before is the better comparison, because traffic differs over a day.
    if hour.triaged >= MIN_CALLS:
        return hour, "the hour before"
    return PeriodCounts.read(connection, since=onset - DAY_S, until=onset, scope=scope), "the day before"


def consequence_of(now: PeriodCounts, usual: PeriodCounts, *, seconds: float) -> dict[str, object]:
    """The escalations of `now` beyond the usual share, their cost, and their cost per hour, in US dollars.

    The bounds come from the 95% intervals of the rates; the cost of an escalation has no interval. If prices, earlier
    calls or present calls are missing, all figures are None, with the reason in `why`.
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
        "deep_calls": now.deep,
        "unpriced_deep_calls": now.unpriced_deep,
    }
    return {**figures, "why": "", **_rates(now, usual)}


_FIGURES: Final = (
    *(f"{name}{end}" for name in ("extra_calls", "usd", "usd_per_hour") for end in ("", "_low", "_high")),
    "escalation_usd",
    "deep_calls",
    "unpriced_deep_calls",
)


def _unknown(now: PeriodCounts, usual: PeriodCounts) -> str:
    if usual.triaged < MIN_CALLS:
        return "too few calls before to know what is usual"
    if not now.triaged:
        return "no calls"
    if not now.deep:
        return "no call was sent to the deep tier"
    if now.escalation_usd is None:
        deep = f"{now.unpriced_deep:,} of {now.deep:,} to the deep tier"
        return f"{now.unpriced:,} of {now.triaged + now.bypassed:,} calls are unpriced, {deep}"
    return ""


def _estimate(rate: Proportion) -> Estimate:
    return Estimate(rate=rate.rate or 0.0, n=rate.n, count=rate.n)


def _rates(now: PeriodCounts, usual: PeriodCounts) -> dict[str, ShareFacts]:
    """The shares of calls that escalated, now and usually, with interval and n."""
    sides = {"now": now.rate, "usual": usual.rate}
    return {name: _share(rate) for name, rate in sides.items()}


def _share(rate: Proportion) -> ShareFacts:
    low, high = rate.interval(_CONFIDENCE)
    return {"rate": rate.rate, "low": low, "high": high, "n": rate.n}
