"""The grades that a quality rule counts, and the baseline for them; pure, for guard and backtest."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cheapdeep_ops.guard.rules.false_confidence.detection import (
    AlarmLevel,
    NeededEvidence,
    SequentialTest,
    Stakes,
    estimate,
    learned,
)
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics.intervals import Estimate, pooled
from cheapdeep_ops.store.grades import Baseline, DecidedGrade

AHEAD_S: Final = 60.0
"""How far a router's clock may be ahead of the guard's; later calls are no evidence."""


def alarm_level_of(baseline: Baseline) -> AlarmLevel | None:
    """The alarm level of a baseline; None while the baseline is still being learned."""
    return None if baseline.rate is None else learned(_estimate_of(baseline))


def joint_alarm_level(alarms: Mapping[str, AlarmLevel], routes: Iterable[str]) -> AlarmLevel | None:
    """The alarm level of these routes together: the mean of theirs, weighted by their shares of grades."""
    distinct = set(alarms.values())
    if len(distinct) < 2:  # noqa: PLR2004 - one, or none
        return next(iter(distinct), None)
    # Before the first grade that counts, all routes have equal weight.
    shares = Counter(routes) or Counter(alarms.keys())
    parts = ((alarms[route].normal, count) for route, count in shares.items())
    pool = pooled((normal, count) for normal, count in parts if normal is not None)
    return learned(pool) if pool else None


def learned_from(first: Sequence[DecidedGrade], baseline: Baseline, *, enough: int, now: float) -> Baseline | None:
    """The baseline from the `first` grades of a scope; None if there are fewer than `enough`."""
    rate = estimate(first)
    if rate is None or len(first) < enough:
        return None
    until = max(each.called_at for each in first)
    return replace(baseline, rate=rate.rate, n=rate.n, grades=rate.count, until=until, learned_at=now)


def counts_after(rule: QualityRule, baseline: Baseline | None, *, over: float, now: float) -> float:
    """The Unix time after which calls count; `over` is the end of the last incident."""
    oldest = max(now - rule.max_age, over)
    # The calls that a baseline was learned from are no evidence against it.
    return max(oldest, baseline.until or baseline.since) if baseline and rule.limit == "normal" else oldest


def after_grades(
    test: SequentialTest,
    grades: Iterable[DecidedGrade],
    alarms: Mapping[str, AlarmLevel],
    *,
    needed: NeededEvidence,
    oldest: Mapping[str, float],
    now: float,
    fires: bool,
) -> SequentialTest:
    """`test` after those of `grades` that count; a grade is counted once, when it becomes known.

    `fires` is whether the alert fires in the test's phase.
    """
    counting = [
        each for each in grades if each.route in alarms and oldest[each.route] < each.called_at <= now + AHEAD_S
    ]
    stakes = {route: Stakes.at(alarms[route]) for route in {each.route for each in counting}}
    return test.after_all([(each, stakes[each.route]) for each in counting], needed, fires=fires)


def _estimate_of(baseline: Baseline) -> Estimate:
    return Estimate(rate=baseline.rate or 0.0, n=baseline.n or 0.0, count=baseline.grades)
