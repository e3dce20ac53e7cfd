"""From changes of alerts to messages: which are due, and what they say.

It reads what explains an incident by single statements, outside of any transaction, and writes nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cheapdeep_ops.guard.incidents.attention import is_silenced
from cheapdeep_ops.guard.incidents.changes import Digest, Message, OpenIncident, Unit
from cheapdeep_ops.guard.incidents.evaluation import TICKET, AlertUpdate, Evaluation
from cheapdeep_ops.guard.notify.messages import Kind, digest_message, incident_message, threshold_text
from cheapdeep_ops.guard.rules.escalation.cost import storm_consequence
from cheapdeep_ops.guard.rules.model import Action, AlertState, Rule, ScopedAlert, StormRule, Transition
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Connection

CHANGED_EVERY_S: Final = 60.0
"""How often, at most, a message about an open incident is brought up to date."""

PAGE: Final = "page"
"""The severity of alerts that page a person on call."""


class Announcer:
    """Adds the messages that are due to the units of one evaluation."""

    def __init__(self, connection: Connection, evaluation: Evaluation, *, settings: Settings, now: float) -> None:
        self._connection = connection
        self._evaluation = evaluation
        self._settings = settings
        self._silences = evaluation.silences
        self._last_ticket_at = evaluation.last_ticket_at
        self._now = now

    def run(self) -> list[Unit]:
        """Complete the units of the evaluation; returns those to be made after them."""
        for update, unit in self._evaluation.updates:
            self._announce(update, unit)
        for alert, incident, unit in self._evaluation.orphans:
            self._announce_end_without_rule(alert, incident, unit)
        held = list(self._held(self._evaluation.incidents.values()))
        digest = self._digest(self._evaluation.incidents.values())
        return [*held, *([digest] if digest else [])]

    def _announce(self, update: AlertUpdate, unit: Unit) -> None:
        """Add the message about one alert, where there is news or a reminder is due."""
        incident = update.incident
        if incident is None or Action.NOTIFY not in update.rule.actions:
            return
        kind = self._news(update, incident)
        if kind is not None:
            unit.messages.append(self._message(kind, update, incident))
        elif incident.announced and self._is_overdue(update.rule, update.alert, incident):
            unit.messages.append(self._reminder(update, incident))

    def _announce_end_without_rule(self, alert: ScopedAlert, incident: OpenIncident, unit: Unit) -> None:
        """Say that an incident is over whose rule was taken out, with what was last said; only if it was announced."""
        if not incident.announced:
            return
        during = self._outcome(alert.scope, incident.started_at)
        payload = {**incident.announced, "threshold": "its rule was taken out of the rules file", **during}
        unit.messages.append(self._end(alert, incident, payload))

    def _held(self, incidents: Iterable[OpenIncident]) -> Iterable[Unit]:
        """Send the ends of incidents that silences have kept back, once those are over."""
        for incident in incidents:
            if incident.held is not None and not self._is_silenced(incident.rule, incident.scope):
                message = Message(way="tell", incident=incident, kind="resolved", payload=incident.held)
                yield Unit(messages=[message], releases=incident)

    def _digest(self, incidents: Iterable[OpenIncident]) -> Unit | None:
        """One message about all tickets that wait, once the period since the last ticket or digest is over."""
        waiting = [each for each in incidents if each.collected_at is not None]
        due = [each for each in waiting if not self._is_silenced(each.rule, each.scope)]
        if not due or self._last_ticket_at is not None:
            return None
        since = min(each.started_at for each in due)
        payload = digest_message([dict(each.announced) for each in due], since=since, at=self._now)
        return Unit(digest=Digest(incidents=tuple(due), payload=payload))

    def _news(self, update: AlertUpdate, incident: OpenIncident) -> Kind | None:
        """The kind of message that is due, or None. An end is said only of what was announced."""
        if update.turn is Transition.RESOLVED:
            return "resolved" if incident.announced else None
        if incident.collected_at is not None:
            return None
        if update.alert.state is not AlertState.FIRING or self._is_silenced(incident.rule, incident.scope):
            return None
        if not incident.announced:
            return "started"
        return "changed" if self._has_moved(update, incident) else None

    def _has_moved(self, update: AlertUpdate, incident: OpenIncident) -> bool:
        """Whether the last message is out of date, or a person has changed the threshold."""
        if self._now - incident.announced_at < CHANGED_EVERY_S:
            return False
        said = incident.announced
        has_moved = update.sense.has_moved(
            self._connection, said, update.finding, update.alert.scope, incident.started_at
        )
        return has_moved or said.get("effective_threshold") != update.policy.threshold

    def _is_overdue(self, rule: Rule, alert: ScopedAlert, incident: OpenIncident) -> bool:
        """Whether to send a reminder: the page fires, no person has acknowledged it, and no silence covers it."""
        every_s, is_paged = self._settings.renotify_every_s, rule.labels.get("severity") == PAGE
        if not every_s or not is_paged or alert.state is not AlertState.FIRING:
            return False
        if self._now - (incident.called_for_at or incident.started_at) < every_s:
            return False
        return incident.acknowledged is None and not self._is_silenced(alert.rule, alert.scope)

    def _reminder(self, update: AlertUpdate, incident: OpenIncident) -> Message:
        now = {
            "signal": dict(update.finding.signal),
            "started_at": incident.started_at,
            "threshold": "",
            **self._consequence("reminder", update, incident),
        }
        return Message(way="remind", incident=incident, kind="reminder", payload={**incident.announced, **now})

    def _message(self, kind: Kind, update: AlertUpdate, incident: OpenIncident) -> Message:
        rule, scope = update.rule, update.alert.scope
        facts = {
            "effective_threshold": update.policy.threshold,
            "threshold": self._threshold(kind, update) if rule.raises else "",
            **update.sense.facts(self._connection, scope, incident.started_at),
            **self._consequence(kind, update, incident),
            **(self._outcome(scope, incident.started_at) if kind == "resolved" else {}),
            **({"acknowledged": incident.acknowledged} if incident.acknowledged else {}),
        }
        payload = incident_message(kind, rule, scope, signal=update.finding.signal, facts=facts)
        if kind == "resolved":
            return self._end(update.alert, incident, payload)
        if kind == "started" and payload["severity"] == TICKET:
            return self._ticket(incident, payload)
        return Message(way="tell", incident=incident, kind=kind, payload=payload)

    def _ticket(self, incident: OpenIncident, payload: Mapping[str, Any]) -> Message:
        """The start of a ticket: in the next digest, where a ticket or a digest was sent within its period."""
        if self._last_ticket_at is not None:
            return self._collect(incident, payload, kind="started")
        if self._settings.digest_every_s:
            self._last_ticket_at = self._now
        return Message(way="tell", incident=incident, kind="started", payload=payload)

    def _end(self, alert: ScopedAlert, incident: OpenIncident, payload: Mapping[str, Any]) -> Message:
        """The end of an incident: in the digest that it waits for, after a silence, or now."""
        if incident.collected_at is not None:
            return self._collect(incident, {**payload, "kind": "resolved"}, kind="resolved")
        way: Any = "hold" if self._is_silenced(alert.rule, alert.scope) else "tell"
        return Message(way=way, incident=incident, kind="resolved", payload=payload)

    def _collect(self, incident: OpenIncident, payload: Mapping[str, Any], *, kind: Kind) -> Message:
        # Noted at once, because a digest of this evaluation says it too.
        incident.announced, incident.collected_at = payload, self._now
        return Message(way="collect", incident=incident, kind=kind, payload=payload)

    def _consequence(self, kind: Kind, update: AlertUpdate, incident: OpenIncident) -> dict[str, Any]:
        """What a storm costs; nothing for other rules: what wrong answers cost is unknown."""
        if not isinstance(update.rule, StormRule):
            return {}
        consequence = storm_consequence(
            self._connection,
            update.rule,
            update.finding.signal,
            scope=incident.scope,
            started_at=incident.started_at,
            is_over=kind == "resolved",
            now=self._now,
        )
        return {"consequence": consequence}

    def _threshold(self, kind: Kind, update: AlertUpdate) -> str:
        """What was done to the threshold, or what a mode that changes nothing kept from being done."""
        is_kept = self._settings.mode != "enforce" and kind != "resolved"
        would_be = self._settings.raised_threshold if is_kept else None
        return threshold_text(update.was, update.policy, mode=self._settings.mode, would_be=would_be)

    def _outcome(self, scope: str, started_at: float) -> dict[str, Any]:
        """How long an incident lasted (seconds), and the calls meanwhile."""
        names = ("calls", "escalated", "withheld")
        during = counters.sums_of(self._connection, names, since=started_at, until=self._now, scope=scope)
        return {"lasted_s": self._now - started_at, **during}

    def _is_silenced(self, rule: str, scope: str) -> bool:
        return is_silenced(self._silences, rule, scope)
