"""People's reactions to alerts: the active silences, and the acknowledgement of an incident."""

from collections.abc import Iterable, Mapping

from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.store import silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import record_of


def acknowledged_fact(connection: Connection, incident_id: int) -> dict[str, object]:
    """The newest acknowledgement of an incident, as a part of its message; empty if there is none."""
    acknowledgements = silences.acknowledgements(connection, [incident_id])
    return {"acknowledged": acknowledgements[incident_id]} if incident_id in acknowledgements else {}


def active_silences(connection: Connection, now: float) -> list[Silence]:
    """The silences that are active, as the API shows them: `route` is None if a silence covers all routes."""
    return [record_of(Silence, {**row, "route": row["scope"]}) for row in silences.active(connection, at=now)]


def is_silenced(active: Iterable[Mapping[str, object]], rule: str, scope: str) -> bool:
    """Whether one of these silences covers the rule in that scope."""
    return any(each["rule"] == rule and each["scope"] in (None, scope) for each in active)
