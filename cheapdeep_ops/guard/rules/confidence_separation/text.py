"""The text for confidence or a threshold that does not separate."""

from typing import Final

from cheapdeep_ops.guard.formatting import without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText

_RESOLVED: Final = {
    "confidence": "confidence separates right answers from wrong ones again",
    "share": "some calls escalate at base, and some do not",
}
"""By the kind of trouble in the signal."""


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    signal = payload["signal"]
    if not is_over:
        return f"{scope}: {without_markup(signal['why'])}"
    kinds = str(signal.get("kind", "")).split(",")
    return f"{scope}: {' and '.join(text for kind, text in _RESOLVED.items() if kind in kinds) or 'it is over'}"


TEXT: Final = RuleText(headline=_headline)
