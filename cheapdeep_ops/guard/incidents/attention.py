"""People's reactions to alerts: silences, acknowledgements, and pins that a person may have forgotten."""

from collections.abc import Sequence
from typing import Final

from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.store import incidents, policies, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import Pin
from cheapdeep_ops.store.records import record_of
from cheapdeep_ops.store.silences import is_silenced
from cheapdeep_ops.units import DAY_S, WEEK_S

__all__ = ["acknowledged_fact", "active_silences", "is_silenced", "old_pins", "untold"]

_OLD_S: Final = float(DAY_S)
"""The age from which people are told of a pin."""

_TOLD_EVERY_S: Final = float(WEEK_S)
"""How often people are told of a pin that stays: a daily message would soon be overlooked."""


def acknowledged_fact(connection: Connection, incident_id: int) -> dict[str, object]:
    """The newest acknowledgement of an incident, as a part of its message; empty if there is none."""
    acknowledgements = silences.acknowledgements(connection, [incident_id])
    return {"acknowledged": acknowledgements[incident_id]} if incident_id in acknowledgements else {}


def active_silences(connection: Connection, now: float) -> list[Silence]:
    """The silences that are active, as the API shows them: `route` is None if a silence covers all routes."""
    return [record_of(Silence, {**row, "route": row["scope"]}) for row in silences.active(connection, at=now)]


def old_pins(connection: Connection, now: float) -> list[Pin]:
    """The pins that a person may have forgotten, oldest first."""
    pins = policies.pins(connection)
    return [pin for pin in pins if pin.at < now - _OLD_S and (pin.until is None or pin.until > now)]


def untold(connection: Connection, pins: Sequence[Pin], now: float) -> list[Pin]:
    """Those of `pins` that no digest of the last week has named."""
    if not pins:
        return []
    sent = incidents.start_messages_since(connection, now - _TOLD_EVERY_S)
    told = {(pin["scope"], pin["at"]) for _, payload in sent for pin in payload.get("pins", ())}
    return [pin for pin in pins if (pin.scope, pin.at) not in told]
