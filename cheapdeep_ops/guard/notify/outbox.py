"""Puts messages about an incident into the outbox: one for its message and, with threads, one for its thread."""

from cheapdeep_ops.guard.formatting import moment
from cheapdeep_ops.guard.notify.messages import Kind
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES


def announce(
    connection: Connection, settings: Settings, incident_id: int, *, kind: Kind, payload: Payload, at: float
) -> None:
    """Update the incident's message to `payload`, and reply with it in the thread, if there are threads."""
    message = {**with_orders(connection, settings, payload, at=at), "kind": kind, "at": at}
    incidents.announce(connection, incident_id, kind=kind, payload=message, at=at)
    if kind == "started":
        incidents.mark_notified(connection, incident_id, at=at)
    if settings.has_threads:
        # A message of its own: if the reply fails, the incident's message must not be posted again.
        in_thread = {**message, "in_thread": True}
        incidents.enqueue(connection, incident_id=incident_id, kind=kind, payload=in_thread, at=at)


def remind(connection: Connection, incident_id: int, payload: Payload, *, at: float) -> None:
    """Remind people of an open incident: in its thread, or with a new message if there are no threads."""
    message = {**payload, "kind": "reminder", "at": at, "in_thread": True}
    incidents.enqueue(connection, incident_id=incident_id, kind="reminder", payload=message, at=at)
    incidents.mark_notified(connection, incident_id, at=at)


def with_orders(connection: Connection, settings: Settings, payload: Payload, *, at: float) -> Payload:
    """`payload` with what people have ordered about its rule and scope, and what its buttons need to know."""
    orders = orders_in_force(connection, rule=payload["rule"], scope=payload["scope"], at=at)
    rest = {key: value for key, value in payload.items() if key not in ("orders", "buttons")}
    if orders:
        rest["orders"] = orders
    if settings.has_buttons:
        rest["buttons"] = {"pinned": any(order["act"] == "pin" for order in orders)}
    return rest


def orders_in_force(connection: Connection, *, rule: str, scope: str, at: float) -> list[dict[str, object]]:
    """The pin of a scope and the silences of a rule there, as parts of a message, oldest first."""
    pins = {pin.scope: pin for pin in policies.pins(connection)}
    orders: list[dict[str, object]] = []
    if pin := pins.get(scope) or pins.get(ALL_ROUTES):
        whose = "" if pin.scope == scope else " for all routes"
        until = "until a person releases it" if pin.until is None else f"until {moment(pin.until)}"
        orders.append(
            {"act": "pin", "what": f"Threshold pinned at {pin.threshold:g}{whose} {until}", "scope": pin.scope,
             "author": pin.author, "at": pin.at, "why": pin.why}
        )  # fmt: skip
    for silence in silences.active(connection, at=at):
        if silences.is_silenced([silence], rule, scope):
            until = "the incident is over" if silence["incident_id"] is not None else moment(silence["until"])
            known = {name: silence[name] for name in ("author", "why")}
            orders.append({"act": "silence", "what": f"Silenced until {until}", "at": silence["since"], **known})
    return orders
