"""Running rules again over the counters and grades in the store."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.backtest.escalation_history import EscalationHistory, ReadAhead
from cheapdeep_ops.guard.backtest.grade_history import GradeHistory, LearnedBaselines, as_of
from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay, SignalHistory, moments_count, moments_in
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.rules.model import AnyRule, QualityRule, Rule, StormRule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades
from cheapdeep_ops.store.counters import SecondCounts
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.grades import DecidedGrade, GraderVersion
from cheapdeep_ops.values import ALL_ROUTES

_AT_ONCE: Final = 5_000
"""Grades read together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPeriod:
    """What is run again: one route or all of them, in `(since, until]` (Unix time); calls are known from `counted`."""

    since: float
    counted: float
    until: float
    route: str


class Follow(Protocol):
    """Runs work to its end and shows how far it is: `done` yields a count that rises to `total`."""

    def __call__(self, done: Iterable[int], *, total: int, what: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The recorded past of one period, over which rules can run again."""

    store: Store
    settings: Settings
    period: ReplayPeriod
    follow: Follow

    def rerun(self, rules: Iterable[Rule]) -> dict[str, Any]:
        """The transitions that the alerts of `rules` would have made, oldest first.

        Also names the rules that were not run or had no data. `grades_read` counts the grades that the quality rules
        went over, including those from before the period.
        """
        transitions: list[dict[str, Any]] = []
        graded: list[GradeHistory] = []
        not_run: list[str] = []
        without_data: list[str] = []
        for rule in rules:
            if isinstance(rule, StormRule) and rule.limit_in(self.settings) is not None:
                transitions += self._storm(rule)
            elif isinstance(rule, QualityRule) and (rule.limit == "normal" or rule.limit_in(self.settings) is not None):
                of_rule, past = self._quality(rule)
                transitions += of_rule
                graded.append(past)
                without_data += [] if past.is_known else [rule.alert]
            else:
                not_run.append(rule.alert)
        return {
            "alerts": sorted(transitions, key=lambda each: float(each["at"])),
            "rules_not_run": not_run,
            "rules_without_data": without_data,
            "grades_read": max((past.n for past in graded), default=0),
        }

    def _storm(self, rule: StormRule) -> list[dict[str, Any]]:
        """A storm rule over the counters, a stretch at a time; each stretch is a read transaction of its own."""

        def read(since: float, until: float) -> Mapping[str, Sequence[SecondCounts]]:
            with self.store.reading() as connection:
                return counters.by_second(connection, since=since, until=until, scope=self.period.route)

        past = EscalationHistory(rule, ReadAhead(read), limit=rule.limit_in(self.settings) or 0.0)
        return self._transitions(rule, past, since=self.period.counted)

    def _quality(self, rule: QualityRule) -> tuple[list[dict[str, Any]], GradeHistory]:
        """A quality rule over the grades, from before the period on: as far back as grades count."""
        judge, begin = grader_version(self.settings), self.period.since - rule.max_age
        learned = self._learned(judge, rule, begin=begin)
        known = self._known(judge, begin)
        first = next(known, None)
        past = GradeHistory(
            rule, chain(() if first is None else (first,), known), limit=rule.limit_in(self.settings), learned=learned
        )
        begin = self.period.until if first is None else max(begin, first.at - self.settings.evaluate_every_s)
        transitions = self._transitions(rule, past, since=begin)
        return [each for each in transitions if each["at"] > self.period.since], past

    def _learned(self, judge: GraderVersion, rule: QualityRule, *, begin: float) -> LearnedBaselines:
        """What was normal before, and the grades to learn from where nothing was learned."""
        with self.store.reading() as connection:
            stored = grades.normals(connection, judge)
            routes = {name for name in grades.counts(connection) if self.period.route in {ALL_ROUTES, name}}
            before = as_of({name: normal for name, normal in stored.items() if name in routes}, begin)
            since = {name: before.normals[name].since if name in before.normals else 0.0 for name in routes}
            read = partial(grades.oldest, connection, judge=judge, known_by=begin, limit=rule.normal_grades)
            first = {name: read(route=name, since=since[name]) for name in routes}
        return replace(before, first=first)

    def _known(self, judge: GraderVersion, begin: float) -> Iterator[DecidedGrade]:
        """The grades that became known after `begin`, in that order; each lot is a read transaction of its own."""
        route, grade_id = None if self.period.route == ALL_ROUTES else self.period.route, 0
        read = partial(grades.known_after, judge=judge, route=route, since=begin, limit=_AT_ONCE)
        while True:
            with self.store.reading() as connection:
                lot = read(connection, grade_id=grade_id)
            if not lot:
                return
            yield from lot
            grade_id = lot[-1].id

    def _transitions(self, rule: AnyRule, past: SignalHistory, *, since: float) -> list[dict[str, Any]]:
        times = (since, self.period.until, self.settings.evaluate_every_s)
        run = RuleReplay(rule, past)
        self.follow(run.run(moments_in(*times)), total=moments_count(*times), what=f"evaluations of {rule.alert}")
        return run.turns
