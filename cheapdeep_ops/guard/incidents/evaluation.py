"""One evaluation of all rules: what is read from one snapshot of the store, and what follows from it as values.

The constructor reads; `run` decides and touches no database. The caller closes the snapshot in between, has the
announcer add the messages, and commits the units: see `Guard.step`.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cheapdeep_ops.guard.incidents.changes import OpenIncident, Unit
from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.kinds import SignalReader, SignalReaders
from cheapdeep_ops.guard.rules.model import AlertState, Finding, Level, Rule, ScopedAlert, Transition, step
from cheapdeep_ops.policy import EffectivePolicy, PolicyAct, ScopeState
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies, revisions, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import PolicyEdit, PolicyStep
from cheapdeep_ops.values import ALL_ROUTES

_log: Final = logging.getLogger(__name__)
TICKET: Final = "ticket"
"""The severity of alerts that may wait for the next digest."""

STORED_EVERY_S: Final = 60.0
"""How often an alert of which nothing is new is stored: `updated_at` lags by so much at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertUpdate:
    """What was decided about one alert: where it stands now, and the policy of its scope before and after."""

    rule: Rule
    sense: SignalReader
    alert: ScopedAlert
    finding: Finding
    turn: Transition | None
    incident: OpenIncident | None
    was: EffectivePolicy
    policy: EffectivePolicy


class Evaluation:
    """Reads all that the rules need, and decides; made anew for each step."""

    def __init__(
        self, connection: Connection, *, settings: Settings, rulebook: Rulebook, shelf: GradeCache, now: float
    ) -> None:
        self._settings = settings
        self._rulebook = rulebook
        self._now = now
        self.revision = revisions.current(connection)
        """What the commit compares: it grows when a person changes anything that this evaluation rests on."""
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        self._announced_raised = book.raised
        self._book = replace(book, raised=settings.raised_threshold)
        self._stored = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
        self.incidents = _incidents(connection, self._stored.values())
        """The incidents that are open, or of which something is still to be said, oldest first."""
        self.silences = silences.active(connection, at=now)
        self.last_ticket_at = _last_ticket_at(connection, settings, now)
        """When the last ticket or digest was sent within the period of digests; None where none was."""
        self._alerts = AlertSet(
            {key: _alert(row) for key, row in self._stored.items()},
            signals={key: row["signal"] for key, row in self._stored.items()},
        )
        self._senses = SignalReaders(
            connection,
            settings=settings,
            rulebook=rulebook,
            shelf=shelf,
            alerts=self._alerts,
            is_pinned=lambda scope: self._policy(scope).pinned,
            now=now,
        )
        self._judged = [(rule, self._senses.of(connection, rule)) for rule in rulebook.rules]
        self.updates: list[tuple[AlertUpdate, Unit]] = []
        self.orphans: list[tuple[ScopedAlert, OpenIncident, Unit]] = []
        """Incidents that end because their rule was taken out of the rules file."""

    def run(self) -> list[Unit]:
        """Evaluate every rule in every scope; returns the changes in the order in which they are to be made."""
        units = [self._announced(), *self._evaluated(), *self._retired(), self._released()]
        units += [Unit(baseline=each) for each in self._senses.learned]
        units += [Unit(detector=each) for each in self._senses.folded]
        return units

    def _announced(self) -> Unit:
        """Make every raise anew where the raised threshold was changed by a setting, so that routers hear of it."""
        unit = Unit()
        if self._settings.mode != "enforce" or self._announced_raised == self._book.raised:
            return unit
        for scope in list(self._book.scopes.values()):
            for cause in sorted(scope.causes):
                why = f"the raised threshold is {self._book.raised:g} now"
                self._apply(unit, PolicyEdit(scope=scope.scope, act=PolicyAct.RAISE, cause=cause, why=why))
        return unit

    def _evaluated(self) -> Iterator[Unit]:
        for rule, sense in self._judged:
            yield from self._run(rule, sense)

    def _run(self, rule: Rule, sense: SignalReader) -> Iterator[Unit]:
        """Each scope by itself; then, together, the routes that do not fire by themselves."""
        known = self._alerts.scopes_of(rule.alert) - ({ALL_ROUTES} if sense.is_joint else set())
        for scope in sorted(sense.scopes | known):
            yield self._judge(rule, sense, scope, {scope})
        quiet = {scope for scope in sense.scopes if not self._alerts.fires(rule.alert, scope)}
        if sense.is_joint and (len(sense.scopes) > 1 or self._alerts.fires(rule.alert, ALL_ROUTES)):
            yield self._judge(rule, sense, ALL_ROUTES, quiet)

    def _judge(self, rule: Rule, sense: SignalReader, scope: str, routes: set[str]) -> Unit:
        before = self._alerts.get(rule.alert, scope)
        finding = sense.finding(routes, before)
        alert, turn = step(rule, before, finding.level, self._now)
        was, unit = self._policy(scope), Unit()
        incident = self.incidents.get(alert.incident_id) if alert.incident_id is not None else None
        if turn is Transition.STARTED:
            incident = unit.opens = self._open(rule, scope)
        elif turn is Transition.RESOLVED:
            unit.resolves = incident
        self._align(unit, rule, scope, finding, fires=alert.state is AlertState.FIRING, turn=turn)
        update = AlertUpdate(
            rule=rule, sense=sense, alert=alert, finding=finding, turn=turn, incident=incident,
            was=was, policy=self._policy(scope),
        )  # fmt: skip
        self.updates.append((update, unit))
        self._keep(unit, replace(alert, incident_id=None) if turn is Transition.RESOLVED else alert, finding)
        return unit

    def _open(self, rule: Rule, scope: str) -> OpenIncident:
        return OpenIncident(rule=rule.alert, scope=scope, started_at=self._now, announced_at=self._now)

    def _align(
        self, unit: Unit, rule: Rule, scope: str, finding: Finding, *, fires: bool, turn: Transition | None
    ) -> None:
        """Make the scope's causes agree with the alert, unless a person or the mode says otherwise.

        Compares states rather than following turns, so that a raise that a pin kept off comes when the pin goes.
        """
        held = rule.alert in self._scope(scope).causes
        wanted = fires and rule.raises
        if wanted == held:
            return
        act = PolicyAct.RAISE if wanted else PolicyAct.RELEASE
        change = PolicyEdit(scope=scope, act=act, cause=rule.alert, signal=finding.signal)
        if self._settings.mode == "enforce" and not self._policy(scope).pinned:
            self._apply(unit, change)
        elif turn is not None:
            unit.steps.append(policies.step_of(self._book, change, applied=False))

    def _apply(self, unit: Unit, change: PolicyEdit) -> None:
        made = policies.step_of(self._book, change)
        self._book = self._book.with_scope(made.after)
        unit.steps.append(made)

    def _keep(self, unit: Unit, alert: ScopedAlert, finding: Finding) -> None:
        if not self._alerts.knows(alert) and finding.level is Level.NO_DATA:
            return
        self._alerts.put(alert, finding.level)
        row = {
            "rule": alert.rule,
            "scope": alert.scope,
            "state": alert.state.value,
            "level": finding.level.value,
            "since": alert.since,
            "below_since": alert.below_since,
            "incident_id": alert.incident_id,
            "signal": dict(finding.signal),
            "updated_at": self._now,
        }
        if self._is_worth_storing(row):
            unit.alert = row

    def _is_worth_storing(self, row: Mapping[str, Any]) -> bool:
        """Whether anything but the time has changed, or that is old: the store is written to as little as can be."""
        stored: Mapping[str, Any] | None = self._stored.get((row["rule"], row["scope"]))
        if stored is None or abs(self._now - stored["updated_at"]) >= STORED_EVERY_S:
            return True
        return any(row[name] != stored[name] for name in row if name != "updated_at")

    def _retired(self) -> Iterator[Unit]:
        """A rule that is no longer in the book neither fires nor holds anything."""
        known = {rule.alert for rule in self._rulebook.rules}
        for alert in self._alerts:
            if alert.rule in known or alert.state is AlertState.INACTIVE:
                continue
            incident = self.incidents.get(alert.incident_id) if alert.incident_id is not None else None
            unit = Unit(resolves=incident)
            if incident is not None:
                self.orphans.append((alert, incident, unit))
            ended = ScopedAlert(rule=alert.rule, scope=alert.scope, since=self._now)
            self._keep(unit, ended, Finding(level=Level.NO_DATA))
            yield unit

    def _released(self) -> Unit:
        """No cause holds a raise without an alert that fires."""
        unit = Unit()
        for scope in list(self._book.scopes.values()) if self._settings.mode == "enforce" else ():
            for cause in sorted(scope.causes):
                if not self._alerts.fires(cause, scope.scope) and not self._policy(scope.scope).pinned:
                    why = "its rule does not fire here"
                    self._apply(unit, PolicyEdit(scope=scope.scope, act=PolicyAct.RELEASE, cause=cause, why=why))
        return unit

    def _policy(self, scope: str) -> EffectivePolicy:
        return self._book.for_route(scope)

    def _scope(self, scope: str) -> ScopeState:
        return self._book.scopes.get(scope) or ScopeState(scope=scope)


def in_words(made: PolicyStep) -> str:
    """A change of policy, as it is logged."""
    change = made.change
    return f"{change.act} of {change.scope} by {change.cause}: {made.from_threshold:g} -> {made.to_threshold:g}"


def _incidents(connection: Connection, alerts: Iterable[Mapping[str, Any]]) -> dict[int, OpenIncident]:
    """The incidents of these alerts, and those that wait for a digest or for the end of a silence."""
    numbers: Sequence[int] = [row["incident_id"] for row in alerts if row["incident_id"] is not None]
    rows = incidents.unfinished(connection, numbers)
    known = silences.acknowledgements(connection, [row["id"] for row in rows])
    kept = ("id", "rule", "scope", "started_at", "announced", "announced_at", "called_for_at", "collected_at", "held")
    return {
        row["id"]: OpenIncident(**{name: row[name] for name in kept}, acknowledged=known.get(row["id"])) for row in rows
    }


def _last_ticket_at(connection: Connection, settings: Settings, now: float) -> float | None:
    if not settings.digest_every_s:
        return None
    sent = incidents.begun_since(connection, now - settings.digest_every_s)
    tickets = (at for at, payload in sent if payload["kind"] == "digest" or payload.get("severity") == TICKET)
    return max(tickets, default=None)


def _state(row: Mapping[str, Any]) -> AlertState:
    """The stored state; one that this version does not know counts as inactive, so that the other rules still run."""
    try:
        return AlertState(row["state"])
    except ValueError:
        _log.warning("the alert %s of %s has the unknown state %r", row["rule"], row["scope"], row["state"])
        return AlertState.INACTIVE


def _alert(row: Mapping[str, Any]) -> ScopedAlert:
    return ScopedAlert(
        rule=row["rule"],
        scope=row["scope"],
        state=_state(row),
        since=row["since"],
        below_since=row["below_since"],
        incident_id=row["incident_id"],
    )
