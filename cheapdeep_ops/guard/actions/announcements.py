"""Edits the messages of open incidents when a person has changed something about them."""

from collections.abc import Callable, Mapping
from typing import Any

from cheapdeep_ops.guard.incidents.attention import is_silenced
from cheapdeep_ops.guard.notify.messages import Kind
from cheapdeep_ops.guard.notify.outbox import announce
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, silences
from cheapdeep_ops.store.engine import Connection

Payload = Mapping[str, Any]


def announce_change(
    connection: Connection,
    settings: Settings,
    incident: Mapping[str, Any],
    *,
    now: float,
    kind: Kind = "changed",
    changes: Callable[[Payload], Payload] = lambda _payload: {},
    active: list[dict[str, Any]] | None = None,
) -> None:
    """Update an incident's message, unless the incident is silenced or has no message so far.

    `incident` has all columns; `changes` returns what differs from the last message. `active` are the silences that
    count, by default those that are active.
    """
    active = silences.active(connection, at=now) if active is None else active
    # An incident that waits for a digest has no message yet that could show the change.
    if (
        incident["announced"]
        and incident["collected_at"] is None
        and not is_silenced(active, incident["rule"], incident["scope"])
    ):
        payload = {**incident["announced"], **changes(incident["announced"])}
        announce(connection, settings, incident["id"], kind=kind, payload=payload, at=now)


def announce_threshold(
    connection: Connection,
    settings: Settings,
    scope: str | None,
    *,
    now: float,
    text: Callable[[str], tuple[str, float]],
) -> None:
    """Update the messages of the open incidents of a scope (None: of all), after a change of the threshold.

    `text` returns the change in words, and the threshold in force, of one scope.
    """

    def changes(payload: Payload) -> Payload:
        words, threshold = text(payload["scope"])
        # A rule that does not raise says nothing about the threshold.
        return {"effective_threshold": threshold, **({"threshold": words} if payload.get("threshold") else {})}

    for incident in incidents.open_ones(connection):
        if scope in (None, incident["scope"]):
            announce_change(connection, settings, incident, now=now, changes=changes)
