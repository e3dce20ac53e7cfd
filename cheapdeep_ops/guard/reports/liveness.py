"""When a guard last evaluated the rules: whether what people see is of now."""

from typing import Final

from cheapdeep_ops.guard.lease import EVALUATE
from cheapdeep_ops.store import leases, processes
from cheapdeep_ops.store.engine import Connection

_MISSED: Final = 3
_MARGIN_S: Final = 5.0


def stale_after_s(evaluate_every_s: float) -> float:
    """How old the last evaluation may be, in seconds, before it counts as late: three intervals and 5 s."""
    return _MISSED * evaluate_every_s + _MARGIN_S


def evaluated_at(connection: Connection) -> float | None:
    """When the guard that holds the work last evaluated the rules (Unix time); None if no guard holds it."""
    lease = leases.states(connection).get(EVALUATE)
    # The heartbeat of a guard that waits for the work says nothing about evaluations.
    return processes.seen_at(connection, lease.holder) if lease and lease.holder else None
