"""What sampling has spent, and how soon it would find a climb at the traffic of today: from the store."""

from collections.abc import Iterable
from typing import Any, Final

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.grading.adaptive import is_adaptive, shares
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.reports.detection_delay import DAY_S, SamplingShares, reach_of, unknown
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_of
from cheapdeep_ops.guard.rules.model import QualityRule
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import GradeTally

_NANO: Final = 1e-9
_NOBODY: Final = frozenset[str]()


def reach_by_route(connection: Connection, settings: Settings, now: float) -> dict[str, dict[str, Any]]:
    """How soon a climb of each route would be found, at the confident answers of the 24 hours before `now`.

    Shipped and withheld alike: both are graded. A route that has just begun is taken to have no more in a day.
    """
    counted = counters.by_route(connection, since=now - DAY_S, until=now)
    answers = {route: counts.triaged - counts.base_escalated for route, counts in counted.items()}
    normals = grades.normals(connection, grader_version(settings))
    alarms = {route: alarm_of(normal) for route, normal in normals.items()}
    alpha, samplings = _alpha(settings), _samplings(settings, answers)
    found = {}
    for route in sorted(answers.keys() | normals.keys()):
        alarm, per_day = alarms.get(route), float(answers.get(route, 0))
        if alpha is None:
            found[route] = unknown(alarm, per_day, "no rule that can be read looks for a climb over what is normal")
        else:
            found[route] = reach_of(alarm, alpha, samplings.get(route, SamplingShares(calm=0.0)), per_day=per_day)
    return found


def sampling_of(
    connection: Connection, settings: Settings, *, answers: int, since: float, until: float
) -> dict[str, Any]:
    """What was graded of the `answers` with base outcome ship of the period, gradings that failed included.

    `evenly` is what a share of all answers was chosen for, `suspected` what was chosen while a route was suspected or
    raised and all that is kept was graded, `hindsight` what a suspicion reached back for.
    """
    found = grades.tallied(connection, since=since, until=until)
    samples = sum(each.count for each in found)
    return {
        "budget": settings.graded_share,
        "answers": answers,
        "samples": samples,
        "spent_share": samples / answers if answers else None,
        "evenly": _spent(each for each in found if not each.steered and not _is_suspected(each, settings)),
        "suspected": _spent(each for each in found if not each.steered and _is_suspected(each, settings)),
        "hindsight": _spent(each for each in found if each.steered),
    }


def _is_suspected(each: GradeTally, settings: Settings) -> bool:
    """Whether the share in force was that of a suspected route; in calm, only a tiny route has as much as is kept."""
    budget, kept = settings.graded_share, kept_share(settings.graded_share)
    return is_adaptive(budget, kept) and each.inclusion >= kept


def _spent(found: Iterable[GradeTally]) -> dict[str, Any]:
    kinds = list(found)
    return {
        "samples": sum(each.count for each in kinds),
        "cost_usd": int(sum(each.cost_nusd for each in kinds)) * _NANO,  # PostgreSQL adds up to a decimal
        "unpriced": sum(each.unpriced for each in kinds),
    }


def _alpha(settings: Settings) -> float | None:
    """Of the rule that fires first among those that look for climbs; None where there is none."""
    try:
        rules = read_rulebook(settings.rules_file).rules
    except RulesError:
        return None
    return max((rule.alpha for rule in rules if isinstance(rule, QualityRule) and rule.limit == "normal"), default=None)


def _samplings(settings: Settings, answers: dict[str, int]) -> dict[str, SamplingShares]:
    """What the sampler would choose of each route if none was suspected, nor still learning."""
    budget, kept = settings.graded_share, kept_share(settings.graded_share)
    if settings.sampling != "adaptive" or not is_adaptive(budget, kept):
        return dict.fromkeys(answers, SamplingShares(calm=budget))
    calm = shares(answers, budget=budget, kept=kept, learning=_NOBODY, hot=_NOBODY)
    return {route: SamplingShares(calm=share, hot=kept) for route, share in calm.items()}
