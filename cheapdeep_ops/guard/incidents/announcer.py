"""Turns the updates of alerts into messages: which are due, their payloads, and how they are sent.

It reads the facts of an incident with single statements, outside of any transaction, and writes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Final, Literal

from cheapdeep_ops.guard.incidents.attention import is_silenced, old_pins, untold
from cheapdeep_ops.guard.incidents.changes import Digest, Message, OpenIncident, Unit
from cheapdeep_ops.guard.incidents.evaluation import AlertUpdate, Evaluation
from cheapdeep_ops.guard.incidents.stored import TICKET
from cheapdeep_ops.guard.notify.messages import Kind, digest_message, incident_message, threshold_text
from cheapdeep_ops.guard.notify.outbox import orders_in_force
from cheapdeep_ops.guard.rules.model import Action, AlertState, ScopedAlert, Transition
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S

CHANGED_EVERY_S: Final = 60.0
"""How often a message about an open incident is updated, at most."""

PAGE: Final = "page"
"""The severity of alerts that page the person on call."""


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
        """Add the messages to the units of the evaluation; returns further units, to be stored after them."""
        for update, unit in self._evaluation.updates:
            self._announce(update, unit)
        for alert, incident, unit in self._evaluation.orphans:
            self._announce_end_without_rule(alert, incident, unit)
        unsuppressed = list(self._unsuppressed(self._evaluation.incidents.values()))
        digest = self._digest(self._evaluation.incidents.values())
        return [*unsuppressed, *([digest] if digest else [])]

    def _announce(self, update: AlertUpdate, unit: Unit) -> None:
        """Add the message or the reminder about one alert, if one is due."""
        incident = update.incident
        if incident is None or Action.NOTIFY not in update.rule.actions:
            return
        kind = self._due(update, incident)
        if kind is not None:
            unit.messages.append(self._message(kind, update, incident))
        elif incident.announced and self._is_reminder_due(update, incident):
            unit.messages.append(self._reminder(update, incident))

    def _announce_end_without_rule(self, alert: ScopedAlert, incident: OpenIncident, unit: Unit) -> None:
        """Add the resolved message of an incident whose rule was removed; only if the incident was announced."""
        if not incident.announced:
            return
        during = self._outcome(alert.scope, incident.started_at)
        payload = {**incident.announced, "threshold": "its rule was removed from the rules file", **during}
        unit.messages.append(self._end(alert, incident, payload))

    def _unsuppressed(self, incidents: Iterable[OpenIncident]) -> Iterable[Unit]:
        """The suppressed resolved messages whose silence has ended."""
        for incident in incidents:
            if incident.held is not None and not self._is_silenced(incident.rule, incident.scope):
                message = Message(way="send", incident=incident, kind="resolved", payload=incident.held)
                yield Unit(messages=[message], unsuppresses=incident)

    def _digest(self, incidents: Iterable[OpenIncident]) -> Unit | None:
        """One message about all deferred tickets, `digest_every_s` after the last ticket or digest; None before.

        It names the pins that a person may have forgotten. Without tickets, it is sent for those that are not told yet.
        """
        waiting = [each for each in incidents if each.collected_at is not None]
        due = [each for each in waiting if not self._is_silenced(each.rule, each.scope)]
        if due and self._last_ticket_at is not None:
            return None
        pins = old_pins(self._connection, self._now)
        if not due:
            pins = untold(self._connection, pins, self._now)
        if not due and not pins:
            return None
        since = min([each.started_at for each in due] or [each.at for each in pins])
        known = [asdict(each) for each in pins]
        payload = digest_message([dict(each.announced) for each in due], since=since, at=self._now, pins=known)
        return Unit(digest=Digest(incidents=tuple(due), payload=payload))

    def _due(self, update: AlertUpdate, incident: OpenIncident) -> Kind | None:
        """The kind of message that is due, or None. An incident that was not announced gets no resolved message."""
        if update.transition is Transition.RESOLVED:
            # `_end` suppresses it during a silence, so that it is sent once the silence is over.
            return "resolved" if incident.announced else None
        if incident.collected_at is not None:
            return None
        if update.alert.state is not AlertState.FIRING or self._is_silenced(incident.rule, incident.scope):
            return None
        if not incident.announced:
            return "started"
        return "changed" if self._has_moved(update, incident) else None

    def _has_moved(self, update: AlertUpdate, incident: OpenIncident) -> bool:
        """Whether the last message is out of date, for example because a person has changed the threshold."""
        # Receivers limit the rate of edits.
        if self._now - incident.announced_at < CHANGED_EVERY_S:
            return False
        announced, scope = incident.announced, update.alert.scope
        if update.reader.has_moved(self._connection, announced, update.finding, scope, incident.started_at):
            return True
        if announced.get("effective_threshold") != update.policy.threshold:
            return True
        orders = orders_in_force(self._connection, rule=incident.rule, scope=scope, at=self._now)
        return bool(announced.get("orders", []) != orders)

    def _is_reminder_due(self, update: AlertUpdate, incident: OpenIncident) -> bool:
        """Whether to send a reminder: the page fires, no person has acknowledged it, and no silence covers it."""
        # Only a person ends such an incident, so its message is repeated every day, even if it is acknowledged.
        if update.finding.signal.get("raises_in_day") and update.alert.state is AlertState.FIRING:
            is_day_over = self._now - (incident.called_for_at or incident.started_at) >= DAY_S
            if is_day_over and not self._is_silenced(incident.rule, incident.scope):
                return True
        every_s, is_page = self._settings.renotify_every_s, update.rule.labels.get("severity") == PAGE
        # A ticket may wait, so it is not repeated.
        if not every_s or not is_page or update.alert.state is not AlertState.FIRING:
            return False
        if self._now - (incident.called_for_at or incident.started_at) < every_s:
            return False
        return incident.acknowledged is None and not self._is_silenced(incident.rule, incident.scope)

    def _reminder(self, update: AlertUpdate, incident: OpenIncident) -> Message:
        now = {
            "signal": dict(update.finding.signal),
            "measured_at": self._now,
            "started_at": incident.started_at,
            "threshold": "",
            **self._consequence(update, incident),
        }
        return Message(way="remind", incident=incident, kind="reminder", payload={**incident.announced, **now})

    def _message(self, kind: Kind, update: AlertUpdate, incident: OpenIncident) -> Message:
        rule, scope = update.rule, update.alert.scope
        facts = {
            # A message that a person's act edits later keeps its figures, and this time.
            "measured_at": self._now,
            "effective_threshold": update.policy.threshold,
            "threshold": self._threshold(kind, update) if rule.raises else "",
            **update.reader.facts(self._connection, scope, incident.started_at),
            **self._consequence(update, incident),
            **(self._outcome(scope, incident.started_at) if kind == "resolved" else {}),
            **({"acknowledged": incident.acknowledged} if incident.acknowledged else {}),
            # After a silence, the first message comes long after the start.
            **({"late": True} if kind == "started" and self._now - incident.started_at >= CHANGED_EVERY_S else {}),
        }
        payload = incident_message(kind, rule, scope, signal=update.finding.signal, facts=facts)
        if kind == "resolved":
            return self._end(update.alert, incident, payload)
        if kind == "started" and payload["severity"] == TICKET:
            return self._ticket(incident, payload)
        return Message(way="send", incident=incident, kind=kind, payload=payload)

    def _ticket(self, incident: OpenIncident, payload: Mapping[str, object]) -> Message:
        """The first message of a ticket: now, or in the next digest if one was sent within `digest_every_s`."""
        if self._last_ticket_at is not None:
            return self._defer(incident, payload, kind="started")
        if self._settings.digest_every_s:
            self._last_ticket_at = self._now
        return Message(way="send", incident=incident, kind="started", payload=payload)

    def _end(self, alert: ScopedAlert, incident: OpenIncident, payload: Mapping[str, object]) -> Message:
        """The resolved message: in the digest if its first message waits there, after a silence, or now."""
        if incident.collected_at is not None:
            return self._defer(incident, {**payload, "kind": "resolved"}, kind="resolved")
        way: Literal["suppress", "send"] = "suppress" if self._is_silenced(alert.rule, alert.scope) else "send"
        return Message(way=way, incident=incident, kind="resolved", payload=payload)

    def _defer(self, incident: OpenIncident, payload: Mapping[str, object], *, kind: Kind) -> Message:
        # Set at once, because a digest of this evaluation includes it.
        incident.announced, incident.collected_at = payload, self._now
        return Message(way="defer", incident=incident, kind=kind, payload=payload)

    def _consequence(self, update: AlertUpdate, incident: OpenIncident) -> dict[str, object]:
        return update.reader.consequence(
            self._connection, update.finding, incident.scope, incident.started_at, update.transition
        )

    def _threshold(self, kind: Kind, update: AlertUpdate) -> str:
        """The change of the threshold, or the change that the mode prevented."""
        is_prevented = self._settings.mode != "enforce" and kind != "resolved"
        would_be = self._settings.raised_threshold if is_prevented else None
        return threshold_text(update.policy_before, update.policy, mode=self._settings.mode, would_be=would_be)

    def _outcome(self, scope: str, started_at: float) -> dict[str, object]:
        """How long an incident has lasted, in seconds, and its calls."""
        names = ("calls", "escalated", "withheld")
        during = counters.sums_of(self._connection, names, since=started_at, until=self._now, scope=scope)
        return {"lasted_s": self._now - started_at, **during}

    def _is_silenced(self, rule: str, scope: str) -> bool:
        return is_silenced(self._silences, rule, scope)
