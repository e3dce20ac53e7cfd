"""Keeps the store bounded: folds old counters, retires dead processes, and deletes what is too old."""

import time
from collections.abc import Callable
from typing import Final

from cheapdeep_ops.budgets import day_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import budgets, expiry, rollups, space
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.retirement import retire
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S

RETAIN_EVERY_S: Final = 60.0
"""How often the guard runs `Retention.step`."""

_FOLDS_AT_ONCE: Final = 50
"""The largest number of folds in one run, so that a guard with a backlog still stops soon."""

_DEAD_AFTER_S: Final = float(DAY_S)
"""A process without a heartbeat for so long counts as dead; a recorder that was silent for half of it is renamed."""

_WATCHED_S: Final = float(HOUR_S)
"""How long a guard itself must see no new heartbeat before it seals a process."""

_FORGET_AFTER_S: Final = 30.0 * DAY_S
_BUDGET_DAYS: Final = 7
"""How many past days of budgets are stored; what calls cost is among the counters."""

_SLOW_EVERY_S: Final = float(HOUR_S)


class Retention:
    """Does a little of the work at each `step`; several guards may run it on one store.

    `keep_grades_s` is the age up to which rules need grades. `monotonic` is a clock that is never set.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        keep_grades_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keep_s = {
            1: rollups.SECONDS_S,
            MINUTE_S: settings.retain_minutes_days * DAY_S,
            HOUR_S: settings.retain_hours_days * DAY_S,
            DAY_S: settings.retain_counts_days * DAY_S,
        }
        self._keep_grades_s = max(keep_grades_s, settings.retain_grades_days * DAY_S)
        self._keep_outcomes_s = settings.retain_outcomes_days * DAY_S
        self._monotonic = monotonic
        self._silent: dict[str, tuple[float, float]] = {}
        """By process that seems dead: its last heartbeat, and when this guard first saw that (monotonic clock)."""
        self._slow_at = float("-inf")

    def step(self, now: float) -> int:
        """Fold, retire and delete what is due at `now` (Unix time); returns how many seconds were folded.

        Raises StoreError if the store cannot be reached.
        """
        self._seal_dead(now)
        # If the guard's clock is ahead, nothing may be folded or deleted too soon.
        now = min(now, rollups.newest_heartbeat(self._store) or now)
        rollups.seal(self._store, before=now)
        folded = self._fold(orphaned_since=now - _DEAD_AFTER_S)
        rollups.expire(self._store, now=now, keep_s=self._keep_s)
        if self._monotonic() >= self._slow_at:
            retire(self._store, unseen_since=now - _FORGET_AFTER_S)
            expiry.expire_grades(self._store, before=now - self._keep_grades_s)
            budgets.forget(self._store, before=day_of(now) - _BUDGET_DAYS)
            expiry.expire_outcomes(self._store, before=now - self._keep_outcomes_s)
            # Gateways do it too, while there are any.
            expiry.expire_gateway_calls(self._store, before=now - HOUR_S)
            self._slow_at = self._monotonic() + _SLOW_EVERY_S
        space.give_back(self._store)
        return folded

    def _fold(self, *, orphaned_since: float) -> int:
        total = 0
        for _ in range(_FOLDS_AT_ONCE):
            folded = rollups.fold(self._store, orphaned_since=orphaned_since)
            total += folded
            if not folded:
                break
        return total

    def _seal_dead(self, now: float) -> None:
        """Seal processes that have stopped, and those that this guard has seen to be silent for an hour."""
        silent = rollups.silent_processes(
            self._store, unseen_since=now - _DEAD_AFTER_S, stopped_since=now - rollups.SECONDS_S
        )
        # The store may have been away until now, or a clock may be wrong: then heartbeats are old, and processes live.
        at = self._monotonic()
        known = self._silent
        self._silent = {
            process: known[process] if known.get(process, (None, at))[0] == seen_at else (seen_at, at)
            for process, seen_at in silent.items()
        }
        dead = {process: seen_at for process, (seen_at, since) in self._silent.items() if at - since >= _WATCHED_S}
        rollups.seal_for_good(self._store, dead)
