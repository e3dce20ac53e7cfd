"""The text of alerts about the parts of this system."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText

_RESOLVED: Final = {
    "grader_failing": "the grader stores grades again",
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


def _headline(payload: Payload, scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    about = payload["about"]
    if about == "undecided_raise":
        return _undecided(scope, is_over=is_over)
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


TEXT: Final = RuleText(headline=_headline, measured=_measured)
