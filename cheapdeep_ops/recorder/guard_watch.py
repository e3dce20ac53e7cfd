"""Watches whether a guard runs on the recorder's store."""

from typing import Final, Protocol

from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.trouble_log import TroubleLog

GUARD_SILENT_S: Final = 60.0


class DropCounter(Protocol):
    """Receives the recorder's own measurements: telemetry implements it."""

    def record_dropped(self, count: int) -> None:
        """Count dropped decisions."""

    def record_guard_age(self, seconds: float) -> None:
        """Record the age of the guard's last heartbeat; without one, the time since this recorder started."""


class GuardWatch:
    """Reports the age of the guard's last heartbeat, and warns once while there is none."""

    def __init__(self, drops: DropCounter | None, troubles: TroubleLog) -> None:
        self._drops = drops
        self._troubles = troubles

    def note(self, seen: float | None, now: float, *, started_at: float, destination: Destination) -> bool:
        """Whether a guard is taken to run; `seen` is its last heartbeat (Unix time), or None.

        The recorder began at `started_at`. All times are the store's.
        """
        # A guard gets the full time from the recorder's own start, so that a start together does not warn.
        quiet_since = max(seen or 0, started_at)
        if self._drops is not None:
            self._drops.record_guard_age(max(now - (seen or started_at), 0.0))
        if now - quiet_since < GUARD_SILENT_S:
            self._troubles.reset("guard")
            return True
        if destination.shown_url.startswith("http"):
            self._troubles.warn(
                "guard",
                "the guard at %s has evaluated nothing for %.0f s: thresholds are neither raised nor released; "
                "look at its log",
                destination.shown_url,
                now - quiet_since,
            )
            return False
        self._troubles.warn(
            "guard",
            "no guard has written a heartbeat to the store %s for %.0f s: thresholds are neither raised nor released; "
            "run cheapdeep-ops serve with the same CHEAPDEEP_STORE_URL",
            destination.shown_url,
            now - quiet_since,
        )
        return False
