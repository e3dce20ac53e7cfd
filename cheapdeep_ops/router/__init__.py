"""The router that a service embeds, for threads and for asyncio."""

# First, because deep inside of a chain of imports the SDK takes a tenth of a second longer to load.
import cheapdeep_ops.router.provider  # noqa: F401
from cheapdeep_ops.router.asynchronous import AsyncRouter
from cheapdeep_ops.router.calls import Routed
from cheapdeep_ops.router.error_decision import decision_of
from cheapdeep_ops.router.synchronous import Router

__all__ = ["AsyncRouter", "Routed", "Router", "decision_of"]
