"""The router that a service embeds, for threads and for asyncio."""

# First, because the SDK takes a tenth of a second longer to load deep inside a chain of imports.
import cheapdeep_ops.router.provider  # noqa: F401
from cheapdeep_ops.router.asynchronous import AsyncRouter
from cheapdeep_ops.router.calls import Routed
from cheapdeep_ops.router.error_decision import decision_of
from cheapdeep_ops.router.synchronous import Router

__all__ = ["AsyncRouter", "Routed", "Router", "decision_of"]
