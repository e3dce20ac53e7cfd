"""Stores one process's counters and heartbeats."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer, RowBatch
from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.name_counts import NameCounts
from cheapdeep_ops.recorder.trouble_log import loggable
from cheapdeep_ops.values import Decision, Name

if TYPE_CHECKING:
    from cheapdeep_ops.store.recording import Heartbeat

_CAPACITY: Final = 20_000
"""The largest number of buckets that wait for the store, of some 3 kB each; beyond it, they are added up."""

_MINUTE_S: Final = 60

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
        self.process, self.buffer, self.names = uuid4().hex, CounterBuffer(capacity=_CAPACITY), NameCounts()
        self.dropped_before = 0
        """The decisions that were dropped under earlier names."""
        self._retired: tuple[Heartbeat, CounterBuffer] | None = None
        self._coarsened_before = 0

    def restart(self, beat: "Heartbeat") -> None:
        """Go on under a new process name, with all that the store has not seen; `beat` is the last of the old name.

        What was sent under the old name stays under it, and is stored with the next save.
        """
        # One earlier name is enough: nothing was sent under the present one, because the earlier one goes first.
        if self._retired is not None:
            return
        self._retired = beat, self.buffer
        self.dropped_before += beat.dropped
        self.process, self.buffer = uuid4().hex, CounterBuffer(capacity=_CAPACITY)
        self.names.restart()
        self.buffer.take(self._retired[1].give_unsent())

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

    def settle_unasked(self) -> None:
        """Count all that waits for admission as if there was room, because the store cannot be asked."""
        self.buffer.settle(self.stored)

    @property
    def is_dirty(self) -> bool:
        """Whether any counters are not stored yet."""
        return self._retired is not None or self.buffer.is_dirty

    def unsaved(self, beat: "Heartbeat") -> list[tuple["Heartbeat", CounterBuffer]]:
        """The counters that are not stored yet of each process name, with its heartbeat; `beat` is the last."""
        named = [self._retired] if self._retired else []
        return [*named, *([(beat, self.buffer)] if self.buffer.is_dirty else [])]

    @property
    def unsaved_calls(self) -> int:
        """The number of calls whose counters are not stored yet."""
        retired = self._retired[1].unsaved_calls if self._retired else 0
        return retired + self.buffer.unsaved_calls

    def save(self, beat: "Heartbeat") -> None:
        """Store the unsaved counters and the heartbeat. Raises StoreError."""
        if self._retired is not None:
            last, buffer = self._retired
            self._save(buffer, replace(last, seen_at=beat.seen_at))
            self._destination.sign_off(last.process)
            self._retired = None
        self._save(self.buffer, beat)

    def _save(self, buffer: CounterBuffer, beat: "Heartbeat") -> None:
        """Store all batches of a buffer; a heartbeat comes with each, and alone if there is none."""
        while True:
            self._save_batch(buffer.next_batch(_SECONDS_AT_ONCE), buffer, beat)
            if not buffer.has_rows:
                return

    def _save_batch(self, batch: RowBatch, buffer: CounterBuffer, beat: "Heartbeat") -> None:
        """Store one batch and the heartbeat; counters that the store rejects are dropped."""
        buckets, totals = buffer.rows(batch, beat.process)
        rejected = self._destination.write_counters(buckets=buckets, totals=totals, beat=beat)
        if rejected:
            lost = buffer.discard([(row["route"], row["input_class"], row["at"]) for row, _ in rejected])
            self._drop(lost, f"the store rejected counters ({loggable(rejected[0][1])})")
        buffer.saved(batch)

    def close_seconds(self, *, before: int) -> None:
        """Close the stored seconds before `before` (Unix time)."""
        self.buffer.close(before=before)

    def coarsen(self, *, before: int) -> None:
        """Add up the minutes before `before` (Unix time) that the store has not seen, so that memory stays bounded."""
        minute = before // _MINUTE_S * _MINUTE_S
        if minute != self._coarsened_before:
            self._coarsened_before = minute
            # The buffer of an earlier name has only rows that were sent, which are never added up.
            self.buffer.coarsen(before=minute, width=_MINUTE_S)

    def store_lost(self) -> None:
        """Store everything that is known once more, because the store was made anew."""
        for buffer in (self.buffer, *([self._retired[1]] if self._retired else [])):
            buffer.store_lost()

    def sign_off(self, _now: float) -> None:
        """Mark the process as stopped. Raises StoreError."""
        self._destination.sign_off(self.process)
