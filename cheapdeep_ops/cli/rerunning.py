"""What `backtest` makes of the store's past: rules run again over it, with progress on standard error."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cheapdeep_ops.cli import output
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

if TYPE_CHECKING:
    from cheapdeep_ops.guard.backtest.grades import GradePast, Learned
    from cheapdeep_ops.guard.backtest.replay import Past
    from cheapdeep_ops.guard.rules.model import AnyRule, QualityRule, Rule, StormRule
    from cheapdeep_ops.store.counters import SecondCounts
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.grades import Graded, Judge

_AT_ONCE: Final = 5_000
"""Grades read together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is run again: one route or all of them, in `(since, until]` (Unix time); calls are known from `counted`."""

    since: float
    counted: float
    until: float
    route: str


def rerun(store: "Store", settings: Settings, rules: Iterable["Rule"], period: Period) -> dict[str, Any]:
    """The turns that the alerts of `rules` would have taken, oldest first, and what was not run again or had no data.

    `grades_read` counts the grades that the quality rules went over, those from before the period included.
    """
    from cheapdeep_ops.guard.rules.model import QualityRule, StormRule

    turns: list[dict[str, Any]] = []
    graded: list[GradePast] = []
    idle: list[str] = []
    unknown: list[str] = []
    for rule in rules:
        if isinstance(rule, StormRule) and rule.limit_in(settings) is not None:
            turns += _storm(store, settings, rule, period)
        elif isinstance(rule, QualityRule) and (rule.limit == "normal" or rule.limit_in(settings) is not None):
            found, past = _quality(store, settings, rule, period)
            turns += found
            graded.append(past)
            unknown += [] if past.is_known else [rule.alert]
        else:
            idle.append(rule.alert)
    return {
        "alerts": sorted(turns, key=lambda turn: float(turn["at"])),
        "rules_not_run": idle,
        "rules_without_data": unknown,
        "grades_read": max((past.n for past in graded), default=0),
    }


def _storm(store: "Store", settings: Settings, rule: "StormRule", period: Period) -> list[dict[str, Any]]:
    """A storm rule run again over the counters, a stretch at a time; each stretch is a reading of its own."""
    from cheapdeep_ops.guard.backtest.storms import Ahead, StormPast
    from cheapdeep_ops.store import counters

    def read(since: float, until: float) -> Mapping[str, Sequence["SecondCounts"]]:
        with store.reading() as connection:
            return counters.by_second(connection, since=since, until=until, scope=period.route)

    past = StormPast(rule, Ahead(read), limit=rule.limit_in(settings) or 0.0)
    return _turns(rule, past, settings, since=period.counted, until=period.until)


def _quality(
    store: "Store", settings: Settings, rule: "QualityRule", period: Period
) -> tuple[list[dict[str, Any]], "GradePast"]:
    """A quality rule run again over the grades, from before the period on: as far back as grades count."""
    from cheapdeep_ops.guard.backtest.grades import GradePast
    from cheapdeep_ops.guard.grading.grader import judge_of

    judge, begin = judge_of(settings), period.since - rule.max_age
    learned = _learned(store, judge, rule, period.route, begin=begin)
    known = _known(store, judge, period, begin)
    first = next(known, None)
    past = GradePast(
        rule, chain(() if first is None else (first,), known), limit=rule.limit_in(settings), learned=learned
    )
    begin = period.until if first is None else max(begin, first.at - settings.evaluate_every_s)
    turns = _turns(rule, past, settings, since=begin, until=period.until)
    return [turn for turn in turns if turn["at"] > period.since], past


def _learned(store: "Store", judge: "Judge", rule: "QualityRule", route: str, *, begin: float) -> "Learned":
    """What was normal before, and the grades to learn from where nothing was learned."""
    from cheapdeep_ops.guard.backtest.grades import as_of
    from cheapdeep_ops.store import grades

    with store.reading() as connection:
        stored = grades.normals(connection, judge)
        routes = {name for name in grades.counts(connection) if route in {ALL_ROUTES, name}}
        found = as_of({name: normal for name, normal in stored.items() if name in routes}, begin)
        since = {name: found.normals[name].since if name in found.normals else 0.0 for name in routes}
        read = partial(grades.oldest, connection, judge=judge, known_by=begin, limit=rule.normal_grades)
        first = {name: read(route=name, since=since[name]) for name in routes}
    return replace(found, first=first)


def _known(store: "Store", judge: "Judge", period: Period, begin: float) -> Iterator["Graded"]:
    """The grades that became known after `begin`, in that order; each lot is a reading of its own."""
    from cheapdeep_ops.store import grades

    route, grade_id = None if period.route == ALL_ROUTES else period.route, 0
    read = partial(grades.known_after, judge=judge, route=route, since=begin, limit=_AT_ONCE)
    while True:
        with store.reading() as connection:
            lot = read(connection, grade_id=grade_id)
        if not lot:
            return
        yield from lot
        grade_id = lot[-1].id


def _turns(rule: "AnyRule", past: "Past", settings: Settings, *, since: float, until: float) -> list[dict[str, Any]]:
    from cheapdeep_ops.guard.backtest.replay import Rerun, moments_count, moments_in

    times = (since, until, settings.evaluate_every_s)
    run = Rerun(rule, past)
    output.show_progress(run.run(moments_in(*times)), total=moments_count(*times), what=f"evaluations of {rule.alert}")
    return run.turns
