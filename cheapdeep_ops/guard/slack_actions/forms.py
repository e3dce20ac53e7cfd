"""The small forms that a click opens; pure.

Source: https://docs.slack.dev/reference/views/modal-views
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cheapdeep_ops.guard.formatting import plain, scope_text
from cheapdeep_ops.guard.notify.buttons import ACKNOWLEDGE, PIN, PREFIX, RELEARN, RELEASE, SILENCE
from cheapdeep_ops.guard.slack_actions.requests import WHY, FormFacts
from cheapdeep_ops.guard.state_text import blindness_text
from cheapdeep_ops.units import HOUR_S

View = dict[str, Any]

UNTIL_OVER: Final = "over"
UNTIL_RELEASED: Final = "released"
BASE: Final = "base"
RAISED: Final = "raised"
SILENCE_FOR: Final = {"1h": 1.0 * HOUR_S, "4h": 4.0 * HOUR_S}
PIN_FOR: Final = {"4h": 4.0 * HOUR_S}
_LONGEST_WHY: Final = 500
_TITLES: Final = {
    ACKNOWLEDGE: ("Acknowledge", "Acknowledge"),
    SILENCE: ("Silence", "Silence"),
    PIN: ("Pin the threshold", "Pin"),
    RELEASE: ("Release the pin", "Release"),
    RELEARN: ("Learn as normal", "Learn as normal"),
}
"""The title of each form and the text of its button."""

_WHYS: Final = {
    ACKNOWLEDGE: "I look after it",
    SILENCE: "known, and being looked after",
    PIN: "while incident {number} is being looked after",
    RELEASE: "incident {number} no longer needs it",
    RELEARN: "these answers are as they should be",
}


def form(
    facts: FormFacts,
    *,
    rule: str,
    scope: str,
    base: float,
    raised: float,
    threshold: float,
    blind_s: float | None = None,
    grades: int = 0,
) -> View:
    """The form of an act on an incident, with a why that can be sent as it is.

    `threshold` is in force now. For `RELEARN`, `grades` is how many grades the route needs, and `blind_s` how many
    seconds that takes at the last day's pace; None: unknown.
    """
    title, button = _TITLES[facts.act]
    where = f"Incident {facts.incident_id}: {rule}, {scope_text(scope)}"
    why = _WHYS[facts.act].format(number=facts.incident_id)
    effect = _effect(facts.act, rule=rule, threshold=threshold, blind_s=blind_s, grades=grades)
    blocks = [_text(where), *([_text(effect)] if effect else []), *_choices(facts.act, base=base, raised=raised)]
    return {
        "type": "modal",
        "callback_id": f"{PREFIX}{facts.act}",
        "private_metadata": facts.as_text(),
        "title": _plain(title),
        "submit": _plain(button),
        "close": _plain("Cancel"),
        "blocks": [*blocks, _why(why)],
    }


def notice(title: str, text: str) -> View:
    """A form without inputs, which only says something."""
    return {"type": "modal", "title": _plain(title), "close": _plain("Close"), "blocks": [_text(text)]}


def _effect(act: str, *, rule: str, threshold: float, blind_s: float | None, grades: int) -> str:
    match act:
        case "silence":
            return f"{rule} sends no messages here meanwhile. It still raises the threshold."
        case "pin":
            return f"The threshold is {threshold:g} now. While it is pinned, the rules only report."
        case "release":
            return f"The threshold is pinned at {threshold:g}. After the release, the rules decide again."
        case "relearn":
            return blindness_text(grades, blind_s)
    return ""


def _choices(act: str, *, base: float, raised: float) -> list[View]:
    if act == SILENCE:
        options = [("1h", "1 hour"), ("4h", "4 hours"), (UNTIL_OVER, "until the incident is over")]
        return [_select("for", "For how long", options)]
    if act == PIN:
        at = [(RAISED, f"raised, {raised:g}"), (BASE, f"base, {base:g}")]
        lasts = [("4h", "4 hours"), (UNTIL_RELEASED, "until a person releases it")]
        return [_select("at", "At", at), _select("for", "For how long", lasts)]
    return []


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> View:
    """A choice whose first option is preset."""
    shown = [{"text": _plain(text), "value": value} for value, text in options]
    element = {"type": "static_select", "action_id": name, "options": shown, "initial_option": shown[0]}
    return {"type": "input", "block_id": name, "label": _plain(label), "element": element}


def _why(text: str) -> View:
    element = {"type": "plain_text_input", "action_id": WHY, "initial_value": text, "max_length": _LONGEST_WHY}
    return {"type": "input", "block_id": WHY, "label": _plain("Why"), "element": element}


def _text(text: str) -> View:
    # Plain text, because names of routes may have what Slack would read as a mention or a link.
    return {"type": "section", "text": _plain(plain(text, 2_000))}


def _plain(text: str) -> Mapping[str, Any]:
    return {"type": "plain_text", "text": text}
