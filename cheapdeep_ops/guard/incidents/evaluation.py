"""One evaluation of all rules: it reads one snapshot of the store, and returns the resulting changes as values.

The constructor reads; `run` decides and uses no database. The caller closes the snapshot in between, has the announcer
add the messages, and commits the units: see `Guard.step`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from cheapdeep_ops.guard.incidents.alignment import PolicyAlignment
from cheapdeep_ops.guard.incidents.changes import OpenIncident, Unit
from cheapdeep_ops.guard.incidents.stored import alert_of, is_outdated, last_ticket_at, open_incidents, row_of
from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader
from cheapdeep_ops.guard.rules.kinds import kind_of
from cheapdeep_ops.guard.rules.model import AlertState, Finding, Level, Rule, ScopedAlert, Transition, step
from cheapdeep_ops.policy import EffectivePolicy
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies, revisions, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertUpdate:
    """The result of one rule in one scope: its alert now, and the scope's policy before and after."""

    rule: Rule
    reader: SignalReader
    finding: Finding
    alert: ScopedAlert
    transition: Transition | None
    incident: OpenIncident | None
    policy_before: EffectivePolicy
    policy: EffectivePolicy


class Evaluation:
    """Reads all data of the rules, and decides; each step of the guard makes a new one.

    `only` names the routes to evaluate by themselves, for a look at one; None for all. All routes together take the
    others as they were found last.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        settings: Settings,
        rulebook: Rulebook,
        cache: GradeCache,
        now: float,
        started_at: float,
        only: Collection[str] | None = None,
    ) -> None:
        self._now = now
        self._only = only
        # Read first: a change while the rest is read makes the commit fail.
        self.revision = revisions.current(connection)
        """The commit compares it, because it grows when a person changes anything that this evaluation has read."""
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        self._policies = PolicyAlignment(book, settings)
        self._ended_pins = [pin for pin in policies.pins(connection) if pin.until is not None and pin.until <= now]
        self._stored = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
        self._alerts = AlertSet(
            {key: alert_of(row) for key, row in self._stored.items()},
            signals={key: row["signal"] for key, row in self._stored.items()},
        )
        self.incidents = open_incidents(connection, self._stored.values())
        """The incidents that are open, or have a message that waits, oldest first."""
        self.silences = silences.active(connection, at=now)
        self.last_ticket_at = last_ticket_at(connection, settings, now)
        """When the last ticket or digest was sent within `digest_every_s`; None if none was."""
        self._context = ReaderContext(
            connection=connection, settings=settings, rules=rulebook.rules, alerts=self._alerts, cache=cache,
            is_pinned=self._policies.is_pinned, now=now, started_at=started_at,
        )  # fmt: skip
        # All readers read here, inside the snapshot, so that all rules use data of one moment.
        self._readers = [(rule, kind_of(rule).reader(rule, self._context)) for rule in rulebook.rules]
        self.updates: list[tuple[AlertUpdate, Unit]] = []
        self.orphans: list[tuple[ScopedAlert, OpenIncident, Unit]] = []
        """Incidents that end because their rule was removed from the rules file."""

    def run(self) -> list[Unit]:
        """Evaluate every rule in every scope; returns the changes in the order of their commits."""
        # First, because a raise that a pin prevented follows in this evaluation.
        units = [Unit(steps=[*self._policies.ended_pins(self._ended_pins), *self._policies.repeated_raises()])]
        for rule, reader in self._readers:
            units += [self._evaluate(rule, reader, scope, routes) for scope, routes in self._scopes(rule, reader)]
        units += self._removed_rules()
        units.append(Unit(steps=self._policies.release_orphans(self._alerts.fires)))
        # In one unit: a baseline has learned from grades that its test no longer keeps. The last baseline counts.
        learned = {each.scope: each for each in self._context.learned}
        units += [Unit(detector=each, baseline=learned.pop(each.scope, None)) for each in self._context.detectors]
        units += [Unit(baseline=each) for each in learned.values()]
        return units

    def _scopes(self, rule: Rule, reader: SignalReader) -> Iterator[tuple[str, set[str]]]:
        """Each scope by itself, with its routes; then all routes together that do not fire by themselves."""
        known = self._alerts.scopes_of(rule.alert) - ({ALL_ROUTES} if reader.is_joint else set())
        for scope in sorted(reader.scopes | known):
            if self._only is None or scope in self._only:
                yield scope, {scope}
        # A route that fires has its own incident, so the joint one must not count its calls again.
        quiet = {scope for scope in reader.scopes if not self._alerts.fires(rule.alert, scope)}
        if reader.is_joint and (len(reader.scopes) > 1 or self._alerts.fires(rule.alert, ALL_ROUTES)):
            yield ALL_ROUTES, quiet

    def _evaluate(self, rule: Rule, reader: SignalReader, scope: str, routes: set[str]) -> Unit:
        """One rule in one scope: its finding, its alert, its incident, the threshold, and the row to store."""
        before = self._alerts.get(rule.alert, scope)
        finding = reader.finding(routes, before)
        alert, transition = step(rule, before, finding.level, self._now)
        unit, incident = Unit(), self._incident_of(alert)
        if transition is Transition.STARTED:
            incident = OpenIncident(rule=rule.alert, scope=scope, started_at=self._now, announced_at=self._now)
            unit.opens = incident
        elif transition is Transition.RESOLVED:
            unit.resolves, alert = incident, replace(alert, incident_id=None)
        policy_before, fires = self._policies.policy(scope), alert.state is AlertState.FIRING
        unit.steps = self._policies.align(rule, scope, finding.signal, fires=fires, transition=transition)
        update = AlertUpdate(
            rule=rule, reader=reader, finding=finding, alert=alert, transition=transition, incident=incident,
            policy_before=policy_before, policy=self._policies.policy(scope),
        )  # fmt: skip
        self.updates.append((update, unit))
        self._put(alert, finding, unit)
        return unit

    def _incident_of(self, alert: ScopedAlert) -> OpenIncident | None:
        return self.incidents.get(alert.incident_id) if alert.incident_id is not None else None

    def _put(self, alert: ScopedAlert, finding: Finding, unit: Unit) -> None:
        """Keep the alert for later rules of this evaluation, and store it if it has changed."""
        if finding.level is Level.NO_DATA and not self._alerts.knows(alert):
            return
        self._alerts.put(alert, finding.level)
        row = row_of(alert, finding, self._now)
        if is_outdated(self._stored.get((alert.rule, alert.scope)), row):
            unit.alert = row

    def _removed_rules(self) -> Iterator[Unit]:
        """End the alerts and incidents whose rule is no longer in the rules file."""
        known = {rule.alert for rule, _ in self._readers}
        for alert in self._alerts:
            if alert.rule in known or alert.state is AlertState.INACTIVE:
                continue
            incident = self._incident_of(alert)
            unit = Unit(resolves=incident)
            if incident is not None:
                self.orphans.append((alert, incident, unit))
            # `release_orphans` releases its raise afterwards, because no alert fires for it.
            ended = ScopedAlert(rule=alert.rule, scope=alert.scope, since=self._now)
            self._put(ended, Finding(level=Level.NO_DATA), unit)
            yield unit
