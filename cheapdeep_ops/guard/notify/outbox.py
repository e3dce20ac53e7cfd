"""Saying something about an incident: into its message and, where there are threads, into its history there."""

from collections.abc import Mapping
from typing import Any

from cheapdeep_ops.guard.notify.messages import Kind
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.engine import Connection


def tell(
    connection: Connection, settings: Settings, incident_id: int, *, kind: Kind, payload: Mapping[str, Any], at: float
) -> None:
    """Have `payload` be what the incident's message says, and be told in its thread."""
    said = {**payload, "kind": kind, "at": at}
    incidents.announce(connection, incident_id, kind=kind, payload=said, at=at)
    if kind == "started":
        incidents.called(connection, incident_id, at=at)
    if settings.has_threads:
        # A message of its own: a reply that fails must not have the message it belongs to posted once more.
        in_thread = {**said, "in_thread": True}
        incidents.enqueue(connection, incident_id=incident_id, kind=kind, payload=in_thread, at=at)


def remind(connection: Connection, incident_id: int, payload: Mapping[str, Any], *, at: float) -> None:
    """Tell people once more of an incident that goes on: in its thread, or by a message where there are no threads."""
    said = {**payload, "kind": "reminder", "at": at, "in_thread": True}
    incidents.enqueue(connection, incident_id=incident_id, kind="reminder", payload=said, at=at)
    incidents.called(connection, incident_id, at=at)
