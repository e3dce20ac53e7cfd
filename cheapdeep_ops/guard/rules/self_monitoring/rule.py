"""The rule on the health of this system's own parts, as the rules file states it."""

from typing import Literal

from cheapdeep_ops.guard.rules.model import Rule


class WatchRule(Rule):
    """A part of this system has a problem: grader, routers, messages, guard, models or store."""

    signal: Literal[
        "grader_failing",
        "undecided_raise",
        "undecided_drift",
        "router_silent",
        "router_outdated",
        "recorder_dropping",
        "labels_folded",
        "notifications_failing",
        "scheduler_stalled",
        "clock_skewed",
        "model_retiring",
        "schema_changed",
    ]
