"""What people have said of alerts: the silences that are active, and who looks after an incident."""

from collections.abc import Iterable, Mapping
from typing import Any

from cheapdeep_ops.store import silences
from cheapdeep_ops.store.engine import Connection


def acknowledged_fact(connection: Connection, incident_id: int) -> dict[str, Any]:
    """The newest acknowledgement of an incident, as a part of its message; empty where there is none."""
    acknowledgements = silences.acknowledgements(connection, [incident_id])
    return {"acknowledged": acknowledgements[incident_id]} if incident_id in acknowledgements else {}


def active_silences(connection: Connection, now: float) -> list[dict[str, Any]]:
    """The silences that are active, as people see them: `route` is None where a silence covers all routes."""
    return [
        {("route" if name == "scope" else name): value for name, value in row.items()}
        for row in silences.active(connection, at=now)
    ]


def is_silenced(active: Iterable[Mapping[str, Any]], rule: str, scope: str) -> bool:
    """Whether one of these silences covers the rule in that scope."""
    return any(each["rule"] == rule and each["scope"] in (None, scope) for each in active)
