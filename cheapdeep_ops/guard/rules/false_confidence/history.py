"""A quality rule over recorded data: grades are read one after another, as they became known.

It runs the guard's tests over the guard's grades: those that were chosen at the time, under the raises and suspicions
of that time. As in the guard, no grade counts that was made while the grader had changed. The store does not record
when the grader had another problem, so unlike the guard it does not wait then.
"""

from bisect import insort
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, Final

from cheapdeep_ops.guard.rules.false_confidence.baseline import (
    AHEAD_S,
    after_grades,
    alarm_level_of,
    counts_after,
    joint_alarm_level,
    learned_from,
    learned_on,
)
from cheapdeep_ops.guard.rules.false_confidence.detection import (
    MOST_RAISES,
    AlarmLevel,
    NeededEvidence,
    SequentialTest,
    at_rate,
    level_of,
)
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.hold import HeldTimes, held_times
from cheapdeep_ops.guard.rules.interface import RecordedPast, RuleBacktest
from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.grades import Baseline, DecidedGrade
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

_READ_TOGETHER: Final = 5_000
"""How many grades one query reads."""

_NEVER: Final = HeldTimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedBaselines:
    """The baselines at the start of the recorded data, by route.

    `first` are the grades from which a missing one is learned. `relearned` are those that are learned again at a
    person's request, each from its `since` on.
    """

    known: Mapping[str, Baseline] = field(default_factory=dict)
    first: Mapping[str, Sequence[DecidedGrade]] = field(default_factory=dict)
    relearned: Mapping[str, Baseline] = field(default_factory=dict)


def as_of(stored: Mapping[str, Baseline], begin: float) -> LearnedBaselines:
    """The `stored` baselines as they were known at `begin` (Unix time); what was learned later is learned again."""
    known = {scope: baseline.as_of(begin) for scope, baseline in stored.items() if baseline.since <= begin}
    relearned = {scope: baseline.blank() for scope, baseline in stored.items() if baseline.since > begin}
    return LearnedBaselines(known=known, relearned=relearned)


class GradeHistory:
    """A quality rule's grades up to a moment: the latest of each route, and the first until its baseline is learned."""

    def __init__(
        self,
        rule: QualityRule,
        known: Iterable[DecidedGrade],
        *,
        limit: float | None,
        learned: LearnedBaselines,
        held: HeldTimes = _NEVER,
    ) -> None:
        self.grades_read = 0
        self.is_known = False
        self._rule = rule
        self._limit = limit
        self._held = held
        self._upcoming = iter(known)
        self._next = next(self._upcoming, None)
        self._now = 0.0
        self._resolved_at: Mapping[str, float] = {}
        self._baselines = dict(learned.known)
        self._relearned = dict(learned.relearned)
        self._first = {route: sorted(first, key=_called) for route, first in learned.first.items()}
        self._latest: dict[str, list[DecidedGrade]] = defaultdict(list)
        self._waiting: dict[str, deque[DecidedGrade]] = defaultdict(deque)
        self._tests: dict[str, SequentialTest] = {}
        self._started: dict[str, list[float]] = defaultdict(list)
        """When each scope's incidents began."""
        self._all_fire = False
        """Whether the rule fires for all routes together."""

    def look(self, now: float, resolved_at: Mapping[str, float]) -> Collection[str] | None:
        """Read the grades that were known at `now`; returns the routes with grades, or None if nothing is new."""
        before = self.grades_read
        self._now, self._resolved_at = now, resolved_at
        while self._next is not None and self._next.at <= now:
            self._read(self._next)
            self._next = next(self._upcoming, None)
        due = [scope for scope, baseline in self._relearned.items() if baseline.since <= now]
        for scope in due:
            self._baselines[scope] = self._relearned.pop(scope)
            self._first[scope] = []
        return self._baselines.keys() if due or self.grades_read > before else None

    def level(self, alert: ScopedAlert, routes: Collection[str]) -> Level:
        """The level of the grades of these routes together, for an alert in this state."""
        fires = alert.state is AlertState.FIRING
        if alert.scope == ALL_ROUTES:
            self._all_fire = fires
        since = (alert.since if fires else self._resolved_at.get(alert.scope)) or 0.0
        alarms = self._alarms(routes, fires=fires)
        test = self._tested(alert.scope, alarms, fires=fires, since=since)
        if self._held.covers(self._now):
            return Level.NO_DATA
        counting = self._counting(alarms, since) if fires else []
        alarm = joint_alarm_level(alarms, (each.route for each in counting))
        level = level_of(self._rule, test, counting, alarm, fires=fires)
        if level is Level.BELOW and self._is_held(alert.scope, since):
            level = Level.UNCLEAR
        self.is_known = self.is_known or level is not Level.NO_DATA
        return level

    def _is_held(self, scope: str, since: float) -> bool:
        """Whether the incident that began at `since` is one too many of a day."""
        started = self._started[scope]
        if since not in started:
            started.append(since)
        return sum(since - DAY_S < each <= since for each in started) >= MOST_RAISES

    def _read(self, grade: DecidedGrade) -> None:
        self.grades_read += 1
        if self._held.covers(grade.at):
            return
        self._baselines.setdefault(grade.route, Baseline(scope=grade.route, since=0.0))
        latest = self._latest[grade.route]
        # Grades do not come in the order of calls; the latest calls are kept, as in the guard.
        insort(latest, grade, key=_called)
        del latest[: -self._rule.max_grades]
        for scope in (grade.route, ALL_ROUTES):
            self._waiting[scope].append(grade)
        self._keep_first(grade)
        self._forget_old()

    def _keep_first(self, grade: DecidedGrade) -> None:
        """Keep the grades of the first calls, as many as a baseline is learned from."""
        baseline = self._baselines[grade.route]
        if baseline.rate is None and grade.called_at > self._learns_after(baseline):
            first = self._first_of(grade.route)
            insort(first, grade, key=_called)
            del first[self._rule.normal_grades :]

    def _first_of(self, route: str) -> list[DecidedGrade]:
        """The first grades of a route that its baseline may be learned from now."""
        after = self._learns_after(self._baselines[route])
        self._first[route] = [each for each in self._first.get(route, ()) if each.called_at > after]
        return self._first[route]

    def _learns_after(self, baseline: Baseline) -> float:
        # As in the guard: grades before and after a hold would be of two graders.
        return max(baseline.since, self._held.begun(self._now).last_end)

    def _forget_old(self) -> None:
        # All routes together are evaluated only once there are two; grades that are too old by then do not count.
        waiting = self._waiting[ALL_ROUTES]
        while waiting and waiting[0].called_at < self._now - self._rule.max_age:
            waiting.popleft()

    def _alarms(self, routes: Collection[str], *, fires: bool) -> dict[str, AlarmLevel]:
        if self._rule.limit != "normal":
            return {} if self._limit is None else dict.fromkeys(routes, at_rate(self._limit))
        baselines = {route: self._baseline(route, fires=fires) for route in routes}
        alarms = {route: alarm_level_of(baseline) for route, baseline in baselines.items() if baseline is not None}
        return {route: alarm for route, alarm in alarms.items() if alarm is not None}

    def _baseline(self, route: str, *, fires: bool) -> Baseline | None:
        """The baseline of a route; during an incident only a person may request one."""
        baseline = self._baselines.get(route)
        if baseline is None or baseline.rate is not None:
            return baseline
        if fires and not baseline.author:
            return None
        first = [each for each in self._first_of(route) if each.called_at <= self._now + AHEAD_S]
        learned_now = learned_from(self._rule, first, baseline, now=self._now)
        if learned_now is not None:
            self._baselines[route] = learned_now
        return learned_now

    def _tested(self, scope: str, alarms: Mapping[str, AlarmLevel], *, fires: bool, since: float) -> SequentialTest:
        own = self._baselines.get(scope) if self._rule.limit == "normal" else None
        phase: tuple[Any, ...] = (fires, since, own.since if own is not None else 0.0)
        before = self._tests.get(scope) or SequentialTest(phase=phase)
        test = before.in_phase(phase)
        oldest = {route: max(self._oldest(route), since) for route in alarms}
        waiting = self._waiting.pop(scope, ())
        taught = None if fires or self._all_fire else own
        test = after_grades(
            test, waiting, alarms, needed=NeededEvidence.of(self._rule), oldest=oldest, now=self._now, fires=fires,
            taught=taught,
        )  # fmt: skip
        if taught is not None and (step := learned_on(self._rule, taught, test, now=self._now)):
            self._baselines[scope], test = step
        self._tests[scope] = test
        return test

    def _counting(self, routes: Iterable[str], since: float) -> list[DecidedGrade]:
        """The latest grades of `routes` that count, newest first."""
        of_routes = [
            each
            for route in routes
            for each in self._latest[route]
            if self._oldest(route) < each.called_at <= self._now + AHEAD_S
        ]
        newest = sorted(of_routes, key=_called, reverse=True)[: self._rule.max_grades]
        return [each for each in newest if each.called_at >= since]

    def _oldest(self, route: str) -> float:
        over = self._resolved_at.get(route, 0.0)
        return counts_after(self._rule, self._baselines.get(route), over=over, now=self._now)


def _called(grade: DecidedGrade) -> tuple[float, int]:
    return grade.called_at, grade.id


def replay(rule: QualityRule, past: RecordedPast) -> RuleBacktest | None:
    """The replay of a quality rule over stored grades. It begins `max_age` before the period.

    None if its limit is not set.
    """
    limit = rule.limit_in(past.settings)
    if limit is None and rule.limit != "normal":
        return None
    begin = past.since - rule.max_age
    # At the start of the period, grades as old as max_age still count.
    with past.store.reading() as connection:
        held = held_times(connection, past.rules)
    learned, known = _learned(rule, past, begin, held), _known(past, begin)
    first = next(known, None)
    known = chain(() if first is None else (first,), known)
    history = GradeHistory(rule, known, limit=limit, learned=learned, held=held)
    # Before the first grade nothing can happen, so those evaluations are left out.
    start = past.until if first is None else max(begin, first.at - past.settings.evaluate_every_s)
    return RuleBacktest(history=history, begin=start)


def _learned(rule: QualityRule, past: RecordedPast, begin: float, held: HeldTimes) -> LearnedBaselines:
    """The baselines at `begin`, and the grades from which the missing ones are learned."""
    with past.store.reading() as connection:
        stored = grades.baselines(connection, past.grader)
        routes = {name for name in grades.counts(connection) if past.route in {ALL_ROUTES, name}}
        before = as_of({name: baseline for name, baseline in stored.items() if name in routes}, begin)
        held_until = held.begun(begin).last_end
        since = {name: max(before.known[name].since if name in before.known else 0.0, held_until) for name in routes}
        read = partial(grades.oldest, connection, grader=past.grader, known_by=begin, limit=rule.normal_grades)
        first = {name: read(route=name, since=since[name]) for name in routes}
    return replace(before, first=first)


def _known(past: RecordedPast, begin: float) -> Iterator[DecidedGrade]:
    """The grades that became known after `begin`, in that order."""
    route, grade_id = None if past.route == ALL_ROUTES else past.route, 0
    read = partial(grades.known_after, grader=past.grader, route=route, since=begin, limit=_READ_TOGETHER)
    while True:
        with past.store.reading() as connection:
            together = read(connection, grade_id=grade_id)
        if not together:
            return
        yield from together
        grade_id = together[-1].id
