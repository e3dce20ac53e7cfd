"""What a quality rule would have seen: recorded grades, taken in one after another as they became known. Pure.

The same tests over the same grades as in the guard. What was graded is what was chosen then, under the raises and the
suspicion that there were. When the grader was in trouble is not recorded: where the guard then waited, this does not.
"""

from bisect import insort
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cheapdeep_ops.guard.rules.false_confidence.baseline import (
    AHEAD_S,
    alarm_of,
    alarm_together,
    counts_after,
    folded,
    learned_from,
)
from cheapdeep_ops.guard.rules.false_confidence.detection import AlarmLevel, SequentialTest, at_rate, level_of
from cheapdeep_ops.guard.rules.model import AlertState, Level, QualityRule, ScopedAlert
from cheapdeep_ops.store.grades import Baseline, DecidedGrade
from cheapdeep_ops.values import ALL_ROUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedBaselines:
    """What was known of normal when the past begins, by route.

    `first` are the grades that it is to be learned from where it was not learned yet, `anew` what a person has had
    learned anew later, each from its `since` on.
    """

    normals: Mapping[str, Baseline] = field(default_factory=dict)
    first: Mapping[str, Sequence[DecidedGrade]] = field(default_factory=dict)
    anew: Mapping[str, Baseline] = field(default_factory=dict)


def as_of(stored: Mapping[str, Baseline], begin: float) -> LearnedBaselines:
    """What of the `stored` normals was known at `begin` (Unix time); what was learned later is learned again."""
    normals = {
        scope: normal if (normal.learned_at or begin + 1) <= begin else _blank(normal)
        for scope, normal in stored.items()
        if normal.since <= begin
    }
    anew = {scope: _blank(normal) for scope, normal in stored.items() if normal.since > begin}
    return LearnedBaselines(normals=normals, anew=anew)


class GradeHistory:
    """A quality rule's grades up to a moment: of each route the latest, and the first until normal is learned."""

    def __init__(
        self, rule: QualityRule, grades: Iterable[DecidedGrade], *, limit: float | None, learned: LearnedBaselines
    ) -> None:
        self.n = 0
        """How many grades were taken in."""
        self.is_known = False
        """Whether any scope ever had grades enough to be judged."""
        self._rule = rule
        self._limit = limit
        self._coming = iter(grades)
        self._next = next(self._coming, None)
        self._now = 0.0
        self._over: Mapping[str, float] = {}
        self._normals = dict(learned.normals)
        self._anew = dict(learned.anew)
        self._first = {route: sorted(found, key=_called) for route, found in learned.first.items()}
        self._latest: dict[str, list[DecidedGrade]] = defaultdict(list)
        self._waiting: dict[str, deque[DecidedGrade]] = defaultdict(deque)
        self._watches: dict[str, SequentialTest] = {}

    def look(self, now: float, over: Mapping[str, float]) -> Collection[str] | None:
        """Take in what has become known by `now`; returns the routes with grades, None where nothing is new."""
        before = self.n
        self._now, self._over = now, over
        while self._next is not None and self._next.at <= now:
            self._take_in(self._next)
            self._next = next(self._coming, None)
        due = [scope for scope, normal in self._anew.items() if normal.since <= now]
        for scope in due:
            self._normals[scope] = self._anew.pop(scope)
            self._first[scope] = []
        return self._normals.keys() if due or self.n > before else None

    def level(self, alert: ScopedAlert, routes: Collection[str]) -> Level:
        """What the grades of these routes together say, for an alert that stands so."""
        fires = alert.state is AlertState.FIRING
        since = (alert.since if fires else self._over.get(alert.scope)) or 0.0
        alarms = self._alarms(routes, fires=fires)
        watch = self._watched(alert.scope, alarms, fires=fires, since=since)
        grades = self._counting(alarms, since) if fires else []
        alarm = alarm_together(alarms, (each.route for each in grades))
        found = level_of(self._rule, watch, grades, alarm, fires=fires)
        self.is_known = self.is_known or found is not Level.NO_DATA
        return found

    def _take_in(self, grade: DecidedGrade) -> None:
        self.n += 1
        self._normals.setdefault(grade.route, Baseline(scope=grade.route, since=0.0))
        latest = self._latest[grade.route]
        insort(latest, grade, key=_called)
        del latest[: -self._rule.max_grades]
        for scope in (grade.route, ALL_ROUTES):
            self._waiting[scope].append(grade)
        self._keep_first(grade)
        self._forget_old()

    def _keep_first(self, grade: DecidedGrade) -> None:
        """Hold the calls that began first, as many as normal is learned from."""
        normal = self._normals[grade.route]
        if normal.rate is None and grade.called_at > normal.since:
            first = self._first.setdefault(grade.route, [])
            insort(first, grade, key=_called)
            del first[self._rule.normal_grades :]

    def _forget_old(self) -> None:
        """All routes together are not judged before there are two; what is too old by then counts for nothing."""
        waiting = self._waiting[ALL_ROUTES]
        while waiting and waiting[0].called_at < self._now - self._rule.max_age:
            waiting.popleft()

    def _alarms(self, routes: Collection[str], *, fires: bool) -> dict[str, AlarmLevel]:
        if self._rule.limit != "normal":
            return {} if self._limit is None else dict.fromkeys(routes, at_rate(self._limit))
        found = {route: self._normal(route, fires=fires) for route in routes}
        known = {route: alarm_of(normal) for route, normal in found.items() if normal is not None}
        return {route: alarm for route, alarm in known.items() if alarm is not None}

    def _normal(self, route: str, *, fires: bool) -> Baseline | None:
        """What is normal for a route; in an incident nothing is learned unless a person asked for it."""
        normal = self._normals.get(route)
        if normal is None or normal.rate is not None:
            return normal
        if fires and not normal.author:
            return None
        first = [each for each in self._first.get(route, ()) if each.called_at <= self._now + AHEAD_S]
        found = learned_from(first, normal, enough=self._rule.normal_grades, now=self._now)
        if found is not None:
            self._normals[route] = found
        return found

    def _watched(self, scope: str, alarms: Mapping[str, AlarmLevel], *, fires: bool, since: float) -> SequentialTest:
        own = self._normals.get(scope) if self._rule.limit == "normal" else None
        phase: tuple[Any, ...] = (fires, since, own.since if own is not None else 0.0)
        before = self._watches.get(scope) or SequentialTest(phase=phase)
        watch = before if before.phase == phase else SequentialTest(phase=phase)
        oldest = {route: max(self._oldest(route), since) for route in alarms}
        self._watches[scope] = folded(watch, self._waiting.pop(scope, ()), alarms, oldest=oldest, now=self._now)
        return self._watches[scope]

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
        return counts_after(self._rule, self._normals.get(route), over=self._over.get(route, 0.0), now=self._now)


def _blank(normal: Baseline) -> Baseline:
    return Baseline(scope=normal.scope, since=normal.since, author=normal.author, why=normal.why)


def _called(grade: DecidedGrade) -> tuple[float, int]:
    return grade.called_at, grade.id
