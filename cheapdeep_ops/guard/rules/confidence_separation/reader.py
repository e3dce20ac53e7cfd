"""Reads the grades and calls of each route for the rule on the separation by confidence."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice
from typing import Final

from cheapdeep_ops.guard.rules.confidence_separation.detection import SeparationReading, finding_of, kinds_in
from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.hold import read_hold
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader
from cheapdeep_ops.guard.rules.model import AlertState, Finding, ScopedAlert
from cheapdeep_ops.store import counters, grades, route_labels

_READ_EVERY_S: Final = 600.0
"""The figures change slowly, and reading thousands of grades of each route is expensive."""


class SeparationReader(SignalReader):
    """Reads the grades and the calls of each route, every ten minutes."""

    def __init__(self, rule: GateRule, context: ReaderContext) -> None:
        self._rule = rule
        self._alerts = context.alerts
        self._readings = context.cache.cached_for(
            _READ_EVERY_S, rule.alert, context.now, partial(_readings, rule, context)
        )

    @property
    def scopes(self) -> AbstractSet[str]:
        """The routes with recent calls or with grades."""
        return self._readings.keys()

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The finding for one route."""
        # Confidence has another meaning in each route, so routes are never evaluated together.
        (route,) = routes
        fires = alert.state is AlertState.FIRING
        firing = kinds_in(self._alerts.signal(alert.rule, alert.scope).get("kind")) if fires else frozenset[str]()
        return finding_of(self._rule, self._readings.get(route, SeparationReading()), firing=firing)


def _readings(rule: GateRule, context: ReaderContext) -> dict[str, SeparationReading]:
    connection, most = context.connection, context.settings.max_routes
    called = counters.by_route(connection, since=context.now - rule.window, until=context.now)
    counted = route_labels.by_shown_route(connection, called, most=most)
    versions = grades.counts(connection)
    return {
        route: SeparationReading(
            grades=_grades(rule, context, route, versions.get(route, 0)),
            triaged=counted[route].triaged if route in counted else 0,
            escalated=counted[route].base_escalated if route in counted else 0,
        )
        for route in route_labels.shown_routes(connection, counted.keys() | versions.keys(), most=most)
    }


def _grades(rule: GateRule, context: ReaderContext, route: str, version: int) -> list[tuple[float, bool]]:
    """The latest grades of a route that count: confidence, and whether the answer is wrong."""
    since, until, cache = context.now - rule.max_age, context.now, context.cache
    # A grader that has changed says nothing of what confidence is worth.
    hold = context.shared(read_hold)
    # Rules on false confidence have read most routes' grades already.
    complete = cache.complete(route, version=version, max_age=rule.max_age)
    if complete is not None:
        counting = (each for each in complete if since <= each.called_at < until and each.shows_confidence)
        unheld = (each for each in counting if not hold.covers(each.at))
        return [(each.confidence, each.incorrect) for each in islice(unheld, rule.max_grades)]
    read = partial(
        grades.confidences, context.connection, cache.grader, since=since, until=until, scope=route, held=hold.spans
    )
    return [(confidence, wrong) for confidence, wrong, _ in read(limit=rule.max_grades)]
