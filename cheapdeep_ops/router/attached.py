"""The decision of a call that ended in an error, on the error itself: its class and all it says stay the SDK's."""

from contextlib import suppress
from typing import Final

from cheapdeep_ops.values import Decision

_ATTRIBUTE: Final = "cheapdeep_decision"


def attach(error: BaseException, decision: Decision) -> None:
    """Put `decision` where `decision_of` finds it; an error that takes no attribute goes without."""
    with suppress(Exception):
        setattr(error, _ATTRIBUTE, decision)


def decision_of(error: BaseException) -> Decision | None:
    """How the call that raised `error` was routed, and what it cost; None for an error of anything else."""
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, Decision) else None
