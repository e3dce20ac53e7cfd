"""One evaluation of all rules: alert states, policy changes and messages, on one open transaction."""

import logging
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cheapdeep_ops.guard.messages import Kind, breakdown_of, incident_message, signal_of, threshold_text
from cheapdeep_ops.guard.rulebook import Rulebook
from cheapdeep_ops.guard.rules import Action, Alert, AlertState, Level, Rule, Turn, level_of, step
from cheapdeep_ops.guard.signals import RouteWindows, windows_of
from cheapdeep_ops.policy import Policy, PolicyAct, ScopePolicy
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import Change
from cheapdeep_ops.values import ALL_ROUTES

_log: Final = logging.getLogger(__name__)
CHANGED_EVERY_S: Final = 60.0
"""How often, at most, a message about an open incident is brought up to date."""

Signal = Mapping[str, Any]


class Evaluation:
    """What one step of the guard reads, decides and writes; made anew for every step."""

    def __init__(self, connection: Connection, *, settings: Settings, rulebook: Rulebook, now: float) -> None:
        self._connection = connection
        self._settings = settings
        self._rulebook = rulebook
        self._now = now
        self.changes: list[str] = []
        """What was changed, in words, to be logged once it is committed."""
        told = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        self._book = replace(told, raised=settings.raised_threshold)
        if told.raised != settings.raised_threshold and settings.mode == "enforce":
            self._announce_raised()
        self._alerts = {(row["rule"], row["scope"]): _alert(row) for row in incidents.alerts(connection)}

    def _announce_raised(self) -> None:
        """Tell the routers what a raise means from now on: every raise that is held is made again."""
        for scope in list(self._book.scopes.values()):
            for cause in sorted(scope.causes):
                why = f"the raised threshold is {self._book.raised:g} now"
                change = Change(scope=scope.scope, act=PolicyAct.RAISE, cause=cause, why=why)
                self._apply(change)

    def _apply(self, change: Change) -> None:
        before = self._policy(change.scope).threshold
        self._book = policies.apply(self._connection, self._book, change, at=self._now)
        after = self._policy(change.scope).threshold
        self.changes.append(f"{change.act} of {change.scope} by {change.cause}: {before:g} -> {after:g}")

    def run(self) -> None:
        """Evaluate every rule in every scope."""
        for rule in self._rulebook.rules:
            self._run(rule)
        self._retire_unknown_rules()
        self._release_orphans()

    def _run(self, rule: Rule) -> None:
        """Each route by itself; then, together, the routes that do not fire by themselves."""
        windows = windows_of(
            rule, partial(_count, self._connection), partial(_escalated_seconds, self._connection), self._now
        )
        known = {scope for name, scope in self._alerts if name == rule.alert and scope != ALL_ROUTES}
        for route in sorted(known | set(windows.long)):
            self._judge(rule, route, windows, {route})
        quiet = {route for route in windows.long if not self._fires(rule.alert, route)}
        if len(windows.long) > 1 or self._fires(rule.alert, ALL_ROUTES):
            self._judge(rule, ALL_ROUTES, windows, quiet)

    def _judge(self, rule: Rule, scope: str, windows: RouteWindows, routes: Collection[str]) -> None:
        reading = windows.reading(routes, limit=rule.limit_in(self._settings))
        before = self._alerts.get((rule.alert, scope)) or Alert(rule=rule.alert, scope=scope)
        level = level_of(rule, reading)
        after, turn = step(rule, before, level, self._now)
        signal = signal_of(rule, reading, windows.actual(routes))
        policy = self._policy(scope)
        if turn is Turn.STARTED:
            after = replace(after, incident_id=self._open(rule, scope))
        elif turn is Turn.RESOLVED and after.incident_id is not None:
            incidents.resolve_incident(self._connection, after.incident_id, at=self._now)
        self._align(rule, scope, signal, fires=after.state is AlertState.FIRING, turn=turn)
        self._tell(rule, after, turn, signal, policy)
        if turn is Turn.RESOLVED:
            after = replace(after, incident_id=None)
        self._keep(after, level, signal)

    def _open(self, rule: Rule, scope: str) -> int:
        return incidents.open_incident(self._connection, rule=rule.alert, scope=scope, at=self._now)

    def _align(self, rule: Rule, scope: str, signal: Signal, *, fires: bool, turn: Turn | None) -> None:
        """Make the scope's causes agree with the alert, unless a person or the mode says otherwise.

        Compares states rather than following turns, so that a raise that a pin kept off comes when the pin goes.
        """
        held = rule.alert in self._scope(scope).causes
        wanted = fires and Action.RAISE_THRESHOLD in rule.actions
        if wanted == held:
            return
        act = PolicyAct.RAISE if wanted else PolicyAct.RELEASE
        change = Change(scope=scope, act=act, cause=rule.alert, signal=signal)
        if self._settings.mode == "enforce" and not self._policy(scope).pinned:
            self._apply(change)
        elif turn is not None:
            policies.note(self._connection, self._book, change, at=self._now)

    def _tell(self, rule: Rule, alert: Alert, turn: Turn | None, signal: Signal, before: Policy) -> None:
        if alert.incident_id is None or Action.NOTIFY not in rule.actions:
            return
        match turn:
            case Turn.STARTED:
                self._announce("started", rule, alert, signal, before)
            case Turn.RESOLVED:
                self._announce("resolved", rule, alert, signal, before)
            case None if alert.state is AlertState.FIRING and self._is_news(alert.incident_id, signal, alert.scope):
                self._announce("changed", rule, alert, signal, before)

    def _announce(self, kind: Kind, rule: Rule, alert: Alert, signal: Signal, before: Policy) -> None:
        if alert.incident_id is None:
            return
        after = self._policy(alert.scope)
        facts = {
            "incident_id": alert.incident_id,
            "effective_threshold": after.threshold,
            "threshold": threshold_text(before, after, would_be=self._would_be(kind, rule)),
            **self._breakdown(rule, alert.scope),
            **(self._outcome(alert) if kind == "resolved" else {}),
        }
        payload = incident_message(kind, rule, alert.scope, signal=signal, facts=facts)
        incidents.announce(self._connection, alert.incident_id, kind=kind, payload=payload, at=self._now)

    def _would_be(self, kind: Kind, rule: Rule) -> float | None:
        """The threshold that observe mode keeps a scope from while a rule fires."""
        kept_from = self._settings.mode == "observe" and kind != "resolved" and Action.RAISE_THRESHOLD in rule.actions
        return self._settings.raised_threshold if kept_from else None

    def _breakdown(self, rule: Rule, scope: str) -> dict[str, Any]:
        window = {"since": self._now - rule.windows.long, "until": self._now}
        return breakdown_of(
            reasons=counters.base_reasons(self._connection, **window, scope=scope),
            by_class=counters.base_escalations_by_class(self._connection, **window, scope=scope),
        )

    def _outcome(self, alert: Alert) -> dict[str, Any]:
        """How long an incident lasted and what passed meanwhile."""
        started_at = incidents.incident(self._connection, alert.incident_id or 0)["started_at"]
        names = ("calls", "escalated", "withheld")
        during = counters.sums_of(self._connection, names, since=started_at, until=self._now, scope=alert.scope)
        return {"lasted_s": self._now - started_at, **during}

    def _is_news(self, incident_id: int, signal: Signal, scope: str) -> bool:
        """Whether the rate has left the interval that was last told, or a person has changed the threshold."""
        row = incidents.incident(self._connection, incident_id)
        if self._now - row["announced_at"] < CHANGED_EVERY_S:
            return False
        told, rate = row["announced"].get("signal", {}), signal["rate"]
        moved = rate is not None and not told.get("low", 0) <= rate <= told.get("high", 1)
        return moved or row["announced"].get("effective_threshold") != self._policy(scope).threshold

    def _keep(self, alert: Alert, level: Level, signal: Signal) -> None:
        key = (alert.rule, alert.scope)
        if key not in self._alerts and level is Level.NO_DATA:
            return
        self._alerts[key] = alert
        row = {
            "rule": alert.rule,
            "scope": alert.scope,
            "state": alert.state.value,
            "level": level.value,
            "since": alert.since,
            "below_since": alert.below_since,
            "incident_id": alert.incident_id,
            "signal": dict(signal),
            "updated_at": self._now,
        }
        incidents.save_alert(self._connection, row)

    def _retire_unknown_rules(self) -> None:
        """A rule that is no longer in the book neither fires nor holds anything."""
        known = {rule.alert for rule in self._rulebook.rules}
        for (name, scope), alert in list(self._alerts.items()):
            if name in known or alert.state is AlertState.INACTIVE:
                continue
            if alert.incident_id is not None:
                self._end_without_rule(alert, alert.incident_id)
            self._keep(Alert(rule=name, scope=scope, since=self._now), Level.NO_DATA, {})

    def _end_without_rule(self, alert: Alert, incident_id: int) -> None:
        """Resolve an incident whose rule was taken out; if it was told, tell its end too, with what was last said."""
        incidents.resolve_incident(self._connection, incident_id, at=self._now)
        told = incidents.incident(self._connection, incident_id)["announced"]
        if told:
            done = "its rule was taken out of the rules file"
            payload = {**told, "kind": "resolved", "threshold": done, **self._outcome(alert)}
            incidents.announce(self._connection, incident_id, kind="resolved", payload=payload, at=self._now)

    def _release_orphans(self) -> None:
        """No cause holds a raise without an alert that fires."""
        if self._settings.mode != "enforce":
            return
        for scope in list(self._book.scopes.values()):
            for cause in sorted(scope.causes):
                if not self._fires(cause, scope.scope) and not self._policy(scope.scope).pinned:
                    change = Change(
                        scope=scope.scope, act=PolicyAct.RELEASE, cause=cause, why="its rule does not fire here"
                    )
                    self._apply(change)

    def _fires(self, rule: str, scope: str) -> bool:
        alert = self._alerts.get((rule, scope))
        return alert is not None and alert.state is AlertState.FIRING

    def _policy(self, scope: str) -> Policy:
        return self._book.for_route(scope)

    def _scope(self, scope: str) -> ScopePolicy:
        return self._book.scopes.get(scope) or ScopePolicy(scope=scope)


def _count(connection: Connection, since: float, until: float) -> Mapping[str, counters.RouteCounts]:
    return counters.by_route(connection, since=since, until=until)


def _escalated_seconds(connection: Connection, since: float, until: float) -> Mapping[str, AbstractSet[int]]:
    return counters.escalated_seconds(connection, since=since, until=until)


def _state(row: Mapping[str, Any]) -> AlertState:
    """The stored state; one that this version does not know counts as inactive, so that the other rules still run."""
    try:
        return AlertState(row["state"])
    except ValueError:
        _log.warning("the alert %s of %s has the unknown state %r", row["rule"], row["scope"], row["state"])
        return AlertState.INACTIVE


def _alert(row: Mapping[str, Any]) -> Alert:
    return Alert(
        rule=row["rule"],
        scope=row["scope"],
        state=_state(row),
        since=row["since"],
        below_since=row["below_since"],
        incident_id=row["incident_id"],
    )
