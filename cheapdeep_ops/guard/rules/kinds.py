"""How each kind of rule looks at the store: which scopes there are, what it finds in them, and what to tell of it."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.grading.grader import facts_of
from cheapdeep_ops.guard.notify.messages import breakdown_of, cause_text, storm_signal
from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.confidence_separation.detection import SeparationReading, kinds_in
from cheapdeep_ops.guard.rules.confidence_separation.detection import finding_of as gate_finding
from cheapdeep_ops.guard.rules.escalation.detection import level_of
from cheapdeep_ops.guard.rules.escalation.explanation import storm_cause
from cheapdeep_ops.guard.rules.escalation.reader import windows_of
from cheapdeep_ops.guard.rules.false_confidence.detection import Effect, effect_of
from cheapdeep_ops.guard.rules.false_confidence.evidence import GradeEvidence
from cheapdeep_ops.guard.rules.false_confidence.explanation import climb_cause, climb_facts, examples_of, names_of
from cheapdeep_ops.guard.rules.model import (
    AlertState,
    Finding,
    GateRule,
    Level,
    QualityRule,
    Rule,
    ScopedAlert,
    StormRule,
)
from cheapdeep_ops.guard.rules.self_monitoring import grader_health
from cheapdeep_ops.guard.rules.self_monitoring.reader import SelfMonitoring
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades, incidents, policies
from cheapdeep_ops.store.detectors import StoredDetector
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.values import ALL_ROUTES

_GATE_EVERY_S: Final = 600.0


class SignalReader(Protocol):
    """How one rule looks at the world."""

    @property
    def scopes(self) -> set[str]:
        """The scopes that are judged each by itself."""

    @property
    def is_joint(self) -> bool:
        """Whether the routes that do not fire by themselves are judged together as well."""

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """What is so in these routes together, for an alert that stands so."""

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, Any]:
        """What more a message about an incident says."""

    def has_moved(
        self, connection: Connection, told: Mapping[str, Any], found: Finding, scope: str, started_at: float
    ) -> bool:
        """Whether the last message about an open incident is out of date."""


class SignalReaders:
    """The senses of one evaluation, which share what they read."""

    def __init__(
        self,
        connection: Connection,
        *,
        settings: Settings,
        rulebook: Rulebook,
        shelf: GradeCache,
        alerts: AlertSet,
        is_pinned: Callable[[str], bool],
        now: float,
    ) -> None:
        self._is_pinned = is_pinned
        self._watchers = SelfMonitoring(connection, settings=settings, now=now)
        self._settings = settings
        self._shelf = shelf
        self._alerts = alerts
        self._now = now
        self._quality = [rule for rule in rulebook.rules if isinstance(rule, QualityRule)]
        self._evidence = GradeEvidence(connection, self._quality, alerts, shelf=shelf, now=now)
        self._facts = facts_of(connection, settings)

    def of(self, connection: Connection, rule: Rule) -> SignalReader:
        """The sense that belongs to a rule, with all that its findings need."""
        if isinstance(rule, StormRule):
            return EscalationReader(connection, rule, limit=rule.limit_in(self._settings), now=self._now)
        if isinstance(rule, QualityRule):
            return FalseConfidenceReader(
                rule, self._evidence, settings=self._settings, trouble=self._trouble, now=self._now
            )
        if isinstance(rule, GateRule):
            return SeparationReader(connection, rule, shelf=self._shelf, alerts=self._alerts, now=self._now)
        if rule.signal == "grader_failing":
            return SelfMonitoringReader(grader_health.finding_of(self._facts, self._now))
        if rule.signal == "undecided_raise":
            return UndecidedReader(self._quality, self._alerts, self._is_pinned)
        return SelfMonitoringReader(self._watchers.finding(rule.signal, self._alerts.signal(rule.alert, ALL_ROUTES)))

    @property
    def learned(self) -> list[Baseline]:
        """The baselines that findings have learned."""
        return self._evidence.learned

    @property
    def folded(self) -> list[StoredDetector]:
        """The tests that findings have carried on."""
        return self._evidence.folded

    @property
    def _trouble(self) -> grader_health.Trouble | None:
        return grader_health.trouble_of(self._facts, self._now)


class EscalationReader:
    """Sees base escalations in two windows of the counters."""

    is_joint = True

    def __init__(self, connection: Connection, rule: StormRule, *, limit: float | None, now: float) -> None:
        self._rule = rule
        self._limit = limit
        self._now = now
        over = incidents.last_resolved(connection, rule=rule.alert)
        self._windows = windows_of(rule, partial(_in_window, counters.by_second, connection), now, over=over)
        self._rise_s: dict[str, float] = {}

    @property
    def scopes(self) -> set[str]:
        """The routes that had calls in the long window."""
        return set(self._windows.seconds)

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The base escalation rate of these routes together."""
        reading = self._windows.reading(routes, limit=self._limit, scope=alert.scope)
        signal = storm_signal(self._rule, reading, self._windows.actual(routes))
        if signal["decided_by"] == "sequence":
            self._rise_s[alert.scope] = signal["recent_window_s"]
        return Finding(level=level_of(self._rule, reading), signal=signal)

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, Any]:
        """What the storm is made of, and what the rise is made of."""
        window = {"since": self._now - self._rule.windows.long, "until": self._now}
        made_of = breakdown_of(
            reasons=counters.base_reasons(connection, **window, scope=scope),
            by_class=counters.base_escalations_by_class(connection, **window, scope=scope),
        )
        long_s = self._rule.windows.long
        rise_s = self._rise_of(scope, started_at)
        cause = storm_cause(connection, scope=scope, started_at=started_at, long_s=long_s, rise_s=rise_s, now=self._now)
        return {"window_s": long_s, **made_of, "cause": {**cause, "text": cause_text(cause)}}

    def _rise_of(self, scope: str, started_at: float) -> float | None:
        """How long before it was seen the storm had begun; later on nobody knows, and the short window is all storm."""
        return self._rise_s.get(scope) if self._now <= started_at else self._rule.windows.short

    def has_moved(
        self, _connection: Connection, told: Mapping[str, Any], found: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Whether the rate has left the interval that was told."""
        return _has_left(told, found)


class FalseConfidenceReader:
    """Sees grades; where the grader is in trouble, nothing."""

    is_joint = True

    def __init__(
        self,
        rule: QualityRule,
        evidence: GradeEvidence,
        *,
        settings: Settings,
        trouble: grader_health.Trouble | None,
        now: float,
    ) -> None:
        self._rule = rule
        self._evidence = evidence
        self._settings = settings
        self._limit = rule.limit_in(settings)
        self._trouble = trouble
        self._now = now
        self._judged: dict[str, tuple[Collection[str], int]] = {}
        """The routes that were judged together as a scope, and how many of their grades the finding rests on."""

    @property
    def scopes(self) -> set[str]:
        """The routes of which anything was graded."""
        return self._evidence.routes

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The false-confident rate of these routes together; unknown while nobody can be relied on to grade."""
        found = self._evidence.finding(self._rule, alert, routes, self._limit)
        self._judged[alert.scope] = (routes, found.signal["n"])
        if not self._trouble:
            return found
        unknown = {"rate": None, "low": 0.0, "high": 1.0, "n": 0, "why": self._trouble.why}
        return Finding(level=Level.NO_DATA, signal={**found.signal, **unknown})

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, Any]:
        """What the climb of the last finding is made of, and whether the raise has helped."""
        effect = self._effect(connection, scope, started_at)
        by_class = self._evidence.wrong_by_class(self._rule, self._routes(scope), self._judged[scope][1])
        return {
            "effect": effect.why if effect else "",
            "effect_kind": effect.kind.value if effect else "",
            "release_confidence": self._rule.release_confidence,
            "release_alpha": self._rule.release_alpha,
            **breakdown_of(reasons={}, by_class=by_class),
            **self._cause(connection, scope, started_at),
        }

    def _cause(self, connection: Connection, scope: str, started_at: float) -> dict[str, Any]:
        """What is to blame, and which answers show it where people want to see some."""
        climb = self._evidence.climb(connection, self._rule, scope, self._judged[scope][0], started_at=started_at)
        base, raised = self._settings.base_threshold, self._settings.raised_threshold
        names = names_of(base=base, raised=raised, with_policy=self._now <= started_at)
        cause = climb_cause(climb.before, climb.now, names, is_of_one_time=climb.is_of_one_time)
        facts = climb_facts(climb, cause)
        found = {"cause": {**facts, "text": cause_text(facts)}}
        if not self._settings.shows_examples:
            return found
        return {**found, "examples": examples_of(connection, climb, cause, names)}

    def has_moved(
        self, connection: Connection, told: Mapping[str, Any], found: Finding, scope: str, started_at: float
    ) -> bool:
        """Whether the rate has left the interval that was told, or it is known now whether the raise helps.

        Nothing is news while nobody knows what is normal.
        """
        if found.signal["limit"] is None:
            return False
        effect = self._effect(connection, scope, started_at)
        return _has_left(told, found) or told.get("effect_kind") != (effect.kind.value if effect else "")

    def _effect(self, connection: Connection, scope: str, started_at: float) -> Effect | None:
        """What the raise of this incident has done; None where a person or the mode kept it off."""
        raised_at = policies.raised_at(connection, scope=scope, cause=self._rule.alert, since=started_at)
        if raised_at is None:
            return None
        routes, enough = self._routes(scope), self._rule.min_grades
        before = self._evidence.shipped(connection, self._rule, routes, after=None, until=raised_at, limit=enough)
        since = self._evidence.shipped(
            connection, self._rule, routes, after=raised_at, until=None, limit=self._rule.max_grades
        )
        return effect_of(before, since, enough=enough)

    def _routes(self, scope: str) -> set[str]:
        return self.scopes if scope == ALL_ROUTES else {scope}


class SeparationReader:
    """Sees whether confidence is worth anything, route by route; looks every ten minutes, it is slow to change."""

    is_joint = False

    def __init__(
        self, connection: Connection, rule: GateRule, *, shelf: GradeCache, alerts: AlertSet, now: float
    ) -> None:
        self._rule = rule
        self._alerts = alerts
        self._looks = shelf.lately(rule.alert, now, _GATE_EVERY_S, partial(_looks, connection, rule, shelf.judge, now))

    @property
    def scopes(self) -> set[str]:
        """The routes that had calls or grades lately."""
        return set(self._looks)

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """What the grades and the calls of one route say."""
        (route,) = routes
        firing = alert.state is AlertState.FIRING
        told = kinds_in(self._alerts.signal(alert.rule, alert.scope).get("kind")) if firing else frozenset[str]()
        return gate_finding(self._rule, self._looks.get(route, SeparationReading()), firing=told)

    def facts(self, _connection: Connection, _scope: str, _started_at: float) -> dict[str, Any]:
        """Nothing more than the finding says."""
        return {}

    def has_moved(
        self, _connection: Connection, told: Mapping[str, Any], found: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Whether the trouble is another one."""
        return _is_other(told, found)


def _looks(connection: Connection, rule: GateRule, judge: GraderVersion, now: float) -> dict[str, SeparationReading]:
    counted = counters.by_route(connection, since=now - rule.window, until=now)
    read = partial(grades.confidences, connection, judge, since=now - rule.max_age, until=now, limit=rule.max_grades)
    return {
        route: SeparationReading(
            grades=[(confidence, wrong) for confidence, wrong, _ in read(scope=route)],
            triaged=counted[route].triaged if route in counted else 0,
            escalated=counted[route].base_escalated if route in counted else 0,
        )
        for route in counted.keys() | grades.counts(connection).keys()
    }


class SelfMonitoringReader:
    """Sees how one of those fares that watch or are watched: the same in all routes."""

    is_joint = False
    scopes: set[str] = {ALL_ROUTES}  # noqa: RUF012 - never changed; the protocol wants a set

    def __init__(self, found: Finding) -> None:
        self._found = found

    def finding(self, _routes: Collection[str], _alert: ScopedAlert) -> Finding:
        """Above while it is in trouble."""
        return self._found

    def facts(self, _connection: Connection, _scope: str, _started_at: float) -> dict[str, Any]:
        """Nothing more than the finding says."""
        return {}

    def has_moved(
        self, _connection: Connection, told: Mapping[str, Any], found: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Whether the trouble is another one."""
        return _is_other(told, found)


class UndecidedReader:
    """Sees raises of quality rules that too few grades can judge; a person who has pinned a scope has decided."""

    is_joint = False

    def __init__(self, rules: Collection[QualityRule], alerts: AlertSet, is_pinned: Callable[[str], bool]) -> None:
        self._rules = rules
        self._alerts = alerts
        self._is_pinned = is_pinned

    @property
    def scopes(self) -> set[str]:
        """The scopes in which such a rule fires."""
        return {alert.scope for alert in self._alerts for rule in self._rules if self._holds(rule, alert.scope)}

    def finding(self, _routes: Collection[str], alert: ScopedAlert) -> Finding:
        """Above while a raise is held that the grades neither confirm nor lift."""
        held = [rule.alert for rule in self._rules if self._holds(rule, alert.scope)]
        unclear = {Level.NO_DATA, Level.UNCLEAR}
        open_ones = [name for name in held if self._alerts.level(name, alert.scope) in unclear]
        why = f"raised by {', '.join(open_ones)}, and too few grades since" if open_ones else "decided"
        return Finding(level=Level.ABOVE if open_ones else Level.BELOW, signal={"why": why})

    def facts(self, _connection: Connection, _scope: str, _started_at: float) -> dict[str, Any]:
        """Nothing more than the finding says."""
        return {}

    def has_moved(
        self, _connection: Connection, _told: Mapping[str, Any], _found: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Once asked, a person is not asked again."""
        return False

    def _holds(self, rule: QualityRule, scope: str) -> bool:
        return rule.raises and self._alerts.fires(rule.alert, scope) and not self._is_pinned(scope)


def _in_window(read: Any, connection: Connection, since: float, until: float) -> Any:
    return read(connection, since=since, until=until)


def _is_other(told: Mapping[str, Any], found: Finding) -> bool:
    return bool(told.get("signal", {}).get("kind") != found.signal["kind"])


def _has_left(told: Mapping[str, Any], found: Finding) -> bool:
    signal, rate = told.get("signal", {}), found.signal["rate"]
    return rate is not None and not signal.get("low", 0) <= rate <= signal.get("high", 1)
