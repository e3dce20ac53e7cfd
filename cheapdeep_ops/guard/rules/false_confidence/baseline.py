"""The grades that a quality rule counts, and the baseline for them; pure, for guard and backtest."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cheapdeep_ops.guard.rules.false_confidence.calm import CalmGrades
from cheapdeep_ops.guard.rules.false_confidence.detection import (
    AlarmLevel,
    NeededEvidence,
    SequentialTest,
    Stakes,
    ceiling_of,
    estimate,
    learned,
)
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics.intervals import Estimate, pooled
from cheapdeep_ops.store.grades import Baseline, DecidedGrade

AHEAD_S: Final = 60.0
"""How far a router's clock may be ahead of the guard's; later calls are no evidence."""


def alarm_level_of(baseline: Baseline) -> AlarmLevel | None:
    """The alarm level of a baseline; None before its first step of learning."""
    return None if baseline.rate is None else learned(_estimate_of(baseline), baseline.ceiling)


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


def learned_from(
    rule: QualityRule, first: Sequence[DecidedGrade], baseline: Baseline, *, now: float
) -> Baseline | None:
    """The baseline after its first step, from the `first` grades of a scope; None if they are too few for `rule`."""
    rate = estimate(first)
    if rate is None or len(first) < rule.normal_grades:
        return None
    rate = replace(rate, n=round(rate.n, 6))
    begun = replace(
        baseline,
        until=max(each.called_at for each in first),
        # The harmonic mean: the share of all calls that these grades are.
        share=len(first) / sum(1 / each.inclusion for each in first),
    )
    return _learned_more(rule, begun, rate, now=now)


def learned_on(
    rule: QualityRule, baseline: Baseline, test: SequentialTest, *, now: float
) -> tuple[Baseline, SequentialTest] | None:
    """The baseline after its next step, and the test without the grades it learned from; None if they are too few yet.

    A step comes with every tenth more grades of calm times. The first step with `rule.first_grades` sets the ceiling.
    """
    before, calm = _estimate_of(baseline), test.calm
    # Rounded, because sums of weights are not exact.
    n = round(before.n + calm.n, 6)
    if baseline.rate is None or calm.since != baseline.since or n < MORE * before.n:
        return None
    merged = Estimate(rate=(before.hits + calm.wrong) / n, n=n, count=before.count + calm.count)
    return _learned_more(rule, baseline, merged, now=now), replace(test, calm=replace(calm, n=0.0, wrong=0.0, count=0))


MORE: Final = 1.1
"""A baseline has its next step when its number of grades has grown by this factor."""


def _learned_more(rule: QualityRule, baseline: Baseline, rate: Estimate, *, now: float) -> Baseline:
    ceiling = baseline.ceiling
    if ceiling is None and rate.n >= rule.first_grades:
        ceiling = ceiling_of(rate)
    return baseline.learned_more(rate=rate.rate, n=rate.n, grades=rate.count, ceiling=ceiling, now=now)


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
    taught: Baseline | None = None,
) -> SequentialTest:
    """`test` after those of `grades` that count; a grade is counted once, when it becomes known.

    `fires` is whether the alert fires in the test's phase. `taught` is the baseline of the scope, if it goes on
    learning.
    """
    counting = [
        each for each in grades if each.route in alarms and oldest[each.route] < each.called_at <= now + AHEAD_S
    ]
    if taught is not None and test.calm.since != taught.since:
        # A person has asked for a new baseline.
        test = replace(test, calm=CalmGrades(since=taught.since))
    share = taught.share if taught is not None else None
    stakes = {route: Stakes.at(alarms[route], share) for route in {each.route for each in counting}}
    return test.after_all([(each, stakes[each.route]) for each in counting], needed, fires=fires)


def _estimate_of(baseline: Baseline) -> Estimate:
    return Estimate(rate=baseline.rate or 0.0, n=baseline.n or 0.0, count=baseline.grades)
