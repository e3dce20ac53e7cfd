"""The results and the cost of grading over a period: for the receipt, the status and the metrics page."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Final

from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.report_types.figures import (
    Confidence,
    FalseConfidence,
    Funnel,
    GradingCosts,
    Quality,
    TierFalseConfidence,
)
from cheapdeep_ops.guard.report_types.state import GraderState, Normal
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_level_of
from cheapdeep_ops.guard.rules.self_monitoring.grader_facts import facts_of
from cheapdeep_ops.guard.rules.self_monitoring.grader_health import state_of, trouble_of
from cheapdeep_ops.guard.statistics import calibration
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state, grades, regradings, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion, GradeTally
from cheapdeep_ops.store.records import record_of
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES, Grade

_MOST_WEIGHED: Final = 10_000
"""How many grades of a scope the figures on confidence use; the latest ones."""

_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)


def quality_of(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> Quality:
    """False confidence of the shipped and of the withheld answers of the period; rates with n."""
    tallies = grades.tallies(connection, since=since, until=until, scope=scope)
    withheld = false_confidence(_wrong_among([each for each in tallies if not each.shipped]))
    return {
        **false_confidence(_wrong_among([each for each in tallies if each.shipped])),
        "withheld_false_confident_rate": withheld["false_confident_rate"],
        "withheld_false_confident_interval": withheld["false_confident_interval"],
        "withheld_graded": withheld["graded"],
        "grades": dict(_counted(tallies)),
        "judge_correction": "uncorrected",
    }


def rates_by_route(
    connection: Connection, settings: Settings, *, since: float, until: float
) -> dict[str, FalseConfidence]:
    """False confidence of shipped answers, by route; without the routes that have no decided grade."""
    decided: dict[str, list[GradeTally]] = defaultdict(list)
    for each in grades.tallies(connection, since=since, until=until):
        if each.shipped and each.verdict in _DECIDED:
            decided[each.route].append(each)
    by_route = route_labels.by_shown_route(connection, decided, most=settings.max_routes)
    return {route: false_confidence(_wrong_among(tallies)) for route, tallies in sorted(by_route.items())}


def rates_by_tier(
    connection: Connection, settings: Settings, *, since: float, until: float
) -> list[TierFalseConfidence]:
    """False confidence of the answers that each triage tier shipped; also of tiers that there were in the period."""
    triage = settings.tiers[:-1]
    by_tier: dict[int, list[GradeTally]] = {tier: [] for tier in range(len(triage))}
    for each in grades.tallies(connection, since=since, until=until):
        if each.shipped:
            by_tier.setdefault(each.tier, []).append(each)
    models = dict(enumerate(triage))
    return [
        {"tier": tier, "model": models.get(tier, ""), **false_confidence(_wrong_among(tallies))}
        for tier, tallies in sorted(by_tier.items())
    ]


def false_confidence(wrong: Estimate | None) -> FalseConfidence:
    """A rate with its interval and n; None, 0 to 1 and 0 without grades."""
    return {
        "false_confident_rate": wrong.rate if wrong else None,
        "false_confident_interval": wrong.interval() if wrong else (0.0, 1.0),
        "graded": wrong.count if wrong else 0,
    }


def spending_of(connection: Connection, *, since: float, until: float) -> GradingCosts:
    """The cost of grading in the period, the second grader's part of it, and the number of unpriced grades."""
    return {
        "grader_cost_usd": grading_usd(connection, since=since, until=until),
        "second_grader_cost_usd": grades.spent_usd(connection, since=since, until=until, second=True),
        "grader_unpriced": sum(each.unpriced for each in grades.tallies(connection, since=since, until=until)),
    }


def grading_usd(connection: Connection, *, since: float, until: float) -> float:
    """What grading cost in `[since, until)`, in US dollars."""
    graded = grades.spent_usd(connection, since=since, until=until)
    return graded + regradings.spent_usd(connection, since=since, until=until)


def shipped_false_confidence(connection: Connection, *, since: float, until: float) -> FalseConfidence:
    """False confidence of the answers that shipped in `[since, until)`."""
    tallies = grades.tallies(connection, since=since, until=until)
    return false_confidence(_wrong_among([each for each in tallies if each.shipped]))


def funnel_of(connection: Connection, settings: Settings, *, answers: int, since: float, until: float) -> Funnel:
    """The states of the period's `answers` with base outcome ship; the numbers add up to all of them."""
    states = candidates.funnel(connection, otherwise=settings.graded_share, since=since, until=until)
    # The skipped causes split up the skipped samples, so they are not added.
    chosen = sum(count for state, count in states.items() if state != "skipped_causes")
    return record_of(Funnel, {"answers": answers, "not_sampled": max(answers - chosen, 0), **states})


def grader_of(connection: Connection, settings: Settings, now: float) -> GraderState:
    """The state of the grader at this moment."""
    facts = facts_of(connection, settings)
    trouble = trouble_of(facts, now)
    return {
        "state": state_of(facts, now),
        "why": trouble.why if trouble else "",
        "model": settings.grader_model,
        "by": settings.grade_by,
        "waiting": facts.waiting,
        # A clock that was set back must not show a negative wait.
        "oldest_wait_s": None if facts.oldest is None else max(now - facts.oldest, 0.0),
        "last_grade_at": facts.last_grade_at,
        "last_failure": facts.last_failure,
        "spent_24h_usd": grader_state.committed_usd(connection, since=now - DAY_S),
        "limit_24h_usd": settings.max_grader_usd_per_day,
    }


def is_up(grader: GraderState) -> bool:
    """Whether a grader in this state grades, or would if there were samples."""
    return grader["state"] in ("running", "idle")


def baselines_of(connection: Connection, settings: Settings) -> dict[str, Normal]:
    """The baseline of each route, with its interval and n; the rate is None while it is being learned."""
    grader = grader_version(settings)
    known = grades.baselines(connection, grader)
    graded = known.keys() | grades.counts(connection).keys()
    routes = route_labels.shown_routes(connection, graded, most=settings.max_routes)
    # A route with grades, but without a stored baseline, is still learning its own.
    baselines = {route: known.get(route) or Baseline(scope=route, since=0.0) for route in routes}
    learned = {route: _learned(baseline) for route, baseline in baselines.items()}
    so_far = _graded(connection, grader, [baselines[route] for route in routes if learned[route] is None])
    return {route: learned[route] or _learning(baselines[route], so_far.get(route, 0)) for route in routes}


def _learned(baseline: Baseline) -> Normal | None:
    alarm = alarm_level_of(baseline)
    if alarm is None or alarm.normal is None:
        return None
    low, high = alarm.normal.interval()
    return {
        "rate": alarm.normal.rate,
        "low": low,
        "high": high,
        "grades": baseline.grades,
        "stage": "first" if baseline.ceiling is None else "learned",
        "target": alarm.target,
        "ceiling": baseline.ceiling,
        "alarm_level": alarm.level,
        "learned_at": baseline.learned_at,
        "author": baseline.author,
        "why": baseline.why,
    }


def _graded(connection: Connection, grader: GraderVersion, baselines: Sequence[Baseline]) -> dict[str, int]:
    """The number of grades so far, by the scope of each baseline."""
    by_since: dict[float, list[str]] = defaultdict(list)
    for each in baselines:
        by_since[each.since].append(each.scope)
    # Few baselines were reset, so most routes share one query.
    counts = [grades.decided_by_route(connection, routes, grader, since=since) for since, routes in by_since.items()]
    return {route: count for counted in counts for route, count in counted.items()}


def _learning(baseline: Baseline, graded: int) -> Normal:
    """A baseline that is being learned; `graded` is the number of its grades so far."""
    return {
        "rate": None,
        "low": 0.0,
        "high": 1.0,
        "grades": graded,
        "stage": "asleep",
        "target": None,
        "ceiling": None,
        "alarm_level": None,
        "learned_at": None,
        "author": baseline.author,
        "why": baseline.why,
    }


def _wrong_among(tallies: Sequence[GradeTally]) -> Estimate | None:
    # Samples that a suspicion chose are no random sample, so no rate includes them.
    decided = [each for each in tallies if each.verdict in _DECIDED and not each.steered]
    return weighted((each.verdict == Grade.INCORRECT.value, each.inclusion, each.count) for each in decided)


def _counted(tallies: Sequence[GradeTally]) -> Counter[str]:
    counts: Counter[str] = Counter({grade.value: 0 for grade in Grade})
    for each in tallies:
        counts[each.verdict or each.failure] += each.count
    return counts


def confidence_of(connection: Connection, settings: Settings, *, since: float, until: float) -> dict[str, Confidence]:
    """How well confidence matched the grades in the period: of all routes (`*`) and of each.

    It covers the latest ten thousand grades of each, of the first tier's answers that ship at base.
    """
    scopes = [ALL_ROUTES, *route_labels.shown_routes(connection, grades.counts(connection), most=settings.max_routes)]
    worth = {scope: confidence_in(connection, settings, since=since, until=until, scope=scope) for scope in scopes}
    return {scope: confidence for scope, confidence in worth.items() if confidence is not None}


def confidence_in(
    connection: Connection, settings: Settings, *, since: float, until: float, scope: str
) -> Confidence | None:
    """How well confidence matched the grades in one scope; None without grades."""
    grader = grader_version(settings)
    graded = grades.confidences(connection, grader, since=since, until=until, scope=scope, limit=_MOST_WEIGHED)
    # A fixed seed, so that a report is repeatable.
    return calibration.as_facts(graded, Random(0)) if graded else None  # noqa: S311 - a simulation, no secret
