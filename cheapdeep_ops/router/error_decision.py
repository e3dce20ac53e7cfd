"""The decision of a call that failed, attached to its error. The error keeps its class and all its fields."""

from contextlib import suppress
from dataclasses import replace
from typing import Final

from cheapdeep_ops.values import Decision, Hop

_ATTRIBUTE: Final = "cheapdeep_decision"


def attach(error: BaseException, decision: Decision) -> None:
    """Attach `decision` without content to `error`; an error that takes no attribute stays as it is."""
    # Errors are logged by code that does not know which of their fields are content.
    with suppress(Exception):
        setattr(error, _ATTRIBUTE, replace(decision, hops=tuple(map(_without_content, decision.hops))))


def _without_content(hop: Hop) -> Hop:
    return hop if hop.verdict is None else replace(hop, verdict=replace(hop.verdict, answer=None))


def decision_of(error: BaseException) -> Decision | None:
    """How the call that raised `error` was routed, and what it cost; None for any other error.

    The answers of triage tiers are left out.
    """
    decision = getattr(error, _ATTRIBUTE, None)
    return decision if isinstance(decision, Decision) else None
