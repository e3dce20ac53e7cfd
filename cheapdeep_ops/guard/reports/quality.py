"""What grading has found over a period, and what it has cost: for the receipt, the status and the metrics page."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.grading.grader import facts_of, grader_version
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_of
from cheapdeep_ops.guard.rules.self_monitoring.grader_health import state_of, trouble_of
from cheapdeep_ops.guard.statistics import calibration
from cheapdeep_ops.guard.statistics.intervals import weighted
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grades, revisions
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grades import Baseline, GraderVersion, GradeTally
from cheapdeep_ops.values import ALL_ROUTES, Grade

DAY_S: Final = 86_400.0
_MOST_WEIGHED: Final = 10_000
_DECIDED: Final = (Grade.CORRECT.value, Grade.INCORRECT.value)


def quality_of(connection: Connection, *, since: float, until: float, scope: str = ALL_ROUTES) -> dict[str, Any]:
    """False confidence of what was shipped by calls of the period, and of what a raise held back; rates with n."""
    found = grades.tallied(connection, since=since, until=until, scope=scope)
    return {
        **_rate("", [each for each in found if each.shipped]),
        **_rate("withheld_", [each for each in found if not each.shipped]),
        "grades": dict(_counted(found)),
        "judge_correction": "uncorrected",
    }


def rates_by_route(connection: Connection, *, since: float, until: float) -> dict[str, dict[str, Any]]:
    """False confidence of what was shipped, by route; routes without a decided grade are left out."""
    by_route: dict[str, list[GradeTally]] = defaultdict(list)
    for each in grades.tallied(connection, since=since, until=until):
        if each.shipped and each.verdict in _DECIDED:
            by_route[each.route].append(each)
    return {route: _rate("", found) for route, found in sorted(by_route.items())}


def spending_of(connection: Connection, *, since: float, until: float) -> dict[str, Any]:
    """What was spent on grading in the period, and of that by the second judge; unpriced grades are counted."""
    found = grades.tallied(connection, since=since, until=until)
    return {
        "grader_cost_usd": grades.spent_usd(connection, since=since, until=until),
        "second_grader_cost_usd": grades.spent_usd(connection, since=since, until=until, second=True),
        "grader_unpriced": sum(each.unpriced for each in found),
    }


def funnel_of(
    connection: Connection, settings: Settings, *, answers: int, since: float, until: float
) -> dict[str, Any]:
    """What became of the `answers` with base outcome ship of the period: the numbers add up to all of them."""
    found = candidates.funnel(connection, otherwise=settings.graded_share, since=since, until=until)
    causes = found.pop("skipped_causes")
    chosen = sum(found.values())
    return {"answers": answers, "not_sampled": max(answers - chosen, 0), **found, "skipped_causes": causes}


def grader_of(connection: Connection, settings: Settings, now: float) -> dict[str, Any]:
    """How the grader fares at this moment."""
    facts = facts_of(connection, settings)
    trouble = trouble_of(facts, now)
    return {
        "state": state_of(facts, now),
        "why": trouble.why if trouble else "",
        "model": settings.grader_model,
        "by": settings.grade_by,
        "waiting": facts.waiting,
        "oldest_wait_s": None if facts.oldest is None else max(now - facts.oldest, 0.0),
        "last_grade_at": facts.last_grade_at,
        "last_failure": facts.last_failure,
        "spent_24h_usd": grades.spent_usd(connection, since=now - DAY_S),
        "limit_24h_usd": settings.max_grader_usd_per_day,
    }


def is_up(found: Mapping[str, Any]) -> bool:
    """Whether a grader that fares so does its work."""
    return found["state"] in ("running", "idle")


def normals_of(connection: Connection, settings: Settings) -> dict[str, Any]:
    """What is normal for each route, with its interval and n; rates are None while it is being learned."""
    judge = grader_version(settings)
    known = grades.normals(connection, judge)
    routes = sorted(known.keys() | grades.counts(connection).keys())
    found = (known.get(route) or Baseline(scope=route, since=0.0) for route in routes)
    return {each.scope: _learned(each) or _learning(connection, judge, each) for each in found}


def relearn(store: Store, settings: Settings, scope: str, *, author: str, why: str, now: float) -> None:
    """Have what is normal for a route learned anew, from calls that begin after `now`.

    Raises PolicyError where nothing of the route was ever graded, StoreError where the store is out of reach.
    """

    def work(connection: Connection) -> None:
        revisions.advance(connection)
        known = grades.counts(connection)
        if scope not in known:
            raise PolicyError(f"nothing of {scope} was ever graded; graded are: {', '.join(sorted(known)) or 'none'}")
        grades.relearn(connection, grader_version(settings), scope, now=now, author=author, why=why)

    store.transact(work)


def _learned(normal: Baseline) -> dict[str, Any] | None:
    alarm = alarm_of(normal)
    if alarm is None or alarm.normal is None:
        return None
    low, high = alarm.normal.interval()
    return {
        "rate": alarm.normal.rate,
        "low": low,
        "high": high,
        "grades": normal.grades,
        "alarm_level": alarm.level,
        "learned_at": normal.learned_at,
        "author": normal.author,
        "why": normal.why,
    }


def _learning(connection: Connection, judge: GraderVersion, normal: Baseline) -> dict[str, Any]:
    """The same while it is being learned: `grades` are those that there are to learn from."""
    so_far = grades.decided_since(connection, normal.scope, judge, since=normal.since)
    unknown = {"rate": None, "low": 0.0, "high": 1.0, "alarm_level": None, "learned_at": None}
    return {**unknown, "grades": so_far, "author": normal.author, "why": normal.why}


def _rate(prefix: str, found: list[GradeTally]) -> dict[str, Any]:
    decided = [each for each in found if each.verdict in _DECIDED and not each.steered]
    rate = weighted((each.verdict == Grade.INCORRECT.value, each.inclusion, each.count) for each in decided)
    return {
        f"{prefix}false_confident_rate": rate.rate if rate else None,
        f"{prefix}false_confident_interval": list(rate.interval()) if rate else [0.0, 1.0],
        f"{prefix}graded": rate.count if rate else 0,
    }


def _counted(found: list[GradeTally]) -> Counter[str]:
    counts: Counter[str] = Counter({grade.value: 0 for grade in Grade})
    for each in found:
        counts[each.verdict or each.failure] += each.count
    return counts


def confidence_of(connection: Connection, settings: Settings, *, since: float, until: float) -> dict[str, Any]:
    """What confidence was worth in the period, of all routes (`*`) and of each; as in `calibration.as_facts`.

    Of answers that ship at base, in the judge's eyes; the latest ten thousand grades of each.
    """
    scopes = [ALL_ROUTES, *sorted(grades.counts(connection))]
    found = {scope: confidence_in(connection, settings, since=since, until=until, scope=scope) for scope in scopes}
    return {scope: facts for scope, facts in found.items() if facts is not None}


def confidence_in(
    connection: Connection, settings: Settings, *, since: float, until: float, scope: str
) -> dict[str, Any] | None:
    """The same of one scope; None where nothing was graded."""
    judge = grader_version(settings)
    graded = grades.confident(connection, judge, since=since, until=until, scope=scope, limit=_MOST_WEIGHED)
    return calibration.as_facts(graded, Random(0)) if graded else None  # noqa: S311 - a simulation, no secret
