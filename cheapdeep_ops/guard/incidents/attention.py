"""People's reactions to alerts: the active silences, and the acknowledgement of an incident."""

from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.store import silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import record_of
from cheapdeep_ops.store.silences import is_silenced

__all__ = ["acknowledged_fact", "active_silences", "is_silenced"]


def acknowledged_fact(connection: Connection, incident_id: int) -> dict[str, object]:
    """The newest acknowledgement of an incident, as a part of its message; empty if there is none."""
    acknowledgements = silences.acknowledgements(connection, [incident_id])
    return {"acknowledged": acknowledgements[incident_id]} if incident_id in acknowledgements else {}


def active_silences(connection: Connection, now: float) -> list[Silence]:
    """The silences that are active, as the API shows them: `route` is None if a silence covers all routes."""
    return [record_of(Silence, {**row, "route": row["scope"]}) for row in silences.active(connection, at=now)]
