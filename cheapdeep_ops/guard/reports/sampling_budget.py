"""The cost of sampling, and how soon it would detect a climb at today's traffic: from the store."""

from collections.abc import Sequence

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.grading.adaptive import is_adaptive, most_per_day, shares
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.report_types.figures import Sampling, Spent
from cheapdeep_ops.guard.report_types.state import Reach
from cheapdeep_ops.guard.reports.detection_delay import SamplingShares, reach_of, unknown
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_level_of
from cheapdeep_ops.guard.rules.false_confidence.rule import climb_alpha
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import GradeTally
from cheapdeep_ops.units import DAY_S, USD_PER_NUSD


def reach_by_route(connection: Connection, settings: Settings, now: float) -> dict[str, Reach]:
    """How soon a climb of each route would be detected, at the confident answers of a day: see `_answers_of_a_day`."""
    answers = _answers_of_a_day(connection, settings, now)
    baselines = grades.baselines(connection, grader_version(settings))
    alarms = {route: alarm_level_of(baseline) for route, baseline in baselines.items()}
    learning = frozenset(route for route in answers if route not in baselines or baselines[route].ceiling is None)
    alpha, samplings = _alpha(settings), _samplings(settings, answers, learning)
    reach: dict[str, Reach] = {}
    for route in route_labels.shown_routes(connection, answers.keys() | baselines.keys(), most=settings.max_routes):
        alarm, per_day = alarms.get(route), float(answers.get(route, 0))
        if alpha is None:
            reach[route] = unknown(alarm, per_day, "no valid rule detects a climb over the baseline")
        else:
            reach[route] = reach_of(alarm, alpha, samplings.get(route, SamplingShares(calm=0.0)), per_day=per_day)
    return reach


def _answers_of_a_day(connection: Connection, settings: Settings, now: float) -> dict[str, int]:
    """About how many confident answers each route had in the 24 hours before `now`.

    They are today's, and of yesterday's the share of the day that is left (UTC). Shipped and withheld answers count,
    because both are graded. For a new route, its answers so far count as a day's.
    """
    # Whole days, because the exact hours would be a hundred times as many rows to add up.
    midnight = now // DAY_S * DAY_S
    today = counters.by_route(connection, since=midnight, until=now)
    yesterday = counters.by_route(connection, since=midnight - DAY_S, until=midnight)
    left = 1 - (now - midnight) / DAY_S
    answers = {
        route: (today[route].answers if route in today else 0)
        + round(left * (yesterday[route].answers if route in yesterday else 0))
        for route in today.keys() | yesterday.keys()
    }
    return route_labels.by_shown_route(connection, answers, most=settings.max_routes)


def sampling_of(connection: Connection, settings: Settings, *, answers: int, since: float, until: float) -> Sampling:
    """The samples of the period's `answers` with base outcome ship, including failed gradings.

    `evenly` are samples by a fixed share. `suspected` are samples of a suspected or raised route, of which all kept
    answers are graded. `hindsight` are older answers that a suspicion chose.
    """
    tallies = grades.tallies(connection, since=since, until=until)
    chosen_evenly = [each for each in tallies if not each.steered]
    samples = sum(each.count for each in tallies)
    return {
        "budget": settings.graded_share,
        "answers": answers,
        "samples": samples,
        "spent_share": samples / answers if answers else None,
        "evenly": _spent([each for each in chosen_evenly if not _is_suspected(each, settings)]),
        "suspected": _spent([each for each in chosen_evenly if _is_suspected(each, settings)]),
        "hindsight": _spent([each for each in tallies if each.steered]),
    }


def _is_suspected(each: GradeTally, settings: Settings) -> bool:
    """Whether the share was that of a suspected route; apart from these, only tiny routes have so large a share."""
    budget, kept = settings.graded_share, kept_share(settings.graded_share)
    return is_adaptive(budget, kept) and each.inclusion >= kept


def _spent(tallies: Sequence[GradeTally]) -> Spent:
    return {
        "samples": sum(each.count for each in tallies),
        # PostgreSQL returns the sums as decimals.
        "cost_usd": int(sum(each.cost_nusd for each in tallies)) * USD_PER_NUSD,
        "unpriced": sum(each.unpriced for each in tallies),
    }


def _alpha(settings: Settings) -> float | None:
    """The alpha of the rule that detects a climb first; None if there is none, or if the rules cannot be read."""
    try:
        rules = read_rulebook(settings.rules_file).rules
    except RulesError:
        # A faulty rules file must not make the whole report fail.
        return None
    return climb_alpha(rules)


def _samplings(settings: Settings, answers: dict[str, int], learning: frozenset[str]) -> dict[str, SamplingShares]:
    """The shares that the sampler would choose if no route was suspected."""
    budget, kept = settings.graded_share, kept_share(settings.graded_share)
    if settings.sampling != "adaptive" or not is_adaptive(budget, kept):
        return dict.fromkeys(answers, SamplingShares(calm=budget))
    calm = shares(answers, budget=budget, kept=kept, learning=learning)
    return {
        route: SamplingShares(calm=share, hot=kept, most_per_day=most_per_day(budget, answers[route]))
        for route, share in calm.items()
    }
