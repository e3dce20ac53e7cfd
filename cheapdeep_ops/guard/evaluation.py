"""One evaluation of all rules: alert states, policy changes and messages, on one open transaction."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from cheapdeep_ops.guard.attention import acknowledged_fact, is_silenced
from cheapdeep_ops.guard.consequences import storm_consequence
from cheapdeep_ops.guard.links import links_of
from cheapdeep_ops.guard.messages import Kind, digest_message, incident_message, threshold_text
from cheapdeep_ops.guard.rulebook import Rulebook
from cheapdeep_ops.guard.rules import Action, Alert, AlertState, Finding, Level, Rule, StormRule, Turn, step
from cheapdeep_ops.guard.senses import Alerts, Sense, Senses
from cheapdeep_ops.guard.shelf import Shelf
from cheapdeep_ops.guard.telling import remind, tell
from cheapdeep_ops.policy import Policy, PolicyAct, ScopePolicy
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import attention, counters, incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import Change
from cheapdeep_ops.values import ALL_ROUTES

_log: Final = logging.getLogger(__name__)
CHANGED_EVERY_S: Final = 60.0
"""How often, at most, a message about an open incident is brought up to date."""

STORED_EVERY_S: Final = 60.0
"""How often an alert of which nothing is new is stored: `updated_at` lags by so much at most."""


PAGE: Final = "page"
"""The severity of rules for which somebody is called."""

TICKET: Final = "ticket"
"""The severity of rules that can wait for a digest."""


class Evaluation:
    """What one step of the guard reads, decides and writes; made anew for every step."""

    def __init__(
        self, connection: Connection, *, settings: Settings, rulebook: Rulebook, shelf: Shelf, now: float
    ) -> None:
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
        self._stored = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
        self._changed: list[dict[str, Any]] = []
        self._alerts = Alerts(
            {key: _alert(row) for key, row in self._stored.items()},
            signals={key: row["signal"] for key, row in self._stored.items()},
        )
        self._senses = Senses(
            connection,
            settings=settings,
            rulebook=rulebook,
            shelf=shelf,
            alerts=self._alerts,
            is_pinned=lambda scope: self._policy(scope).pinned,
            now=now,
        )

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
        self._tell_held()
        self._tell_collected()
        incidents.save_alerts(self._connection, self._changed)

    def _run(self, rule: Rule) -> None:
        """Each scope by itself; then, together, the routes that do not fire by themselves."""
        sense = self._senses.of(rule)
        known = self._alerts.scopes_of(rule.alert) - ({ALL_ROUTES} if sense.is_joint else set())
        for scope in sorted(sense.scopes | known):
            self._judge(rule, sense, scope, {scope})
        quiet = {scope for scope in sense.scopes if not self._alerts.fires(rule.alert, scope)}
        if sense.is_joint and (len(sense.scopes) > 1 or self._alerts.fires(rule.alert, ALL_ROUTES)):
            self._judge(rule, sense, ALL_ROUTES, quiet)

    def _judge(self, rule: Rule, sense: Sense, scope: str, routes: set[str]) -> None:
        before = self._alerts.get(rule.alert, scope)
        found = sense.finding(routes, before)
        after, turn = step(rule, before, found.level, self._now)
        policy = self._policy(scope)
        if turn is Turn.STARTED:
            after = replace(after, incident_id=self._open(rule, scope))
        elif turn is Turn.RESOLVED and after.incident_id is not None:
            incidents.resolve_incident(self._connection, after.incident_id, at=self._now)
        self._align(rule, scope, found, fires=after.state is AlertState.FIRING, turn=turn)
        self._tell(rule, sense, after, found, turn=turn, was=policy)
        if turn is Turn.RESOLVED:
            after = replace(after, incident_id=None)
        self._keep(after, found)

    def _open(self, rule: Rule, scope: str) -> int:
        return incidents.open_incident(self._connection, rule=rule.alert, scope=scope, at=self._now)

    def _align(self, rule: Rule, scope: str, found: Finding, *, fires: bool, turn: Turn | None) -> None:
        """Make the scope's causes agree with the alert, unless a person or the mode says otherwise.

        Compares states rather than following turns, so that a raise that a pin kept off comes when the pin goes.
        """
        held = rule.alert in self._scope(scope).causes
        wanted = fires and rule.raises
        if wanted == held:
            return
        act = PolicyAct.RAISE if wanted else PolicyAct.RELEASE
        change = Change(scope=scope, act=act, cause=rule.alert, signal=found.signal)
        if self._settings.mode == "enforce" and not self._policy(scope).pinned:
            self._apply(change)
        elif turn is not None:
            policies.note(self._connection, self._book, change, at=self._now)

    def _tell(self, rule: Rule, sense: Sense, alert: Alert, found: Finding, *, turn: Turn | None, was: Policy) -> None:
        if alert.incident_id is None or Action.NOTIFY not in rule.actions:
            return
        row = incidents.incident(self._connection, alert.incident_id)
        kind = self._kind_of_news(sense, alert, row, found, turn=turn)
        if kind is not None:
            self._announce(kind, rule, sense, alert, found, was=was)
        elif row["announced"] and self._is_overdue(rule, alert, row):
            self._remind(rule, row, found)

    def _kind_of_news(
        self, sense: Sense, alert: Alert, row: Mapping[str, Any], found: Finding, *, turn: Turn | None
    ) -> Kind | None:
        """What there is to tell, if anything; nobody hears of the end of what nobody has heard of."""
        if turn is Turn.RESOLVED:
            return "resolved" if row["announced"] else None
        if row["collected_at"] is not None:
            return None
        if alert.state is not AlertState.FIRING or self._is_silenced(alert.rule, alert.scope):
            return None
        if not row["announced"]:
            return "started"
        return "changed" if self._is_news(sense, alert, row, found) else None

    def _is_to_wait(self, payload: Mapping[str, Any]) -> bool:
        """Whether the start of an incident is for the next digest: it is none to page for, and one was told lately."""
        return payload["severity"] == TICKET and self._last_ticket_at() is not None

    def _last_ticket_at(self) -> float | None:
        """When a ticket or a digest was last told within the period of digests; None where none was, or none are."""
        every_s = self._settings.digest_every_s
        told = incidents.begun_since(self._connection, self._now - every_s) if every_s else []
        is_one = (at for at, said in told if said["kind"] == "digest" or said.get("severity") == TICKET)
        return max(is_one, default=None)

    def _tell_collected(self) -> None:
        """Say what has been collected in one message, once the period since the last one is over."""
        waiting = incidents.collected(self._connection)
        rows = [row for row in waiting if not self._is_silenced(row["rule"], row["scope"])]
        if not rows or self._last_ticket_at() is not None:
            return
        since = min(row["started_at"] for row in rows)
        payload = digest_message([row["announced"] for row in rows], since=since, at=self._now)
        incidents.digest(self._connection, [row["id"] for row in rows], payload=payload, at=self._now)

    def _is_overdue(self, rule: Rule, alert: Alert, row: Mapping[str, Any]) -> bool:
        """Whether people are to be told once more of an incident that nobody looks after."""
        every_s, is_paged = self._settings.renotify_every_s, rule.labels.get("severity") == PAGE
        if not every_s or not is_paged or alert.state is not AlertState.FIRING:
            return False
        if self._now - (row["called_for_at"] or row["started_at"]) < every_s:
            return False
        is_looked_after = acknowledged_fact(self._connection, row["id"])
        return not is_looked_after and not self._is_silenced(alert.rule, alert.scope)

    def _remind(self, rule: Rule, row: Mapping[str, Any], found: Finding) -> None:
        now = {
            "signal": dict(found.signal),
            "started_at": row["started_at"],
            "threshold": "",
            **self._consequence("reminder", rule, row["scope"], found, row["started_at"]),
        }
        remind(self._connection, row["id"], {**row["announced"], **now}, at=self._now)

    def _is_silenced(self, rule: str, scope: str) -> bool:
        return is_silenced(self._silences, rule, scope)

    @cached_property
    def _silences(self) -> list[dict[str, Any]]:
        return attention.silences(self._connection, at=self._now)

    def _announce(self, kind: Kind, rule: Rule, sense: Sense, alert: Alert, found: Finding, *, was: Policy) -> None:
        if alert.incident_id is None:
            return
        after = self._policy(alert.scope)
        started_at = incidents.incident(self._connection, alert.incident_id)["started_at"]
        facts = {
            "incident_id": alert.incident_id,
            "effective_threshold": after.threshold,
            "threshold": self._threshold_text(was, after, self._would_be(kind, rule)) if rule.raises else "",
            **sense.facts(alert.scope, started_at),
            **self._consequence(kind, rule, alert.scope, found, started_at),
            **(self._outcome(alert.scope, started_at) if kind == "resolved" else {}),
            **acknowledged_fact(self._connection, alert.incident_id),
            "links": self._links(kind, rule, alert.scope, alert.incident_id, started_at),
        }
        payload = incident_message(kind, rule, alert.scope, signal=found.signal, facts=facts)
        if kind == "resolved":
            self._tell_end(alert, alert.incident_id, payload)
        elif kind == "started" and self._is_to_wait(payload):
            incidents.collect(self._connection, alert.incident_id, payload=payload, at=self._now)
        else:
            self._say(kind, alert.incident_id, payload)

    def _say(self, kind: Kind, incident_id: int, payload: Mapping[str, Any]) -> None:
        tell(self._connection, self._settings, incident_id, kind=kind, payload=payload, at=self._now)

    def _tell_end(self, alert: Alert, incident_id: int, payload: Mapping[str, Any]) -> None:
        """Say that an incident is over; under a silence, once that has ended: its message is still open."""
        if incidents.incident(self._connection, incident_id)["collected_at"] is not None:
            incidents.collect(self._connection, incident_id, payload={**payload, "kind": "resolved"}, at=self._now)
        elif self._is_silenced(alert.rule, alert.scope):
            incidents.hold(self._connection, incident_id, payload)
        else:
            self._say("resolved", incident_id, payload)

    def _tell_held(self) -> None:
        """Say what silences have kept back that are over."""
        for row in incidents.held(self._connection):
            if not self._is_silenced(row["rule"], row["scope"]):
                self._say("resolved", row["id"], row["held"])
                incidents.hold(self._connection, row["id"], None)

    def _consequence(self, kind: Kind, rule: Rule, scope: str, found: Finding, started_at: float) -> dict[str, Any]:
        """What a storm costs; nothing for other rules, whose cost is what wrong answers do to others."""
        if not isinstance(rule, StormRule):
            return {}
        times = {"started_at": started_at, "now": self._now}
        is_over = kind == "resolved"
        return {
            "consequence": storm_consequence(
                self._connection, rule, found.signal, scope=scope, is_over=is_over, **times
            )
        }

    def _links(self, kind: Kind, rule: Rule, scope: str, incident_id: int, started_at: float) -> list[list[str]]:
        return links_of(
            self._settings,
            incident_id=incident_id,
            scope=scope,
            runbook=rule.annotations.get("runbook", ""),
            started_at=started_at,
            over_at=self._now if kind == "resolved" else None,
        )

    def _would_be(self, kind: Kind, rule: Rule) -> float | None:
        """The threshold that a mode which changes nothing keeps a scope from while a rule fires."""
        kept_from = self._settings.mode != "enforce" and kind != "resolved" and rule.raises
        return self._settings.raised_threshold if kept_from else None

    def _threshold_text(self, was: Policy, after: Policy, would_be: float | None) -> str:
        return threshold_text(was, after, mode=self._settings.mode, would_be=would_be)

    def _outcome(self, scope: str, started_at: float) -> dict[str, Any]:
        """How long an incident lasted and what passed meanwhile."""
        names = ("calls", "escalated", "withheld")
        during = counters.sums_of(self._connection, names, since=started_at, until=self._now, scope=scope)
        return {"lasted_s": self._now - started_at, **during}

    def _is_news(self, sense: Sense, alert: Alert, row: Mapping[str, Any], found: Finding) -> bool:
        """Whether what was last told is no longer so, or a person has changed the threshold."""
        if self._now - row["announced_at"] < CHANGED_EVERY_S:
            return False
        told = row["announced"]
        has_moved = sense.has_moved(told, found, alert.scope, row["started_at"])
        return has_moved or told.get("effective_threshold") != self._policy(alert.scope).threshold

    def _keep(self, alert: Alert, found: Finding) -> None:
        if not self._alerts.knows(alert) and found.level is Level.NO_DATA:
            return
        self._alerts.put(alert, found.level)
        row = {
            "rule": alert.rule,
            "scope": alert.scope,
            "state": alert.state.value,
            "level": found.level.value,
            "since": alert.since,
            "below_since": alert.below_since,
            "incident_id": alert.incident_id,
            "signal": dict(found.signal),
            "updated_at": self._now,
        }
        if self._is_worth_storing(row):
            self._changed.append(row)

    def _is_worth_storing(self, row: Mapping[str, Any]) -> bool:
        """Whether anything but the time has changed, or that is old: the store is written to as little as can be."""
        stored = self._stored.get((row["rule"], row["scope"]))
        if stored is None or abs(self._now - stored["updated_at"]) >= STORED_EVERY_S:
            return True
        return any(row[name] != stored[name] for name in row if name != "updated_at")

    def _retire_unknown_rules(self) -> None:
        """A rule that is no longer in the book neither fires nor holds anything."""
        known = {rule.alert for rule in self._rulebook.rules}
        for alert in self._alerts:
            if alert.rule in known or alert.state is AlertState.INACTIVE:
                continue
            if alert.incident_id is not None:
                self._end_without_rule(alert, alert.incident_id)
            self._keep(Alert(rule=alert.rule, scope=alert.scope, since=self._now), Finding(level=Level.NO_DATA))

    def _end_without_rule(self, alert: Alert, incident_id: int) -> None:
        """Resolve an incident whose rule was taken out; if it was told, tell its end too, with what was last said."""
        incidents.resolve_incident(self._connection, incident_id, at=self._now)
        found = incidents.incident(self._connection, incident_id)
        if found["announced"]:
            done = "its rule was taken out of the rules file"
            during = self._outcome(alert.scope, found["started_at"])
            self._tell_end(alert, incident_id, {**found["announced"], "threshold": done, **during})

    def _release_orphans(self) -> None:
        """No cause holds a raise without an alert that fires."""
        if self._settings.mode != "enforce":
            return
        for scope in list(self._book.scopes.values()):
            for cause in sorted(scope.causes):
                if not self._alerts.fires(cause, scope.scope) and not self._policy(scope.scope).pinned:
                    change = Change(
                        scope=scope.scope, act=PolicyAct.RELEASE, cause=cause, why="its rule does not fire here"
                    )
                    self._apply(change)

    def _policy(self, scope: str) -> Policy:
        return self._book.for_route(scope)

    def _scope(self, scope: str) -> ScopePolicy:
        return self._book.scopes.get(scope) or ScopePolicy(scope=scope)


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
