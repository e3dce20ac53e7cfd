"""Frees the places of routes and input classes that are no longer called."""

import logging
from typing import Final

from cheapdeep_ops.store import route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
IDLE_S: Final = 30.0 * DAY_S
"""A name without calls for so long loses its place."""

_EVERY_S: Final = 3_600.0


class IdleLabels:
    """Looks for such names once an hour. The guard that acts calls `step`."""

    def __init__(self, store: Store, *, started_at: float) -> None:
        self._store = store
        self._due_at = started_at + _EVERY_S

    def step(self, now: float) -> int:
        """Free the places of idle names, if the last look is an hour old; returns how many. Raises StoreError."""
        if now < self._due_at:
            return 0
        self._due_at = now + _EVERY_S
        freed = self._store.transact(lambda connection: route_labels.forget_idle(connection, before=now - IDLE_S))
        if freed:
            _log.info("%s routes or input classes had no calls for 30 days: others may count by name now", freed)
        return freed
