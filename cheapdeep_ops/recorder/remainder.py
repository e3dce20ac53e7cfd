"""What a recorder has left at its close because the store did not take it: lost, or kept for the next process."""

import logging
import threading
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.recorder.candidate_queue import CandidateQueue
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.spool import Left, Spool

if TYPE_CHECKING:
    from cheapdeep_ops.store.recording import Heartbeat

_log: Final = logging.getLogger(__name__)
_LOST: Final = "the recorder was closed while the store did not take %d calls and %d answers for grading: "


class Remainder:
    """The counters of `writer` and the answers of `samples` at the close of their recorder."""

    def __init__(self, spool: Spool | None, writer: CounterWriter, samples: CandidateQueue) -> None:
        self._spool = spool
        self._writer = writer
        self._samples = samples
        self._looks = spool is not None
        self._once = threading.Lock()

    def leave(self, beat: "Heartbeat") -> None:
        """Write everything into the spool, or lose it if there is none; logs how much. Only the first call acts."""
        if not self._once.acquire(blocking=False):
            return
        calls, answers = self._writer.unsaved_calls, self._samples.waiting
        if self._spool is None:
            _log.error(_LOST + "they are lost (CHEAPDEEP_SPOOL_DIR would keep them)", calls, answers)
            return
        try:
            kept = self._spool.keep(beat.process, self._left(beat), self._samples.rows)
        except OSError as error:
            _log.error(_LOST + "they are lost, because the spool failed: %s", calls, answers, error)
            return
        if kept is None:
            _log.error(_LOST + "they are lost, because the spool is full", calls, answers)
        else:
            path, stored = kept
            told = (calls, answers, path, answers - stored)
            _log.warning(_LOST + "the next process stores them from %s; answers lost: %d", *told)

    def take_over(self, destination: Destination) -> None:
        """Store what earlier processes left in the spool; looked for once. Raises StoreError."""
        if self._spool is None or not self._looks:
            return
        taken = self._spool.take_over(destination)
        self._looks = False
        if taken:
            _log.info("what %d processes left in the spool is stored", taken)

    def _left(self, beat: "Heartbeat") -> list[Left]:
        named = self._writer.unsaved(beat)
        return [Left(each, *buffer.rows(buffer.everything(), each.process)) for each, buffer in named]
