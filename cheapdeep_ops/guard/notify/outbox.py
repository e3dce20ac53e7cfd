"""Puts messages about an incident into the outbox: one for its message and, with threads, one for its thread."""

from collections.abc import Mapping
from typing import Any

from cheapdeep_ops.guard.notify.messages import Kind
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.engine import Connection


def announce(
    connection: Connection, settings: Settings, incident_id: int, *, kind: Kind, payload: Mapping[str, Any], at: float
) -> None:
    """Update the incident's message to `payload`, and reply with it in the thread, if there are threads."""
    message = {**payload, "kind": kind, "at": at}
    incidents.announce(connection, incident_id, kind=kind, payload=message, at=at)
    if kind == "started":
        incidents.mark_notified(connection, incident_id, at=at)
    if settings.has_threads:
        # A message of its own: if the reply fails, the incident's message must not be posted again.
        in_thread = {**message, "in_thread": True}
        incidents.enqueue(connection, incident_id=incident_id, kind=kind, payload=in_thread, at=at)


def remind(connection: Connection, incident_id: int, payload: Mapping[str, Any], *, at: float) -> None:
    """Remind people of an open incident: in its thread, or with a new message if there are no threads."""
    message = {**payload, "kind": "reminder", "at": at, "in_thread": True}
    incidents.enqueue(connection, incident_id=incident_id, kind="reminder", payload=message, at=at)
    incidents.mark_notified(connection, incident_id, at=at)
