"""The buttons of an incident's message on Slack, and the lines about what people have ordered; pure.

Source: https://docs.slack.dev/reference/block-kit/blocks/actions-block
"""

from collections.abc import Iterator
from typing import Any, Final

from cheapdeep_ops.guard.formatting import LabelStyle, moment, plain
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.values import ALL_ROUTES

PREFIX: Final = "cheapdeep_"
"""The beginning of the action ids of all buttons, and of the callback ids of their forms."""

CLICKS_PATH: Final = "/slack/interactions"
"""The path of the guard to which Slack posts clicks, with a signature in place of a token."""

LARGEST_CLICK: Final = 256_000
"""Bytes of a posted click: it brings the whole message, each letter that is not ASCII as eight bytes."""

ACKNOWLEDGE: Final = "acknowledge"
SILENCE: Final = "silence"
PIN: Final = "pin"
RELEASE: Final = "release"
RELEARN: Final = "relearn"
TITLES: Final = {
    ACKNOWLEDGE: "Acknowledge",
    SILENCE: "Silence...",
    PIN: "Pin threshold...",
    RELEASE: "Release pin...",
    RELEARN: "Not a problem...",
}
"""The text of each button by its act. Dots say that a form asks for more."""

FALSE_CONFIDENCE: Final = "false_confident_rate"
"""The signal of the rules whose normal a person can have learned again."""

_LONGEST_WHY: Final = 200


def action_blocks(payload: Payload) -> list[dict[str, Any]]:
    """One block with the buttons of a message; none if it is no open incident, or the guard takes no clicks."""
    number, about = payload.get("incident_id"), payload.get("buttons")
    if number is None or about is None or payload["kind"] == "resolved":
        return []
    acts = [
        *([] if payload.get("acknowledged") else [ACKNOWLEDGE]),
        SILENCE,
        *([PIN] if payload.get("threshold") or about["pinned"] else []),
        *([RELEASE] if about["pinned"] else []),
        *([RELEARN] if may_relearn(payload) else []),
    ]
    buttons = [_button(act, number) for act in acts]
    return [{"type": "actions", "block_id": f"{PREFIX}{number}", "elements": buttons}]


def may_relearn(payload: Payload) -> bool:
    """Whether a person can say that an incident is no problem, so that its normal is learned again."""
    # All routes together have no normal of their own.
    return payload.get("about") == FALSE_CONFIDENCE and payload["scope"] != ALL_ROUTES


def order_lines(payload: Payload, label: LabelStyle = plain, *, since: float | None = None) -> Iterator[str]:
    """A line for each order of a person that is in force: what, who, when and why; `since` leaves out older ones.

    `ordered` in the payload is an order that is no state, such as a new normal.
    """
    done = payload.get("ordered")
    for order in [*(payload.get("orders") or ()), *([done] if done else [])]:
        if since is None or order["at"] >= since:
            why = label(order["why"], _LONGEST_WHY) if order["why"] else "no reason given"
            yield f"{order['what']} by {label(order['author'])}, {moment(order['at'])}: {why}"


def _button(act: str, number: int) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "action_id": f"{PREFIX}{act}",
        "text": {"type": "plain_text", "text": TITLES[act]},
        "value": str(number),
    }
    return {**button, "style": "primary"} if act == ACKNOWLEDGE else button
