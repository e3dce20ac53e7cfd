"""Stores one process's counters and heartbeats."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from cheapdeep_ops.recorder.counter_buffer import Batch, CounterBuffer
from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.trouble_log import loggable

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

    def __init__(self, destination: Destination, *, drop: Callable[[int, str], None]) -> None:
        self._destination = destination
        self._drop = drop
        self.process, self.buffer = uuid4().hex, CounterBuffer(capacity=_CAPACITY)
        # Counters under an earlier name. One is enough: a buffer that was never saved is not ahead of any clock.
        self._retired: tuple[str, CounterBuffer] | None = None
        self._coarsened_before = 0

    def restart(self) -> None:
        """Start with a new process name and empty counters; those under the old name are stored with the next save."""
        self._retired = self.process, self.buffer
        self.process, self.buffer = uuid4().hex, CounterBuffer(capacity=_CAPACITY)

    @property
    def is_dirty(self) -> bool:
        """Whether any counters are not stored yet."""
        return self._retired is not None or self.buffer.is_dirty

    @property
    def unsaved(self) -> list[tuple[str, CounterBuffer]]:
        """Each process name with its counters, if any of them are not stored yet."""
        named = [self._retired] if self._retired else []
        return [*named, *([(self.process, self.buffer)] if self.buffer.is_dirty else [])]

    @property
    def unsaved_calls(self) -> int:
        """The number of calls whose counters are not stored yet."""
        return sum(buffer.unsaved_calls for _, buffer in self.unsaved)

    def save(self, beat: "Heartbeat") -> None:
        """Store the unsaved counters and the heartbeat. Raises StoreError."""
        if self._retired is not None:
            process, buffer = self._retired
            self._save(process, buffer, replace(beat, process=process))
            self._destination.sign_off(process)
            self._retired = None
        self._save(self.process, self.buffer, beat)

    def _save(self, process: str, buffer: CounterBuffer, beat: "Heartbeat") -> None:
        """Store all batches of a buffer; a heartbeat comes with each, and alone if there is none."""
        while True:
            self._save_batch(buffer.next_batch(_SECONDS_AT_ONCE), process, buffer, beat)
            if not buffer.is_dirty:
                return

    def _save_batch(self, batch: Batch, process: str, buffer: CounterBuffer, beat: "Heartbeat") -> None:
        """Store one batch and the heartbeat; counters that the store rejects are dropped."""
        buckets, totals = buffer.rows(batch, process)
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
            for _, buffer in self.unsaved:
                buffer.coarsen(before=minute, width=_MINUTE_S)

    def store_lost(self) -> None:
        """Store everything that is known once more, because the store was made anew."""
        for buffer in (self.buffer, *([self._retired[1]] if self._retired else [])):
            buffer.store_lost()

    def sign_off(self, _now: float) -> None:
        """Mark the process as stopped. Raises StoreError."""
        self._destination.sign_off(self.process)
