"""What Slack sends when a person presses a button or submits a form; pure.

Sources: https://docs.slack.dev/reference/interaction-payloads/block_actions-payload and
https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cheapdeep_ops.guard.notify.buttons import PREFIX, TITLES

Payload = Mapping[str, Any]

WHY: Final = "why"
"""The id of the block and of the input that every form has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """A press of a button; `at` is in Unix seconds, by Slack's clock."""

    act: str
    incident_id: int
    user: str
    channel: str
    ts: str
    trigger: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFacts:
    """What a form keeps from the click that opened it, as its private metadata."""

    act: str
    incident_id: int
    channel: str
    ts: str
    opened_at: float
    seen: str
    """What the form was about when it opened; it has changed meanwhile if this has."""

    def as_text(self) -> str:
        """The facts as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submitted form. Slack gives each opened form an id, which names the order."""

    key: str
    user: str
    facts: FormFacts
    values: Mapping[str, str]
    """Inputs by their ids."""


def read(payload: Payload) -> Click | Submission | None:
    """The click or the submission in an interaction; None if it is no part of this app, or malformed."""
    try:
        if payload["type"] == "block_actions":
            return _click(payload)
        return _submission(payload) if payload["type"] == "view_submission" else None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def is_own_form(payload: Payload) -> bool:
    """Whether it is a form of this app that was submitted, also if the rest of it cannot be read."""
    try:
        return payload["type"] == "view_submission" and _act(payload["view"]["callback_id"]) is not None
    except (LookupError, TypeError, AttributeError):
        return False


def _click(payload: Payload) -> Click | None:
    button, place = payload["actions"][0], payload["container"]
    act = _act(button["action_id"])
    if act is None or place["type"] != "message":
        return None
    return Click(
        act=act,
        incident_id=int(button["value"]),
        user=str(payload["user"]["id"]),
        channel=str(place["channel_id"]),
        ts=str(place["message_ts"]),
        trigger=str(payload["trigger_id"]),
        at=float(button["action_ts"]),
    )


def _submission(payload: Payload) -> Submission | None:
    view = payload["view"]
    if _act(view["callback_id"]) is None:
        return None
    facts = FormFacts(**json.loads(view["private_metadata"]))
    inputs = [pair for block in view["state"]["values"].values() for pair in block.items()]
    values = {name: _value(element) for name, element in inputs}
    return Submission(key=f"slack:{view['id']}", user=str(payload["user"]["id"]), facts=facts, values=values)


def _act(name: str) -> str | None:
    act = name.removeprefix(PREFIX)
    return act if act != name and act in TITLES else None


def _value(element: Mapping[str, Any]) -> str:
    chosen = element.get("selected_option")
    return str(chosen["value"] if chosen else element.get("value") or "")
