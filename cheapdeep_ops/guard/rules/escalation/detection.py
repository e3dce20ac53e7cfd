"""What an escalation storm is, from counts: pure, like the rules."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from cheapdeep_ops.guard.rules.model import Level, StormRule
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.guard.statistics.sequential import Bets

CLIMBS: Final = (1.2, 1.45, 1.75, 2.2, 2.6)
"""How many times the limit a storm's rate may be: one bet for each (tests/bench/storm.py shows what they achieve)."""


class SecondOfCalls(NamedTuple):
    """What came of the second that began at `at`: `hits` base escalations among `n` triaged calls."""

    at: int
    hits: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """What a sequential test has to say of a rate that may have climbed over the limit.

    `evidence` is a natural logarithm, None where nothing was seen. `lasted` says for how many seconds the rate has most
    likely been above, `calls` what came of the calls since, and `seconds` how many distinct seconds of those had a base
    escalation.
    """

    evidence: float | None = None
    lasted: float = 0.0
    calls: Proportion = field(default_factory=lambda: Proportion(hits=0, n=0))
    seconds: int = 0

    @property
    def stretch(self) -> tuple[Proportion, float]:
        """The calls of the climb, and the seconds they are from."""
        return self.calls, self.lasted


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReading:
    """What a rule sees of one scope at one moment; `seconds` are the distinct seconds that the evidence is from."""

    long: Proportion
    short: Proportion
    seconds: int
    limit: float | None
    climb: DetectorRun = DetectorRun()

    def recent(self, rule: StormRule) -> tuple[Proportion, float]:
        """What stands for the traffic now, and the seconds it is from: the short window where it has calls enough."""
        if self.short.n >= rule.min_calls / 2:
            return self.short, rule.windows.short
        return self.long, rule.windows.long


def level_of(rule: StormRule, reading: WindowReading) -> Level:
    """Which side of the limit a reading is on, and how sure that is.

    Firing needs an interval, or the sequential test; clearing needs only the recent point, because the hold time guards
    it.
    """
    recent, _ = reading.recent(rule)
    if not _is_known(rule, reading) or reading.limit is None or recent.rate is None:
        return Level.NO_DATA
    if decided_by(rule, reading):
        return Level.ABOVE
    return Level.BELOW if recent.rate <= reading.limit else Level.UNCLEAR


def decided_by(rule: StormRule, reading: WindowReading) -> Literal["window", "sequence"] | None:
    """What says that a reading is above the limit; None where nothing does."""
    if reading.limit is None or not _is_known(rule, reading):
        return None
    if _is_above(rule, reading, reading.limit):
        return "window"
    return "sequence" if _has_climbed(rule, reading, reading.limit) else None


def climb_of(rule: StormRule, limit: float | None, seconds: Sequence[SecondOfCalls], *, until: float) -> DetectorRun:
    """What the sequential test finds in `seconds`, oldest first, that end at `until` (Unix time).

    An e-detector (see `detector`) in which each second begins one bet on each of the climbs, and wins each running bet
    no more than a share of the evidence needed: so that one burst never is enough. Both only make the value smaller,
    and so does beginning with the long window's first second instead of with the first ever: what is left out are bets
    that began before, and none is worth less than nothing. The bound on false alarms is therefore that of the full
    detector, and nothing has to be remembered: a restart, another leader or a bucket that comes late need no care.
    """
    if limit is None or not 0 < limit < 1 or not seconds:
        return DetectorRun()
    most = rule.evidence_limit / rule.min_seconds
    bets = [_run(seconds, rate, limit, most) for rate in Bets.on_climb(limit, CLIMBS).rates]
    _, since = max(bets)
    made_of = [second for second in seconds if second.at >= since]
    return DetectorRun(
        evidence=_log_mean([log for log, _ in bets]),
        lasted=until - since,
        calls=Proportion(hits=sum(second.hits for second in made_of), n=sum(second.n for second in made_of)),
        seconds=sum(second.hits > 0 for second in made_of),
    )


def _run(seconds: Iterable[SecondOfCalls], rate: float, limit: float, most: float) -> tuple[float, int]:
    """The logarithm of all bets on `rate` together, and when the one that stands best began."""
    miss = math.log((1 - rate) / (1 - limit))
    hit = math.log(rate / limit) - miss
    log, best, since = -math.inf, 0.0, 0
    exp, log1p = math.exp, math.log1p
    for at, hits, n in seconds:
        grown = min(hits * hit + n * miss, most)
        if best <= 0:
            best, since = 0.0, at
        best += grown
        # log(exp(log) + 1), written out: this is what an evaluation's time goes into.
        log = (log + log1p(exp(-log)) if log > 0 else log1p(exp(log))) + grown
    return log, since


class BurstCap:
    """A bound on the evidence that `climb_of` finds in seconds that end with the last one taken in, oldest first.

    The same test, but begun with the first second ever: no window's bets are worth more than all bets there were. It
    takes in each second once, where a window is weighed anew each time.
    """

    def __init__(self, rule: StormRule, limit: float) -> None:
        bets = Bets.on_climb(limit, CLIMBS) if 0 < limit < 1 else Bets(limit, ())
        self._growth = [bets.growth(1, 1), bets.growth(0, 1)]
        self._most = rule.evidence_limit / rule.min_seconds
        self._enough = rule.evidence_limit - _SLIP
        self._logs = [-math.inf] * len(bets.rates)

    def take_in(self, second: SecondOfCalls) -> None:
        """Count one more second; one without calls counts for nothing."""
        if not second.n:
            return
        misses = second.n - second.hits
        for place, (hit, miss) in enumerate(zip(*self._growth, strict=True)):
            log = self._logs[place]
            grown = min(second.hits * hit + misses * miss, self._most)
            self._logs[place] = (log + math.log1p(math.exp(-log)) if log > 0 else math.log1p(math.exp(log))) + grown

    @property
    def is_reached(self) -> bool:
        """Whether a window may hold evidence enough to fire."""
        return any(log >= self._enough for log in self._logs)


_SLIP: Final = 1e-6
"""By how much two ways of adding up the same logarithms may differ, and much more."""


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs))


def _is_known(rule: StormRule, reading: WindowReading) -> bool:
    return reading.long.n >= rule.min_calls and reading.short.n > 0


def _is_above(rule: StormRule, reading: WindowReading, limit: float) -> bool:
    return (
        reading.seconds >= rule.min_seconds
        and reading.long.interval(rule.confidence)[0] > limit
        and reading.short.interval()[0] > limit
    )


def _has_climbed(rule: StormRule, reading: WindowReading, limit: float) -> bool:
    """Whether the test has found a climb that is still going on.

    One that is younger than the recent window has to outlast no older calls in there; an older one is over as soon as
    the recent rate is back, though its evidence takes longer to wear off.
    """
    climb, (recent, window_s) = reading.climb, reading.recent(rule)
    return (
        climb.evidence is not None
        and climb.evidence >= rule.evidence_limit
        and climb.seconds >= rule.min_seconds
        and (climb.lasted <= window_s or (recent.rate is not None and recent.rate > limit))
    )
