"""From stored grades to what a quality rule sees of each route, and of all of them."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Final

from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.false_confidence.baseline import (
    AHEAD_S,
    alarm_of,
    alarm_together,
    counts_after,
    folded,
    learned_from,
)
from cheapdeep_ops.guard.rules.false_confidence.detection import (
    AlarmLevel,
    SequentialTest,
    at_rate,
    estimate,
    finding_of,
)
from cheapdeep_ops.guard.rules.false_confidence.explanation import ClimbEvidence, read_climb
from cheapdeep_ops.guard.rules.model import AlertState, Finding, QualityRule, ScopedAlert
from cheapdeep_ops.guard.statistics.intervals import Estimate
from cheapdeep_ops.store import detectors, grades, incidents
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, DecidedGrade
from cheapdeep_ops.values import ALL_ROUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeTests:
    """What is read for one rule: the state of its tests, and the grades that each has not taken in yet, by scope."""

    kept: Mapping[str, detectors.DetectorState]
    unread: Mapping[str, Sequence[DecidedGrade]]
    over: Mapping[str, float]
    """When the rule's last incident was over, by scope (Unix time)."""


class GradeEvidence:
    """One judge's grades at one moment, read once for all rules; findings are computed later, without the store.

    What they change is collected: `learned` baselines, and `folded` states of tests.
    """

    def __init__(
        self, connection: Connection, rules: Sequence[QualityRule], alerts: AlertSet, *, shelf: GradeCache, now: float
    ) -> None:
        self._shelf = shelf
        self._judge = shelf.judge
        self._now = now
        self.learned: list[Baseline] = []
        self.folded: list[detectors.StoredDetector] = []
        shelf.look(connection)
        blank = {route: Baseline(scope=route, since=0.0) for route in shelf.versions}
        self._normals = {**blank, **grades.baselines(connection, self._judge)}
        self._newest = {
            (route, rule.max_grades): shelf.newest(connection, route, rule.max_grades)
            for rule in rules
            for route in self._normals
        }
        self._first = {
            (route, rule.normal_grades): self._read_first(connection, rule, normal)
            for rule in rules
            for route, normal in self._normals.items()
            if rule.limit == "normal" and normal.rate is None
        }
        self._tests = {rule.alert: self._read_tests(connection, rule, alerts) for rule in rules}

    def _read_first(self, connection: Connection, rule: QualityRule, normal: Baseline) -> list[DecidedGrade]:
        """The grades that a baseline is learned from; none while there cannot be enough."""
        if self._shelf.versions.get(normal.scope, 0) < rule.normal_grades:
            return []
        return self._shelf.oldest(connection, normal.scope, normal.since, rule.normal_grades)

    def _read_tests(self, connection: Connection, rule: QualityRule, alerts: AlertSet) -> ScopeTests:
        kept = detectors.read(connection, self._judge, rule=rule.alert)
        is_joint = len(self._normals) > 1 or alerts.fires(rule.alert, ALL_ROUTES)
        unread = {
            scope: self._shelf.unread(
                connection,
                (rule.alert, scope),
                grade_id=kept.get(scope, _BLANK).grade_id,
                route=None if scope == ALL_ROUTES else scope,
            )
            for scope in (*self._normals, *([ALL_ROUTES] if is_joint else ()))
        }
        return ScopeTests(kept=kept, unread=unread, over=incidents.last_resolved(connection, rule=rule.alert))

    @property
    def routes(self) -> set[str]:
        """The routes of which anything was graded."""
        return set(self._normals)

    def finding(self, rule: QualityRule, alert: ScopedAlert, routes: Collection[str], limit: float | None) -> Finding:
        """What the grades of `routes` together say; a route whose baseline is not known yet has no say against it.

        While the alert fires, only calls made since it began to count; else, only those made since it was last over.
        """
        fires = alert.state is AlertState.FIRING
        over = self._tests[rule.alert].over
        since = alert.since if fires else over.get(alert.scope)
        state = [
            (route, self._shelf.versions.get(route), self._normals.get(route), over.get(route))
            for route in sorted(routes)
        ]
        rests_on = (rule, limit, fires, since, tuple(state))
        look = partial(self._look, rule, alert.scope, routes, limit, since=since, fires=fires)
        return self._shelf.found((rule.alert, alert.scope), rests_on, self._now, look)

    def _look(
        self,
        rule: QualityRule,
        scope: str,
        routes: Collection[str],
        limit: float | None,
        *,
        since: float | None,
        fires: bool,
    ) -> Finding:
        alarms = self._alarms(rule, routes, limit, fires=fires)
        grades = [each for each in self._merged(rule, alarms) if since is None or each.called_at >= since]
        watch = self._watched(rule, scope, alarms, (fires, since or 0.0))
        alarm = alarm_together(alarms, (each.route for each in grades))
        return finding_of(rule, watch, grades, alarm, fires=fires)

    def _alarms(
        self, rule: QualityRule, routes: Collection[str], limit: float | None, *, fires: bool
    ) -> dict[str, AlarmLevel]:
        """What is too much, for each route of which that is known."""
        if rule.limit != "normal":
            return {} if limit is None else dict.fromkeys(routes, at_rate(limit))
        found = {route: self._normal(rule, route, fires=fires) for route in routes}
        known = {route: alarm_of(normal) for route, normal in found.items() if normal is not None}
        return {route: alarm for route, alarm in known.items() if alarm is not None}

    def _watched(
        self, rule: QualityRule, scope: str, alarms: Mapping[str, AlarmLevel], phase: tuple[bool, float]
    ) -> SequentialTest:
        """The scope's tests after all grades that have become known since they were last looked at."""
        tests = self._tests[rule.alert]
        kept = tests.kept.get(scope, _BLANK)
        before = SequentialTest.from_row(kept.state) if kept.state else SequentialTest()
        own = self._normals.get(scope)
        full = (*phase, own.since if own is not None and rule.limit == "normal" else 0.0)
        watch = before if before.phase == full else SequentialTest(phase=full)
        oldest = {route: max(self._oldest(rule, route), phase[1]) for route in alarms}
        unread = tests.unread.get(scope, ())
        watch = folded(watch, unread, alarms, oldest=oldest, now=self._now)
        if unread or watch != before:
            grade_id = unread[-1].id if unread else kept.grade_id
            after = detectors.DetectorState(grade_id=grade_id, state=watch.row())
            self.folded.append(detectors.StoredDetector(rule=rule.alert, scope=scope, kept=after))
        return watch

    def shipped(
        self,
        connection: Connection,
        rule: QualityRule,
        routes: Collection[str],
        *,
        after: float | None,
        until: float | None,
        limit: int,
    ) -> Estimate | None:
        """The rate among the latest `limit` shipped answers of calls that began after or before a moment."""
        since = self._now - rule.max_age if after is None else after
        read = partial(grades.newest, connection, grader=self._judge, since=since, until=until, shipped=True)
        of_routes = [read(route=route, limit=limit) for route in sorted(routes)]
        return estimate(_newest_first(of_routes)[:limit])

    def wrong_by_class(self, rule: QualityRule, routes: Collection[str], latest: int) -> Counter[str]:
        """The wrong ones among the latest grades, by input class."""
        return Counter(each.input_class for each in self._merged(rule, routes)[:latest] if each.incorrect)

    def climb(
        self, connection: Connection, rule: QualityRule, scope: str, routes: Collection[str], *, started_at: float
    ) -> ClimbEvidence:
        """The grades since the climb began that the incident which began at `started_at` is about, and those before."""
        ended = self._tests[rule.alert].over
        over = {route: max(ended.get(each, 0.0) for each in (route, scope)) for route in routes}
        return read_climb(
            connection, self._judge,
            {route: self._normals[route] for route in sorted(routes) if route in self._normals}, over=over,
            began=self._began(connection, rule, scope, started_at), until=self._now + AHEAD_S, limit=rule.max_grades,
        )  # fmt: skip

    def _began(self, connection: Connection, rule: QualityRule, scope: str, started_at: float) -> float:
        """When the climb began: as the last message says or, before any, where the test's evidence begins to grow."""
        told = incidents.told(connection, rule=rule.alert, scope=scope, started_at=started_at)
        if told:
            return float(told.get("cause", {}).get("since", started_at))
        held = {(place.rule, place.scope): place.kept for place in self.folded}
        kept = held.get((rule.alert, scope)) or self._tests[rule.alert].kept.get(scope, _BLANK)
        since = SequentialTest.from_row(kept.state).climb.since if kept.state else None
        return started_at if since is None else since

    def _merged(self, rule: QualityRule, routes: Collection[str]) -> list[DecidedGrade]:
        """The latest grades of all `routes`, newest first."""
        return _newest_first([self._after_normal(rule, route) for route in sorted(routes)])[: rule.max_grades]

    def _after_normal(self, rule: QualityRule, route: str) -> list[DecidedGrade]:
        """The latest grades that count."""
        return self._of(rule, route, self._oldest(rule, route))

    def _oldest(self, rule: QualityRule, route: str) -> float:
        over = self._tests[rule.alert].over.get(route, 0.0)
        return counts_after(rule, self._normals.get(route), over=over, now=self._now)

    def _of(self, rule: QualityRule, route: str, since: float) -> list[DecidedGrade]:
        newest = self._newest.get((route, rule.max_grades), [])
        return [each for each in newest if since < each.called_at <= self._now + AHEAD_S]

    def _normal(self, rule: QualityRule, route: str, *, fires: bool) -> Baseline | None:
        """The baseline of a route: learned before, or now, where enough is graded.

        During an incident nothing is learned unless a person asks for it: a new judge must not take a drift for normal.
        """
        normal = self._normals.get(route)
        if normal is None or normal.rate is not None:
            return normal
        if fires and not normal.author:
            return None
        first = [each for each in self._first[(route, rule.normal_grades)] if each.called_at <= self._now + AHEAD_S]
        learned_now = learned_from(first, normal, enough=rule.normal_grades, now=self._now)
        if learned_now is not None:
            self.learned.append(learned_now)
            self._normals[route] = learned_now
        return learned_now


_BLANK: Final = detectors.DetectorState()


def _newest_first(of_routes: Iterable[list[DecidedGrade]]) -> list[DecidedGrade]:
    return list(heapq.merge(*of_routes, key=attrgetter("called_at"), reverse=True))
