"""Detects an escalation storm from counts; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final, Literal, NamedTuple, Self

from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.guard.rules.rule_text import Signal
from cheapdeep_ops.guard.statistics.intervals import Proportion, wilson
from cheapdeep_ops.guard.statistics.sequential import Bets

CLIMBS: Final = (1.2, 1.45, 1.75, 2.2, 2.6)
"""How many times the limit a storm's rate may be, one bet for each; tests/bench/storm.py measures them."""


class SecondOfCalls(NamedTuple):
    """The second that began at `at` (Unix time): `hits` base escalations among `n` triaged calls.

    Where seconds are folded, it is a minute, and `seconds` is how many of its seconds had a base escalation.
    """

    at: int
    hits: int
    n: int
    seconds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """The result of a sequential test for a rate above the limit.

    `evidence` is a natural logarithm, None without calls. The rate has most likely been above for `lasted` seconds.
    `calls` are the calls since then, and `seconds` is how many of their distinct seconds had a base escalation.
    """

    evidence: float | None = None
    lasted: float = 0.0
    calls: Proportion = field(default_factory=lambda: Proportion(hits=0, n=0))
    seconds: int = 0

    @property
    def stretch(self) -> tuple[Proportion, float]:
        """The calls of the climb, and how many seconds they cover."""
        return self.calls, self.lasted

    def longer_by(self, seconds: float) -> Self:
        """This run at a later end, with no further calls."""
        return self if self.evidence is None else replace(self, lasted=self.lasted + seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReading:
    """The data of one scope at one moment; `seconds` is how many distinct seconds had a base escalation.

    Of `seconds`, only those since the last incident count.
    """

    long: Proportion
    short: Proportion
    seconds: int
    limit: float | None
    fresh: Proportion | None = None
    """The calls of the long window since the last incident, which alone are evidence for a new one; None for all."""
    climb: DetectorRun = DetectorRun()
    actual: Proportion = field(default_factory=lambda: Proportion(hits=0, n=0))
    """The calls of the long window that escalated at the threshold in force."""
    long_s: float | None = None
    """How many seconds the long window covers; None for as many as the rule says."""
    short_s: float | None = None
    dispersion: float = 1.0
    """How many times the counts vary as much as those of independent calls."""
    is_current: bool = True
    """Whether calls still come, as fast as those of the long window did."""

    def recent(self, rule: StormRule) -> tuple[Proportion, float]:
        """The calls that represent the present traffic, and their seconds: the short window, or else the long one."""
        # Half of min_calls: with fewer, single calls would decide whether the storm is over.
        if self.short.n >= rule.min_calls / 2:
            return self.short, rule.windows.short if self.short_s is None else self.short_s
        return self.long, self.long_seconds(rule)

    def long_seconds(self, rule: StormRule) -> float:
        """How many seconds the long window covers."""
        return rule.windows.long if self.long_s is None else self.long_s

    def interval(self, calls: Proportion, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of the rate of some of its calls, whose counts are divided by the dispersion."""
        return wilson(calls.hits / self.dispersion, calls.n / self.dispersion, confidence)


def level_of(rule: StormRule, reading: WindowReading) -> Level:
    """On which side of the limit a reading is.

    Above needs the intervals or the sequential test. Below needs only the recent rate, because a hold time follows.
    """
    recent, _ = reading.recent(rule)
    if not _is_known(rule, reading) or reading.limit is None or recent.rate is None:
        return Level.NO_DATA
    if decided_by(rule, reading):
        return Level.ABOVE
    return Level.BELOW if recent.rate <= reading.limit else Level.UNCLEAR


def decided_by(rule: StormRule, reading: WindowReading) -> Literal["window", "sequence"] | None:
    """What finds a reading above the limit: the windows or the sequential test; None if neither does."""
    if reading.limit is None or not _is_known(rule, reading):
        return None
    if _is_above(rule, reading, reading.limit):
        return "window"
    return "sequence" if _has_climbed(rule, reading, reading.limit) else None


def climb_of(
    rule: StormRule,
    limit: float | None,
    seconds: Sequence[SecondOfCalls],
    *,
    until: float,
    dispersion: float = 1.0,
) -> DetectorRun:
    """The sequential test over `seconds`, oldest first, that end at `until` (Unix time).

    Counts are divided by the `dispersion`, as for a quasi-likelihood (Wedderburn 1974, Biometrika 61, 439).

    An e-detector (see `statistics.sequential`). Each second starts one bet on each of the climbs. One second adds at
    most a share of the needed evidence, so that one burst is never enough. A folded minute adds at most one share for
    each of its seconds with a base escalation. The test starts with the first second of the long window and not with
    the first second ever. Both only make the evidence smaller, so the bound on false alarms is
    that of the full detector. No state is stored, so restarts and late buckets do not affect it.
    """
    if limit is None or not 0 < limit < 1 or not seconds:
        return DetectorRun()
    # With this share for each second, evidence comes from min_seconds seconds at least.
    most = rule.evidence_limit / rule.min_seconds
    counts = [second[1:] for second in seconds]
    bets = [_sum_of_bets(counts, rate, limit, most, dispersion) for rate in Bets.on_climb(limit, CLIMBS).rates]
    _, began = max(bets)
    since_onset = seconds[began:]
    return DetectorRun(
        evidence=_log_mean([log for log, _ in bets]),
        lasted=until - since_onset[0].at,
        calls=Proportion(hits=sum(second.hits for second in since_onset), n=sum(second.n for second in since_onset)),
        seconds=sum(second.seconds for second in since_onset if second.hits),
    )


def _sum_of_bets(
    counts: Sequence[tuple[int, int, int]], rate: float, limit: float, most: float, dispersion: float
) -> tuple[float, int]:
    """The logarithm of all bets on `rate` together, and the place at which the best of them began.

    `counts` are those of seconds, oldest first: hits, calls, and distinct seconds with a hit.
    """
    miss = math.log((1 - rate) / (1 - limit)) / dispersion
    hit = math.log(rate / limit) / dispersion - miss
    # An evaluation spends most of its time here; most seconds have the counts of another one.
    growth = {each: min(each[0] * hit + each[1] * miss, most * each[2]) for each in set(counts)}
    *before, total = accumulate(map(growth.__getitem__, counts), initial=0.0)
    # A bet has grown by the total without what came before it, so the best one began at the least sum. Of equal sums
    # the last counts, as in CUSUM: a bet that has lost everything starts again, and that dates the onset.
    least = min(before)
    began = len(before) - 1 - before[::-1].index(least)
    # The least sum is factored out, so that no exponential overflows.
    return total - least + math.log(sum([math.exp(least - each) for each in before])), began


def storm_signal(rule: StormRule, reading: WindowReading) -> Signal:
    """A reading as alerts, policy changes and messages have it. Intervals are 95%; `evidence` is a natural logarithm.

    If the sequential test decides, `recent` is about the calls of the climb. `window_s` is how many seconds the long
    window covers.
    """
    by = decided_by(rule, reading)
    # Both windows may still be full of calm calls from before the climb, and so hide it.
    recent, recent_window_s = reading.climb.stretch if by == "sequence" else reading.recent(rule)
    (low, high), (recent_low, recent_high) = reading.interval(reading.long), reading.interval(recent)
    return {
        "rate": reading.long.rate,
        "low": low,
        "high": high,
        "n": reading.long.n,
        "limit": reading.limit,
        "recent_rate": recent.rate,
        "recent_low": recent_low,
        "recent_high": recent_high,
        "recent_n": recent.n,
        "recent_window_s": recent_window_s,
        "actual_rate": reading.actual.rate,
        "window_s": reading.long_seconds(rule),
        "dispersion": reading.dispersion,
        "evidence": reading.climb.evidence,
        "evidence_limit": rule.evidence_limit,
        "decided_by": by,
    }


def shown_window_s(signal: Signal, window_s: float) -> float:
    """How many seconds of calls are in a storm's headline; `window_s` is for a signal that does not say it."""
    return float(signal["recent_window_s"] if is_sudden(signal) else signal.get("window_s", window_s))


def is_sudden(signal: Signal) -> bool:
    """Whether the sequential test decided, so that only the calls of the climb are shown."""
    return signal.get("decided_by") == "sequence"


class BurstCap:
    """An upper bound on the evidence of `climb_of`, for a backtest: it reads each second once, oldest first.

    It is that test, started with the first second ever. The bets of a window are worth at most as much as all bets. It
    holds for the entries that it has read, where their dispersion is 1.
    """

    def __init__(self, rule: StormRule, limit: float) -> None:
        bets = Bets.on_climb(limit, CLIMBS) if 0 < limit < 1 else Bets(limit, ())
        self._growth = [bets.growth(1, 1), bets.growth(0, 1)]
        self._most = rule.evidence_limit / rule.min_seconds
        self._enough = rule.evidence_limit - _SLIP
        self._logs = [-math.inf] * len(bets.rates)

    def take_in(self, second: SecondOfCalls) -> None:
        """Count one more second; a second without calls changes nothing."""
        if not second.n:
            return
        misses = second.n - second.hits
        for place, (hit, miss) in enumerate(zip(*self._growth, strict=True)):
            log = self._logs[place]
            growth = min(second.hits * hit + misses * miss, self._most * second.seconds)
            self._logs[place] = (log + math.log1p(math.exp(-log)) if log > 0 else math.log1p(math.exp(log))) + growth

    @property
    def is_reached(self) -> bool:
        """Whether a window may have enough evidence to fire."""
        return any(log >= self._enough for log in self._logs)


_SLIP: Final = 1e-6
"""The tolerance for rounding: two ways to add up these logarithms differ far less."""


def _log_mean(logs: Sequence[float]) -> float:
    # The mean of e-values is an e-value, so several bets need no correction; the top avoids an overflow.
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs))


def _is_known(rule: StormRule, reading: WindowReading) -> bool:
    # Without recent calls, nothing shows whether the storm still lasts.
    return reading.long.n >= rule.min_calls and reading.short.n > 0 and reading.is_current


def _is_above(rule: StormRule, reading: WindowReading, limit: float) -> bool:
    # A long window of a quiet route may reach back to a storm that is over.
    evident = reading.long if reading.fresh is None else reading.fresh
    return (
        reading.seconds >= rule.min_seconds
        # The long window decides at a high confidence; the short one only confirms, at 95%.
        and reading.interval(evident, rule.confidence)[0] > limit
        and reading.interval(reading.short)[0] > limit
    )


def _has_climbed(rule: StormRule, reading: WindowReading, limit: float) -> bool:
    """Whether the test has found a climb that still lasts.

    A climb that is older than the recent window ends as soon as the recent rate is back; its evidence fades later.
    """
    climb, (recent, window_s) = reading.climb, reading.recent(rule)
    return (
        climb.evidence is not None
        and climb.evidence >= rule.evidence_limit
        and climb.seconds >= rule.min_seconds
        and (climb.lasted <= window_s or (recent.rate is not None and recent.rate > limit))
    )
