"""Cheap-then-deep routing for Claude that is safe to run.

from cheapdeep_ops import Router

router = Router()
message = router.messages.create(max_tokens=1024, messages=[{"role": "user", "content": "..."}])
"""

from cheapdeep_ops.errors import (
    CheapdeepError,
    PolicyError,
    RulesError,
    SchemaError,
    SettingsError,
    StoreError,
)
from cheapdeep_ops.router import AsyncRouter, Routed, Router
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import BypassCause, Decision, Outcome, Reason

__all__ = [
    "AsyncRouter",
    "BypassCause",
    "CheapdeepError",
    "Decision",
    "Outcome",
    "PolicyError",
    "Reason",
    "Routed",
    "Router",
    "RulesError",
    "SchemaError",
    "Settings",
    "SettingsError",
    "StoreError",
]
