"""From stored grades to the findings of quality rules, for each route and for all of them together."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Final

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
    finding_of,
)
from cheapdeep_ops.guard.rules.false_confidence.effect import MOST, Effect, effect_of
from cheapdeep_ops.guard.rules.false_confidence.explanation import ClimbEvidence, read_climb
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.hold import read_hold
from cheapdeep_ops.guard.rules.interface import ReaderContext
from cheapdeep_ops.guard.rules.model import AlertState, Finding, ScopedAlert
from cheapdeep_ops.store import detectors, grades, incidents, policies, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, DecidedGrade
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeTests:
    """The stored data of one rule, by scope: the state of its tests, and the grades that each has not used yet."""

    stored: Mapping[str, detectors.DetectorState]
    unread: Mapping[str, Sequence[DecidedGrade]]
    over: Mapping[str, float]
    """The end of the rule's last incident, by scope (Unix time)."""
    held: Mapping[str, int]
    """The number of raises within a day, by scope, where an incident is held because of them."""


class GradeEvidence:
    """The grades of one grader at one moment, read once for all rules; findings are computed without the store.

    Findings add their changes to the context: `learned` baselines, and states of tests.
    """

    def __init__(self, context: ReaderContext, rules: Sequence[QualityRule]) -> None:
        connection, cache = context.connection, context.cache
        self._cache = cache
        self._alerts = context.alerts
        self._now = context.now
        self._learned = context.learned
        self._changed = context.detectors
        self._hold = context.shared(read_hold)
        cache.refresh(connection)
        # A route without a baseline learns it from its first grade on.
        blank = {route: Baseline(scope=route, since=0.0) for route in cache.versions}
        baselines = {**blank, **grades.baselines(connection, cache.grader)}
        evaluated = route_labels.shown_routes(connection, baselines, most=context.settings.max_routes)
        self._baselines = {route: baselines[route] for route in evaluated}
        self._newest = {
            (route, rule.max_grades, rule.max_age): cache.newest(
                connection, route, rule.max_grades, max_age=rule.max_age, now=context.now
            )
            for rule in rules
            for route in self._baselines
        }
        self._first = {
            (route, rule.normal_grades): self._read_first(connection, rule, baseline)
            for rule in rules
            for route, baseline in self._baselines.items()
            if rule.limit == "normal" and baseline.rate is None
        }
        self._tests = {rule.alert: self._read_tests(connection, rule) for rule in rules}
        self._teacher = next((rule.alert for rule in rules if rule.limit == "normal"), None)
        """The rule whose test tells when baselines go on learning; a second rule would have them learn twice."""

    def _read_first(self, connection: Connection, rule: QualityRule, baseline: Baseline) -> list[DecidedGrade]:
        """The grades that a baseline is learned from; empty while there are too few."""
        if self._cache.versions.get(baseline.scope, 0) < rule.normal_grades:
            return []
        # A changed grader teaches nothing; and grades before and after a hold would be of two graders.
        since = max(baseline.since, self._hold.last_end)
        return self._cache.oldest(connection, baseline.scope, since, rule.normal_grades)

    def _read_tests(self, connection: Connection, rule: QualityRule) -> ScopeTests:
        stored = detectors.read(connection, self._cache.grader, rule=rule.alert)
        # A single route is not evaluated a second time as all routes.
        is_joint = len(self._baselines) > 1 or self._alerts.fires(rule.alert, ALL_ROUTES)
        scopes = (*self._baselines, *([ALL_ROUTES] if is_joint else ()))
        unread = {
            scope: self._unread(connection, rule, scope, stored.get(scope, _BLANK).grade_id)
            for scope in scopes
            if self._cache.is_behind((rule.alert, scope), route=None if scope == ALL_ROUTES else scope)
        }
        over = incidents.last_resolved(connection, rule=rule.alert)
        return ScopeTests(stored=stored, unread=unread, over=over, held=self._read_held(connection, rule))

    def _read_held(self, connection: Connection, rule: QualityRule) -> dict[str, int]:
        """How many raises within a day each scope has, or would have with one now, where they are too many.

        An incident with so many is ended by a person only; a scope is left out once a person has acted.
        """
        held = {}
        recent = incidents.started_by_scope(connection, rule=rule.alert, since=self._now - DAY_S)
        firing = {each.scope: each.since for each in self._alerts if _fires(each, rule)}
        for scope in recent.keys() | firing.keys():
            since = firing.get(scope)
            if since is None:
                count = len(recent[scope]) + 1
            else:
                read = partial(incidents.started_by_scope, connection, rule=rule.alert)
                count = sum(at <= since for at in read(since=since - DAY_S).get(scope, ()))
            if count >= MOST_RAISES and (since is None or not self._was_settled(connection, scope, since=since)):
                held[scope] = count
        return held

    def _was_settled(self, connection: Connection, scope: str, *, since: float) -> bool:
        """Whether a person has set the threshold, or has asked for a new baseline, since an incident began."""
        baseline = self._baselines.get(scope)
        is_relearned = baseline is not None and baseline.since > since
        return is_relearned or policies.was_set(connection, scopes=(scope, ALL_ROUTES), since=since)

    def _unread(self, connection: Connection, rule: QualityRule, scope: str, grade_id: int) -> list[DecidedGrade]:
        """The grades with an id above `grade_id` that may count in a scope, in the order of grading."""
        is_joint = scope == ALL_ROUTES
        latest = [self._latest(rule, route) for route in (self._baselines if is_joint else (scope,))]
        # If a route's latest grades are fewer than the limit, they are all that may count. A joint test that has begun
        # needs few of them, and a query for those is faster than a search.
        if all(len(each) < rule.max_grades for each in latest) and not (is_joint and grade_id):
            return sorted((each for each in chain.from_iterable(latest) if each.id > grade_id), key=attrgetter("id"))
        return grades.known_after(connection, self._cache.grader, grade_id=grade_id, route=None if is_joint else scope)

    @property
    def routes(self) -> set[str]:
        """The routes with grades, or with a baseline."""
        return set(self._baselines)

    def finding(self, rule: QualityRule, alert: ScopedAlert, routes: Collection[str], limit: float | None) -> Finding:
        """The finding for the grades of `routes` together, without those of routes that have no baseline yet.

        While the alert fires, only calls since its start count; else only calls since its last incident ended.
        """
        fires = alert.state is AlertState.FIRING
        over = self._tests[rule.alert].over
        since = alert.since if fires else over.get(alert.scope)
        # All that a finding depends on; if none of it changes, the cached one is valid.
        state = [
            (route, self._cache.versions.get(route), self._baselines.get(route), over.get(route))
            for route in sorted(routes)
        ]
        rests_on = (rule, limit, fires, since, tuple(state), self._tests[rule.alert].held.get(alert.scope))
        compute = partial(self._computed, rule, alert.scope, routes, limit, since=since, fires=fires)
        return self._cache.cached_while(rests_on, (rule.alert, alert.scope), self._now, compute)

    def _computed(
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
        test = self._tested(rule, scope, alarms, (fires, since or 0.0))
        alarm = joint_alarm_level(alarms, (each.route for each in grades))
        return finding_of(rule, test, grades, alarm, fires=fires, held=self._tests[rule.alert].held.get(scope, 0))

    def _alarms(
        self, rule: QualityRule, routes: Collection[str], limit: float | None, *, fires: bool
    ) -> dict[str, AlarmLevel]:
        """The alarm level of each route that has one."""
        if rule.limit != "normal":
            return {} if limit is None else dict.fromkeys(routes, at_rate(limit))
        baselines = {route: self._baseline(rule, route, fires=fires) for route in routes}
        alarms = {route: alarm_level_of(baseline) for route, baseline in baselines.items() if baseline is not None}
        return {route: alarm for route, alarm in alarms.items() if alarm is not None}

    def _tested(
        self, rule: QualityRule, scope: str, alarms: Mapping[str, AlarmLevel], phase: tuple[bool, float]
    ) -> SequentialTest:
        """The scope's test after all grades that have become known since its last evaluation."""
        tests = self._tests[rule.alert]
        stored = tests.stored.get(scope, _BLANK)
        before = SequentialTest.from_row(stored.state) if stored.state else SequentialTest()
        own = self._baselines.get(scope)
        full = (*phase, own.since if own is not None and rule.limit == "normal" else 0.0)
        # Evidence from before a change of state, or from before a new baseline, must not count afterwards.
        test = before.in_phase(full)
        oldest = {route: max(self._oldest(rule, route), phase[1]) for route in alarms}
        unread = tests.unread.get(scope, ())
        counting = [each for each in unread if not self._hold.covers(each.at)]
        taught = own if self._teaches(rule, scope) else None
        test = after_grades(
            test, counting, alarms, needed=NeededEvidence.of(rule), oldest=oldest, now=self._now, fires=phase[0],
            taught=taught,
        )  # fmt: skip
        if taught is not None and (step := learned_on(rule, taught, test, now=self._now)):
            learned, test = step
            self._keep(learned)
        if unread or test != before:
            grade_id = unread[-1].id if unread else stored.grade_id
            after = detectors.DetectorState(grade_id=grade_id, state=test.row())
            self._changed.append(detectors.StoredDetector(rule=rule.alert, scope=scope, kept=after))
        return test

    def effect(
        self, connection: Connection, rule: QualityRule, scope: str, routes: Collection[str], *, raised_at: float
    ) -> Effect:
        """The effect of the raise at `raised_at` (Unix time) in a scope, from the grades of its `routes` since."""
        versions = tuple((route, self._cache.versions.get(route)) for route in sorted(routes))

        def read() -> Effect:
            since = [
                grades.oldest(connection, route, self._cache.grader, since=raised_at, limit=MOST)
                for route, _ in versions
            ]
            known = sorted(chain.from_iterable(since), key=attrgetter("id"))[:MOST]
            return effect_of([each for each in known if not self._hold.covers(each.at)], enough=rule.min_grades)

        return self._cache.cached_while((raised_at, versions), ("effect", rule.alert, scope), self._now, read)

    def _teaches(self, rule: QualityRule, scope: str) -> bool:
        """Whether a rule's test in a scope has the baseline go on learning now: not during an incident."""
        fires = self._alerts.fires
        return rule.alert == self._teacher and not (fires(rule.alert, scope) or fires(rule.alert, ALL_ROUTES))

    def _keep(self, baseline: Baseline) -> None:
        """Use a baseline from now on, and have it stored."""
        self._learned.append(baseline)
        self._baselines[baseline.scope] = baseline

    def wrong_by_class(self, rule: QualityRule, routes: Collection[str], latest: int) -> Counter[str]:
        """How many of the latest grades are of wrong answers, by input class."""
        return Counter(each.input_class for each in self._merged(rule, routes)[:latest] if each.incorrect)

    def climb(
        self, connection: Connection, rule: QualityRule, scope: str, routes: Collection[str], *, started_at: float
    ) -> ClimbEvidence:
        """The grades since the climb began, and those before, for the incident that began at `started_at`."""
        ended = self._tests[rule.alert].over
        over = {route: max(ended.get(each, 0.0) for each in (route, scope)) for route in routes}
        return read_climb(
            connection, self._cache.grader,
            {route: self._baselines[route] for route in sorted(routes) if route in self._baselines}, over=over,
            began=self._began(connection, rule, scope, started_at), until=self._now + AHEAD_S, limit=rule.max_grades,
            held=self._hold,
        )  # fmt: skip

    def _began(self, connection: Connection, rule: QualityRule, scope: str, started_at: float) -> float:
        """When the climb began: from the last message or, before the first, when the evidence began to grow."""
        announced = incidents.last_announcement(connection, rule=rule.alert, scope=scope, started_at=started_at)
        # Later messages keep the first onset, because a restart of the evidence would move it.
        if announced:
            return float(announced.get("cause", {}).get("since", started_at))
        changed = {(each.rule, each.scope): each.kept for each in self._changed}
        test = changed.get((rule.alert, scope)) or self._tests[rule.alert].stored.get(scope, _BLANK)
        since = SequentialTest.from_row(test.state).climb.since if test.state else None
        return started_at if since is None else since

    def _merged(self, rule: QualityRule, routes: Collection[str]) -> list[DecidedGrade]:
        """The latest grades of all `routes`, newest first."""
        return _newest_first([self._counting(rule, route) for route in sorted(routes)])[: rule.max_grades]

    def _counting(self, rule: QualityRule, route: str) -> list[DecidedGrade]:
        """The latest grades of a route that count, newest first."""
        since = self._oldest(rule, route)
        newest = (each for each in self._latest(rule, route) if since < each.called_at <= self._now + AHEAD_S)
        return [each for each in newest if not self._hold.covers(each.at)]

    def _latest(self, rule: QualityRule, route: str) -> list[DecidedGrade]:
        """The latest grades of a route, newest first, also of calls that do not count."""
        return self._newest.get((route, rule.max_grades, rule.max_age), [])

    def _oldest(self, rule: QualityRule, route: str) -> float:
        over = self._tests[rule.alert].over.get(route, 0.0)
        return counts_after(rule, self._baselines.get(route), over=over, now=self._now)

    def _baseline(self, rule: QualityRule, route: str, *, fires: bool) -> Baseline | None:
        """The baseline of a route: learned before, or now if there are enough grades; None while there are too few."""
        baseline = self._baselines.get(route)
        if baseline is None or baseline.rate is not None:
            return baseline
        # During an incident only a person may request a baseline: a new grader must not learn a drift as normal.
        if fires and not baseline.author:
            return None
        first = [each for each in self._first[(route, rule.normal_grades)] if each.called_at <= self._now + AHEAD_S]
        learned_now = learned_from(rule, first, baseline, now=self._now)
        if learned_now is not None:
            self._keep(learned_now)
        return learned_now


_BLANK: Final = detectors.DetectorState()


def _fires(alert: ScopedAlert, rule: QualityRule) -> bool:
    return alert.rule == rule.alert and alert.state is AlertState.FIRING


def _newest_first(of_routes: Iterable[list[DecidedGrade]]) -> list[DecidedGrade]:
    return list(heapq.merge(*of_routes, key=attrgetter("called_at"), reverse=True))
