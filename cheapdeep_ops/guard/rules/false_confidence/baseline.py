"""What of the grades a quality rule takes in, and what it holds them against: pure, for the guard and for its past."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cheapdeep_ops.guard.rules.false_confidence.detection import AlarmLevel, SequentialTest, estimate, learned
from cheapdeep_ops.guard.rules.model import QualityRule
from cheapdeep_ops.guard.statistics.intervals import Estimate, pooled
from cheapdeep_ops.store.grades import Baseline, DecidedGrade

AHEAD_S: Final = 60.0
"""How far a router's clock may be ahead of the guard's; calls from beyond that are no evidence."""


def alarm_of(normal: Baseline) -> AlarmLevel | None:
    """The alarm that follows from what is normal; None while that is being learned."""
    return None if normal.rate is None else learned(_estimate_of(normal))


def alarm_together(alarms: Mapping[str, AlarmLevel], routes: Iterable[str]) -> AlarmLevel | None:
    """What would be too much for grades of these routes: that of each one's own route, by its share among them."""
    distinct = set(alarms.values())
    if len(distinct) < 2:  # noqa: PLR2004 - one, or none
        return next(iter(distinct), None)
    shares = Counter(routes) or Counter(alarms.keys())
    parts = ((alarms[route].normal, count) for route, count in shares.items())
    together = pooled((normal, count) for normal, count in parts if normal is not None)
    return learned(together) if together else None


def learned_from(first: Sequence[DecidedGrade], normal: Baseline, *, enough: int, now: float) -> Baseline | None:
    """What the `first` grades of a scope say is normal; None where they are not `enough`."""
    found = estimate(first)
    if found is None or len(first) < enough:
        return None
    until = max(each.called_at for each in first)
    return replace(normal, rate=found.rate, n=found.n, grades=found.count, until=until, learned_at=now)


def counts_after(rule: QualityRule, normal: Baseline | None, *, over: float, now: float) -> float:
    """Calls made until then count for nothing; those that normal was learned from are no evidence against it."""
    oldest = max(now - rule.max_age, over)
    return max(oldest, normal.until or normal.since) if normal and rule.limit == "normal" else oldest


def folded(
    watch: SequentialTest,
    known: Iterable[DecidedGrade],
    alarms: Mapping[str, AlarmLevel],
    *,
    oldest: Mapping[str, float],
    now: float,
) -> SequentialTest:
    """`watch` after those of `known` that count; each is taken in once, whatever is known later."""
    for each in known:
        if each.route in alarms and oldest[each.route] < each.called_at <= now + AHEAD_S:
            watch = watch.after(each, alarms[each.route])
    return watch


def _estimate_of(normal: Baseline) -> Estimate:
    return Estimate(rate=normal.rate or 0.0, n=normal.n or 0.0, count=normal.grades)
