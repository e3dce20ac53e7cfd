"""From stored grades to what a quality rule sees of each route, and of all of them."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final

from cheapdeep_ops.guard.causes import Cause, Dimension
from cheapdeep_ops.guard.climbs import Climb, Name, examples_of, read_climb
from cheapdeep_ops.guard.folding import AHEAD_S, alarm_of, alarm_together, counts_after, folded, learned_from
from cheapdeep_ops.guard.quality import Alarm, Watch, at_rate, estimate, finding_of
from cheapdeep_ops.guard.rules import Alert, AlertState, Finding, QualityRule
from cheapdeep_ops.guard.shelf import Shelf
from cheapdeep_ops.guard.stats import Estimate
from cheapdeep_ops.store import detectors, grades, incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Graded, Normal
from cheapdeep_ops.values import ALL_ROUTES

_AT_ONCE: Final = 5_000
"""Grades read together: the first look at a store with a long history takes several."""


class Evidence:
    """One judge's grades at one moment, read once for all rules; what is normal is learned on the way."""

    def __init__(self, connection: Connection, *, shelf: Shelf, now: float) -> None:
        self._connection = connection
        self._shelf = shelf
        self._judge = shelf.judge
        self._now = now
        self._over: dict[str, float] = {}
        shelf.look(connection)
        blank = {route: Normal(scope=route, since=0.0) for route in shelf.versions}
        self._normals = {**blank, **grades.normals(connection, self._judge)}

    @property
    def routes(self) -> set[str]:
        """The routes of which anything was graded."""
        return set(self._normals)

    def finding(self, rule: QualityRule, alert: Alert, routes: Collection[str], limit: float | None) -> Finding:
        """What the grades of `routes` together say; a route whose normal is not known yet has no say against it.

        While the alert fires, only calls made since it began to count; else, only those made since it was last over.
        """
        fires = alert.state is AlertState.FIRING
        self._over = incidents.last_resolved(self._connection, rule=rule.alert)
        since = alert.since if fires else self._over.get(alert.scope)
        state = [
            (route, self._shelf.versions.get(route), self._normals.get(route), self._over.get(route))
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
    ) -> dict[str, Alarm]:
        """What is too much, for each route of which that is known."""
        if rule.limit != "normal":
            return {} if limit is None else dict.fromkeys(routes, at_rate(limit))
        found = {route: self._normal(rule, route, fires=fires) for route in routes}
        known = {route: alarm_of(normal) for route, normal in found.items() if normal is not None}
        return {route: alarm for route, alarm in known.items() if alarm is not None}

    def _watched(self, rule: QualityRule, scope: str, alarms: Mapping[str, Alarm], phase: tuple[bool, float]) -> Watch:
        """The scope's tests after all grades that have become known since they were last looked at."""
        kept = detectors.read(self._connection, self._judge, rule=rule.alert, scope=scope)
        before = Watch.from_row(kept.state) if kept.state else Watch()
        own = self._normals.get(scope)
        full = (*phase, own.since if own is not None and rule.limit == "normal" else 0.0)
        watch = before if before.phase == full else Watch(phase=full)
        grade_id = kept.grade_id
        oldest = {route: max(self._oldest(rule, route), phase[1]) for route in alarms}
        while known := self._known_after(scope, grade_id):
            watch = folded(watch, known, alarms, oldest=oldest, now=self._now)
            grade_id = known[-1].id
        if grade_id != kept.grade_id or watch != before:
            after = detectors.Kept(grade_id=grade_id, state=watch.row())
            detectors.write(self._connection, self._judge, after, rule=rule.alert, scope=scope, now=self._now)
        return watch

    def _known_after(self, scope: str, grade_id: int) -> list[Graded]:
        route = None if scope == ALL_ROUTES else scope
        return grades.known_after(self._connection, self._judge, grade_id=grade_id, route=route, limit=_AT_ONCE)

    def raised_at(self, rule: QualityRule, scope: str, *, since: float) -> float | None:
        """When this rule raised a scope in an incident that began then, if it did."""
        return policies.raised_at(self._connection, scope=scope, cause=rule.alert, since=since)

    def shipped(
        self, rule: QualityRule, routes: Collection[str], *, after: float | None, until: float | None, limit: int
    ) -> Estimate | None:
        """The rate among the latest `limit` shipped answers of calls that began after or before a moment."""
        since = self._now - rule.max_age if after is None else after
        read = partial(grades.newest, self._connection, judge=self._judge, since=since, until=until, shipped=True)
        of_routes = [read(route=route, limit=limit) for route in sorted(routes)]
        return estimate(_newest_first(of_routes)[:limit])

    def wrong_by_class(self, rule: QualityRule, routes: Collection[str], latest: int) -> Counter[str]:
        """The wrong ones among the latest grades, by input class."""
        return Counter(each.input_class for each in self._merged(rule, routes)[:latest] if each.incorrect)

    def climb(self, rule: QualityRule, scope: str, routes: Collection[str], *, started_at: float) -> Climb:
        """The grades since the climb began that the incident which began at `started_at` is about, and those before."""
        over = {route: max(self._over.get(each, 0.0) for each in (route, scope)) for route in routes}
        return read_climb(
            self._connection, self._judge,
            {route: self._normals[route] for route in sorted(routes) if route in self._normals}, over=over,
            began=self._began(rule, scope, started_at), until=self._now + AHEAD_S, limit=rule.max_grades,
        )  # fmt: skip

    def _began(self, rule: QualityRule, scope: str, started_at: float) -> float:
        """As was told; before anything was told, since when the test has seen evidence that has just found it."""
        told = incidents.told(self._connection, rule=rule.alert, scope=scope, started_at=started_at)
        if told:
            return float(told.get("cause", {}).get("since", started_at))
        kept = detectors.read(self._connection, self._judge, rule=rule.alert, scope=scope)
        since = Watch.from_row(kept.state).climb.since if kept.state else None
        return started_at if since is None else since

    def examples(self, climb: Climb, cause: Cause, names: Mapping[Dimension, Name]) -> list[dict[str, Any]]:
        """Which wrong answers a person may want to read."""
        return examples_of(self._connection, climb, cause, names)

    def _merged(self, rule: QualityRule, routes: Collection[str]) -> list[Graded]:
        """The latest grades of all `routes`, newest first."""
        return _newest_first([self._after_normal(rule, route) for route in sorted(routes)])[: rule.max_grades]

    def _after_normal(self, rule: QualityRule, route: str) -> list[Graded]:
        """The latest grades that count."""
        return self._of(rule, route, self._oldest(rule, route))

    def _oldest(self, rule: QualityRule, route: str) -> float:
        return counts_after(rule, self._normals.get(route), over=self._over.get(route, 0.0), now=self._now)

    def _of(self, rule: QualityRule, route: str, since: float) -> list[Graded]:
        found = self._shelf.newest(self._connection, route, rule.max_grades)
        return [each for each in found if since < each.called_at <= self._now + AHEAD_S]

    def _normal(self, rule: QualityRule, route: str, *, fires: bool) -> Normal | None:
        """What is normal for a route: learned before, or now, where enough is graded.

        In an incident nothing is learned unless a person asks for it: another judge must not take a drift for normal.
        """
        normal = self._normals.get(route)
        if normal is None or normal.rate is not None:
            return normal
        if fires and not normal.author:
            return None
        learned_now = learned_from(self._first(rule, normal), normal, enough=rule.normal_grades, now=self._now)
        if learned_now is not None:
            grades.learn(self._connection, self._judge, learned_now)
            self._normals[route] = learned_now
        return learned_now

    def _first(self, rule: QualityRule, normal: Normal) -> list[Graded]:
        found = grades.oldest(self._connection, normal.scope, self._judge, since=normal.since, limit=rule.normal_grades)
        return [each for each in found if each.called_at <= self._now + AHEAD_S]


def _newest_first(of_routes: Iterable[list[Graded]]) -> list[Graded]:
    return list(heapq.merge(*of_routes, key=attrgetter("called_at"), reverse=True))
