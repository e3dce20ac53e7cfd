"""Threads that make several slow requests at once, and that can be abandoned."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers(Generic[_T, _R]):
    """Runs `work` on items in daemon threads, `size` at a time.

    After `finish`, results of items under way are still returned; after `stop` they are dropped.
    """

    def __init__(self, work: Callable[[_T], _R], *, size: int) -> None:
        self._work = work
        self._size = size
        self._is_finishing = threading.Event()
        self._is_stopped = False
        self._done: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()

    def finish(self) -> None:
        """Begin no further item."""
        self._is_finishing.set()

    def stop(self) -> None:
        """Begin no further item, and end `results` and `chunks` at once."""
        self._is_stopped = True
        self.finish()
        # Wakes the thread that waits in `_take`.
        self._done.put(None)

    def results(self, items: Iterator[_T]) -> Iterator[tuple[_T, _R]]:
        """Yield (item, result) as they complete; the next item starts when a thread is free."""
        for chunk in self.chunks(items, most=1, within_s=0.0):
            yield from chunk

    def chunks(
        self, items: Iterator[_T], *, most: int, within_s: float, ends: Callable[[_R], bool] = lambda _result: False
    ) -> Iterator[list[tuple[_T, _R]]]:
        """Yield the results in chunks: up to `most`, or those of `within_s` seconds.

        A result for which `ends` is true is the last of its chunk.
        """
        under_way, is_over = 0, False
        while not is_over:
            chunk: list[tuple[_T, _R]] = []
            until = 0.0
            while len(chunk) < most:
                # Results of this chunk hold their places: their reader may lose them, and would ask for them again.
                while under_way + len(chunk) < self._size and self._start_next(items):
                    under_way += 1
                is_over = not under_way and not chunk
                # The time of a chunk runs from its first result on, which may take any time.
                done = self._take(until if chunk else None) if under_way else None
                if done is None:
                    break
                item, future = done
                chunk.append((item, future.result()))
                under_way -= 1
                until = until or time.monotonic() + within_s
                if ends(chunk[-1][1]):
                    break
            is_over = is_over or self._is_stopped
            if chunk:
                yield chunk

    def _take(self, until: float | None) -> tuple[_T, Future[_R]] | None:
        """The next result; None if there is none by `until` (monotonic seconds), or after `stop`."""
        try:
            return self._done.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
        except Empty:
            return None

    def _start_next(self, items: Iterator[_T]) -> bool:
        """Start the next item; returns False if there is none, or after `finish`."""
        if self._is_finishing.is_set():
            return False
        for item in items:
            # A thread of its own, because an executor would make the process wait for it at exit.
            threading.Thread(target=self._run, args=(item,), name="grader", daemon=True).start()
            return True
        return False

    def _run(self, item: _T) -> None:
        result: Future[_R] = Future()
        try:
            result.set_result(self._work(item))
        except BaseException as error:  # noqa: BLE001 - raised again where the results are read
            result.set_exception(error)
        self._done.put((item, result))
