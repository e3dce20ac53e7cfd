"""The text for a grader whose verdicts have moved."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import duration, without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText


def _headline(payload: Payload, _scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    why = without_markup(payload["signal"]["why"])
    if not is_over:
        return f"the grader has changed: {why}"
    is_decided = payload["signal"].get("kind") in {"accepted", "replaced"}
    return f"the grader is {why}" if is_decided else f"the grader agrees with people as usual again: {why}"


def _measured(payload: Payload) -> Iterable[str]:
    # An end of the incident changes nothing for grades that came before it.
    if hold_s := payload.get("hold_s"):
        yield f"Rules on grades keep their state meanwhile, for at most {duration(hold_s)}; no grade made now counts"


TEXT: Final = RuleText(headline=_headline, measured=_measured)
