"""The decision of a call that ended in an error, on the error itself: its class and all it says stay the SDK's."""

from contextlib import suppress
from dataclasses import replace
from typing import Final

from cheapdeep_ops.values import Decision, Hop

_ATTRIBUTE: Final = "cheapdeep_decision"


def attach(error: BaseException, decision: Decision) -> None:
    """Put `decision` where `decision_of` finds it, without content; an error that takes no attribute goes without.

    Errors are written down by code that knows nothing of what is in them.
    """
    with suppress(Exception):
        setattr(error, _ATTRIBUTE, replace(decision, hops=tuple(map(_without_content, decision.hops))))


def _without_content(hop: Hop) -> Hop:
    return hop if hop.verdict is None else replace(hop, verdict=replace(hop.verdict, answer=None))


def decision_of(error: BaseException) -> Decision | None:
    """How the call that raised `error` was routed, and what it cost; None for an error of anything else.

    It has no answers of triage tiers in it.
    """
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, Decision) else None
