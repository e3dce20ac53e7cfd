"""The text of alerts about the parts of this system."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText

_RESOLVED: Final = {
    "grader_failing": "the grader stores grades again",
    "undecided_drift": "the grader agrees with people as usual again, or a person has accepted it",
    "router_silent": "every router sends heartbeats, has signed off, or stopped more than a day ago",
    "router_outdated": "the routers follow the policy",
    "recorder_dropping": "every decision is counted again",
    "labels_folded": "for an hour every call was counted under its own route and input class",
    "notifications_failing": "messages arrive again",
    "scheduler_stalled": "the rules are evaluated again",
    "clock_skewed": "the clocks of all hosts agree with the store's time again",
    "model_retiring": "no model in use is about to retire",
    "schema_changed": "the store has the schema version that this guard needs",
}
"""The state of each part after its alert has resolved."""

_WHAT_TO_DO: Final = (
    "What you can do: pin the threshold (cheapdeep-ops threshold set VALUE --why TEXT), or grade more answers "
    "(CHEAPDEEP_SAMPLE_RATE)"
)

_IF_IT_STAYS: Final = (
    "What you can do: set another CHEAPDEEP_GRADER_MODEL, or accept the grader as it is (cheapdeep-ops normal "
    "accept --why TEXT) and learn anew what is normal for each route (cheapdeep-ops normal relearn)"
)


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    about = payload["about"]
    if about == "undecided_raise":
        return _undecided(scope, is_over=is_over)
    if about == "undecided_drift" and not is_over:
        return f"rules read grades again, and the grader may still be wrong: {payload['signal']['why']}"
    if is_over:
        return _RESOLVED[about]
    # The text may come from an API or a host name, so its markup is removed.
    why = without_markup(payload["signal"]["why"])
    return f"false confidence is not known: {why}" if about == "grader_failing" else why


def _undecided(scope: str, *, is_over: bool) -> str:
    if is_over:
        return f"the grades of {scope} are now enough to decide its raise, or the raise has ended"
    return f"the threshold of {scope} is raised, with too few grades to confirm or release the raise: please decide"


def _measured(payload: Payload) -> Iterable[str]:
    if payload["about"] == "undecided_raise":
        yield _WHAT_TO_DO
    if payload["about"] == "undecided_drift":
        yield _IF_IT_STAYS


TEXT: Final = RuleText(headline=_headline, measured=_measured)
