"""The words for trouble with the parts of this system."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText

_RESOLVED: Final = {
    "grader_failing": "grades come in again",
    "router_silent": "every router shows itself, has signed off, or stopped a day ago",
    "router_outdated": "the routers follow the policy",
    "recorder_dropping": "every decision is counted again",
    "notifications_failing": "messages arrive again",
    "scheduler_stalled": "the rules are evaluated again",
    "clock_skewed": "no router is ahead of the guard's clock",
    "model_retiring": "no model in use is about to retire",
    "schema_changed": "the store is at this guard's schema",
}
"""What is true of each part once its alert has resolved."""

_WHAT_TO_DO: Final = (
    "What can be done: pin the threshold (cheapdeep-ops threshold set VALUE --why TEXT), or have more answers graded "
    "(CHEAPDEEP_SAMPLE_RATE)"
)


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    about = payload["about"]
    if about == "undecided_raise":
        return _undecided(scope, is_over=is_over)
    if is_over:
        return _RESOLVED[about]
    # Its words may come from an API or a host name.
    why = without_markup(payload["signal"]["why"])
    return f"false confidence is not known: {why}" if about == "grader_failing" else why


def _undecided(scope: str, *, is_over: bool) -> str:
    if is_over:
        return f"the grades of {scope} say enough now, or its raise has ended"
    return f"the threshold of {scope} is raised, and too few grades tell whether it still must be: please decide"


def _measured(payload: Payload) -> Iterable[str]:
    if payload["about"] == "undecided_raise":
        yield _WHAT_TO_DO


TEXT: Final = RuleText(headline=_headline, measured=_measured)
