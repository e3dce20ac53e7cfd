"""Stores one process's counters and heartbeats."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer, Second
from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.name_counts import NameCounts
from cheapdeep_ops.recorder.trouble_log import loggable
from cheapdeep_ops.values import Decision, Name

if TYPE_CHECKING:
    from cheapdeep_ops.store.recording import Heartbeat

_CAPACITY: Final = 20_000
"""The largest number of buckets that wait for the store; further counts are dropped."""

_SECONDS_AT_ONCE: Final = 400
"""The largest number of buckets in one transaction, each with its total: other processes wait until it ends."""


class CounterWriter:
    """The counters of one process name, and the way they are stored. Not thread-safe: the owner holds a lock.

    `drop` takes the number of calls whose counters the store rejected, and the cause.
    """

    def __init__(self, destination: Destination, admitted: Admitted, *, drop: Callable[[int, str], None]) -> None:
        self._destination = destination
        self._drop = drop
        self.admitted = admitted
        """The names that the fleet admits, as they were last read."""
        self.restart()

    def restart(self) -> None:
        """Start with a new process name and empty counters; rows under the old name stay as they are."""
        self.process, self.buffer, self.names = uuid4().hex, CounterBuffer(capacity=_CAPACITY), NameCounts()

    def add(self, decision: Decision, *, at: int) -> bool:
        """Count a decision in the second `at`; False if the buffer is full."""
        return self.names.add(self.buffer, decision, self.admitted, at=at)

    def settle(self, now: float) -> None:
        """Have new names admitted, and count what waited for it. Raises StoreError; it then goes on waiting."""
        names = self.names.wanted(self.buffer, self.admitted, now)
        if names:
            self.admitted = self._destination.admit(names, now)
        self.names.settle(self.buffer, self.admitted)

    def stored(self, name: Name) -> Name:
        """The name under which a candidate is stored; one that may be admitted soon keeps its own."""
        return name if self.admitted.wanted(name) else self.admitted.counted(name)

    def save(self, beat: "Heartbeat") -> None:
        """Store the unsaved counters and the heartbeat. Raises StoreError."""
        seconds = self.buffer.unsaved
        for start in range(0, max(len(seconds), 1), _SECONDS_AT_ONCE):
            self._save_seconds(seconds[start : start + _SECONDS_AT_ONCE], beat)

    def _save_seconds(self, seconds: Sequence[Second], beat: "Heartbeat") -> None:
        """Store the counters of these seconds and the heartbeat; counters that the store rejects are dropped."""
        buckets, totals = self.buffer.rows(seconds, self.process)
        rejected = self._destination.write_counters(buckets=buckets, totals=totals, beat=beat)
        if rejected:
            lost = self.buffer.discard([(row["route"], row["input_class"], row["at"]) for row, _ in rejected])
            self._drop(lost, f"the store rejected counters ({loggable(rejected[0][1])})")
        self.buffer.saved(seconds)

    def sign_off(self, _now: float) -> None:
        """Mark the process as stopped. Raises StoreError."""
        self._destination.sign_off(self.process)
