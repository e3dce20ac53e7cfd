"""Cheap-then-deep routing for Claude that is safe to run.

from cheapdeep_ops import Router

router = Router()
message = router.messages.create(max_tokens=1024, messages=[{"role": "user", "content": "..."}])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cheapdeep_ops.errors import (
        BatchMissingError,
        BreakerOpenError,
        BudgetError,
        CheapdeepError,
        DeliveryError,
        EventLoopError,
        GraderError,
        LeaseLostError,
        MissingError,
        PolicyError,
        RecordingError,
        RemoteError,
        RouterArgumentError,
        RowError,
        RulesError,
        SchemaError,
        SettingsError,
        StoreBusyError,
        StoreError,
    )
    from cheapdeep_ops.router import AsyncRouter, Routed, Router, decision_of
    from cheapdeep_ops.settings import Settings
    from cheapdeep_ops.values import BypassCause, Decision, Outcome, Reason

__all__ = [
    "AsyncRouter",
    "BatchMissingError",
    "BreakerOpenError",
    "BudgetError",
    "BypassCause",
    "CheapdeepError",
    "Decision",
    "DeliveryError",
    "EventLoopError",
    "GraderError",
    "LeaseLostError",
    "MissingError",
    "Outcome",
    "PolicyError",
    "Reason",
    "RecordingError",
    "RemoteError",
    "Routed",
    "Router",
    "RouterArgumentError",
    "RowError",
    "RulesError",
    "SchemaError",
    "Settings",
    "SettingsError",
    "StoreBusyError",
    "StoreError",
    "decision_of",
]

_HOMES: Final = {
    "router": ("AsyncRouter", "Routed", "Router", "decision_of"),
    "settings": ("Settings",),
    "values": ("BypassCause", "Decision", "Outcome", "Reason"),
}
"""The modules of the public names; all others are in `errors`."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use, because the SDK takes a second to load and the guard does not need it.

    Source: https://peps.python.org/pep-0562/
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
